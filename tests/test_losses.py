"""Losses of reenactors: SSIM, regions, the patch discriminator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from generation import metrics
from generation.adversarial import AdversarialLoss, PatchDiscriminator, takes_part
from generation.losses import eyes_mouth_region, ssim
from generation.records import Faces


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Smooth and rough at once."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, size, size, generator=generator)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) + 0.2 * noise) / 1.2


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_ssim_is_that_of_scikit_image_and_of_the_metrics(size: tuple[int, int]) -> None:
    target = pictures(3, 64)[..., : size[0], : size[1]].contiguous()
    result = (target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    reference = [
        structural_similarity(
            one.double().numpy(), other.double().numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False, full=True,
        )[1][:, 5:-5, 5:-5].mean()
        for one, other in zip(result, target, strict=True)
    ]  # fmt: skip
    found = ssim(result, target)
    assert float(found) == pytest.approx(1 - np.mean(reference), abs=1e-5)
    similarity = metrics.ssim(metrics.ssim_map(result, target)).mean()
    assert float(found) == pytest.approx(1 - float(similarity), abs=1e-5)
    assert float(ssim(target, target)) == pytest.approx(0, abs=1e-6)


def test_ssim_does_not_suffer_from_bfloat16_and_its_gradient_mends_the_picture() -> None:
    target = pictures(2, 32)
    result = gaussian_blur2d(target, 5, (1.0, 1.0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ssim(result, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(ssim(result.detach(), target)), abs=1e-6)
    assert result.grad is not None
    with torch.no_grad():
        assert ssim(result - result.grad, target) < loss


def test_the_region_of_eyes_and_mouth(faces: Faces) -> None:
    landmarks = faces.landmarks[[0, 40]]
    region = eyes_mouth_region(landmarks, (64, 64))
    assert region.shape == (2, 1, 64, 64) and region.dtype == torch.bool
    for index in range(2):
        eyes = np.linalg.norm(landmarks[index, 36:42].mean(0) - landmarks[index, 42:48].mean(0))
        for y in range(64):
            for x in range(64):
                inside = False
                for part in (slice(36, 42), slice(42, 48), slice(48, 68)):
                    points = landmarks[index, part].numpy()
                    low, high = points.min(0), points.max(0)
                    radius = (high - low) / 2 + 0.2 * eyes
                    inside |= (((np.array([x + 0.5, y + 0.5]) - (low + high) / 2) / radius) ** 2).sum() < 1
                assert bool(region[index, 0, y, x]) == inside
    assert 0.05 < region.float().mean() < 0.35


def test_a_patch_is_eighteen_pixels() -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    hidden, odds = PatchDiscriminator()(image)
    assert odds.shape == (1, 1, 16, 16) and len(hidden) == 2
    odds[0, 0, 8, 8].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [18, 18]


def test_the_adversary_trains_itself_alone_and_learns_to_tell() -> None:
    loss = AdversarialLoss()
    before = {key: value.clone() for key, value in loss.discriminator.state_dict().items()}
    real = pictures(8, 32)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    kept = [parameter.clone() for parameter in layer.parameters()]
    for _ in range(60):
        forgery = gaussian_blur2d(real, 5, (1.5, 1.5))
        loss(forgery, real)
    state = loss.discriminator.state_dict()
    assert not all(torch.equal(value, before[key]) for key, value in state.items())
    with torch.no_grad():
        assert float(loss.discriminator(real)[1].mean()) > float(loss.discriminator(forgery)[1].mean()) + 0.2
    value = loss(torch.sigmoid(layer(forgery)), real)
    assert all(parameter.grad is None or not bool(parameter.grad.any()) for parameter in layer.parameters())
    value.backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in layer.parameters())
    assert all(torch.equal(parameter, other) for parameter, other in zip(layer.parameters(), kept, strict=True))


def test_the_adversarial_value_follows_its_formula() -> None:
    loss = AdversarialLoss()
    real, forgery = pictures(4, 32), pictures(4, 32, seed=1)
    found = float(loss(forgery, real))
    with torch.no_grad():
        loss.discriminator.eval()
        (*hidden,), odds = loss.discriminator(forgery)
        (*wanted,), _ = loss.discriminator(real)
    matching = [float((one - other).abs().mean()) for one, other in zip(hidden, wanted, strict=True)]
    assert found == pytest.approx(10 * np.mean(matching) - float(odds.mean()), rel=1e-4)


def test_the_same_seed_gives_the_same_adversary_whatever_the_global_generator() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = AdversarialLoss().discriminator.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    other = AdversarialLoss().discriminator.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("total", "first"), [(9, 6), (300, 200), (1, 1), (10, 7)])
def test_the_adversary_takes_part_in_the_last_third(total: int, first: int) -> None:
    assert [step for step in range(total) if takes_part(step, total)] == list(range(first, total))
