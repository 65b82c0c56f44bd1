"""Localizers that see large pictures through windows, and are trained on windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detection.data import DetectorData
from detection.detectors import build_detector
from detection.detectors.localizer import Localizer, Windows
from detection.examine_answers import answers, grad_cam
from generation.records import Faces, UserError

WINDOW = 24


def localizer(window: int) -> Localizer:
    module = build_detector("localizer", {"widths": [4, 6], "window": window}).eval()
    assert isinstance(module, Localizer)
    return module


@pytest.mark.parametrize(
    ("height", "width", "size", "count"),
    [(48, 48, 24, 4), (49, 30, 24, 6), (20, 24, 24, 1), (20, 60, 24, 3), (9, 7, 0, 1)],
)
def test_windows_cover_a_picture_and_put_it_together_again(height: int, width: int, size: int, count: int) -> None:
    windows = Windows.over(height, width, size)
    assert len(windows.corners) == count
    images = torch.rand(2, 3, height, width)
    parts = windows.cut(images)
    assert parts.shape[0] == 2 * count and max(parts.shape[-2:]) <= (size or height)
    torch.testing.assert_close(windows.joined(parts), images)


def test_log_odds_are_the_mean_over_the_windows_and_so_is_heat() -> None:
    images = torch.rand(2, 3, 40, 40)
    module = localizer(WINDOW)
    logits, heat, count = [], torch.zeros(2, 1, 40, 40), torch.zeros(40, 40)
    with torch.no_grad():
        found = module.locate(images)
        for top in (0, 16):
            for left in (0, 16):
                here = np.s_[..., top : top + WINDOW, left : left + WINDOW]
                part = module.locate(images[here])
                logits.append(part.logit)
                heat[here] += part.heat
                count[here] += 1
    torch.testing.assert_close(found.logit, torch.stack(logits).mean(0))
    torch.testing.assert_close(module(images), found.logit)
    torch.testing.assert_close(found.heat, heat / count)


def test_a_picture_no_larger_than_the_window_is_seen_at_once() -> None:
    whole, windowed = localizer(0), localizer(WINDOW)
    windowed.load_state_dict(whole.state_dict())
    images = torch.rand(2, 3, WINDOW, WINDOW)
    torch.testing.assert_close(windowed(images), whole(images), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"detector\.options\.window=-1"):
        localizer(-1)


def test_what_a_detector_makes_of_a_picture_is_the_mean_over_its_windows() -> None:
    images = torch.randint(0, 256, (3, 3, 2 * WINDOW, 2 * WINDOW), dtype=torch.uint8)
    module = localizer(WINDOW)
    scores, features, _ = answers([module, localizer(0)], images)
    parts = [answers([module], images[..., y : y + WINDOW, x : x + WINDOW]) for y in (0, WINDOW) for x in (0, WINDOW)]
    np.testing.assert_allclose(scores[:, 0], np.mean([part.scores[:, 0] for part in parts], axis=0), atol=1e-5)
    width = features.shape[1] // 2
    np.testing.assert_allclose(features[:, :width], np.mean([part.features for part in parts], axis=0), atol=1e-5)


def test_grad_cam_is_put_together_of_the_windows() -> None:
    images = torch.rand(1, 3, 2 * WINDOW, 2 * WINDOW)
    module = localizer(WINDOW)
    found = grad_cam(module, images)
    assert found is not None and found.shape == (1, 2 * WINDOW, 2 * WINDOW)
    corner = grad_cam(module, images[..., :WINDOW, :WINDOW])
    assert corner is not None
    part = found[:, :WINDOW, :WINDOW]
    assert part.max() > 0
    np.testing.assert_allclose(part / part.max(), corner / corner.max(), atol=1e-4)


def changed(faces: Faces) -> tuple[Faces, Faces]:
    """Real faces, and forgeries in which a small square near a corner was changed, in two pools' order."""
    real = replace(faces, split=np.full(len(faces), "train"), label=torch.zeros_like(faces.label))
    image, mask = real.image.clone(), torch.zeros_like(real.mask)
    image[..., 2:8, 3:9] = 255 - image[..., 2:8, 3:9]
    mask[..., 2:8, 3:9] = 255
    forged = replace(
        real, image=image, mask=mask, label=torch.ones_like(real.label), source_clip=real.clip, source_frame=real.frame
    )
    return real, forged


@pytest.mark.parametrize("self_blended", [0.0, 0.5])
def test_batches_show_windows_the_same_one_of_both_of_a_pair(faces: Faces, self_blended: float) -> None:
    real, forged = changed(faces)
    half = len(forged) // 2
    held = (
        replace(real, split=np.full(len(real), "validation")),
        replace(forged, split=np.full(len(forged), "validation")),
    )
    everything = Faces.concatenate([real, held[0]])
    pools = [
        Faces.concatenate([forged.select(part), held[1]]) for part in (slice_of(0, half), slice_of(half, len(forged)))
    ]
    data = DetectorData(
        everything, pools, batch=16, steps_per_epoch=1, seed=3, masks=True, window=WINDOW, self_blended=self_blended
    )
    for step in range(4):
        batch, again = data.drawing(step), data.drawing(step)
        assert torch.equal(batch.image, again.image) and batch.image.shape == (16, 3, WINDOW, WINDOW)
        assert batch.mask is not None
        drawn = 8 - round(8 * self_blended)
        reals, forgeries = batch.image[8 - drawn : 8], batch.image[8 : 8 + drawn]
        masks = batch.mask[8 : 8 + drawn]
        assert (masks.amax((1, 2, 3)) > 0.5).all()  # every forgery shows what was changed
        flipped = reals.flip(-1)
        for forgery, mask in zip(forgeries, masks, strict=True):
            outside = (mask == 0).expand(3, -1, -1)
            distance = [(forgery - other).abs()[outside].max() for other in (*reals, *flipped)]
            assert min(distance) < 1e-6


def slice_of(first: int, last: int) -> np.ndarray:
    return np.arange(first, last)
