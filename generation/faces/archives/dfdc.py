"""The DeepFake Detection Challenge: the whole set (DFDC) and its preview (DFDCP).

Dolhansky et al., The DeepFake Detection Challenge (DFDC) Dataset, 2020; The Deepfake Detection Challenge (DFDC)
Preview Dataset, 2019.

    dfdc_train_part_0/metadata.json     # {"abc.mp4": {"label": "FAKE", "split": "train", "original": "xyz.mp4"}}
    test/labels.csv                     # filename,label with 1 for a forgery; or a metadata.json with is_fake
    dataset.json                        # DFDCP: {"method_A/.../x.mp4": {"label": "fake", "set": "train", ...}}

Actors are named in DFDCP alone. In DFDC a person is known by the original video, so that an original and its forgeries
stay together; two originals may show the same actor. DeepfakeBench's `frames` folders are read too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generation.faces.archives.files import VIDEOS, Tree, UnusableError, read_json, read_text, stem
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import SPLIT_NAMES, label_of
from generation.records import UserError

METADATA, LABELS, PREVIEW = "metadata.json", "labels.csv", "dataset.json"


def recognise(tree: Tree) -> bool:
    return any(_parts(tree))


def read(tree: Tree) -> Findings:
    """A part with a damaged list is dropped; the others are read."""
    findings = Findings()
    for folder in _parts(tree):
        try:
            entries = _entries(tree, folder)
        except UserError as error:
            findings.drop(tree.relative(folder), error)
            continue
        media = tree.media(folder)
        where = f"{tree.relative(folder)}/".removeprefix("./")
        for listed, entry in entries.items():
            name = f"{where}{stem(listed)}"
            try:
                tree.parts(listed)
                path = media.pop(stem(listed), None)
                if path is None:
                    raise UnusableError("missing")
                findings.found.append(_found(name, path, entry))
            except UnusableError as reason:
                findings.drop(name, reason)
        for rest in media:
            findings.drop(f"{where}{rest}", f"has no label in {METADATA} or {LABELS}")
    return findings


def _parts(tree: Tree) -> Iterator[Path]:
    """Folders with a list, as deep as `train/dfdc_train_part_0`."""
    level = [tree.root]
    for _ in range(3):
        for folder in level:
            if tree.has(folder / METADATA) or tree.has(folder / LABELS):
                yield folder
        level = [child for folder in level for child in tree.folders(folder)]


def _entries(tree: Tree, folder: Path) -> dict[str, Any]:
    """File name -> what is said about it."""
    entries: dict[str, Any] = {}
    if tree.has(folder / LABELS):
        try:
            rows = list(csv.DictReader(io.StringIO(read_text(folder / LABELS)), restkey="", restval=""))
        except csv.Error as error:
            raise UserError(f"{folder / LABELS}: not CSV ({error}); fetch the file again") from error
        if not rows or not {"filename", "label"} <= set(rows[0]):
            raise UserError(f"{folder / LABELS}: must have the columns filename and label; fetch the file again")
        entries |= {row["filename"]: {"label": row["label"], "split": "test"} for row in rows}
    if tree.has(folder / METADATA):
        entries |= _mapping(folder / METADATA)
    return entries


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f'{path}: must be as {{"abc.mp4": {{"label": ...}}}}; fetch the file again')
    return content


def _found(name: str, path: Path, entry: object) -> Found:
    if not isinstance(entry, dict):
        raise UnusableError("its entry is no group of keys")
    label = label_of(entry.get("label", entry.get("is_fake")))
    original = entry.get("original")
    person = stem(original) if label and isinstance(original, str) and original else stem(path.name)
    folders = [SPLIT_NAMES.get(part.lower()) for part in name.split("/")[:-1]]
    split = next((part for part in folders if part in ("validation", "test")), None) or _split(entry.get("split"))
    return Found(path, label, "DFDC" if label else "", name, (f"dfdc-{person}",), split=split)


def _split(said: object) -> str:
    """What a list says; what it does not say is for training."""
    return SPLIT_NAMES.get(said.lower() if isinstance(said, str) else "", "train")


def recognise_preview(tree: Tree) -> bool:
    return tree.base(PREVIEW) is not None


def read_preview(tree: Tree) -> Findings:
    """Raises `UserError` for a damaged `dataset.json`."""
    findings = Findings()
    base = tree.base(PREVIEW) or tree.root
    for listed, entry in _mapping(base / PREVIEW).items():
        name = listed.rpartition(".")[0] or listed
        try:
            findings.found.append(_found_preview(tree, base, name, listed, entry))
        except UnusableError as reason:
            findings.drop(name, reason)
    return findings


def _found_preview(tree: Tree, base: Path, name: str, listed: str, entry: object) -> Found:
    folder, *inner = tree.parts(listed)
    frames = base / folder / "frames" / stem(listed)
    path = frames if not tree.has(base.joinpath(folder, *inner)) and tree.has(frames) else tree.locate(listed, base)
    if not isinstance(entry, dict):
        raise UnusableError("its entry is no group of keys")
    if path.suffix.lower() not in VIDEOS and not tree.holds_frames(path):
        raise UnusableError("neither a video nor a folder of frames")
    label = label_of(entry.get("label"))
    named = [str(entry[key]) for key in ("target_id", "swapped_id") if isinstance(entry.get(key), str | int)]
    people = [person for person in named if person] or [inner[0] if len(inner) > 1 else stem(listed)]
    return Found(
        path,
        label,
        folder if label else "",
        name,
        tuple(dict.fromkeys(f"dfdcp-{person}" for person in people)),
        split=_split(entry.get("set")),
    )
