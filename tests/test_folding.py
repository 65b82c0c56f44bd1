"""Batch normalisations that became part of convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detection.detectors import build_detector
from detection.folding import folded


def _learnt(module: nn.Module) -> nn.Module:
    """With normalisations that do something."""
    draws = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_var, layer.bias, layer.running_mean):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5, generator=draws)
    return module.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("localizer", {"widths": [4, 6, 8]}),
        ("localizer", {"widths": [4, 6], "window": 24}),
        ("localizer", {"architecture": "tf_efficientnet_lite0"}),
        ("frequency", {"widths": [4, 6]}),
        ("backbone", {"architecture": "resnet10t"}),
        ("mesonet", {}),
    ],
)
@torch.no_grad()
def test_a_folded_network_answers_the_same_without_normalisations(name: str, options: dict[str, Any]) -> None:
    network = _learnt(build_detector(name, options, 1))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.rand(2, 3, 64, 48)
    made = folded(network)
    assert type(made) is type(network) and made is not network
    kept = [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(kept) == (4 if name == "mesonet" else 0)  # there an activation lies between
    torch.testing.assert_close(made(images), network(images), rtol=1e-4, atol=1e-4)
    if hasattr(network, "locate"):
        torch.testing.assert_close(made.locate(images), network.locate(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


class Twice(nn.Module):
    """What the convolution gave is taken by the normalisation and by something else."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolution(images)
        return (self.norm(features) + features).mean((1, 2, 3))


def test_a_network_that_cannot_be_folded_stays_as_it_is() -> None:
    for network in (_learnt(Twice()), nn.Conv2d(3, 1, 1).eval()):
        assert folded(network) is network
