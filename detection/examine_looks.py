"""What an examination sees: one face in one frame, and the file that it is in. Who finds faces is passed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Look:
    """One face in one frame.

    number: of the look in its file, from 0; track: of one appearance of a face; frame: of the file
    seconds: since the first frame
    box: (4,) left, top, right, bottom, pixels of the frame
    side: of the square around the face that was cropped, pixels of the frame
    pose: (pitch, yaw) in radians, NaN where the face was found but not read
    crop: uint8 (S, S, 3), upright; matrix: (2, 3), points of the frame -> points of the crop
    landmarks: (68, 2) pixels of the crop, NaN where not read
    """

    number: int
    track: int
    frame: int
    seconds: float
    box: np.ndarray
    side: float
    pose: tuple[float, float]
    crop: np.ndarray
    matrix: np.ndarray
    landmarks: np.ndarray


@dataclass
class Seen:
    """What is known of a file after all its looks were taken.

    kind: photo or video; width, height: pixels; frames: in the file, as far as it says; looked: at how many
    seconds: from its first frame to its last one
    sampling: in words, how frames were chosen, "" where all were looked at; damage: what could not be decoded
    person: number of the look -> number of the person
    """

    kind: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    looked: int = 0
    seconds: float = 0.0
    sampling: str = ""
    damage: str = ""
    person: Mapping[int, int] = field(default_factory=dict)


class Finder(Protocol):
    """Finds and tracks the faces of a file. `seen` is filled in while the looks are taken, and whole afterwards.

    Raises `UserError` where there is no picture to be had at all.
    """

    def looks(self, path: Path, size: int, seen: Seen) -> Iterator[Look]: ...
