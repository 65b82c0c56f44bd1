"""Alignment: the square crop around a face."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

EYE_DISTANCE = 0.24
"""Distance between the eye centres in a crop, as a share of its width."""

EYE_HEIGHT = 0.45
"""How far down the crop the eyes lie, as a share of its height."""


def face_crop(image: np.ndarray, eyes: np.ndarray, size: int) -> np.ndarray:  # -> uint8 (size, size, 3)
    """The square around a face with level eyes, `EYE_DISTANCE` apart and `EYE_HEIGHT` down.

    image: uint8 (H, W, 3); eyes: (2, 2) pixels, see `Reading`
    Every pixel is the mean over its area of the bicubic photo; what lies outside the photo repeats its edge.
    """
    across = (eyes[1] - eyes[0]) / EYE_DISTANCE
    down = np.array([-across[1], across[0]])
    samples = max(1, int(np.ceil(np.linalg.norm(across) / size)))
    steps = (np.arange(size * samples) + 0.5) / (size * samples)
    points = eyes.mean(0) + (steps[None, :, None] - 0.5) * across + (steps[:, None, None] - EYE_HEIGHT) * down
    grid = torch.from_numpy(2 * points / (image.shape[1], image.shape[0]) - 1).float()[None]
    photo = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
    fine = functional.grid_sample(photo, grid, mode="bicubic", padding_mode="border", align_corners=False)
    coarse = functional.avg_pool2d(fine, samples)
    return coarse[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
