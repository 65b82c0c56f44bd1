"""Forgeries made of real faces alone: a face is blended with a slightly changed copy of itself.

Origin: Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022 (arXiv 2204.08376). What every
face forgery shares, the seam between two versions of a picture, is there; what one generator does alone is not, so a
detector trained on these has seen no generator. Here colours are changed in units that can be seen (the published
code's shifts of hue and saturation are of a third of a grey level), and the mask is kept: it is truth for a localizer.
Two changes are added for expression swaps, which move a face's own pixels and draw what was hidden: the copy's noise
may be another one, and what is blended in may be bent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Generator, Tensor

_FOREHEAD = 0.3
"""The brows' points are raised by this share of the way from the chin, where the whole face is meant."""
_PARTS = ((*range(36, 42), *range(17, 22)), (*range(42, 48), *range(22, 27)), tuple(range(48, 68)))
"""An eye with its brow, the other, the mouth: what an expression swap changes."""
_CELLS = (5, 9, 17, 33, 49)
"""Points across the picture between which a bend is interpolated."""
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""How much of the source is blended in, as in the paper."""


class SelfBlend(NamedTuple):
    """real, forged: Tensor  # (B, 3, H, W) in [0, 1], alike outside the mask
    mask: Tensor          # (B, 1, H, W) in [0, 1], how much of `forged` is the changed copy
    """

    real: Tensor
    forged: Tensor
    mask: Tensor


def self_blend(images: Tensor, landmarks: Tensor, generator: Generator) -> SelfBlend:
    """Self-blended images of real faces.

    images: Tensor     # (B, 3, H, W) in [0, 1]
    landmarks: Tensor  # (B, 68, 2) pixels
    """
    count, _, _, width = images.shape
    masks = _regions(landmarks, images.shape[-2:], generator).to(images)
    changed = _recoloured(images, generator)
    changed = _grained(_resampled(changed, generator), generator)
    copied = _uniform(count, 0, 1, generator).lt(0.5)[:, None, None, None].to(images.device)
    source, target = torch.where(copied, changed, images), torch.where(copied, images, changed)
    source = _bent(source, generator)
    shift = torch.stack([_uniform(count, -0.03, 0.03, generator), _uniform(count, -0.015, 0.015, generator)], 1)
    scale = torch.exp(_uniform(count, np.log(0.95), -np.log(0.95), generator))
    grid = _moved(shift.to(images), scale.to(images), images)
    source, masks = (F.grid_sample(part, grid, align_corners=False, padding_mode="border") for part in (source, masks))
    masks = _softened(_warped(masks, generator), width, generator)
    share = torch.tensor(_SHARES)[torch.randint(len(_SHARES), (count,), generator=generator)]
    mask = masks * share.to(images)[:, None, None, None]
    return SelfBlend(target, torch.lerp(target, source, mask), mask)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _regions(landmarks: Tensor, size: Sequence[int], generator: Generator) -> Tensor:  # (B, 1, H, W) 0 or 1
    """One of: the face with its forehead; the hull of the landmarks; the lower face; eyes and mouth, each or some."""
    height, width = size
    kinds = torch.randint(4, (len(landmarks),), generator=generator).tolist()
    chosen = torch.rand(len(landmarks), len(_PARTS), generator=generator).lt(0.6).tolist()
    masks = np.zeros((len(landmarks), height, width), np.float32)
    for mask, points, kind, parts in zip(masks, landmarks.cpu().double().numpy(), kinds, chosen, strict=True):
        raised = points[17:27] + _FOREHEAD * (points[17:27].mean(0) - points[8])
        hulls = [points]
        if kind == 0:
            hulls = [np.concatenate([points, raised])]
        elif kind == 2:
            hulls = [np.concatenate([points[2:15], points[29:36], points[48:68]])]
        elif kind == 3:
            picked = [part for part, is_in in zip(_PARTS, parts, strict=True) if is_in] or [_PARTS[2]]
            hulls = [_widened(points[list(part)]) for part in picked]
        for hull in hulls:
            cv2.fillConvexPoly(mask, cv2.convexHull(hull.round().astype(np.int32)), 1.0)
    return torch.from_numpy(masks)[:, None]


def _widened(points: np.ndarray) -> np.ndarray:
    centre = points.mean(0)
    return np.asarray(centre + 1.3 * (points - centre))


def _recoloured(images: Tensor, generator: Generator) -> Tensor:
    """Other tint, saturation, contrast and brightness, each by up to a tenth or so."""
    count = len(images)

    def drawn(spread: float, channels: int = 1) -> Tensor:
        return (_uniform(count * channels, -spread, spread, generator).view(count, channels, 1, 1)).to(images)

    grey = images.mean(dim=1, keepdim=True)
    changed = torch.lerp(grey, images, 1 + drawn(0.3)) + drawn(0.04, 3)
    middle = changed.mean(dim=(1, 2, 3), keepdim=True)
    return ((changed - middle) * (1 + drawn(0.12)) + middle + drawn(0.08)).clamp(0, 1)


def _resampled(images: Tensor, generator: Generator) -> Tensor:
    """Every picture either softer, as after being made smaller and larger again, or sharper."""
    strength = _uniform(len(images), -1, 0.8, generator).to(images)[:, None, None, None]
    soft = gaussian_blur2d(images, 5, (0.9, 0.9))
    return torch.lerp(images, soft, strength.clamp_min(-0.8)).clamp(0, 1)


def _bent(images: Tensor, generator: Generator) -> Tensor:
    """Half of the pictures bent by a smooth random flow, with waves of a fifth of the width down to some pixels: what
    moves a face's own pixels leaves no seam."""
    count, size = len(images), images.shape[-2:]
    cells = torch.tensor(_CELLS)[torch.randint(len(_CELLS), (count,), generator=generator)].tolist()
    reach = _uniform(count, 0.05, 0.25, generator) * _uniform(count, 0, 1, generator).lt(0.5)
    drawn = [torch.randn(1, 2, cell, cell, generator=generator) / cell for cell in cells]
    field = torch.cat([F.interpolate(part, size, mode="bicubic", align_corners=False) for part in drawn])
    flow = (field * reach[:, None, None, None]).permute(0, 2, 3, 1).to(images)
    grid = _moved(images.new_zeros(count, 2), images.new_ones(count), images) + flow
    return F.grid_sample(images, grid, mode="bicubic", align_corners=False, padding_mode="border").clamp(0, 1)


def _grained(images: Tensor, generator: Generator) -> Tensor:
    """A third of the pictures with another noise, fine or of two pixels."""
    count, _, height, width = images.shape
    strength = _uniform(count, 0.004, 0.02, generator) * _uniform(count, 0, 1, generator).lt(0.35)
    fine = torch.randn(images.shape, generator=generator)
    coarse = F.interpolate(fine[..., : -(-height // 2), : -(-width // 2)], (height, width), mode="bilinear")
    is_coarse = _uniform(count, 0, 1, generator).lt(0.5)[:, None, None, None]
    noise = torch.where(is_coarse, 1.5 * coarse, fine) * strength[:, None, None, None]
    return (images + noise.to(images)).clamp(0, 1)


def _moved(shift: Tensor, scale: Tensor, like: Tensor) -> Tensor:
    """Grids (B, H, W, 2) that move by shares of the width (B, 2) and enlarge by a scale (B,)."""
    theta = like.new_zeros(len(shift), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift
    return F.affine_grid(theta, list(like.shape), align_corners=False)


def _warped(masks: Tensor, generator: Generator) -> Tensor:
    """The masks with a smooth random deformation of about 3 % of the width."""
    coarse = torch.randn(len(masks), 2, 6, 6, generator=generator).to(masks) * 0.05
    field = F.interpolate(coarse, masks.shape[-2:], mode="bicubic", align_corners=False)
    whole = torch.eye(2, 3, device=masks.device, dtype=masks.dtype).expand(len(masks), 2, 3)
    grid = F.affine_grid(whole, list(masks.shape), align_corners=False) + field.permute(0, 2, 3, 1)
    return F.grid_sample(masks, grid, align_corners=False, padding_mode="zeros")


def _softened(masks: Tensor, width: int, generator: Generator) -> Tensor:
    """Shrunk by about what is then blurred, so that seams lie within the region; 1 at its strongest."""
    reach = torch.exp(_uniform(len(masks), np.log(0.006), np.log(0.05), generator)) * width
    size = 2 * max(1, round(0.1 * width)) + 1
    sigma = reach.to(masks)[:, None].expand(-1, 2)
    shrunk = (_full(gaussian_blur2d(masks, size, sigma)) > 0.75).to(masks)
    return _full(gaussian_blur2d(shrunk, size, sigma / 2)).clamp(0, 1)


def _full(masks: Tensor) -> Tensor:
    return masks / masks.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
