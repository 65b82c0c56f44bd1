"""The perceptual loss, its shipped network and how that is trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d

from generation.motion import ACTIONS
from generation.perceptual import PerceptualLoss, PerceptualNetwork, load_perceptual, shipped_weights
from generation.perceptual_training import PerceptualData, PerceptualTrainer, augmented, judge, moved, sample_of, whole
from generation.records import Faces, UserError
from scripts.trainer import LoggerConfig, TrainerConfig, fit

QUICK = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig(name="none"))


def test_the_perceptual_loss_grows_with_blur_and_with_a_moved_mouth(faces: Faces) -> None:
    loss = PerceptualLoss(load_perceptual())
    target = faces.image[:8].float() / 255
    assert float(loss(target, target)) == 0
    blurred = [float(loss(gaussian_blur2d(target, 9, (sigma, sigma)), target)) for sigma in (0.5, 1.0, 2.0)]
    assert 0 < blurred[0] < blurred[1] < blurred[2]
    moved = []
    for shift in (1, 3):
        result = target.clone()
        for index, landmarks in enumerate(faces.landmarks[:8]):
            low, high = landmarks[48:].amin(0).int().tolist(), landmarks[48:].amax(0).int().tolist()
            mouth = target[index, :, low[1] : high[1], low[0] : high[0]]
            result[index, :, low[1] + shift : high[1] + shift, low[0] : high[0]] = mouth
        moved.append(float(loss(result, target)))
    assert 0 < moved[0] < moved[1]


def test_the_perceptual_loss_follows_its_formula_and_leaves_its_network_alone(faces: Faces) -> None:
    network = load_perceptual()
    loss = PerceptualLoss(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    target = faces.image[:3].float() / 255
    result = faces.image[3:6].float() / 255
    shares = []
    with torch.no_grad():
        for one, other in zip(network.features(result), network.features(target), strict=True):
            assert bool((one >= 0).all())
            for a, b in zip(one.numpy(), other.numpy(), strict=True):
                shares.append(np.abs(a - b).sum() / b.sum())
    leaf = result.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    assert float(value.detach()) == pytest.approx(np.mean(shares), rel=1e-5)
    assert leaf.grad is not None and bool((leaf.grad != 0).any())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_shipped_network_reads_faces_it_has_never_seen(faces: Faces) -> None:
    network, sample = load_perceptual(), whole(faces, 1)
    found = judge(network, augmented(sample, np.random.default_rng(0)))
    centre = sample.landmarks.mean(dim=0, keepdim=True)
    eyes = (sample.landmarks[:, 36:42].mean(1) - sample.landmarks[:, 42:48].mean(1)).norm(dim=1)
    mean_shape = ((sample.landmarks - centre).abs() / eyes[:, None, None]).mean()
    assert found["landmark_error"] < 0.08 and judge(network, sample)["landmark_error"] < 0.5 * float(mean_shape)
    assert found["identity_auroc"] > 0.75
    assert found["expression_correlation"] > 0.05
    assert shipped_weights().stat().st_size < 1_500_000


def test_augmented_truth_lies_where_the_face_lies(faces: Faces) -> None:
    """A dot painted on the picture before is found at the landmark afterwards."""
    sample = sample_of(faces, np.arange(16), torch.zeros(16, dtype=torch.int64))
    x = torch.arange(64) + 0.5
    nose = sample.landmarks[:, 30]
    spot = torch.exp(-((x - nose[:, :1]).square()[:, None, :] + (x - nose[:, 1:]).square()[:, :, None]) / 8)
    after = moved(sample._replace(image=spot[:, None].expand(-1, 3, -1, -1)), np.random.default_rng(0))
    weight = after.image[:, 0] / after.image[:, 0].sum((1, 2), keepdim=True)
    centre = torch.stack([(weight.sum(1) * x).sum(1), (weight.sum(2) * x).sum(1)], dim=1)
    assert torch.allclose(centre, after.landmarks[:, 30], atol=0.5)
    assert float((after.landmarks[:, 30] - nose).norm(dim=1).mean()) > 3


def test_the_network_learns_from_scratch_and_the_same_bytes_each_time(faces: Faces, tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> tuple[PerceptualNetwork, float]:
        data = PerceptualData(faces, batch=12, steps_per_epoch=20, seed=0)
        torch.manual_seed(0)
        network = PerceptualNetwork()
        module = PerceptualTrainer(network, len(data.people), data.spread, steps, 4e-3)
        before = judge(network, whole(faces.where(split="validation"), 1))["landmark_error"]
        fit(module, data, folder, QUICK.with_steps(steps, 20))
        return network, before

    first, before = run(tmp_path / "first", 40)
    again, _ = run(tmp_path / "again", 40)
    assert judge(first, whole(faces.where(split="validation"), 1))["landmark_error"] < 0.6 * before
    other = again.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in first.state_dict().items())


def test_faces_too_small_or_too_few_to_learn_from(faces: Faces) -> None:
    with pytest.raises(UserError, match=r"data\.size=32: must be at least 64"):
        PerceptualData(replace(faces, image=faces.image[..., ::2, ::2]), 8, 1, 0)
    with pytest.raises(UserError, match=r"batch=500: there are only 36 frames"):
        PerceptualData(faces, 500, 1, 0)


def lost(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(("damage", "named"), [(lost, "no such file"), (cut, "does not hold the network")])
def test_weights_that_cannot_be_had_are_named(damage: object, named: str, tmp_path: Path) -> None:
    path = shutil.copy(shipped_weights(), tmp_path)
    damage(Path(path))  # type: ignore[operator]
    with pytest.raises(UserError, match=rf"perceptual\.safetensors: {named}") as caught:
        load_perceptual(Path(path))
    assert "\n" not in str(caught.value)


def test_the_52_names_are_what_the_network_reads() -> None:
    assert load_perceptual().expression[-1].out_features == len(ACTIONS)
