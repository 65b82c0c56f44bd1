"""The front ends of `frequency`, against scipy and numpy; each learns, and passes a gradient to the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from scipy import fft, ndimage
from torch import Tensor

from detection.detectors import build_detector
from detection.detectors.fronts import FRONTS, BlockDct, Neighbours, Residuals, dct_kernels, luma, phase_only
from generation.records import UserError

PRESETS = Path(__file__).parent.parent / "conf" / "detector"

every_front = pytest.mark.parametrize("front", FRONTS)


def _images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Smooth colour fields with a grain of their own."""
    generator = np.random.default_rng(seed)
    fields = ndimage.zoom(generator.uniform(0.2, 0.8, (count, 3, 5, 5)), (1, 1, height / 5, width / 5), order=3)
    return torch.from_numpy((fields + 0.03 * generator.normal(size=fields.shape)).clip(0, 1)).float()


def test_the_dct_kernels_are_scipys_transform() -> None:
    blocks = np.random.default_rng(0).uniform(size=(6, 8, 8))
    found = F.conv2d(torch.from_numpy(blocks)[:, None], dct_kernels().double())
    np.testing.assert_allclose(found.view(6, 8, 8), fft.dctn(blocks, axes=(1, 2), norm="ortho"), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 18), (8, 11)])
def test_a_band_is_the_mean_magnitude_of_its_diagonal(height: int, width: int) -> None:
    images, truncation = _images(2, height, width).double(), 0.05
    found = BlockDct(truncation).double()(images).numpy()
    assert found.shape == (2, 45, -(-height // 2), -(-width // 2))
    sides = ((0, 0), (0, 0), (3, 3 + height % 2), (3, 3 + width % 2))
    padded = np.pad(images.numpy(), sides, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(2, 3))[:, :, ::2, ::2]
    magnitude = np.abs(fft.dctn(windows, axes=(-2, -1), norm="ortho"))
    for colour in range(3):
        for band in range(15):
            on = [magnitude[:, colour, :, :, i, band - i] for i in range(8) if 0 <= band - i < 8]
            expected = np.log(1 + np.mean(on, axis=0) / truncation)
            np.testing.assert_allclose(found[:, 15 * colour + band], expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 18), (9, 11)])
def test_the_phase_only_reconstruction_is_numpys(height: int, width: int) -> None:
    images = luma(_images(3, height, width)).double()
    spectrum = np.fft.fft2(images.numpy())
    expected = np.fft.ifft2(np.exp(1j * np.angle(spectrum))).real * np.sqrt(height * width)
    np.testing.assert_allclose(phase_only(images).numpy(), expected, atol=1e-2)
    assert np.mean(expected**2) == pytest.approx(1)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 18)])
def test_npr_is_the_image_less_its_own_enlargement(height: int, width: int) -> None:
    images, truncation = _images(2, height, width), 0.05
    even = F.pad(images, (0, width % 2, 0, height % 2), mode="reflect")
    larger = F.interpolate(F.interpolate(even, scale_factor=0.5, mode="nearest"), scale_factor=2.0, mode="nearest")
    cells = F.pixel_unshuffle(even - larger, 2).unflatten(1, (3, 4))
    assert torch.equal(cells[:, :, 0], torch.zeros_like(cells[:, :, 0]))
    found = Neighbours(truncation)(images)
    torch.testing.assert_close(found, F.softsign(cells[:, :, 1:] / truncation).flatten(1, 2), rtol=1e-4, atol=1e-5)


def test_todays_front_is_the_default_and_holds_nprs_channels() -> None:
    assert next(iter(FRONTS.values())) is Residuals
    plain, named = build_detector("frequency", seed=1), build_detector("frequency", {"front": "residuals"}, seed=1)
    images = _images(2)
    assert torch.equal(plain.eval()(images), named.eval()(images))
    both, alone = Residuals(0.03)(images), Neighbours(0.03)(images)
    held = [index for index in range(45) if index % 15 in (6, 10, 14)]
    torch.testing.assert_close(both[:, held], alone, rtol=0, atol=1e-6)


@every_front
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14), (33, 20)])
def test_a_gradient_reaches_the_image(front: str, height: int, width: int) -> None:
    module = build_detector("frequency", {"front": front}).eval().requires_grad_(False)
    for images in (_images(2, height, width), torch.full((2, 3, height, width), 0.5)):
        images.requires_grad_(True)
        (gradient,) = torch.autograd.grad(module(images).sum(), images)
        assert torch.isfinite(gradient).all()
    images = _images(2, height, width).requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(images).sum(), images)
    assert (gradient != 0).double().mean() > 0.9


@every_front
def test_a_front_is_exact_where_the_network_is_trained_in_half_precision(front: str) -> None:
    images, module = _images(2), FRONTS[front](0.03)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(images)
    assert torch.equal(found, module(images)) and found.dtype == torch.float32


@every_front
def test_each_front_learns_what_was_enlarged(front: str) -> None:
    """A forgery here was made at half the size; people and grain are others in the test."""
    module = build_detector("frequency", {"front": front, "widths": [12, 16]})
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    for step in range(25):
        logits = module(_with_enlarged(step))
        loss = F.binary_cross_entropy_with_logits(logits, torch.arange(32).ge(16).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = module.eval()(_with_enlarged(1000))
    assert (logits[16:, None] > logits[:16]).double().mean() > 0.95


def _with_enlarged(seed: int) -> Tensor:
    images = _images(16, seed=seed)
    small = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    return torch.cat([images, F.interpolate(small, scale_factor=2.0, mode="bilinear")])


def test_an_unknown_front_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"detector\.options\.front=wavelet: must be one of residuals, npr, dct, phase"):
        build_detector("frequency", {"front": "wavelet"})


@pytest.mark.parametrize("path", sorted(PRESETS.glob("frequency*.yaml")), ids=lambda path: path.stem)
def test_every_front_has_a_preset(path: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(path))
    front = path.stem.partition("_")[2] or "residuals"
    assert config["name"] == "frequency" and config["options"]["front"] == front
    build_detector(config["name"], config["options"])
