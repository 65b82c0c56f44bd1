"""Networks that only answer: batch normalisations become part of the convolutions before them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_SIDE = 96
_CLOSE = 1e-4


@torch.no_grad()
def folded(module: nn.Module) -> nn.Module:
    """A copy of a network of images (B, 3, H, W) in eval mode that gives the same log-odds to within rounding with less
    work: a normalisation whose input is what a convolution gave is multiplied into that convolution's weights.

    The network itself, where it has none, or where that would change its answers, as it does when something else takes
    what the convolution gave too.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        return module
    image = torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    copy = deepcopy(module)
    pairs = _pairs(copy, image)
    places = {layer: name for name, layer in copy.named_modules()}
    for norm, convolution in pairs.items():
        copy.set_submodule(places[convolution], fuse_conv_bn_eval(convolution, norm))
        rest = [layer for layer in norm.children() if not isinstance(layer, nn.Identity)]  # timm's hold an activation
        copy.set_submodule(places[norm], nn.Sequential(*rest))
    return copy if torch.allclose(copy(image), module(image), rtol=_CLOSE, atol=_CLOSE) else module


def _pairs(module: nn.Module, image: Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Which normalisations are given what which convolution gave."""
    given: list[tuple[Tensor, nn.Conv2d]] = []
    found: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def note(layer: nn.Conv2d) -> Callable[..., None]:
        return lambda _, __, output: given.append((output, layer))

    def pair(layer: nn.BatchNorm2d) -> Callable[..., None]:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.update((layer, convolution) for output, convolution in given if output is inputs[0])

        return before

    hooks = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(note(layer)))
        elif isinstance(layer, nn.BatchNorm2d):
            hooks.append(layer.register_forward_pre_hook(pair(layer)))
    try:
        module(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found
