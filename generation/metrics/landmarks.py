"""Distances between landmarks: AKD in both of its senses.

Landmarks are (N, 68, 2) in pixels of pictures of 256 px, as `Readings` has them; rows of NaN were not found and give
NaN. The field's judge is FAN (2-D, 68 points); MediaPipe's points stand in for it where its weights cannot be had, and
numbers of the two do not compare.
"""

from __future__ import annotations

from torch import Tensor


def interocular(landmarks: Tensor) -> Tensor:  # (N, 68, 2) -> (N,)
    """Distance between the outer corners of the eyes (36 and 45), as 300-W has it (Sagonas et al. 2013)."""
    return (landmarks[:, 45] - landmarks[:, 36]).square().sum(1).sqrt()


def akd_256(result: Tensor, target: Tensor) -> Tensor:  # (N,) pixels
    """AKD as FOMM's `pose-evaluation/cmp_kp.py` has it: mean |difference| over all 68 x 2 coordinates, pixels at 256
    px. Not a Euclidean distance, and not normalised by the face."""
    return (result - target).abs().mean((1, 2))


def akd_iod(result: Tensor, target: Tensor) -> Tensor:  # (N,)
    """Mean Euclidean distance of the 68 points over the target's `interocular` distance."""
    return (result - target).square().sum(2).sqrt().mean(1) / interocular(target)
