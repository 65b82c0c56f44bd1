"""LPIPS with AlexNet (Zhang et al. 2018): how different two pictures look to a network that knows objects."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights

from generation.records import UserError, write_beside

WEIGHTS: str = AlexNet_Weights.IMAGENET1K_V1.url
"""AlexNet trained on ImageNet, torchvision's, 233 MB; the linear weights of LPIPS are in torchmetrics."""


def alexnet_file() -> Path:
    """AlexNet's weights where torchvision looks for them, downloaded where they are not there yet.

    Raises `UserError` that names the file and its address.
    """
    name = WEIGHTS.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(WEIGHTS, timeout=30) as answer:
            content = answer.read()
    except OSError as error:
        raise UserError(
            f"{path}: AlexNet's weights, which LPIPS needs, are not there and could not be downloaded ({error}); "
            f"fetch {WEIGHTS} by hand and put it there"
        ) from error
    begins = name.removesuffix(".pth").rpartition("-")[2]
    if not hashlib.sha256(content).hexdigest().startswith(begins):
        raise UserError(f"{WEIGHTS}: what was downloaded is damaged (its sha256 does not begin with {begins})")
    write_beside(path, content)
    return path


class Lpips:
    """Making one raises `UserError` where AlexNet's weights cannot be had, see `alexnet_file`."""

    def __init__(self) -> None:
        path = alexnet_file()
        try:
            self._metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", reduction="mean", normalize=True)
        except Exception as error:  # a damaged pickle may fail in any way
            raise UserError(f"{path}: damaged ({type(error).__name__}); replace it by {WEIGHTS}") from error

    @torch.no_grad()
    def __call__(self, result: Tensor, target: Tensor) -> Tensor:  # (N, 3, H, W) in [0, 1] -> (N,)
        """Of each pair of frames at its own size; 0 for identical ones. Not comparable with LPIPS by VGG."""
        return torch.stack([self._metric(one[None], other[None]) for one, other in zip(result, target, strict=True)])
