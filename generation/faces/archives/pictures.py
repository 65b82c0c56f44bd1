"""Pictures in plain folders -> `Faces` in memory, as they are: no face is looked for and nothing is cropped.

    [train/ | validation/ | test/] {real,fake}/x.png, {real,fake}/x/000.png

A person is a sub-folder, or the name of a picture that lies in none; see `plain`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from generation.faces.archives import plain
from generation.faces.archives.files import VIDEOS, Tree, frames_in
from generation.faces.archives.items import Findings, Item
from generation.faces.archives.splits import settle
from generation.faces.footage import Progress
from generation.faces.media import MediaError, read_photo
from generation.motion import EXPRESSION_SIZE, POSE
from generation.records import Faces, UserError

NO_ORIGIN = "not stated; held in memory, never written"


class Pictures(NamedTuple):
    """What a folder holds, and what a user should know of how it was read. Nothing is known of expression, pose,
    landmarks and mask: all of them are 0."""

    faces: Faces
    notes: list[str]


def read_pictures(root: Path, size: int, progress: Progress | None = None) -> Pictures:
    """Every picture under `root`, its middle square reduced or enlarged to `size` pixels, with label and split.

    Where the folders name no split, people are drawn by name (see `splits.settle`).

    Raises `UserError` for no such folder, a class without pictures, a person in two splits, a video, or a picture that
    cannot be read.
    """
    if size < 8:
        raise UserError(f"data.size={size}: must be 8 pixels or more")
    if not root.is_dir():
        raise UserError(f"data.folder={root}: no such folder; it must hold real/ and fake/ with pictures, or records")
    tree = Tree(root)
    findings = plain.read(tree)
    _check(root, findings)
    items = settle(findings)
    notes = findings.notes + [f"left out: {what}: {why}" for what, why in (*findings.dropped, *tree.refused)]
    files = [(item, number, path) for item in items for number, path in enumerate(_files(item))]
    endings = [sorted({path.suffix.lower() for item, _, path in files if item.label == label}) for label in (0, 1)]
    if endings[0] != endings[1]:
        real, forged = (" and ".join(those) for those in endings)
        notes.append(f"real pictures are {real}, forged ones {forged}: a detector may learn how they were encoded")
    images = np.empty((len(files), size, size, 3), np.uint8)
    for row, (_, _, path) in enumerate(files):
        images[row] = _picture(path, size)
        if progress is not None:
            progress(row + 1, len(files))
    return Pictures(_faces(files, images), notes)


def _check(root: Path, findings: Findings) -> None:
    found = {label: [one for one in findings.found if one.label == label] for label in (0, 1)}
    video = next((one.path for one in findings.found if one.path.suffix.lower() in VIDEOS), None)
    if video is not None:
        raise UserError(
            f"{video}: a video, and only pictures are read from data.folder; make records of them with "
            f"scripts/ingest.py data=archive data.root={root}"
        )
    missing = [name for name, label in plain.LABELS.items() if not found[label]]
    if missing:
        raise UserError(
            f"data.folder={root}: no pictures in {' and '.join(f'{name}/' for name in missing)}; .png and .jpg files "
            "are needed in real/ and in fake/ (both may lie in train/, validation/ and test/)"
        )
    splits: dict[str, set[str]] = defaultdict(set)
    for one in findings.found:
        splits[one.people[0]].add(one.split)
    crossing = sorted(person for person, those in splits.items() if len(those - {""}) > 1)
    if crossing:
        shown = ", ".join(crossing[:5]) + (" ..." if len(crossing) > 5 else "")
        raise UserError(
            f"data.folder={root}: {len(crossing)} people lie in two splits ({shown}); a sub-folder, or the name of a "
            "picture in none, is a person, who belongs to one split: move or rename them"
        )


def _files(item: Item) -> tuple[Path, ...]:
    return frames_in(item.path) if item.path.is_dir() else (item.path,)


def _picture(path: Path, size: int) -> np.ndarray:  # uint8 (size, size, 3)
    try:
        photo = Image.fromarray(read_photo(path))
    except MediaError as error:
        raise UserError(f"{path}: {error}; remove it or put a whole one in its place") from error
    return np.asarray(ImageOps.fit(photo, (size, size), Image.Resampling.BICUBIC))


def _faces(files: list[tuple[Item, int, Path]], images: np.ndarray) -> Faces:
    count, size = images.shape[:2]
    items = [item for item, _, _ in files]
    nothing, nowhere = np.full(count, ""), np.full(count, -1)
    return Faces(
        image=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        mask=torch.zeros(count, 1, size, size, dtype=torch.uint8),
        expression=torch.zeros(count, EXPRESSION_SIZE),
        pose=torch.zeros(count, len(POSE)),
        landmarks=torch.zeros(count, 68, 2),
        label=torch.tensor([item.label for item in items]),
        identity=np.asarray([item.identity for item in items]),
        scene=np.asarray([item.name for item in items]),
        clip=np.asarray([item.name for item in items]),
        frame=np.asarray([number for _, number, _ in files]),
        split=np.asarray([item.split for item in items]),
        method=np.asarray([item.method for item in items]),
        source_clip=nothing,
        source_frame=nowhere,
        driver_clip=nothing,
        driver_frame=nowhere,
        origin=np.full(count, NO_ORIGIN),
    )
