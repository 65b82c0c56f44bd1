"""frequency: a fixed front end of high frequencies on a narrow residual network.

Origin: this project, of published parts; the fronts (`fronts.FRONTS`) tell theirs. `residuals`, the default: those of
the steganalysis rich model (Fridrich and Kodovsky, TIFS 2012; Zhou et al., CVPR 2018, arXiv 1805.04953) and NPR's (Tan
et al., CVPR 2024, arXiv 2312.10461). `npr`: the latter alone. `dct`: log magnitudes of sliding 8 x 8 blocks in bands
(F3-Net, Qian et al., ECCV 2020, arXiv 2007.09355). `phase`: colours and the phase-only reconstruction (SPSL, Liu et
al., CVPR 2021, arXiv 2103.01856). A forgery is mostly the source's own pixels; resampling, blur and the blend's seam
live in what is left where the face itself is gone.

Normalisation: images in [0, 1]; residuals are divided by `truncation` and squashed by softsign, so that gradients reach
the image everywhere. Input: any size of at least 8. The front works at full resolution, because the forged region is
small, and everything behind it at half the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.fronts import FRONTS
from generation.records import UserError


@dataclass(frozen=True)
class FrequencyOptions:
    """front: one of `FRONTS`.
    truncation: the residual, in units of the image, that is squashed to one half; of `dct`, the magnitude from which it
        is logarithmic; of `phase`, nothing.
    widths: channels at 1/2, 1/4, 1/8 ... of the input's size.
    """

    front: str = "residuals"
    truncation: float = 0.03
    widths: tuple[int, ...] = (24, 32, 48)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """A residual block that halves the size (He et al., arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=2)
        self.second = convolution(outputs, outputs)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(features))) + self.shortcut(features))


class Frequency(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged."""

    def __init__(self, options: FrequencyOptions) -> None:
        super().__init__()
        widths = options.widths
        if not widths or min(widths) < 1:
            raise UserError(f"detector.options.widths={list(widths)}: one or more numbers of channels are needed")
        if options.front not in FRONTS:
            raise UserError(f"detector.options.front={options.front}: must be one of {', '.join(FRONTS)}")
        self.front = FRONTS[options.front](options.truncation)
        self.stem = convolution(self.front.channels, widths[0])
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in pairwise(widths)))
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.stem(self.front(images))))
        pooled = torch.cat([features.mean(dim=(-2, -1)), features.amax(dim=(-2, -1))], dim=1)
        logits: Tensor = self.head(pooled)
        return logits.squeeze(1)
