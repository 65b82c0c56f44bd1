"""Reenactment metrics: how near a forgery comes to the exact target, beside what copying the source would give.

Numbers that need no judge are in `pixels`; the others name theirs: `expression` (AED, APD), `landmarks` (AKD),
`identity` (CSIM), `perceptual` (LPIPS), `clips` (jitter). Frames in which a judge finds no face give NaN, are left out
of the means and counted. `Panel` asks all judges that can be had.
"""

from generation.losses import changed_region
from generation.metrics.clips import jitter
from generation.metrics.expression import ExpressionQuality, aed, aed_truth, apd, expression_quality
from generation.metrics.identity import csim, embeddings, five_points
from generation.metrics.landmarks import akd_256, akd_iod, interocular
from generation.metrics.panel import Panel
from generation.metrics.perceptual import Lpips
from generation.metrics.pixels import (
    FOREHEAD,
    VISIBLE_SHARE,
    background,
    background_l1,
    changed_l1_ratio,
    changed_sums,
    face_region,
    l1,
    mean,
    psnr,
    region_mean,
    ssim,
    ssim_map,
    visible_change,
)
from generation.metrics.quality import SwapImages, pixel_quality
from generation.metrics.readings import Readings, fan_landmarks, read_faces

__all__ = [
    "FOREHEAD",
    "VISIBLE_SHARE",
    "ExpressionQuality",
    "Lpips",
    "Panel",
    "Readings",
    "SwapImages",
    "aed",
    "aed_truth",
    "akd_256",
    "akd_iod",
    "apd",
    "background",
    "background_l1",
    "changed_l1_ratio",
    "changed_region",
    "changed_sums",
    "csim",
    "embeddings",
    "expression_quality",
    "face_region",
    "fan_landmarks",
    "five_points",
    "interocular",
    "jitter",
    "l1",
    "mean",
    "pixel_quality",
    "psnr",
    "read_faces",
    "region_mean",
    "ssim",
    "ssim_map",
    "visible_change",
]
