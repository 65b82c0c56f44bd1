"""Reenactment metrics against plain loops and scikit-image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from real_media import shared
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from generation.faces.alignment import face_crop
from generation.faces.landmarks import FaceReader
from generation.metrics import (
    VISIBLE_SHARE,
    background_l1,
    changed_l1_ratio,
    changed_region,
    expression_error,
    expression_readings,
    psnr,
    quality,
    ssim,
    visible_change,
)
from generation.motion import ACTIONS


@pytest.fixture(scope="module")
def reader() -> Iterator[FaceReader]:
    with FaceReader(shared("weights/mediapipe/face_landmarker.task")) as reader:
        yield reader


@pytest.fixture(scope="module")
def people(reader: FaceReader) -> Tensor:  # (3, 2, 3, 128, 128) uint8: neutral and smiling
    crops = []
    for person in ("002", "025", "104"):
        for photo in ("neutral", "smiling"):
            image = np.asarray(Image.open(shared(f"data/london/{person}_{photo}.jpg")).convert("RGB"))
            reading = reader.read(image)
            assert reading is not None
            crops.append(torch.from_numpy(face_crop(image, reading.eyes, 128)).permute(2, 0, 1))
    return torch.stack(crops).unflatten(0, (3, 2))


def swaps(seed: int, count: int = 5, size: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Source, result and target (N, 3, H, W), 8 bits deep; the first swap changes nothing, the second very little."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(count, 3, size, size, generator=generator)
    change = 0.4 * (torch.rand(count, 3, size, size, generator=generator) - 0.5)
    change[:, :, : size // 2] = 0
    change[0] = 0
    change[1] *= 0.1
    target = (source + change).clamp(0, 1)
    result = (source + 0.7 * change + 0.02 * torch.randn(count, 3, size, size, generator=generator)).clamp(0, 1)
    source, result, target = ((image * 255).round() / 255 for image in (source, result, target))
    return source, result, target


@pytest.mark.parametrize("seed", range(3))
def test_changed_l1_ratio_and_background_l1_by_loops(seed: int) -> None:
    images = swaps(seed)
    source, result, target = (image.double().numpy() for image in images)
    error = copy = leak = stays = 0.0
    for n in range(len(source)):
        for y in range(source.shape[2]):
            for x in range(source.shape[3]):
                s, r, t = source[n, :, y, x], result[n, :, y, x], target[n, :, y, x]
                if np.abs(s - t).mean() > 0.04:
                    error += np.abs(r - t).sum()
                    copy += np.abs(s - t).sum()
                else:
                    leak += np.abs(r - s).sum()
                    stays += 3
    ratio = changed_l1_ratio(*images)
    assert ratio == pytest.approx(error / copy, rel=1e-5) and 0.1 < error / copy < 0.9
    changed = changed_region(images[0], images[2])
    assert changed.shape == (5, 1, 24, 24) and changed.dtype == torch.bool
    assert background_l1(images[0], images[1], changed) == pytest.approx(leak / stays, rel=1e-5)


def test_changed_l1_ratio_at_its_ends() -> None:
    source, result, target = swaps(4)
    assert changed_l1_ratio(source, target, target) == 0
    assert changed_l1_ratio(source, source, target) == 1
    assert changed_l1_ratio(source, result, source) is None
    assert not changed_region(source, target)[0].any()
    with_still, without = changed_l1_ratio(source, result, target), changed_l1_ratio(source[1:], result[1:], target[1:])
    assert with_still == without, "a pair without a changed pixel adds nothing"


def test_background_l1_at_its_ends() -> None:
    source, result, _ = swaps(5)
    nothing, everything = torch.zeros(5, 1, 24, 24, dtype=torch.bool), torch.ones(5, 1, 24, 24, dtype=torch.bool)
    assert background_l1(source, result, nothing) == pytest.approx(float((source - result).abs().mean()), rel=1e-5)
    assert background_l1(source, result, everything) == 0 == background_l1(source, source, nothing)


@pytest.mark.parametrize("seed", range(3))
def test_psnr_by_scikit_image(seed: int) -> None:
    _, result, target = swaps(seed)
    frames = zip(target.double().numpy(), result.double().numpy(), strict=True)
    reference = [peak_signal_noise_ratio(*pair, data_range=1) for pair in frames]
    assert psnr(result, target) == pytest.approx(np.mean(reference))


def test_a_frame_without_error_is_100_db() -> None:
    _, result, target = swaps(6)
    assert psnr(target, target) == pytest.approx(100)
    half = torch.cat([target[:1], result[1:2]])
    assert psnr(half, target[:2]) == pytest.approx((100 + psnr(result[1:2], target[1:2])) / 2)


@pytest.mark.parametrize("contrast", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("count", [1, 3])
def test_ssim_by_scikit_image(contrast: float, count: int) -> None:
    _, result, target = (image[-count:] * contrast + 0.3 for image in swaps(7))
    reference = [
        structural_similarity(
            *pair, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for pair in zip(result.double().numpy(), target.double().numpy(), strict=True)
    ]
    assert ssim(result, target) == pytest.approx(np.mean(reference), abs=1e-4)
    assert ssim(target, target) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_expression_error_by_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    source, result, target, wanted = torch.rand(4, 40, 52, generator=generator)
    visible = torch.rand(40, generator=generator) < 0.7
    for reading, missing in ((source, (0, 3)), (result, (3, 5, 6, 7, 8)), (target, (6, 9, 10))):
        reading[list(missing)] = torch.nan
    found = expression_error(source, result, target, wanted, visible)

    error, copy, to_wanted, exact, to_target = [], [], [], [], []
    actions = [index for index, name in enumerate(ACTIONS) if name != "tongueOut"]
    s, r, t, w = (value[:, actions].double().numpy() for value in (source, result, target, wanted))
    for n in range(40):
        if n in (0, 3, 6, 9, 10):
            continue
        unread = n in (5, 7, 8)
        if not unread:
            error.append(np.abs(r[n] - t[n]).mean())
            copy.append(np.abs(s[n] - t[n]).mean())
        if visible[n]:
            to_wanted.append(not unread and np.linalg.norm(r[n] - w[n]) < np.linalg.norm(s[n] - w[n]))
            exact.append(np.linalg.norm(t[n] - w[n]) < np.linalg.norm(s[n] - w[n]))
            to_target.append(not unread and np.linalg.norm(r[n] - t[n]) < np.linalg.norm(s[n] - t[n]))
    assert found.expression_error == pytest.approx(np.mean(error))
    assert found.expression_error_copy == pytest.approx(np.mean(copy))
    assert found.nearer_wanted == pytest.approx(np.mean(to_wanted))
    assert found.nearer_wanted_exact == pytest.approx(np.mean(exact))
    assert found.nearer_target == pytest.approx(np.mean(to_target))
    assert found.unread == {"source": 2, "result": 5, "target": 3}


def test_expression_error_where_nothing_can_be_judged() -> None:
    read, unread = torch.rand(2, 52), torch.full((2, 52), torch.nan)
    found = expression_error(unread, read, read, read, torch.tensor([True, True]))
    assert [found.expression_error, found.expression_error_copy, found.nearer_wanted, found.nearer_target] == [None] * 4
    assert found.unread == {"source": 2, "result": 0, "target": 0}
    still = expression_error(read, read, read, read, torch.tensor([False, False]))
    assert still.expression_error == 0 and still.nearer_wanted is None


@pytest.mark.parametrize("size", [64, 128, 256])
def test_readings_of_real_faces(people: Tensor, reader: FaceReader, size: int) -> None:
    crops = torch.nn.functional.interpolate(people.flatten(0, 1).float(), size=size, mode="bicubic", antialias=True)
    images = crops.round().clamp(0, 255).to(torch.uint8)
    blank = torch.full((1, 3, size, size), 120, dtype=torch.uint8)
    readings = expression_readings(torch.cat([images, blank]), reader)
    assert readings.shape == (7, 52) and readings[:6].isfinite().all() and readings[6].isnan().all()
    smile = readings[:6, ACTIONS.index("mouthSmileLeft")]
    assert (smile[1::2] > smile[0::2] + 0.1).all()


def test_quality_of_a_perfect_an_idle_and_a_broken_reenactor(people: Tensor, reader: FaceReader) -> None:
    source, target = people[:, 0] / 255, people[:, 1] / 255
    wanted = expression_readings(people[:, 1], reader)
    perfect = quality(source, target, target, wanted, reader)
    assert (perfect.swaps, perfect.visible) == (3, 3)
    assert perfect.changed_l1_ratio == perfect.expression_error == 0
    assert perfect.nearer_wanted == perfect.nearer_target == 1
    assert perfect.psnr == pytest.approx(100) and perfect.ssim == pytest.approx(1)
    assert perfect.unread == {"source": 0, "result": 0, "target": 0}

    idle = quality(source, source, target, wanted, reader)
    assert idle.changed_l1_ratio == 1 and idle.background_l1 == 0
    assert idle.expression_error == idle.expression_error_copy == perfect.expression_error_copy
    assert idle.expression_error is not None and idle.expression_error > 0.02
    assert idle.nearer_wanted == idle.nearer_target == 0

    broken = quality(source, torch.full_like(source, 0.5), target, wanted, reader)
    assert broken.expression_error is None and broken.nearer_wanted == broken.nearer_target == 0
    assert broken.unread == {"source": 0, "result": 3, "target": 0}


def test_quality_without_a_reader_and_without_a_change() -> None:
    source, result, target = swaps(8)
    found = quality(source, result, target, torch.zeros(5, 52), None)
    share = ((source - target).abs().numpy().mean(1) > 0.04).mean((1, 2))
    assert found.visible == (share >= VISIBLE_SHARE).sum() and 0 < found.visible < 5
    assert visible_change(source, target).tolist() == (share >= VISIBLE_SHARE).tolist()
    expressions = {
        "expression_error",
        "expression_error_copy",
        "nearer_wanted",
        "nearer_wanted_exact",
        "nearer_target",
        "unread",
    }
    assert {name for name, value in asdict(found).items() if value is None} == expressions
    still = quality(source, result, source, torch.zeros(5, 52), None)
    assert still.changed_l1_ratio is None and still.visible == 0
