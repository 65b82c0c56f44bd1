"""temporal: a narrow network on every frame of a clip, and a transformer over the frames.

Origin: this project, in the line of FTCN (Zheng et al., ICCV 2021, arXiv 2108.06693), where a transformer looks for
what does not hold together in time, and of LipForensics (Haliassos et al., CVPR 2021, arXiv 2012.07657), where movement
is read from a clip of aligned faces. Here each frame's features lie beside their change since the frame before, place
by place, so that the order of the frames matters before anything is pooled. The transformer is that of Vaswani et al.
(arXiv 1706.03762), with a class token and its sinusoidal positions.

Normalisation: images in [0, 1]; residuals as in `frequency`, and colours. Input: clips of any length and of any size of
at least 8; an image is a clip of one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.frequency import Block, convolution
from detection.detectors.fronts import Residuals
from generation.records import UserError

_HEADS = 4
_LONGEST_PERIOD = 1000.0  # of a position, frames / 2 pi


@dataclass(frozen=True)
class TemporalOptions:
    """truncation: as in `frequency`; widths: channels at 1/2, 1/4, 1/8 ... of the input's size; layers: of the
    transformer."""

    truncation: float = 0.03
    widths: tuple[int, ...] = (16, 24, 32)
    layers: int = 1


class Temporal(nn.Module):
    """Clips (B, T, 3, H, W), or images (B, 3, H, W), in [0, 1] -> (B,) log-odds that each is forged."""

    takes_clips = True

    def __init__(self, options: TemporalOptions) -> None:
        super().__init__()
        widths = options.widths
        if len(widths) < 2 or min(widths) < 1:
            raise UserError(f"detector.options.widths={list(widths)}: two or more numbers of channels are needed")
        if options.layers < 1:
            raise UserError(f"detector.options.layers={options.layers}: must be at least 1")
        self.width = _HEADS * -(-2 * widths[-1] // _HEADS)
        self.residuals = Residuals(options.truncation)
        self.stem = convolution(self.residuals.channels + 12, widths[0])
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in pairwise(widths[:-1])))
        self.last = Block(2 * widths[-2], widths[-1])
        self.token = nn.Linear(2 * widths[-1], self.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.width))
        layer = nn.TransformerEncoderLayer(
            self.width, _HEADS, 2 * self.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, options.layers, norm=nn.LayerNorm(self.width), enable_nested_tensor=False
        )
        self.head = nn.Linear(self.width, 1)

    def forward(self, images: Tensor) -> Tensor:
        clips = images if images.ndim == 5 else images[:, None]
        tokens = self.frames(clips)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens + positions(tokens)], dim=1)
        logits: Tensor = self.head(self.encoder(tokens)[:, 0])
        return logits.squeeze(1)

    def frames(self, clips: Tensor) -> Tensor:  # (B, T, 3, H, W) -> (B, T, C)
        images = clips.flatten(0, 1)
        height, width = images.shape[-2:]
        even = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        seen = torch.cat([self.residuals(images), F.pixel_unshuffle(even, 2) - 0.5], dim=1)
        features = self.blocks(F.relu(self.stem(seen))).unflatten(0, clips.shape[:2])
        change = torch.cat([torch.zeros_like(features[:, :1]), features.diff(dim=1)], dim=1)
        maps = self.last(torch.cat([features, change], dim=2).flatten(0, 1))
        pooled = torch.cat([maps.mean(dim=(-2, -1)), maps.amax(dim=(-2, -1))], dim=1)
        tokens: Tensor = self.token(pooled)
        return tokens.view(*clips.shape[:2], self.width)


def positions(tokens: Tensor) -> Tensor:  # (B, T, C), C even -> (T, C)
    """Sines and cosines of the frame's number, with periods from 2 pi frames to a thousand times as many."""
    _, length, width = tokens.shape
    falling = torch.arange(width // 2, dtype=tokens.dtype, device=tokens.device) / (width // 2)
    angles = torch.arange(length, dtype=tokens.dtype, device=tokens.device)[:, None] * torch.exp(
        -math.log(_LONGEST_PERIOD) * falling
    )
    return torch.cat([angles.sin(), angles.cos()], dim=1)
