"""Temporal jitter: how landmarks tremble from frame to frame."""

from __future__ import annotations

from torch import Tensor

from generation.metrics.landmarks import interocular
from generation.metrics.pixels import mean


def jitter(landmarks: Tensor, truth: Tensor | None = None) -> float | None:
    """Mean |second difference over time| of a clip's landmarks, per coordinate, in inter-ocular distances.

    landmarks, truth: (F, 68, 2) of consecutive frames, in the same coordinates; rows of NaN where no face was found
    With `truth` (the exact target's landmarks) the second difference is that of landmarks - truth, so movement that
    should be there does not count; read off the exact target itself, what is left is the judge's own trembling.
    Without, it is the landmarks' own, movement and all: to be compared with that of another clip that moves in the
    same way, such as the clip a forgery was made of.
    The unit is the clip's mean `interocular` distance (of the truth where given). Second differences that need a frame
    without a face do not count. None where none is left.
    """
    unit = mean(interocular(landmarks if truth is None else truth))
    error = landmarks if truth is None else landmarks - truth
    second = (error[2:] - 2 * error[1:-1] + error[:-2]).abs().mean((1, 2))
    found = mean(second)
    return None if unit is None or found is None else found / unit
