from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.data import DetectorData, self_blended
from detection.detectors import build_detector
from detection.selfblend import SelfBlend, self_blend
from detection.training import DetectorTrainer
from generation.records import Faces, UserError


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def blends(faces: Faces) -> SelfBlend:
    return self_blend(faces.image.float() / 255, faces.landmarks, draws(0))


def test_outside_the_mask_both_are_alike_bit_for_bit(blends: SelfBlend) -> None:
    outside = (blends.mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(blends.real[outside], blends.forged[outside])
    for part in blends:
        assert part.min() >= 0 and part.max() <= 1 and torch.isfinite(part).all()


def test_the_mask_lies_on_the_face_and_is_soft(faces: Faces, blends: SelfBlend) -> None:
    for mask, landmarks in zip(blends.mask[:, 0], faces.landmarks.numpy(), strict=True):
        assert mask.mean() / mask.max() > 0.004 and 0.002 < mask.mean() < 0.6
        rows, columns = np.nonzero(mask.numpy() > 0.2)
        low, high = landmarks.min(0) - 12, landmarks.max(0) + 12
        low[1] -= 0.3 * (landmarks[8, 1] - landmarks[17:27, 1].mean())
        assert (
            (columns > low[0]).all() and (columns < high[0]).all() and (rows > low[1]).all() and (rows < high[1]).all()
        )
    edge = (blends.mask > 0.02) & (blends.mask < 0.98 * blends.mask.amax((1, 2, 3), keepdim=True))
    assert edge.float().mean() > 0.01


def test_what_is_blended_in_can_be_seen_and_is_no_other_face(blends: SelfBlend) -> None:
    changed = (blends.real - blends.forged).abs().mean(1, keepdim=True)
    inside = (changed * blends.mask).sum((1, 2, 3)) / blends.mask.sum((1, 2, 3))
    assert (inside > 1 / 255).float().mean() > 0.9 and inside.max() < 0.3


def test_half_of_the_pairs_have_their_real_face_changed(faces: Faces) -> None:
    """Else a detector learns that what is changed in colour is forged."""
    images = (faces.image.float() / 255).repeat(4, 1, 1, 1)
    real = self_blend(images, faces.landmarks.repeat(4, 1, 1), draws(1)).real
    share = (real != images).any(1).any(1).any(1).float().mean()
    assert 0.35 < share < 0.65


def test_two_thirds_of_what_is_blended_in_are_bent_or_noisy(faces: Faces) -> None:
    """A slope stays a slope, whatever its colours, its place and its sharpness, until it is bent or gets noise."""
    landmarks = faces.landmarks[:8].repeat(24, 1, 1)
    slope = torch.linspace(0.3, 0.7, faces.size).expand(len(landmarks), 3, faces.size, faces.size)
    blends = self_blend(slope, landmarks, draws(5))
    rough = []
    for real, forged, mask, before in zip(*blends, slope, strict=True):
        inside = mask[0, 1:-1, 1:-1] > 0.999
        if torch.equal(real, before) and inside.sum() > 100:
            second = (forged[:, 1:-1, 2:] - 2 * forged[:, 1:-1, 1:-1] + forged[:, 1:-1, :-2]).abs().mean(0)
            rough.append(bool(second[inside].mean() > 1e-4))
    assert len(rough) > 25
    assert 0.45 < np.mean(rough) < 0.85


def test_the_seed_alone_draws(faces: Faces) -> None:
    images = faces.image[:4].float() / 255
    first, again, other = (self_blend(images, faces.landmarks[:4], draws(seed)).forged for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def data(faces: Faces, forged: list[Faces], share: float) -> DetectorData:
    return DetectorData(faces, forged, batch=16, steps_per_epoch=3, seed=0, self_blended=share, masks=True)


def test_without_a_pool_no_forgery_is_ever_seen(faces: Faces) -> None:
    alone = data(faces, [], 1.0)
    batch = next(iter(alone.train_dataloader()))
    assert batch.label.tolist() == [0.0] * 8 + [1.0] * 8 and batch.mask is not None
    assert batch.mask[:8].sum() == 0 and (batch.mask[8:].sum((1, 2, 3)) > 0).all()
    held = alone.held("validation")
    assert (held.label == 0).sum() == (held.label == 1).sum() and set(held.method[held.label.numpy() == 1]) == {
        "self_blended"
    }
    assert torch.equal(held.image, alone.held("validation").image)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_batch_stays_balanced_whatever_share_is_self_blended(faces: Faces, share: float) -> None:
    drawn = data(faces, [self_blended(faces, seed=9)], share).drawing
    batch = drawn(0)
    assert batch.label.tolist() == [0.0] * 8 + [1.0] * 8 and drawn.blended == round(8 * share)
    assert batch.mask is not None and (batch.mask[batch.label == 1].sum((1, 2, 3)) > 0).all()


def test_a_share_outside_the_unit_interval_is_refused(faces: Faces) -> None:
    with pytest.raises(UserError, match=r"data\.self_blended=1\.5"):
        data(faces, [], 1.5)


def test_masks_are_a_second_target_of_what_can_locate(faces: Faces) -> None:
    batch = next(iter(data(faces, [], 1.0).train_dataloader()))
    localizer, plain = (DetectorTrainer(build_detector(name), 10, 1e-3) for name in ("localizer", "frequency"))
    assert localizer.loss(batch) > localizer.loss(batch._replace(mask=None))
    assert plain.loss(batch) == plain.loss(batch._replace(mask=None))
    localizer.loss(batch).backward()
    assert localizer.network.heat.weight.grad.abs().sum() > 0  # type: ignore[union-attr,operator]


def test_some_sources_have_another_grain_than_the_picture() -> None:
    """A flat grey face: whatever varies from pixel to pixel within the mask was put there."""
    images, landmarks = torch.full((256, 3, 64, 64), 0.5), torch.rand(1, 68, 2, generator=draws(2)) * 30 + 17
    blend = self_blend(images, landmarks.expand(256, -1, -1), draws(3))
    changed = (blend.forged - blend.real)[..., 1:, :] - (blend.forged - blend.real)[..., :-1, :]
    rough = changed.abs().mean((1, 2, 3)) > 1e-3
    assert 0.1 < rough.float().mean() < 0.6
