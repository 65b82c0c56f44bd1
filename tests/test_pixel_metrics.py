"""Pixels against an exact target, by loops and by scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.draw import polygon2mask
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from generation import metrics
from generation.metrics import SwapImages, changed_region
from generation.records import Faces


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


def some_region(seed: int, count: int = 5, size: int = 24) -> Tensor:
    """(N, 1, H, W) bool, empty for the last frame."""
    region = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)) < 0.3
    region[-1] = False
    return region


def same(found: Tensor, reference: list[float], tolerance: float = 1e-9) -> None:
    assert found.tolist() == pytest.approx(reference, abs=tolerance, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_changed_l1_ratio_by_loops(seed: int) -> None:
    images = swaps(seed)
    source, result, target = (image.double().numpy() for image in images)
    error = copy = 0.0
    for n in range(len(source)):
        for y in range(source.shape[2]):
            for x in range(source.shape[3]):
                s, r, t = source[n, :, y, x], result[n, :, y, x], target[n, :, y, x]
                if np.abs(s - t).mean() > 0.04:
                    error += np.abs(r - t).sum()
                    copy += np.abs(s - t).sum()
    sums = metrics.changed_sums(*images)
    assert metrics.changed_l1_ratio(sums) == pytest.approx(error / copy, rel=1e-5) and 0.1 < error / copy < 0.9
    parts = sum(metrics.changed_sums(*(image[rows] for image in images)) for rows in (slice(2), slice(2, 5)))
    assert metrics.changed_l1_ratio(torch.as_tensor(parts)) == pytest.approx(error / copy, rel=1e-5)


def test_changed_l1_ratio_at_its_ends() -> None:
    source, result, target = swaps(4)

    def ratio(*images: Tensor) -> float | None:
        return metrics.changed_l1_ratio(metrics.changed_sums(*images))

    assert ratio(source, target, target) == 0
    assert ratio(source, source, target) == 1
    assert ratio(source, result, source) is None
    assert not changed_region(source, target)[0].any()
    without = ratio(source[1:], result[1:], target[1:])
    assert ratio(source, result, target) == without, "a pair without a changed pixel adds nothing"


def test_background_l1_counts_what_lies_outside_both_faces(faces: Faces) -> None:
    source, target = faces.landmarks[:2], faces.landmarks[2:4]
    outside = metrics.background(source, target, 64)
    inside = metrics.face_region(source, 64) | metrics.face_region(target, 64)
    assert torch.equal(outside, ~inside) and 0.2 < float(inside.float().mean()) < 0.6
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = torch.where(inside, 1 - image, image)
    assert (metrics.background_l1(image, changed, outside) == 0).all()
    moved = (image + 0.25 * outside).double()
    assert metrics.background_l1(image.double(), moved, outside).tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("seed", range(3))
def test_l1_and_psnr_by_loops_and_scikit_image(seed: int) -> None:
    _, result, target = swaps(seed)
    region = some_region(seed)
    whole, inside, ratio, ratio_inside = [], [], [], []
    for n in range(5):
        r, t = (image[n].permute(1, 2, 0).double().numpy() for image in (result, target))
        chosen = region[n, 0].numpy()
        whole.append(np.abs(r - t).mean())
        ratio.append(peak_signal_noise_ratio(t, r, data_range=1))
        inside.append(np.abs(r - t)[chosen].mean() if chosen.any() else np.nan)
        known = chosen.any()
        ratio_inside.append(peak_signal_noise_ratio(t[chosen], r[chosen], data_range=1) if known else np.nan)
    same(metrics.l1(result, target), whole)
    same(metrics.l1(result, target, region), inside)
    same(metrics.psnr(result, target), ratio)
    same(metrics.psnr(result, target, region), ratio_inside)
    assert metrics.mean(metrics.l1(result, target, region)) == pytest.approx(np.nanmean(inside), rel=1e-5)


def test_means_leave_out_what_was_not_judged() -> None:
    assert metrics.mean(torch.tensor([1.0, torch.nan, 4.0])) == 2.5
    assert metrics.mean(torch.tensor([torch.nan])) is None and metrics.mean(torch.empty(0)) is None


def test_a_frame_without_error_is_100_db() -> None:
    _, result, target = swaps(6)
    assert metrics.psnr(target, target).tolist() == pytest.approx([100] * 5)
    assert (metrics.psnr(result, target)[1:] < 100).all()


@pytest.mark.parametrize("contrast", [1.0, 0.1, 0.01])
def test_ssim_by_scikit_image(contrast: float) -> None:
    _, result, target = (image * contrast + 0.3 for image in swaps(7))
    region = some_region(7)
    whole, inside = [], []
    for r, t, chosen in zip(result.double().numpy(), target.double().numpy(), region[:, 0].numpy(), strict=True):
        options = {"channel_axis": 0, "data_range": 1, "gaussian_weights": True, "sigma": 1.5, "full": True}
        value, full = structural_similarity(r, t, use_sample_covariance=False, **options)
        middle = chosen[5:-5, 5:-5]
        whole.append(value)
        inside.append(full[:, 5:-5, 5:-5][:, middle].mean() if middle.any() else np.nan)
    similarity = metrics.ssim_map(result, target)
    assert similarity.shape == (5, 1, 14, 14)
    same(metrics.ssim(similarity), whole, 1e-4)
    same(metrics.ssim(similarity, region), inside, 1e-4)
    assert metrics.ssim(metrics.ssim_map(target, target)).tolist() == pytest.approx([1] * 5, abs=1e-6)


def test_the_face_region_is_the_hull_with_raised_brows(faces: Faces) -> None:
    landmarks = faces.landmarks[[0, 40]].clone()
    landmarks[1, 3, 0] = torch.nan
    region = metrics.face_region(landmarks, 64)
    assert region.shape == (2, 1, 64, 64) and region.dtype == torch.bool and not region[1].any()
    points = landmarks[0].double().numpy()
    brows = points[17:27].mean(axis=0)
    corners = [(x, y) for x, y in points]
    corners += [(x + (brows[0] - points[8, 0]) / 3, y + (brows[1] - points[8, 1]) / 3) for x, y in points[17:27]]
    hull: list[tuple[float, float]] = []
    at = min(corners)
    while not hull or at != hull[0]:  # Jarvis' march
        hull.append(at)
        end = corners[0] if corners[0] != at else corners[1]
        for other in corners:
            if (end[0] - at[0]) * (other[1] - at[1]) - (end[1] - at[1]) * (other[0] - at[0]) < 0:
                end = other
        at = end
    reference = polygon2mask((64, 64), np.array(hull)[:, ::-1] - 0.5)  # its pixel centres are integers
    assert (region[0, 0].numpy() != reference).sum() <= 1
    above = np.nonzero(reference)[0].min()
    assert above < points[17:27, 1].min() - 5, "the forehead belongs to it"
    for x, y in points[17:68]:
        assert region[0, 0, int(y), int(x)]


def test_pixel_quality_is_the_mean_of_its_parts() -> None:
    """More swaps than one batch, one without a visible change."""
    source, result, target = (torch.cat([image] * 8) for image in swaps(8))
    landmarks = 24 * torch.rand(40, 68, 2, generator=torch.Generator().manual_seed(1))
    bytes_ = [(image * 255).round().to(torch.uint8) for image in (source, result, target)]
    images = SwapImages(*bytes_, torch.zeros(40, 52), landmarks, landmarks)
    found = metrics.pixel_quality(images)
    visible = ((source - target).abs().numpy().mean(1) > 0.04).mean((1, 2)) >= metrics.VISIBLE_SHARE
    assert images.visible().tolist() == visible.tolist() and 0 < visible.sum() < 40
    changed = changed_region(source, target) & torch.from_numpy(visible)[:, None, None, None]
    regions = {"": None, "_face": metrics.face_region(landmarks, 24), "_changed": changed}
    for name, region in regions.items():
        assert found[f"l1{name}"] == pytest.approx(metrics.mean(metrics.l1(result, target, region)))
        assert found[f"psnr{name}"] == pytest.approx(metrics.mean(metrics.psnr(result, target, region)))
        similarity = metrics.ssim(metrics.ssim_map(result, target), region)
        assert found[f"ssim{name}"] == pytest.approx(metrics.mean(similarity))
    assert found["changed_l1_ratio"] == metrics.changed_l1_ratio(metrics.changed_sums(source, result, target))
