"""Training on PGD examples: what it buys, and what it must leave alone.

A forgery here carries two traces: a checkerboard of 6 grey levels, which PGD takes away, and a red cast, which it does
not, in most of the forgeries and in few of the real faces.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.attacks import Ball, margin, pgd
from detection.data import Batch, DetectorData
from detection.detectors import build_detector
from detection.training import AdversarialOptions, DetectorTrainer, score, with_adversarial
from generation.records import Faces, UserError
from scripts.trainer import LoggerConfig, TrainerConfig, fit

BALL = Ball("linf", 6 / 255)
OPTIONS = AdversarialOptions(share=0.5, radius=6 / 255, steps=3)
TRAINER = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig("none"))


def small() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0),
        )  # fmt: skip


def cast(images: Tensor, where: Tensor) -> Tensor:
    red = torch.tensor([16, -8, -8]).view(3, 1, 1) * where.view(-1, 1, 1, 1)
    return (images.int() + red).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def both(faces: Faces) -> tuple[Faces, Faces]:
    """Real faces and their forgeries."""
    generator = torch.Generator().manual_seed(0)
    board = torch.tensor([[6, -6], [-6, 6]]).repeat(16, 16)
    faces = replace(faces, mask=faces.mask[..., ::2, ::2])
    grey = faces.image[..., ::2, ::2].float().mean(1, keepdim=True).round().int().expand(-1, 3, -1, -1)
    real = replace(faces, image=cast(grey, torch.rand(len(faces), generator=generator) < 0.1))
    marked = cast(grey + board, torch.rand(len(faces), generator=generator) < 0.9)
    return real, replace(faces, image=marked, label=torch.ones_like(faces.label), method=np.full(len(faces), "G0"))


def trained(
    both: tuple[Faces, Faces], folder: Path, options: AdversarialOptions | None, steps: int = 100, epoch: int = 100
) -> nn.Module:
    module = DetectorTrainer(small(), steps, 1e-2, adversarial=options)
    data = DetectorData(both[0], [both[1]], batch=32, steps_per_epoch=epoch, seed=0)
    fit(module, data, folder, TRAINER.with_steps(steps, epoch))
    return module.network


def accuracy_under_attack(network: nn.Module, faces: Faces) -> float:
    images, labels = faces.image.float() / 255, faces.label
    found = pgd(network, images, labels, BALL, 20, torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((margin(network, found, labels) < 0).float().mean())


def test_a_network_trained_on_attacks_withstands_them(both: tuple[Faces, Faces], tmp_path: Path) -> None:
    test = Faces.concatenate([faces.where("test") for faces in both])
    plain, hardened = (trained(both, tmp_path / str(bool(one)), one) for one in (None, OPTIONS))
    for network in (plain, hardened):
        assert ((score(network, test.image) > 0) == (test.label.numpy() == 1)).mean() > 0.9
    assert accuracy_under_attack(plain, test) < 0.3 and accuracy_under_attack(hardened, test) > 0.6


class _StopError(Exception):
    pass


def test_a_stopped_training_draws_the_same_attacks(
    both: tuple[Faces, Faces], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(both, tmp_path / "whole", OPTIONS, 6, 2).state_dict()
    step = DetectorTrainer.training_step

    def stopping(self: DetectorTrainer, batch: Batch, index: int) -> Tensor:
        if self.global_step == 3:
            raise _StopError
        return step(self, batch, index)

    with monkeypatch.context() as patch, pytest.raises(_StopError):
        patch.setattr(DetectorTrainer, "training_step", stopping)
        trained(both, tmp_path / "stopped", OPTIONS, 6, 2)
    torch.manual_seed(77)
    again = trained(both, tmp_path / "stopped", OPTIONS, 6, 2).state_dict()
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    other = trained(both, tmp_path / "plain", None, 6, 2).state_dict()
    assert any(not torch.equal(whole[key], other[key]) for key in whole)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_a_share_of_the_batch_is_moved_and_the_network_is_left_as_it_was(share: float, training: bool) -> None:
    network = build_detector("mesonet").train(training)
    labels = torch.arange(8) % 2.0
    mask = torch.rand(8, 1, 32, 32)
    batch = Batch(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)), labels, mask)
    network(batch.image).sum().backward()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    options = AdversarialOptions(share, 0.5, "l2", 3)
    found, again, other = (with_adversarial(network, batch, options, seed) for seed in (4, 4, 5))
    assert network.training == training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    after = [weight.grad for weight in network.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(gradients, after, strict=True) if two is not None)
    change = (found.image - batch.image).flatten(1).norm(dim=1)
    assert int((change > 0).sum()) == round(share * 8) and change.max() <= 0.5 * (1 + 1e-5)
    assert found.label is labels and found.mask is mask and not found.image.requires_grad
    assert torch.equal(found.image, again.image) and torch.equal(found.image, other.image) == (share == 0)
    with torch.no_grad():
        harm = [margin(network.eval(), one.image, labels) for one in (batch, found)]
    assert (harm[1] >= harm[0] - 1e-5).all() and bool((harm[1] > harm[0]).any()) == (share > 0)


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": -0.1}, {"radius": 0.0}, {"norm": "l1"}, {"steps": 0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(UserError, match=rf"training\.adversarial\.{key}="):
        AdversarialOptions(**wrong)
