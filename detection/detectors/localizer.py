"""localizer: where in the picture something was changed, and from that whether anything was.

Origin: a U-Net (Ronneberger et al., MICCAI 2015, arXiv 1505.04597) on residuals and colours, trained with the mask of
each forgery as second target, as multi-task detectors of forgeries are (Nguyen et al., BTAS 2019, arXiv 1906.06876).
The log-odds of the picture see the features at the lowest resolution and the heat map's mean and peak.

With `architecture` the way down is a network of timm, which may have learned from ImageNet, on colours alone.

Normalisation: images in [0, 1]; residuals as in `frequency`; colours for timm's networks as it states for them. Input:
any size of at least 8. The heat map is made at half of it and enlarged. A picture larger than `window` is seen through
windows, as large as those that it was trained on; its log-odds are their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.backbone import Pyramid
from detection.detectors.frequency import Block, convolution
from detection.detectors.fronts import Residuals
from generation.records import UserError


@dataclass(frozen=True)
class LocalizerOptions:
    """truncation: as in `frequency`; widths: channels at 1/2, 1/4, 1/8 ... of the input's size; window: pixels a side
    of what is seen at once, 0 for the whole picture; architecture: of timm, whose features at 1/2 to 1/16 are taken
    in place of residuals and `widths`; pretrained: with its weights."""

    truncation: float = 0.03
    widths: tuple[int, ...] = (24, 32, 48)
    window: int = 0
    architecture: str = ""
    pretrained: bool = False


class Located(NamedTuple):
    """logit: Tensor  # (B,) log-odds that the picture is forged
    heat: Tensor      # (B, 1, H, W) log-odds that a pixel was changed
    """

    logit: Tensor
    heat: Tensor


class Windows(NamedTuple):
    """corners: top and left of each window of `size` pixels that together cover a picture of `height` by `width`."""

    corners: list[tuple[int, int]]
    size: int
    height: int
    width: int

    @staticmethod
    def over(height: int, width: int, size: int) -> Windows:
        """As few as cover the picture, evenly spread; one as large as it is where it is no larger or `size` is 0."""
        if not size or max(height, width) <= size:
            return Windows([(0, 0)], max(height, width), height, width)
        tops, lefts = (
            np.linspace(0, max(0, side - size), max(1, math.ceil(side / size))).round() for side in (height, width)
        )
        return Windows([(int(top), int(left)) for top in tops for left in lefts], size, height, width)

    def cut(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (W * B, C, size, size), window by window
        size = self.size
        return torch.cat([images[..., top : top + size, left : left + size] for top, left in self.corners])

    def joined(self, maps: Tensor) -> Tensor:  # (W * B, C, size, size) -> (B, C, H, W)
        """What `cut` took apart; where windows overlap, their mean."""
        parts = maps.chunk(len(self.corners))
        whole, count = (parts[0].new_zeros(*parts[0].shape[:2], self.height, self.width) for _ in range(2))
        for (top, left), part in zip(self.corners, parts, strict=True):
            here = np.s_[..., top : top + self.size, left : left + self.size]
            whole[here] += part
            count[here] += 1
        return whole / count


class Localizer(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged; `locate` gives the heat map too."""

    def __init__(self, options: LocalizerOptions) -> None:
        super().__init__()
        if options.window < 0:
            raise UserError(f"detector.options.window={options.window}: must be 0 (the whole picture) or more")
        self.window, self.body, widths = options.window, None, options.widths
        if options.architecture:
            self.body = Pyramid(options.architecture, options.pretrained)
            widths = self.body.widths
        elif len(widths) < 2 or min(widths) < 1:
            raise UserError(f"detector.options.widths={list(widths)}: two or more numbers of channels are needed")
        else:
            self.residuals = Residuals(options.truncation)
            self.stem = convolution(self.residuals.channels + 12, widths[0])
            self.down = nn.ModuleList([Block(inputs, outputs) for inputs, outputs in pairwise(widths)])
        self.up = nn.ModuleList([convolution(inputs + outputs, inputs) for inputs, outputs in pairwise(widths)])
        self.heat = nn.Conv2d(widths[0], 1, 1)
        self.head = nn.Linear(2 * widths[-1] + 2, 1)

    def locate(self, images: Tensor) -> Located:
        windows = self.windows(images)
        if len(windows.corners) == 1:
            return self._seen(images)
        located = self._seen(windows.cut(images))
        logit = located.logit.view(len(windows.corners), -1).mean(0)
        return Located(logit, windows.joined(located.heat))

    def windows(self, images: Tensor) -> Windows:
        """What images of this size are seen through."""
        return Windows.over(images.shape[-2], images.shape[-1], self.window)

    def _seen(self, images: Tensor) -> Located:
        height, width = images.shape[-2:]
        unit = 2 ** (len(self.up) + 1)
        images = F.pad(images, (0, -width % unit, 0, -height % unit), mode="replicate")
        features = self._features(images)
        x = features[-1]
        for level in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.relu(self.up[level](torch.cat([x, features[level]], dim=1)))
        heat = self.heat(x)
        lowest, flat = features[-1], heat.flatten(1)
        pooled = [lowest.mean((-2, -1)), lowest.amax((-2, -1)), flat.mean(1, keepdim=True), flat.amax(1, keepdim=True)]
        logit: Tensor = self.head(torch.cat(pooled, dim=1))
        whole = F.interpolate(heat, scale_factor=2.0, mode="bilinear", align_corners=False)
        return Located(logit.squeeze(1), whole[..., :height, :width])

    def _features(self, images: Tensor) -> list[Tensor]:
        """At 1/2, 1/4, 1/8 ... of the size."""
        if self.body is not None:
            features: list[Tensor] = self.body(images)
            return features
        seen = torch.cat([self.residuals(images), F.pixel_unshuffle(images, 2) - 0.5], dim=1)
        features = [F.relu(self.stem(seen))]
        for block in self.down:
            features.append(block(features[-1]))
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.locate(images).logit
