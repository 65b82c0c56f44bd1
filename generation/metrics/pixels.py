"""Pixels against an exact target: on the whole frame, on the face, on what changes.

Images are (N, 3, H, W) in [0, 1], regions (N, 1, H, W) bool. No judge is asked: every number is arithmetic. Functions
that give (N,) values have one for each frame, NaN where its region is empty; `mean` is their mean.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import ConvexHull
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from generation.losses import changed_region

VISIBLE_SHARE = 0.01
"""A swap has a visible change where at least this share of the frame's pixels has changed (41 at 64 px, a blink)."""

FOREHEAD = 1 / 3
"""How far above the brows the face region reaches, as a share of the height from the chin to the brows. The canon of
the face (three equal thirds) has the hairline at 1/2; a third stays below most fringes."""

_WINDOW = 5
"""Half the width of SSIM's window, pixels."""


def mean(values: Tensor) -> float | None:  # (N,)
    """Their mean, NaN left out; None where nothing is left."""
    found = values[~values.isnan()]
    return float(found.double().mean()) if len(found) else None


def region_mean(values: Tensor, region: Tensor | None = None) -> Tensor:  # (N, C, H, W) -> (N,)
    """Mean over channels and the pixels of `region` (default: all), NaN where it is empty."""
    if region is None:
        return values.mean((1, 2, 3), dtype=torch.float64)
    count = values.shape[1] * region.sum((1, 2, 3))
    return (values * region).sum((1, 2, 3), dtype=torch.float64) / count  # 0 / 0 is NaN


def visible_change(source: Tensor, target: Tensor) -> Tensor:  # (N,) bool
    """Which swaps change at least `VISIBLE_SHARE` of the frame's pixels."""
    return changed_region(source, target).float().mean((1, 2, 3)) >= VISIBLE_SHARE


def face_region(landmarks: Tensor, size: int) -> Tensor:  # (N, 68, 2) pixels -> (N, 1, size, size) bool
    """Pixels of the face: those whose centre lies in the convex hull of the 68 landmarks and of the brows raised.

    The ten points of the brows (17 to 26) are moved by `FOREHEAD` of the vector from the chin (8) to the brows' mean.
    Empty where a landmark is NaN.
    """
    inside = np.zeros((len(landmarks), 1, size, size), bool)
    centres = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), axis=-1).reshape(-1, 2)
    for index, points in enumerate(landmarks.double().numpy()):
        if np.isnan(points).any():
            continue
        raised = points[17:27] + FOREHEAD * (points[17:27].mean(0) - points[8])
        sides = ConvexHull(np.concatenate([points, raised])).equations  # outward normal and offset of each side
        inside[index, 0] = (centres @ sides[:, :2].T + sides[:, 2] <= 0).all(1).reshape(size, size)
    return torch.from_numpy(inside)


def l1(result: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:  # (N,)
    """Mean |result - target| over channels and pixels (FOMM's `reconstruction.py`, on [0, 1])."""
    return region_mean((result - target).abs(), region)


def psnr(result: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:  # (N,) dB
    """Peak signal-to-noise ratio for a peak of 1, of each frame's mean squared error over channels and pixels.

    A frame counts as 100 dB at most, so that one without any error does not make the mean infinite.
    """
    error = region_mean((result - target).double().square(), region)
    return -10 * error.clamp_min(1e-10).log10()


def ssim_map(result: Tensor, target: Tensor) -> Tensor:  # (N, 1, H - 10, W - 10)
    """Structural similarity (Wang et al. 2004) at each pixel, the mean over channels: 11 x 11 Gaussian window of sigma
    1.5, peak 1.

    Only pixels whose whole window lies in the frame (at least 11 x 11), as scikit-image and the paper take them;
    torchmetrics alone averages padded borders in and guesses the peak from each batch.
    """
    maps = []
    for index in range(len(result)):  # one by one: torchmetrics holds ten copies of what it is given
        pair = result[index : index + 1].float(), target[index : index + 1].float()
        _, similarity = structural_similarity_index_measure(*pair, sigma=1.5, data_range=1.0, return_full_image=True)
        maps.append(similarity[..., _WINDOW:-_WINDOW, _WINDOW:-_WINDOW].mean(1, keepdim=True))
    return torch.cat(maps)


def ssim(similarity: Tensor, region: Tensor | None = None) -> Tensor:  # (N,)
    """Mean of a `ssim_map`, 1 for identical frames; of a region (N, 1, H, W) the part that the map covers."""
    return region_mean(similarity, None if region is None else region[..., _WINDOW:-_WINDOW, _WINDOW:-_WINDOW])


def changed_sums(source: Tensor, result: Tensor, target: Tensor) -> Tensor:  # (2,) float64
    """What `changed_l1_ratio` is made of, to be added up over batches: the sums over channels and changed pixels of
    |result - target| and of |source - target|."""
    changed = changed_region(source, target)
    parts = (
        ((result - target).abs() * changed).sum(dtype=torch.float64),
        ((source - target).abs() * changed).sum(dtype=torch.float64),
    )
    return torch.stack(parts)


def changed_l1_ratio(sums: Tensor) -> float | None:
    """Error in the changed region as a share of what copying the source gives: 0 is perfect, 1 no better than a copy.

    From `changed_sums` of all swaps: one that changes much counts for more, one without a changed pixel not at all.
    None where no pixel changes at all.
    """
    return float(sums[0] / sums[1]) if sums[1] > 0 else None


def background(source_landmarks: Tensor, target_landmarks: Tensor, size: int) -> Tensor:  # -> (N, 1, size, size) bool
    """Pixels that lie neither in the source's `face_region` nor in the target's."""
    return ~(face_region(source_landmarks, size) | face_region(target_landmarks, size))


def background_l1(source: Tensor, result: Tensor, background: Tensor) -> Tensor:  # (N,)
    """What leaks out of the face: mean |result - source| over channels and the pixels of `background`. 0 is a copy; an
    exact target has a little, for neck and ears move with the jaw."""
    return region_mean((result - source).abs(), background)
