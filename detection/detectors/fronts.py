"""Front ends of `frequency`: fixed features of an image in which the face itself is gone, at half its size.

Nothing in them is learnt. All take images (B, 3, H, W) in [0, 1], any size of at least 8, and state their `channels`.
Whatever is finest is kept: features are taken at full resolution, and the four of each 2 x 2 cell become channels, or
windows lie two pixels apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4, 12, 2)
_CELL = ((0, 0), (0, 1), (1, 0), (1, 1))
_BLOCK = 8
_LUMA = (0.299, 0.587, 0.114)
_FAINTEST = 1e-5
"""What is added to the magnitude of every frequency (orthonormal), so that one that is not there has no gradient."""


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


def npr_kernels() -> Tensor:  # (9, 3, 2, 2)
    """One kernel for each colour and each pixel of a 2 x 2 cell but its first: the difference to that."""
    kernels = torch.zeros(3, len(_CELL) - 1, 3, 2, 2)
    for colour in range(3):
        for index, (row, column) in enumerate(_CELL[1:]):
            kernels[colour, index, colour, row, column] = 1
            kernels[colour, index, colour, 0, 0] = -1
    return kernels.flatten(0, 1)


def dct_kernels() -> Tensor:  # (64, 1, 8, 8)
    """The orthonormal two-dimensional DCT-II of an 8 x 8 block, as JPEG has it; kernel 8 i + j is frequency (i, j)."""
    place = torch.arange(_BLOCK, dtype=torch.float64)
    basis = math.sqrt(2 / _BLOCK) * torch.cos(math.pi * place[:, None] * (place + 0.5) / _BLOCK)
    basis[0] /= math.sqrt(2)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(-1, 1, _BLOCK, _BLOCK).float()


def _in_full(images: Tensor) -> torch.autocast:
    """Not in half precision, whatever the trainer's: a brightness in bf16 is rounded to a grey level, and residuals are
    as small."""
    return torch.autocast(images.device.type, enabled=False)


class Kernels(nn.Module):
    """Residuals of fixed kernels: images -> (B, channels, ceil(H / 2), ceil(W / 2)) in (-1, 1).

    They are divided by `truncation` and squashed by softsign, so that gradients reach the image everywhere.
    """

    kernels: Tensor

    def __init__(self, kernels: Tensor, truncation: float) -> None:
        super().__init__()
        self.channels, self.around = len(kernels), kernels.shape[-1] // 2 - 1
        self.register_buffer("kernels", kernels / truncation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        around = self.around
        padded = F.pad(images, (around, around + width % 2, around, around + height % 2), mode="reflect")
        with _in_full(images):
            return F.softsign(F.conv2d(padded, self.kernels, stride=2))


class Residuals(Kernels):
    """Residuals of the steganalysis rich model, truncated (Fridrich and Kodovsky, TIFS 2012; the three kernels and
    their use on faces: Zhou et al., CVPR 2018, arXiv 1805.04953), and those of `Neighbours`: 45 channels."""

    def __init__(self, truncation: float) -> None:
        super().__init__(residual_kernels(), truncation)


class Neighbours(Kernels):
    """Differences to the first pixel of each 2 x 2 cell (Tan et al., NPR, CVPR 2024, arXiv 2312.10461): 9 channels."""

    def __init__(self, truncation: float) -> None:
        super().__init__(npr_kernels(), truncation)


class BlockDct(nn.Module):
    """Magnitudes of 8 x 8 blocks' DCT in 15 bands of each colour: images -> (B, 45, ceil(H / 2), ceil(W / 2)), >= 0.

    Blocks slide by two pixels, and a band is the mean magnitude of the frequencies (i, j) of one i + j, logarithmic
    above `truncation`: the local statistics of F3-Net (Qian et al., ECCV 2020, arXiv 2007.09355), whose blocks are of
    10 pixels and whose bands are fewer.
    """

    kernels: Tensor
    bands: Tensor  # (15, 64)

    channels = 3 * (2 * _BLOCK - 1)

    def __init__(self, truncation: float) -> None:
        super().__init__()
        diagonal = torch.arange(_BLOCK)[:, None] + torch.arange(_BLOCK)
        belongs = F.one_hot(diagonal.flatten()).T.float()
        self.register_buffer("kernels", dct_kernels(), persistent=False)
        self.register_buffer("bands", belongs / belongs.sum(1, keepdim=True) / truncation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images, (3, 3 + width % 2, 3, 3 + height % 2), mode="reflect")
        with _in_full(images):
            coefficients = F.conv2d(padded.flatten(0, 1)[:, None], self.kernels, stride=2)
            magnitudes = F.conv2d(coefficients.abs(), self.bands[..., None, None])
        return torch.log1p(magnitudes).reshape(len(images), self.channels, *magnitudes.shape[-2:])


class Phase(nn.Module):
    """The colours beside the image that the phase of all frequencies makes alone, all magnitudes being one:
    images -> (B, 16, ceil(H / 2), ceil(W / 2)).

    Up-sampling shows in the phase (Liu et al., SPSL, CVPR 2021, arXiv 2103.01856). The reconstruction is of the luma
    and has unit mean square. `truncation` has no meaning here.
    """

    channels = 16

    def __init__(self, truncation: float) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        seen = torch.cat([images - 0.5, phase_only(luma(images))], dim=1)
        return F.pixel_unshuffle(F.pad(seen, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def luma(images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 1, H, W)
    return (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def phase_only(images: Tensor) -> Tensor:  # (..., H, W) -> (..., H, W)
    """The images whose Fourier transforms (orthonormal) have the phase of these and magnitude one."""
    spectrum = torch.fft.rfft2(images, norm="ortho")
    phase = spectrum / (spectrum.abs() + _FAINTEST)
    image: Tensor = torch.fft.irfft2(phase, s=images.shape[-2:], norm="ortho")
    return image


class Front(Protocol):
    """What stands in front of the network; `channels` is how many it gives."""

    channels: int

    def __call__(self, images: Tensor) -> Tensor: ...


FRONTS: dict[str, Callable[[float], Front]] = {
    "residuals": Residuals,
    "npr": Neighbours,
    "dct": BlockDct,
    "phase": Phase,
}
"""Each is built from `truncation`: the residual or magnitude, in units of the image, that counts as faint."""
