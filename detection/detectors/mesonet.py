"""mesonet: Meso4, a very small CNN on RGB.

Origin: Afchar, Nozick, Yamagishi, Echizen, "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018
(arXiv 1809.00888). Four convolutions (8, 8, 16, 16 channels), each with ReLU, batch norm and max pooling, then 16
hidden units. One logit stands for the paper's sigmoid, and 1 means forged (the paper's code has it the other way
round).

Normalisation: none, images in [0, 1] as in the paper. Input: the paper's 256 x 256, where this is the paper's network;
other sizes of at least 32 are pooled or repeated to the same 8 x 8 grid before the hidden units, so that weights fit
any size.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from generation.records import UserError

_GRID = 8
_SMALLEST = 32


@dataclass(frozen=True)
class MesonetOptions:
    """hidden: units before the logit; dropout: share of features dropped before and after them while training."""

    hidden: int = 16
    dropout: float = 0.5


class Mesonet(nn.Module):
    """Images (B, 3, H, W) in [0, 1], H and W at least 32 -> (B,) log-odds that each is forged."""

    def __init__(self, options: MesonetOptions) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                stage1=_stage(3, 8, kernel=3, pool=2),
                stage2=_stage(8, 8, kernel=5, pool=2),
                stage3=_stage(8, 16, kernel=5, pool=2),
                stage4=_stage(16, 16, kernel=5, pool=4),
            )
        )
        self.head = nn.Sequential(
            nn.Dropout(options.dropout),
            nn.Linear(16 * _GRID * _GRID, options.hidden),
            nn.LeakyReLU(0.1),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < _SMALLEST:
            raise UserError(
                f"mesonet: images of {tuple(images.shape[-2:])} pixels; it needs at least {_SMALLEST} x {_SMALLEST}"
            )
        features = F.adaptive_avg_pool2d(self.features(images), _GRID)
        logits: Tensor = self.head(features.flatten(1))
        return logits.squeeze(1)


def _stage(inputs: int, outputs: int, kernel: int, pool: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(pool),
    )
