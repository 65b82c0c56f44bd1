"""Degradations: range, strength, second opinions, and draws that know nothing of the class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kornia.enhance import jpeg_codec_differentiable
from scipy import ndimage
from torch import Tensor

from detection.degradations import DEGRADATIONS, SEVERITIES, Degrade, flip
from generation.records import UserError

every_degradation = pytest.mark.parametrize("name", DEGRADATIONS)


def _draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos() -> Tensor:  # (12, 3, 48, 48) in [0, 1], multiples of 1/255
    """Smooth colour fields with a grain of their own."""
    generator = np.random.default_rng(0)
    fields = ndimage.zoom(generator.uniform(40, 215, (12, 3, 6, 6)), (1, 1, 8, 8), order=3)
    grainy = fields + generator.normal(size=fields.shape) * 6
    return torch.from_numpy(grainy.clip(0, 255).round() / 255).float()


@every_degradation
@pytest.mark.parametrize("size", [(48, 48), (33, 47)])
def test_a_degradation_keeps_shape_and_range_and_grows_with_severity(
    name: str, size: tuple[int, int], photos: Tensor
) -> None:
    images = photos[..., : size[0], : size[1]]
    errors = []
    for severity in SEVERITIES:
        result = DEGRADATIONS[name](images, severity, _draws())
        assert result.shape == images.shape and result.dtype == images.dtype
        assert result.min() >= 0 and result.max() <= 1
        assert torch.equal(result, DEGRADATIONS[name](images, severity, _draws()))
        errors.append(float((result - images).abs().mean()))
    assert errors[0] > 0 and errors == sorted(errors)
    assert (result.mean((-2, -1)) - images.mean((-2, -1))).abs().max() < (0.2 if name == "gamma" else 0.02)


@pytest.mark.parametrize("name", ["noise", "gamma"])
def test_random_degradations_draw_for_every_image_from_the_generator(name: str, photos: Tensor) -> None:
    same = photos[:1].expand(3, -1, -1, -1)
    once = DEGRADATIONS[name](same, 3, _draws(0))
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(once, DEGRADATIONS[name](same, 3, _draws(1)))


def test_jpeg_is_jpeg(photos: Tensor) -> None:
    """kornia's imitation of the codec rounds in other places, and agrees to a few grey levels."""
    expected = jpeg_codec_differentiable(photos, torch.full((len(photos),), 70.0))
    found = DEGRADATIONS["jpeg"](photos, 3, _draws())
    assert (found - expected).abs().mean() < 0.35 * (found - photos).abs().mean()


def test_blur_is_scipys(photos: Tensor) -> None:
    expected = ndimage.gaussian_filter(photos.double().numpy(), (0, 0, 1.0, 1.0), mode="mirror", radius=3)
    np.testing.assert_allclose(DEGRADATIONS["blur"](photos, 4, _draws()).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resize", "blur"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_nothing_moves(name: str, severity: int) -> None:
    """A blob off the centre keeps its centre of mass: no half pixel is lost between grids."""
    y, x = np.mgrid[:64, :64]
    blob = np.exp(-((x - 20.3) ** 2 + (y - 41.8) ** 2) / 60)
    images = torch.from_numpy(blob).float().expand(1, 3, 64, 64)
    result = DEGRADATIONS[name](images, severity, _draws())[0, 0].double().numpy()
    assert ndimage.center_of_mass(result) == pytest.approx(ndimage.center_of_mass(blob), abs=0.03)


def test_noise_has_its_deviation_and_gamma_is_a_power() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    assert float(DEGRADATIONS["noise"](grey, 3, _draws()).std()) == pytest.approx(0.02, rel=0.02)
    ramp = torch.linspace(0.1, 0.9, 64).expand(2, 3, 64, 64)
    power = DEGRADATIONS["gamma"](ramp, 5, _draws()).log() / ramp.log()
    torch.testing.assert_close(power, power[:, :1, :1, :1].expand_as(power), rtol=1e-4, atol=1e-4)
    assert ((power >= 2**-0.5) & (power <= 2**0.5)).all()


def test_degrade_chooses_images_by_place_alone(photos: Tensor) -> None:
    """The draws do not see the pixels, so they cannot see the class: reversed labels get the same treatment."""
    images = photos.repeat(40, 1, 1, 1)
    degrade = Degrade(probability=0.3, severity=5)
    touched = (degrade(images, _draws()) != images).flatten(1).any(1)
    other = images.roll(7, dims=0)
    assert torch.equal(touched, (degrade(other, _draws()) != other).flatten(1).any(1))
    assert 0.22 < touched.double().mean() < 0.38
    assert torch.equal(Degrade(probability=0)(images, _draws()), images)
    assert (Degrade(probability=1)(images, _draws()) != images).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"names": ["jpeg", "fog"]}, "'fog'; there are jpeg"),
        ({"probability": 1.5}, r"degrade\.probability=1\.5"),
        ({"severity": 6}, r"degrade\.severity=6"),
    ],
)
def test_degrade_refuses_what_it_cannot_do(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Degrade(**settings)


def test_flip_mirrors_half_of_the_images(photos: Tensor) -> None:
    images = photos.repeat(40, 1, 1, 1)
    result = flip(images, _draws())
    mirrored = (result != images).flatten(1).any(1)
    assert 0.4 < mirrored.double().mean() < 0.6
    assert torch.equal(result[mirrored], images[mirrored].flip(-1))
