"""frequency: fixed high-pass residuals in front of a narrow residual network.

Origin: this project, of published parts. Residuals of the steganalysis rich model, truncated (Fridrich and Kodovsky,
TIFS 2012; the three kernels and their use on faces: Zhou et al., "Learning Rich Features for Image Manipulation
Detection", CVPR 2018, arXiv 1805.04953); the differences to the first pixel of each 2 x 2 cell (Tan et al., NPR, CVPR
2024, arXiv 2312.10461). A forgery is mostly the source's own pixels; resampling, blur and the blend's seam live in the
residuals, where the face itself is gone.

Normalisation: images in [0, 1]; residuals are divided by `truncation` and squashed by softsign, so that gradients reach
the image everywhere. Input: any size of at least 8. Residuals are taken at full resolution, because the forged region
is small, and the four of each 2 x 2 cell become channels: nothing is lost and everything behind them runs at half the
size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.records import UserError

_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4, 12, 2)
_CELL = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True)
class FrequencyOptions:
    """truncation: the residual, in units of the image, that is squashed to one half.
    widths: channels at 1/2, 1/4, 1/8 ... of the input's size.
    """

    truncation: float = 0.03
    widths: tuple[int, ...] = (24, 32, 48)


def residual_kernels() -> Tensor:  # (45, 3, 6, 6)
    """One kernel for each colour, position in a 2 x 2 cell and residual: three of SRM, and NPR's where it is not always
    zero.

    Row and column 2 of the 6 x 6 window are the cell's first pixel.
    """
    srm = torch.tensor(_SRM, dtype=torch.float32) / torch.tensor(_SRM_SCALE).view(3, 1, 1)
    kernels = []
    for colour in range(3):
        for row, column in _CELL:
            around = torch.zeros(3, 3, 6, 6)
            around[:, colour, row : row + 5, column : column + 5] = srm
            kernels.append(around)
            if row or column:
                neighbour = torch.zeros(1, 3, 6, 6)
                neighbour[0, colour, 2 + row, 2 + column] = 1
                neighbour[0, colour, 2, 2] = -1
                kernels.append(neighbour)
    return torch.cat(kernels)


class Residuals(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B, 45, ceil(H / 2), ceil(W / 2)) in (-1, 1). Nothing is learnt."""

    kernels: Tensor

    def __init__(self, truncation: float) -> None:
        super().__init__()
        self.register_buffer("kernels", residual_kernels() / truncation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images, (2, 2 + width % 2, 2, 2 + height % 2), mode="reflect")
        return F.softsign(F.conv2d(padded, self.kernels, stride=2))


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
        self.residuals = Residuals(options.truncation)
        self.stem = convolution(self.residuals.kernels.shape[0], widths[0])
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in pairwise(widths)))
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.stem(self.residuals(images))))
        pooled = torch.cat([features.mean(dim=(-2, -1)), features.amax(dim=(-2, -1))], dim=1)
        logits: Tensor = self.head(pooled)
        return logits.squeeze(1)
