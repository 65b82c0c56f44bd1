"""What every reenactor returns, and how it becomes part of the source frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_LOW, _HIGH = 0.1, 0.9


class Reenactment(NamedTuple):
    """A reenactor's answer for a batch.

    image: Tensor  # (B, 3, H, W) in [0, 1], the face with the wanted expression
    mask: Tensor   # (B, 1, H, W) in [0, 1], where `image` should replace the source
    flow: Tensor   # (B, 2, H, W) pixels (x, y): where in the source each result pixel is from, minus its own place
    """

    image: Tensor
    mask: Tensor
    flow: Tensor


class Readout(nn.Conv2d):
    """A 3 x 3 convolution whose output is part of the result itself and starts near 0; the trainer treats it apart."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        nn.init.normal_(self.weight, std=1e-3)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]


def opacity(mask: Tensor) -> Tensor:  # (B, 1, H, W) in [0, 1] -> the same
    """The mask with its faint parts cut to exactly 0 and its strong parts raised to exactly 1."""
    return ((mask - _LOW) / (_HIGH - _LOW)).clamp(0, 1)


def blend(source: Tensor, result: Reenactment) -> Tensor:  # (B, 3, H, W) in [0, 1]
    """The forgery: the result laid over the source frame; outside the mask the source's own pixels, bit for bit."""
    return torch.lerp(source, result.image, opacity(result.mask))


def quantise(image: Tensor) -> Tensor:  # [0, 1] -> multiples of 1/255
    """Round to 8 bits as the record will, with the gradient passed straight through."""
    rounded = (image * 255).round() / 255
    return image + (rounded - image).detach()
