"""What a camera adds to the light of a scene: slight blur and noise, the same for every frame of a clip."""

from __future__ import annotations

import numpy as np

from generation.faces.people import Scene


def blur_of(scene: Scene, size: int) -> np.ndarray:  # (k, k) float32, k odd
    """Weights of defocus and motion blur on the pixels around each; they sum to 1. [[1]] where there is no blur."""
    shake = np.array(scene.shake) * size
    sigma = max(scene.defocus * size, 0.2)
    half = int(np.ceil(2 * sigma + np.abs(shake).max() / 2 - 0.6))
    x = np.arange(-half, half + 1)
    steps = np.linspace(-0.5, 0.5, 9)[:, None] * shake
    across, down = (np.exp(-((x - steps[:, [axis]]) ** 2) / (2 * sigma**2)) for axis in range(2))
    weights = down.T @ across
    return np.asarray(weights / weights.sum(), np.float32)


SENSOR = 256
"""Pixels of the sensor a side: smaller pictures are averages of its pixels, with so much less noise."""


def grain_of(scene: Scene, size: int) -> np.ndarray:  # (size, size, 3) float32
    """The sensor's noise in a middle grey, in linear light."""
    rng = np.random.default_rng([scene.seed, 8])
    return min(1.0, size / SENSOR) * scene.grain * rng.normal(0, 1, (size, size, 3)).astype(np.float32)
