"""The perceptual loss: distance in features of a small network that reads faces, trained by this project.

As in Johnson et al. (arXiv 1603.08155), but not on a network for photographs of everything (VGG): this one has learned
on synthetic people where 68 landmarks lie, which of the 52 actions are on, and who it is
(`generation/perceptual_training.py`), so that its features weigh what a reenactor must get right. The weights are
shipped in `generation/weights`; they never change while a reenactor is trained.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from generation.motion import EXPRESSION_SIZE
from generation.records import UserError, write_beside

WIDTHS = (24, 48, 96, 112)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the input's size."""

IDENTITY_SIZE = 64
_HEATMAP_WIDTH, _CELL_WIDTH, _CELLS, _LOCAL_WIDTH, _HIDDEN = 40, 32, 4, 16, 48


class Reading(NamedTuple):
    """What the network reads off faces.

    landmarks: Tensor   # (B, 68, 2) pixels (x, y), pixel centres at integer + 0.5
    expression: Tensor  # (B, 52), near [0, 1]
    identity: Tensor    # (B, 64) of length 1; the cosine of two says whether they are one person
    """

    landmarks: Tensor
    expression: Tensor
    identity: Tensor


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


class _Stage(nn.Module):
    """Halves the size; one residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = _convolution(inputs, outputs, stride=2)
        self.block = nn.Sequential(_convolution(outputs, outputs), nn.ReLU(), _convolution(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.down(x))
        return F.relu(x + self.block(x))


class PerceptualNetwork(nn.Module):
    """Reads faces in images (B, 3, H, W) in [0, 1], sides from 64 to 256 pixels and divisible by 16."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(_convolution(3, WIDTHS[0], stride=2), nn.ReLU(), _convolution(WIDTHS[0], WIDTHS[0]))
        later = [_Stage(inputs, outputs) for inputs, outputs in itertools.pairwise(WIDTHS)]
        self.stages = nn.ModuleList([nn.Sequential(first, nn.ReLU()), *later])
        self.lateral = nn.ModuleList([nn.Conv2d(width, _HEATMAP_WIDTH, 1) for width in WIDTHS[1:]])
        self.heatmaps = nn.Sequential(nn.ReLU(), nn.Conv2d(_HEATMAP_WIDTH, 68, 3, padding=1))
        self.cells = nn.Sequential(nn.Conv2d(WIDTHS[-1], _CELL_WIDTH, 1), nn.ReLU())
        self.local = nn.Sequential(nn.Conv2d(_HEATMAP_WIDTH, _LOCAL_WIDTH, 1), nn.ReLU())
        described = 68 * (_LOCAL_WIDTH + 2)
        self.expression = nn.Sequential(
            nn.BatchNorm1d(described, affine=False),  # without it expressions are learned many times more slowly
            nn.Linear(described, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, EXPRESSION_SIZE),
        )
        self.identity = nn.Linear(_CELL_WIDTH * _CELLS**2, IDENTITY_SIZE)

    def features(self, image: Tensor) -> list[Tensor]:
        """What the loss compares: one map (B, C, H / 2^k, W / 2^k) of each stage, none of it negative."""
        found = []
        x = image * 4 - 2
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, image: Tensor) -> Reading:
        _, *maps = self.features(image)
        whole = self.lateral[-1](maps[-1])
        for lateral, level in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            whole = F.interpolate(whole, scale_factor=2.0, mode="nearest") + lateral(level)
        places = _centres(self.heatmaps(whole).float())
        here = places.detach()
        seen = F.grid_sample(self.local(whole).float(), here[:, None] * 2 - 1, align_corners=False)
        expression = self.expression(torch.cat([seen.flatten(1), in_face(here).flatten(1)], dim=1))
        cells = F.adaptive_avg_pool2d(self.cells(maps[-1]), _CELLS).flatten(1)
        size = places.new_tensor([image.shape[-1], image.shape[-2]])
        return Reading(places * size, expression.float(), F.normalize(self.identity(cells).float(), dim=1))


def _centres(heatmaps: Tensor) -> Tensor:  # (B, K, h, w) -> (B, K, 2) in [0, 1]
    """Expected (x, y) of each map's softmax (soft-argmax, arXiv 1711.08229)."""
    height, width = heatmaps.shape[-2:]
    share = heatmaps.flatten(2).softmax(dim=2).view(heatmaps.shape)
    x = (torch.arange(width, device=heatmaps.device) + 0.5) / width
    y = (torch.arange(height, device=heatmaps.device) + 0.5) / height
    return torch.stack([share.sum(dim=2) @ x, share.sum(dim=3) @ y], dim=-1)


def in_face(landmarks: Tensor) -> Tensor:  # (B, 68, 2) -> the same
    """Landmarks in the face's own frame: origin between the eyes, x along the line of the eyes, unit one eye
    distance."""
    first, second = landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)
    along = (second - first)[:, None]
    offset = landmarks - ((first + second) / 2)[:, None]
    square = along.square().sum(dim=2).clamp_min(1e-6)
    x = (offset * along).sum(dim=2) / square
    y = (offset[..., 1] * along[..., 0] - offset[..., 0] * along[..., 1]) / square
    return torch.stack([x, y], dim=-1)


class PerceptualLoss:
    """Distance of images in the features of a frozen network; not a module, so that no trainer saves or trains it.

    It computes in the precision that autocast asks for, on the device of what it is given.
    """

    def __init__(self, network: PerceptualNetwork) -> None:
        self._network = network.eval().requires_grad_(False)

    def __call__(self, result: Tensor, target: Tensor) -> Tensor:
        """The mean over stages of |features of result - features of target| as a share of the target's features.

        result, target: Tensor  # (B, 3, H, W) in [0, 1]
        0 for equal images; no gradient goes into `target`. Each stage's share is summed over the whole picture, then
        averaged over the batch, so that a flat region with features near 0 does not outweigh a face.
        """
        network = self._network.to(result.device)
        with torch.no_grad():
            wanted = network.features(target)
        shares = [
            (found - goal).abs().float().mean((1, 2, 3)) / goal.float().mean((1, 2, 3)).clamp_min(1e-3)
            for found, goal in zip(network.features(result), wanted, strict=True)
        ]
        return torch.stack(shares).mean()


def shipped_weights() -> Path:
    return Path(str(resources.files("generation") / "weights" / "perceptual.safetensors"))


def save_perceptual(path: Path, network: PerceptualNetwork, meta: Mapping[str, Any]) -> None:
    """Write `path` (.safetensors, half precision) and, beside it, the same name with .json: `meta`."""
    halves = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    write_beside(path.with_suffix(".json"), json.dumps(dict(meta), indent=1).encode())
    write_beside(path, save({key: value.contiguous() for key, value in halves.items()}))


def load_perceptual(path: Path | None = None) -> PerceptualNetwork:
    """The network in eval mode, in single precision; without a path the shipped one.

    Raises `UserError` where the file is missing, damaged or holds another network.
    """
    path = path or shipped_weights()
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; the weights of the perceptual loss belong to the package, install it again or run "
            "scripts/train_perceptual.py and put them there"
        )
    network = PerceptualNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: does not hold the network of the perceptual loss ({reason})") from error
    return network.eval()
