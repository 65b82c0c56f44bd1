"""What the detectors of an ensemble see of a crop: the inner face, as fine as the crop is, and its mirror image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.localizer import Located

_INNER = (0.296875, 0.21875, 0.5625)
"""Top, left and side of the square from the brows to the chin, as shares of a crop's side: what expressions move."""

_NEVER = -20.0
"""Log-odds of a pixel that a detector does not see."""


def inner_square(size: int) -> tuple[int, int, int]:
    """Top, left and side in a crop of `size` pixels."""
    top, left, side = (round(share * size) for share in _INNER)
    return top, left, side


class InnerFace(nn.Module):
    """A detector of inner faces, on crops (B, 3, S, S): the mean of what it says of each face and of its mirror image.
    Laid out channels last, which is faster on a CPU."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)
        if hasattr(module, "locate"):
            self.locate = self._locate

    def seen(self, images: Tensor) -> Tensor:
        """What the detector is given."""
        top, left, side = inner_square(images.shape[-1])
        return images[..., top : top + side, left : left + side]

    def spread(self, maps: Tensor, size: int, fill: float = 0.0) -> Tensor:  # (B, 1, h, w) -> (B, 1, size, size)
        """Maps of what the detector saw as maps of the crop, `fill` where it saw nothing."""
        top, left, side = inner_square(size)
        maps = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
        return F.pad(maps, (left, size - left - side, top, size - top - side), value=fill)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(_and_mirrored(self.seen(images)))
        return logits.view(2, -1).mean(0)

    def _locate(self, images: Tensor) -> Located:
        located: Any = self.module.locate(_and_mirrored(self.seen(images)))  # type: ignore[operator]
        as_is, mirrored = located.heat.chunk(2)
        heat = (as_is + mirrored.flip(-1)) / 2
        return Located(located.logit.view(2, -1).mean(0), self.spread(heat, images.shape[-1], _NEVER))


def _and_mirrored(images: Tensor) -> Tensor:  # (B, C, H, W) -> (2 * B, C, H, W)
    return torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last)
