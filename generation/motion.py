"""Motion: how a face is held and what it expresses, in 58 named numbers.

An expression is 52 ARKit facial actions in [0, 1]. A pose is six numbers in the frame of the crop:

    rotation     (pitch, yaw, roll) in radians; positive pitch looks up, positive yaw turns the face to
                 the viewer's right, positive roll turns it clockwise as the viewer sees it
    translation  (x, y): where the midpoint between the eye centres lies, in crop units: (0, 0) is the centre, the
                 crop's left and top edges are -1, its right and bottom edges +1
    scale        distance between the eye centres at zero rotation, in the same units

The expression acts before the rotation: x = s((x_c + delta) R) + t (PerformRecast, arXiv 2603.19731).

Expressions over time are written to and read from CSV, as face capture on a phone (Live Link Face) writes them, too.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_BOTH_SIDES = ("Left", "Right")

ACTIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 ARKit facial actions, in the order of MediaPipe's blend shapes, with ARKit's `tongueOut` last."""

POSE: tuple[str, ...] = ("pitch", "yaw", "roll", "x", "y", "scale")
EXPRESSION_SIZE = len(ACTIONS)
MOTION_SIZE = EXPRESSION_SIZE + len(POSE)


def expression_of(actions: dict[str, float]) -> Tensor:  # (52,)
    """An expression from named actions; what is not named is 0.

    Raises `ValueError` for a name that is no action or a value outside [0, 1].
    """
    expression = torch.zeros(EXPRESSION_SIZE)
    for name, value in actions.items():
        if name not in ACTIONS:
            raise ValueError(f"{name!r} is no facial action; the 52 names are {', '.join(ACTIONS)}")
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value} is outside [0, 1]")
        expression[ACTIONS.index(name)] = value
    return expression


def mirror(expression: Tensor) -> Tensor:  # (..., 52) -> (..., 52)
    """The expression of the mirrored face: every left action becomes the right one and the other way round.

    `jawLeft` and `mouthLeft` swap with their right-hand partners in the same way.
    """
    return expression[..., _MIRROR_ORDER]


def _mirror_order() -> list[int]:
    order = []
    for name in ACTIONS:
        for side, other in (_BOTH_SIDES, _BOTH_SIDES[::-1]):
            if name.endswith(side):
                name = name.removesuffix(side) + other
                break
        order.append(ACTIONS.index(name))
    return order


_MIRROR_ORDER = _mirror_order()


@dataclass(frozen=True)
class Motion:
    """Expression and pose of one face or of a batch of faces.

    expression: Tensor  # (..., 52) in [0, 1], the order of `ACTIONS`
    pose: Tensor        # (..., 6), the order of `POSE`
    """

    expression: Tensor
    pose: Tensor

    def __post_init__(self) -> None:
        if self.expression.shape[-1] != EXPRESSION_SIZE or self.pose.shape[-1] != len(POSE):
            raise ValueError(
                f"a Motion needs an expression (..., {EXPRESSION_SIZE}) and a pose (..., {len(POSE)}), "
                f"not {tuple(self.expression.shape)} and {tuple(self.pose.shape)}"
            )

    def vector(self) -> Tensor:  # (..., 58)
        """What reenactors take: the expression followed by the pose."""
        return torch.cat([self.expression, self.pose], dim=-1)

    @classmethod
    def from_vector(cls, vector: Tensor) -> Motion:
        """The inverse of `vector`."""
        return cls(vector[..., :EXPRESSION_SIZE], vector[..., EXPRESSION_SIZE:])


def swap(source: Motion, driver: Motion) -> Motion:
    """The wanted motion of an expression swap: the driver's expression in the source's own pose."""
    return Motion(driver.expression, source.pose)


UNTIMED_RATE = 25.0
"""Rows a second of a CSV without a column of times."""

_TIMECODE = re.compile(r"(\d+):(\d+):(\d+)[:;](\d+)(\.\d+)?")
_RATES = (24, 25, 30, 50, 60, 120)
_SLACK = 0.01
"""By how much a captured value may lie outside [0, 1]; it is clipped."""


def write_expressions(seconds: np.ndarray, expressions: np.ndarray) -> str:  # (N,), (N, 52)
    """The text of a CSV: a column `seconds`, then one for each of `ACTIONS`; `read_expressions` reads it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("seconds", *ACTIONS))
    for time, row in zip(seconds, expressions, strict=True):
        table.writerow((f"{time:.4f}", *(f"{value:.5f}" for value in row)))
    return text.getvalue()


def read_expressions(path: Path) -> tuple[np.ndarray, np.ndarray]:  # (N,), (N, 52) float32
    """Times in seconds from the first row on, never falling, and expressions of a CSV; a row is NaN where the capture
    had no face.

    A column for each of `ACTIONS`, in any order and in ARKit's or Live Link Face's spelling (`jawOpen`, `JawOpen`);
    `tongueOut` may be absent and is then 0. Times are `Timecode` (hours:minutes:seconds:frames) or `seconds`, or else
    rows are `UNTIMED_RATE` a second. Other columns are left alone.

    Raises `ValueError` that names the line: for a missing column, what is no number, or a value outside [0, 1].
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"no CSV: {error}") from error
    names = [name.strip().lower() for name in lines[0]] if lines else []
    missing = [name for name in ACTIONS if name.lower() not in names and name != "tongueOut"]
    if missing:
        few = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise ValueError(f"columns are missing: {few}; a column is needed for each ARKit action, as jawOpen or JawOpen")
    rows = [(number, row) for number, row in enumerate(lines[1:], start=2) if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError("no row below the header")
    columns = [names.index(name.lower()) if name.lower() in names else -1 for name in ACTIONS]
    expressions = np.stack([_row(number, row, columns) for number, row in rows])
    if np.isnan(expressions).all():
        raise ValueError("no row has a face: all values are empty")
    return _times(names, rows), expressions


def _row(number: int, row: list[str], columns: list[int]) -> np.ndarray:  # (52,) float32
    cells = [row[column].strip() if 0 <= column < len(row) else "" for column in columns]
    if not any(cells):
        return np.full(EXPRESSION_SIZE, np.nan, np.float32)
    values = np.zeros(EXPRESSION_SIZE, np.float32)
    for index, (name, cell) in enumerate(zip(ACTIONS, cells, strict=True)):
        if columns[index] < 0:
            continue
        try:
            values[index] = float(cell)
        except ValueError:
            raise ValueError(f"line {number}, {name}: {cell!r} is no number") from None
        if not -_SLACK <= values[index] <= 1 + _SLACK:
            percent = "; divide percent by 100" if 1 < values[index] <= 100 else ""
            raise ValueError(f"line {number}, {name}: {cell} is outside [0, 1]{percent}")
    return values.clip(0, 1)


def _times(names: list[str], rows: list[tuple[int, list[str]]]) -> np.ndarray:  # (N,)
    column = next((names.index(name) for name in ("timecode", "seconds") if name in names), None)
    if column is None:
        return np.arange(len(rows)) / UNTIMED_RATE
    cells = [row[column].strip() if column < len(row) else "" for _, row in rows]
    if names[column] == "timecode":
        parts = [_TIMECODE.fullmatch(cell) for cell in cells]
        most = max((int(part[4]) for part in parts if part), default=0)
        rate = next((rate for rate in _RATES if rate > most), _RATES[-1])
    seconds = np.zeros(len(rows))
    for index, ((number, _), cell) in enumerate(zip(rows, cells, strict=True)):
        try:
            if names[column] == "timecode":
                hours, minutes, second, frame, part = parts[index].groups()  # type: ignore[union-attr]
                seconds[index] = 3600 * int(hours) + 60 * int(minutes) + int(second)
                seconds[index] += (int(frame) + float(part or 0)) / rate
            else:
                seconds[index] = float(cell)
        except (ValueError, AttributeError):
            raise ValueError(f"line {number}: {cell!r} is no time") from None
        if not np.isfinite(seconds[index]) or (index and seconds[index] < seconds[index - 1]):
            raise ValueError(f"line {number}: the time {cell} comes before the one above it")
    return np.asarray(seconds - seconds[0])
