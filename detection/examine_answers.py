"""What the detectors of an ensemble answer of a crop: scores, features, where they hold it for changed, Grad-CAM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detection.detectors.localizer import Localizer
from detection.examine_views import InnerFace

Floats = NDArray[np.float64]
Map = NDArray[np.uint8]

MAP = 192
"""Pixels a side of what is shown of a crop, and of the maps of it."""

_LEAST_MAP = 4


class Answers(NamedTuple):
    """Of N crops by K detectors. scores: (N, K) log-odds; features: (N, F), F may be 0, side by side what the last
    linear layer of each was given, the mean over its views of a crop; maps: (N, MAP, MAP) uint8 of every detector with
    a heat map, 255 where it is sure that a pixel was changed, None of the others."""

    scores: Floats
    features: Floats
    maps: list[Map | None]

    def maps_of(self, index: int) -> list[Map | None]:
        """The maps of one crop, by detector: copies, which do not keep those of the others in memory."""
        return [None if maps is None else maps[index].copy() for maps in self.maps]


@torch.no_grad()
def answers(modules: Sequence[nn.Module], images: Tensor) -> Answers:
    """images: uint8 (N, 3, S, S); modules: in eval mode"""
    pixels = images.float() / 255
    scores, maps = [], []
    with _features_of(modules) as seen:
        for module in modules:
            locate = getattr(module, "locate", None)
            located = None if locate is None else locate(pixels)
            scores.append((module(pixels) if located is None else located.logit).double())
            maps.append(None if located is None else _shown(located.heat))
    means = [one.reshape(-1, len(images), one[0].numel()).mean(0) for one in seen]
    features = torch.cat(means, 1).double() if means else torch.empty(len(images), 0)
    return Answers(torch.stack(scores, 1).numpy(), features.numpy().astype(np.float64), maps)


@contextmanager
def _features_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, every call of a module adds what its last linear layer was given, (B, F), or (V * B, F) of one that sees
    each picture V times, through windows or mirrored, view by view; nothing for one without."""
    seen: list[Tensor] = []
    hooks = []
    for module in modules:
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if layers:
            hooks.append(layers[-1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach())))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _shown(heat: Tensor) -> Map:  # (N, 1, S, S) log-odds -> (N, MAP, MAP)
    small = F.interpolate(torch.sigmoid(heat), (MAP, MAP), mode="bilinear", align_corners=False, antialias=True)
    shown: Map = (small[:, 0] * 255).round().to(torch.uint8).numpy()
    return shown


def grad_cam(module: nn.Module, images: Tensor) -> np.ndarray | None:  # (B, 3, H, W) in [0, 1] -> (B, H, W) in [0, 1]
    """Where the log-odds of a forgery come from: the deepest maps of features, which are those of the lowest resolution
    of at least 4 x 4 and of these the last, weighted by their mean gradient, what speaks for a forgery only (Selvaraju
    et al., ICCV 2017, arXiv 1610.02391); each picture's peak is 1.

    None for a detector without gradients or maps of features.
    """
    if isinstance(module, InnerFace):
        part = _class_activation(module.module, module.seen(images))
        maps = None if part is None else module.spread(part, images.shape[-1])
    else:
        maps = _class_activation(module, images)
    if maps is None:
        return None
    found: np.ndarray = (maps / maps.amax((-2, -1), keepdim=True).clamp_min(1e-12))[:, 0].numpy()
    return found


def _class_activation(module: nn.Module, images: Tensor) -> Tensor | None:  # (B, 3, H, W) -> (B, 1, H, W)
    windows = module.windows(images) if isinstance(module, Localizer) else None
    if windows is not None and len(windows.corners) > 1:
        parts = _class_activation(module, windows.cut(images))
        return None if parts is None else windows.joined(parts)
    seen: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.requires_grad:
            return
        sides = output.shape[-2:]
        if min(sides) >= _LEAST_MAP and (not seen or sides.numel() <= seen[0].shape[-2:].numel()):
            seen[:] = [output]

    hooks = [layer.register_forward_hook(note) for layer in module.modules()]
    try:
        with torch.enable_grad():
            logits = module(images.detach().clone().requires_grad_())
            if not seen or not logits.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(logits.sum(), seen[0])
    finally:
        for hook in hooks:
            hook.remove()
    maps = F.relu((gradient.mean((-2, -1), keepdim=True) * seen[0]).sum(1, keepdim=True)).detach()
    return F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
