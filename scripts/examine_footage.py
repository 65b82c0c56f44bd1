"""Clips of real people talking, real ones and forged ones: what verdicts on video are calibrated on beside photographs.

Each is the beginning of a clip, as it is and with the expressions of somebody in another clip, through the same H.264
encoder. Nothing is trained on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from generation.editing.drivers import EditConfig, media_driver
from generation.editing.editing import edited, open_source
from generation.editing.following import Follower
from generation.faces.media import Media
from generation.records import UserError, cache_folder, shared_folder, write_beside
from scripts.examine_photos import VISIBLE, Photograph, encoded_video, visible_change, ways_to_forge

INDEX = "photographs.json"

FRAMES = 32
"""Of each clip."""

LOOK_EVERY = 8
"""Frames of a clip that are looked at."""

ORIGIN = "clips of people talking, example media of an MIT-licensed repository; for calibration only"

_LONGEST = 1280
_QUALITY = (18, 23, 28)
"""Constant rate factors, in turn; the clips that all are made of have 12."""

_FORGERIES = 2
_VERSION = 2


def talking_clips(progress: Callable[[int, int], None] | None = None, seed: int = 0) -> tuple[Path, list[Photograph]]:
    """The folder of the files, from the cache where they were made before, and what each of them is, all of the
    validation split. What was begun goes on behind the last whole clip. Raises `UserError` where there are no clips."""
    clips = _clips()
    what = json.dumps([[path.name for path in clips], seed, _VERSION])
    folder = cache_folder() / "talking" / hashlib.sha256(what.encode()).hexdigest()[:12]
    if not (folder / INDEX).is_file():
        parts = [folder / "clips" / f"{path.stem}.json" for path in clips]
        with Follower() as follower:
            originals = [_original(path, folder) for path in clips]
            for number, (original, part) in enumerate(zip(originals, parts, strict=True)):
                if not part.is_file():
                    driver = originals[(number + 1) % len(originals)]
                    made = [asdict(item) for item in _of_clip(number, original, driver, follower, folder, seed)]
                    write_beside(part, json.dumps(made).encode())
                if progress:
                    progress(number + 1, len(clips))
        found = [item for part in parts for item in json.loads(part.read_bytes())]
        write_beside(folder / INDEX, json.dumps(found).encode())
    return folder, [Photograph(**item) for item in json.loads((folder / INDEX).read_bytes())]


def _clips() -> list[Path]:
    shared = shared_folder()
    clips = [] if shared is None else sorted((shared / "data" / "talking").glob("*.mp4"))
    if len(clips) < 2:
        raise UserError("footage=true: needs data/talking in VICIOUS_CYCLE_SHARED; or footage=false")
    return clips


def _original(path: Path, folder: Path) -> Path:
    original = folder / "originals" / f"{path.stem}.mp4"
    if not original.is_file():
        write_beside(original, encoded_video([_reduced(frame.image()) for frame in islice(Media(path), FRAMES)], 12))
    return original


def _reduced(image: np.ndarray) -> np.ndarray:
    factor = min(1.0, _LONGEST / max(image.shape[:2]))
    size = [round(side * factor) // 2 * 2 for side in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _of_clip(
    number: int, original: Path, driver: Path, follower: Follower, folder: Path, seed: int
) -> Iterator[Photograph]:
    """A clip as it is, and its forgeries that change anything one could see."""
    draw = np.random.default_rng([seed, 43, number])
    frames = [frame.image() for frame in Media(original)]
    source = open_source(original, follower)
    people = [person for person in source.followed.people if person.weight.any()]
    if not people:
        return
    person = max(people, key=lambda one: one.side)
    quality = _QUALITY[number % len(_QUALITY)]
    identity, condition = f"talking-{original.stem}", f"h264_{quality}"
    made, ways = [("", 0.0, frames)], ways_to_forge("validation")
    expressions = media_driver(driver, follower, "replace")
    for _ in range(_FORGERIES):
        setting = ways[draw.integers(len(ways))]
        edit = EditConfig("replace", float(draw.uniform(*setting.strengths)))
        new = [one.image for one in edited(source, [person], expressions, edit, setting.redrawer)]
        visible = max(visible_change(before, after, person.side) for before, after in zip(frames, new, strict=True))
        if visible >= VISIBLE:
            made.append((setting.name, visible, new))
    real = f"{original.stem}-0.mp4"
    for which, (method, visible, images) in enumerate(made):
        file = f"{original.stem}-{which}.mp4"
        write_beside(folder / file, encoded_video(images, quality))
        yield Photograph(
            file, "validation", identity, int(which > 0), method, condition, real if which else "", "", ORIGIN, visible
        )
