"""How well a heat map finds what was changed in a forged face.

maps: (N, H, W) log-odds that a pixel was changed; masks: (N, H, W) bool or 0/1, the truth. Faces without a changed
pixel are left out; each of the others counts the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from detection.metrics.ranking import average_precision
from generation.records import UserError


def localisation_ap(maps: ArrayLike, masks: ArrayLike) -> float:
    """Average precision over the pixels of a face, then the mean over faces; chance is the mask's share of the
    picture. A face that is changed everywhere counts 1."""
    values = [
        1.0 if truth.all() else average_precision(truth.ravel().astype(int), heat.ravel())
        for heat, truth in _forged(maps, masks)
    ]
    return float(np.mean(values))


def localisation_iou(maps: ArrayLike, masks: ArrayLike, threshold: float = 0.0) -> float:
    """Intersection over union of the pixels above `threshold` and the truth, then the mean over faces."""
    found = [(heat >= threshold, truth) for heat, truth in _forged(maps, masks)]
    return float(np.mean([(flagged & truth).sum() / (flagged | truth).sum() for flagged, truth in found]))


def _forged(maps: ArrayLike, masks: ArrayLike) -> list[tuple[np.ndarray, np.ndarray]]:
    heat, truth = np.asarray(maps, dtype=np.float64), np.asarray(masks).astype(bool)
    if heat.ndim != 3 or heat.shape != truth.shape:
        raise UserError(f"heat maps {heat.shape}, masks {truth.shape}: one mask is needed for every map, as (N, H, W)")
    chosen = [(one, mask) for one, mask in zip(heat, truth, strict=True) if mask.any()]
    if not chosen:
        raise UserError("masks: no pixel of any face was changed; localisation is measured on forged faces")
    return chosen
