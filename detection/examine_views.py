"""What each detector of an ensemble sees of one crop: all of it, made smaller, or the inner face as fine as it is."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.localizer import Located
from generation.records import UserError

ViewName = Literal["whole", "inner"]

_INNER = (0.296875, 0.21875, 0.5625)
"""Top, left and side of the square from the brows to the chin, as shares of a crop's side: what expressions move."""

_NEVER = -20.0
"""Log-odds of a pixel that a detector does not see."""


def inner_square(size: int) -> tuple[int, int, int]:
    """Top, left and side in a crop of `size` pixels."""
    top, left, side = (round(share * size) for share in _INNER)
    return top, left, side


class View(nn.Module):
    """A detector of pictures of `size` pixels, on crops (B, 3, S, S): `whole`, reduced to `size`, or `inner`."""

    def __init__(self, module: nn.Module, view: str, size: int) -> None:
        super().__init__()
        if view not in ("whole", "inner"):
            raise UserError(f"view={view}: must be whole or inner")
        self.module, self.view, self.size = module, view, size
        if hasattr(module, "locate"):
            self.locate = self._locate

    def seen(self, images: Tensor) -> Tensor:
        """What the detector is given."""
        if self.view == "inner":
            top, left, side = inner_square(images.shape[-1])
            images = images[..., top : top + side, left : left + side]
        if images.shape[-1] == self.size:
            return images
        if images.shape[-1] > self.size:
            return F.adaptive_avg_pool2d(images, self.size)
        return F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)

    def spread(self, maps: Tensor, size: int, fill: float = 0.0) -> Tensor:  # (B, 1, h, w) -> (B, 1, size, size)
        """Maps of what the detector saw as maps of the crop, `fill` where it saw nothing."""
        top, left, side = inner_square(size) if self.view == "inner" else (0, 0, size)
        maps = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
        return F.pad(maps, (left, size - left - side, top, size - top - side), value=fill)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(self.seen(images))
        return logits

    def _locate(self, images: Tensor) -> Located:
        located: Any = self.module.locate(self.seen(images))  # type: ignore[operator]
        return Located(located.logit, self.spread(located.heat, images.shape[-1], _NEVER))
