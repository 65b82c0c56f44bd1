"""Swaps with exact targets, and what arithmetic alone says of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from generation.losses import changed_region
from generation.metrics.pixels import (
    background,
    background_l1,
    changed_l1_ratio,
    changed_sums,
    face_region,
    l1,
    mean,
    psnr,
    ssim,
    ssim_map,
    visible_change,
)

_BATCH = 32


@dataclass(frozen=True)
class SwapImages:
    """N swaps and what they should look like.

    source, result, target: Tensor             # (N, 3, S, S) uint8
    wanted: Tensor                             # (N, 52) in [0, 1], the expression that was asked for
    source_landmarks, target_landmarks: Tensor # (N, 68, 2) pixels of `source` and `target`
    """

    source: Tensor
    result: Tensor
    target: Tensor
    wanted: Tensor
    source_landmarks: Tensor
    target_landmarks: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def select(self, rows: slice) -> SwapImages:
        return SwapImages(*(getattr(self, field.name)[rows] for field in fields(self)))

    def visible(self) -> Tensor:  # (N,) bool, see `visible_change`
        starts = range(0, len(self), _BATCH)
        parts = [self.select(slice(start, start + _BATCH)) for start in starts]
        return torch.cat([visible_change(part.source / 255, part.target / 255) for part in parts])


def pixel_quality(swaps: SwapImages) -> dict[str, float | None]:
    """L1, PSNR and SSIM on the frame, on the target's `face_region` and on the changed region, and what leaks.

    Each is the mean over frames of the function of its name. Only swaps with a visible change count for the changed
    region, but in `changed_l1_ratio` all.
    """
    frames: list[Tensor] = []
    sums = torch.zeros(2, dtype=torch.float64)
    for start in range(0, len(swaps), _BATCH):
        part = swaps.select(slice(start, start + _BATCH))
        source, result, target = part.source / 255, part.result / 255, part.target / 255
        changed = changed_region(source, target) & visible_change(source, target)[:, None, None, None]
        regions = (None, face_region(part.target_landmarks, target.shape[-1]), changed)
        similarity = ssim_map(result, target)
        values = [
            *(l1(result, target, region) for region in regions),
            *(psnr(result, target, region) for region in regions),
            *(ssim(similarity, region) for region in regions),
            background_l1(source, result, background(part.source_landmarks, part.target_landmarks, source.shape[-1])),
        ]
        frames.append(torch.stack(values))
        sums += changed_sums(source, result, target)
    names = [f"{metric}{region}" for metric in ("l1", "psnr", "ssim") for region in ("", "_face", "_changed")]
    names.append("background_l1")
    return {
        "changed_l1_ratio": changed_l1_ratio(sums),
        **{name: mean(values) for name, values in zip(names, torch.cat(frames, dim=1), strict=True)},
    }
