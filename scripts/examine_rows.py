"""Photographs as records: the inner faces that detectors of verdicts are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image

from detection.examine import Scored
from detection.examine_looks import Look, Seen
from detection.examine_views import inner_square
from generation import records
from generation.faces.alignment import cropped
from generation.faces.media import Media
from generation.records import UserError
from generation.workers import each
from scripts.examine_faces import face_finder
from scripts.examine_photos import CONDITIONS, Photograph

LOOK_EVERY = 3
"""Frames of the short clips that are looked at: the first, which is whole by itself, and the fourth, which is not."""

_AT_ONCE = 16
"""Photographs whose faces are found by a process before it hands them on."""

_Sized = TypeVar("_Sized", Look, Scored)


def of_largest(looks: Sequence[_Sized]) -> list[_Sized]:
    """Those of the face that a photograph is of: what else was taken for one is small."""
    largest = max((look.side for look in looks), default=0.0)
    return [look for look in looks if look.side > 0.7 * largest]


def photo_rows(
    where: Path, index: Sequence[Photograph], size: int, bar: Callable[[int, int], None], workers: int = 1
) -> Iterator[dict[str, Any]]:
    """Rows of records of the inner faces in crops of `size` pixels; of a clip, in its last frame that is looked at. The
    face of a forgery is where it is in the real photograph. workers: processes; rows and their order do not depend on
    them."""
    together: dict[str, list[Photograph]] = {}
    for item in index:
        together.setdefault(item.source or item.file, []).append(item)
    groups = list(together.items())
    jobs = [(where, groups[start : start + _AT_ONCE], size) for start in range(0, len(groups), _AT_ONCE)]
    made: dict[int, list[dict[str, Any]]] = {}
    done = 0
    for job, rows in each(_inner_rows, jobs, workers, preload="scripts.examine_rows"):
        if rows is None:
            raise UserError(f"faces of photographs: the process at {jobs[job][1][0][0]} was killed; run it again")
        made[job] = rows
        while done in made:
            yield from made.pop(done)
            done += 1
            bar(done, len(jobs))


def _inner_rows(where: Path, groups: Sequence[tuple[str, list[Photograph]]], size: int) -> list[dict[str, Any]]:
    rows = []
    for original, items in groups:
        looks = [
            look
            for look in face_finder(LOOK_EVERY).looks(where / original, size, Seen())
            if not np.isnan(look.landmarks).any()
        ]
        looks = of_largest(looks)
        rows += [_inner_row(where, item, looks[-1], size) for item in items if looks]
    return rows


def _inner_row(where: Path, item: Photograph, look: Look, size: int) -> dict[str, Any]:
    top, left, side = inner_square(size)
    part = np.s_[top : top + side, left : left + side]
    crop, mask = look.crop, None
    if item.label:
        image = next(frame for frame in Media(where / item.file) if frame.index == look.frame).image()
        crop = cropped(image, look.matrix, size)
        whole = np.asarray(Image.open(where / item.mask).convert("L"))
        mask = _cropped_mask(whole, look, item, size)[part]
    return records.row(
        crop[part],
        clip=item.source or item.file,
        frame=look.frame,
        identity=item.identity,
        scene=item.condition,
        expression=np.zeros(52),
        pose=np.array([*look.pose, 0, 0, 0, 1]),
        landmarks=look.landmarks - (left, top),
        split=item.split,
        origin=item.origin,
        seed=0,
        mask=mask,
        method=item.method,
        source=(item.source, look.frame) if item.label else None,
    )


def _cropped_mask(whole: np.ndarray, look: Look, item: Photograph, size: int) -> np.ndarray:
    """The mask of the original in the crop of a face, which may have been made smaller, or moved with the camera."""
    scale = CONDITIONS[item.condition][2]
    shift = np.array([look.frame, look.frame // 2]) if item.file.endswith(".mp4") else np.zeros(2)
    matrix = look.matrix.copy()
    matrix[:, 2] -= matrix[:, :2] @ shift
    matrix[:, :2] *= scale
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return cv2.warpAffine(whole, matrix, (size, size), flags=cv2.INTER_LINEAR)
