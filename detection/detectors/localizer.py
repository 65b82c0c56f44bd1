"""localizer: where in the picture something was changed, and from that whether anything was.

Origin: a U-Net (Ronneberger et al., MICCAI 2015, arXiv 1505.04597) on residuals and colours, trained with the mask of
each forgery as second target, as multi-task detectors of forgeries are (Nguyen et al., BTAS 2019, arXiv 1906.06876).
The log-odds of the picture see the features at the lowest resolution and the heat map's mean and peak.

Normalisation: images in [0, 1]; residuals as in `frequency`. Input: any size of at least 8. The heat map is made at
half of it and enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.frequency import Block, convolution
from detection.detectors.fronts import Residuals
from generation.records import UserError


@dataclass(frozen=True)
class LocalizerOptions:
    """truncation: as in `frequency`; widths: channels at 1/2, 1/4, 1/8 ... of the input's size."""

    truncation: float = 0.03
    widths: tuple[int, ...] = (24, 32, 48)


class Located(NamedTuple):
    """logit: Tensor  # (B,) log-odds that the picture is forged
    heat: Tensor      # (B, 1, H, W) log-odds that a pixel was changed
    """

    logit: Tensor
    heat: Tensor


class Localizer(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged; `locate` gives the heat map too."""

    def __init__(self, options: LocalizerOptions) -> None:
        super().__init__()
        widths = options.widths
        if len(widths) < 2 or min(widths) < 1:
            raise UserError(f"detector.options.widths={list(widths)}: two or more numbers of channels are needed")
        self.residuals = Residuals(options.truncation)
        self.stem = convolution(self.residuals.channels + 12, widths[0])
        self.down = nn.ModuleList([Block(inputs, outputs) for inputs, outputs in pairwise(widths)])
        self.up = nn.ModuleList([convolution(inputs + outputs, inputs) for inputs, outputs in pairwise(widths)])
        self.heat = nn.Conv2d(widths[0], 1, 1)
        self.head = nn.Linear(2 * widths[-1] + 2, 1)

    def locate(self, images: Tensor) -> Located:
        height, width = images.shape[-2:]
        unit = 2 ** (len(self.down) + 1)
        images = F.pad(images, (0, -width % unit, 0, -height % unit), mode="replicate")
        seen = torch.cat([self.residuals(images), F.pixel_unshuffle(images, 2) - 0.5], dim=1)
        features = [F.relu(self.stem(seen))]
        for block in self.down:
            features.append(block(features[-1]))
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

    def forward(self, images: Tensor) -> Tensor:
        return self.locate(images).logit
