"""Marks are no shortcut: what a watermark says, or whether there is one, tells no detector anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors import TRAINABLE, build_detector
from detection.metrics import auroc
from detection.training import score
from generation.faces.render import render_records
from generation.forge import draw_swaps, reenact
from generation.provenance import mark_image
from generation.records import Faces, load
from generation.reenactors import load_reenactor, shipped
from tests.conftest import TINY_FACES
from tests.test_detectors import OPTIONS

STEPS, BATCH = 40, 32

NEW = 18
"""People to test on, six pictures each."""


class Pictures(NamedTuple):
    """uint8 (N, 3, 64, 64): faces and their forgeries to train on, and faces of others: of many, for those of a few get
    nearly the same score, and the least change of it tells them apart."""

    real: Tensor
    forged: Tensor
    new_real: Tensor


@pytest.fixture(scope="module")
def pictures(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    reenactor, _ = load_reenactor(shipped("warp_64"))
    part = faces.where(split="train")
    forged, _ = reenact(reenactor, part, draw_swaps(part, 36, seed=1))
    folder = tmp_path_factory.mktemp("others") / "faces"
    render_records(replace(TINY_FACES, seed=8, train=1, validation=1, test=NEW), folder, workers=1, progress=None)
    return Pictures(part.image, forged, load(folder).where(split="test").image)


def marked(images: Tensor, payloads: Sequence[int]) -> Tensor:
    pairs = zip(images.permute(0, 2, 3, 1).contiguous().numpy(), payloads, strict=True)
    return torch.from_numpy(np.stack([mark_image(*pair) for pair in pairs])).permute(0, 3, 1, 2)


def payloads(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(2**32, size=count).tolist()


def trained(name: str, real: Tensor, forged: Tensor) -> nn.Module:
    network = build_detector(name, OPTIONS.get(name))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    draws = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        halves = [part[torch.randint(len(part), (BATCH // 2,), generator=draws)] for part in (real, forged)]
        loss = F.binary_cross_entropy_with_logits(
            network.train()(torch.cat(halves).float() / 255), torch.arange(BATCH).ge(BATCH // 2).float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def apart(network: nn.Module, one: Tensor, other: Tensor) -> float:
    """How well the detector tells the second pictures from the first."""
    label = np.repeat([0, 1], [len(one), len(other)])
    return auroc(label, score(network, torch.cat([one, other])))


@pytest.mark.parametrize("name", TRAINABLE)
def test_detectors_ignore_marks(name: str, pictures: Pictures) -> None:
    """Trained as in a run, on pictures without marks: a mark moves no score, and neither does what it says."""
    network = trained(name, pictures.real, pictures.forged)
    one, other = (marked(pictures.new_real, payloads(len(pictures.new_real), seed)) for seed in (3, 4))
    assert 0.4 <= apart(network, pictures.new_real, one) <= 0.6
    assert 0.4 <= apart(network, one, other) <= 0.6


def test_where_both_classes_are_marked_there_is_nothing_to_learn(pictures: Pictures) -> None:
    """As in a controlled set. Where only forgeries are marked, the same training learns nothing else."""
    forged = marked(pictures.forged, payloads(36, 2))
    one, other = (marked(pictures.new_real, payloads(len(pictures.new_real), seed)) for seed in (3, 4))
    network = trained("frequency", marked(pictures.real, payloads(36, 1)), forged)
    assert 0.4 <= apart(network, one, other) <= 0.6
    assert apart(trained("frequency", pictures.real, forged), pictures.new_real, one) > 0.9
