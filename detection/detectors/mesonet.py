"""mesonet: Meso4 and MesoInception4, very small CNNs on RGB.

Origin: Afchar, Nozick, Yamagishi, Echizen, "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018
(arXiv 1809.00888). Meso4: four convolutions (8, 8, 16, 16 channels), each with ReLU, batch norm and max pooling, then
16 hidden units. MesoInception4 has inception modules with dilated convolutions for the first two. One logit stands for
the paper's sigmoid, and 1 means forged (the paper's code has it the other way round).

Normalisation: none, images in [0, 1] as in the paper. Input: the paper's 256 x 256, where this is the paper's network;
other sizes of at least 32 are pooled or repeated to the same 8 x 8 grid before the hidden units, so that weights fit
any size. `read_published` takes the authors' own weights.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.records import UserError

_GRID = 8
_SMALLEST = 32


@dataclass(frozen=True)
class MesonetOptions:
    """inception: MesoInception4 in place of Meso4; hidden: units before the logit; dropout: share of features dropped
    before and after them while training; epsilon: added to the variance in batch norm (the paper's Keras has 1e-3)."""

    inception: bool = False
    hidden: int = 16
    dropout: float = 0.5
    epsilon: float = 1e-5


class Mesonet(nn.Module):
    """Images (B, 3, H, W) in [0, 1], H and W at least 32 -> (B,) log-odds that each is forged."""

    def __init__(self, options: MesonetOptions) -> None:
        super().__init__()
        first: tuple[tuple[nn.Module, int], ...] = ((_filters(3, 8, 3), 8), (_filters(8, 8, 5), 8))
        if options.inception:
            first = ((Inception(3, (1, 4, 4, 2)), 11), (Inception(11, (2, 4, 4, 2)), 12))
        layers = (*first, (_filters(first[-1][1], 16, 5), 16), (_filters(16, 16, 5), 16))
        stages = {
            f"stage{number}": nn.Sequential(body, nn.BatchNorm2d(width, eps=options.epsilon), nn.MaxPool2d(pool))
            for number, ((body, width), pool) in enumerate(zip(layers, (2, 2, 2, 4), strict=True), start=1)
        }
        self.features = nn.Sequential(OrderedDict(stages))
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


def _filters(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    reach = dilation * (kernel // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=reach, dilation=dilation), nn.ReLU())


class Inception(nn.Module):
    """Four branches: 1 x 1, and 3 x 3 with a dilation of 1, 2 and 3 behind a 1 x 1 each."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        branches = [_filters(inputs, widths[0], 1)]
        for dilation, width in enumerate(widths[1:], start=1):
            branches.append(nn.Sequential(*_filters(inputs, width, 1), *_filters(width, width, 3, dilation)))
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def read_published(path: Path) -> Mesonet:
    """The network of one of the authors' weight files (Keras, .h5), in eval mode; for 256 x 256 pixels.

    Raises `UserError` for another file, and where h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: Keras weights need h5py; pip install 'vicious-cycle[external]'") from error
    try:
        with h5py.File(path) as file:
            held: dict[str, Tensor] = {}
            file.visititems(lambda name, item: held.update(_named(name, item)))
    except OSError as error:
        raise UserError(f"{path}: no Keras weights ({str(error).splitlines()[0]})") from error
    layers = {kind: sorted({int(name.split(".")[1]) for name in held if name.startswith(kind)}) for kind in _KINDS}
    network = Mesonet(MesonetOptions(inception=len(layers["conv2d"]) > 4, epsilon=1e-3))
    modules: dict[str, list[Any]] = {
        "conv2d": [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)],
        "batch_normalization": [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)],
        "dense": [layer for layer in network.modules() if isinstance(layer, nn.Linear)],
    }
    try:
        with torch.no_grad():
            for kind, parts in _KINDS.items():
                for module, number in zip(modules[kind], layers[kind], strict=True):
                    for keras, ours in parts.items():
                        _put(getattr(module, ours), held[f"{kind}.{number}.{keras}"], kind)
            hidden, last = modules["dense"]
            grid = hidden.weight.unflatten(1, (_GRID, _GRID, 16))  # Keras flattens rows, columns, channels
            hidden.weight.copy_(grid.permute(0, 3, 1, 2).flatten(1))
            last.weight.neg_()
            last.bias.neg_()
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: holds neither Meso4 nor MesoInception4 ({error})") from error
    return network.eval()


_KINDS = {
    "conv2d": {"kernel": "weight", "bias": "bias"},
    "batch_normalization": {
        "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
    },
    "dense": {"kernel": "weight", "bias": "bias"},
}  # fmt: skip


def _named(name: str, item: object) -> dict[str, Tensor]:  # "conv2d_3/conv2d_3/bias:0" -> "conv2d.3.bias"
    if not hasattr(item, "shape"):
        return {}
    layer, _, what = name.partition("/")[2].partition("/")
    kind, _, number = layer.rpartition("_")
    return {f"{kind}.{number}.{what.partition(':')[0]}": torch.from_numpy(item[()])}  # type: ignore[index]


def _put(weights: Tensor, keras: Tensor, kind: str) -> None:
    if keras.ndim == 4:
        keras = keras.permute(3, 2, 0, 1)
    elif keras.ndim == 2:
        keras = keras.T
    if weights.shape != keras.shape:
        raise ValueError(f"a {kind} has {tuple(keras.shape)} weights and not {tuple(weights.shape)}")
    weights.copy_(keras)
