from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from generation.motion import ACTIONS
from generation.pairs import Batch, Pairs, PairsData, check_splits, flip, recolour
from generation.records import Faces, UserError


def test_source_and_target_are_one_person_in_one_scene(faces: Faces) -> None:
    source, target = Pairs(faces).draw(200, np.random.default_rng(0))
    assert (faces.clip[source] == faces.clip[target]).all()
    assert (faces.frame[source] != faces.frame[target]).all()
    assert torch.equal(faces.pose[source], faces.pose[target])
    assert set(faces.clip[source]) == set(faces.clip)


def test_the_driver_is_somebody_else_with_the_very_expression(faces: Faces) -> None:
    pairs = Pairs(faces)
    _, target = pairs.draw(100, np.random.default_rng(0))
    driver = pairs.drivers(target, np.random.default_rng(1))
    assert torch.equal(faces.expression[driver], faces.expression[target])
    assert (faces.identity[driver] != faces.identity[target]).all()


def test_who_is_alone_drives_himself(faces: Faces) -> None:
    alone = faces.select(faces.identity == faces.identity[0])
    pairs = Pairs(alone)
    _, target = pairs.draw(10, np.random.default_rng(0))
    assert np.array_equal(pairs.drivers(target, np.random.default_rng(1)), target)


def test_flip_mirrors_everything_and_undoes_itself(faces: Faces) -> None:
    pairs = Pairs(faces)
    batch = pairs.batch(*pairs.draw(8, np.random.default_rng(0)))
    every, none = torch.ones(8, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)
    once = flip(batch, every)
    assert torch.equal(once.source, batch.source.flip(-1))
    left, right = ACTIONS.index("eyeBlinkLeft"), ACTIONS.index("eyeBlinkRight")
    assert torch.equal(once.wanted_motion[:, left], batch.wanted_motion[:, right])
    assert torch.equal(once.landmarks[:, 36, 0], batch.source.shape[-1] - batch.landmarks[:, 45, 0])
    same(flip(once, every), batch)
    same(flip(batch, none), batch)


def same(one: Batch, other: Batch) -> None:
    for name in ("source", "target", "source_motion", "wanted_motion", "source_landmarks", "landmarks"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5), name


def test_a_batch_depends_on_its_number_alone(faces: Faces) -> None:
    data = PairsData(faces, batch=4, steps_per_epoch=3, seed=5, validation_pairs=8)
    first, again = list(data.train_dataloader()), list(data.train_dataloader())
    for one, other in zip(first, again, strict=True):
        same(one, other)
    assert not torch.equal(first[0].source, first[1].source)
    assert sum(len(batch.source) for batch in data.val_dataloader()) == 8


def test_splits_must_be_disjoint_and_whole(faces: Faces) -> None:
    check_splits(faces, "here")
    moved = faces.split.copy()
    moved[0] = "test"
    with pytest.raises(UserError, match=faces.identity[0]):
        check_splits(replace(faces, split=moved), "here")
    with pytest.raises(UserError, match="1 identities and none of them in validation, test"):
        check_splits(faces.select(faces.identity == faces.identity[0]), "here")


def test_single_frames_make_no_pair(faces: Faces) -> None:
    with pytest.raises(UserError, match="no pair"):
        Pairs(faces.select(faces.frame == 0))


def real_and_synthetic(faces: Faces) -> tuple[Faces, Faces]:
    """The same people twice, the second time as if of another origin: darker, so that a picture tells whence it is."""
    return faces, replace(faces, image=faces.image // 4)


@pytest.mark.parametrize(
    ("batch", "share", "count"), [(8, 0.5, 4), (8, 0.25, 2), (8, 0.01, 1), (8, 0.99, 7), (2, 0.9, 1)]
)
def test_batches_hold_the_share_of_real_pairs(faces: Faces, batch: int, share: float, count: int) -> None:
    synthetic, real = real_and_synthetic(faces)
    make = {"batch": batch, "steps_per_epoch": 3, "seed": 5, "validation_pairs": 8}
    data = PairsData(synthetic, **make, real=real, real_share=share)
    for one in data.train_dataloader():
        dark = one.source.amax((1, 2, 3)) < 0.25
        assert dark.tolist() == [False] * (batch - count) + [True] * count
        assert torch.equal(dark, one.target.amax((1, 2, 3)) < 0.25)
    held = list(data.val_dataloader())
    assert sum(len(part.source) for part in held) == 8
    again = PairsData(synthetic, **make, real=real, real_share=share)
    for one, other in zip(data.train_dataloader(), again.train_dataloader(), strict=True):
        same(one, other)


def test_real_pairs_are_of_people_to_train_on_and_of_one_size(faces: Faces) -> None:
    synthetic, real = real_and_synthetic(faces)
    keep = real.split == "train"
    with pytest.raises(UserError, match="no pair"):
        PairsData(synthetic, batch=4, steps_per_epoch=1, seed=0, real=real.select(keep))
    small = replace(real, image=real.image[..., ::2, ::2])
    with pytest.raises(UserError, match=r"generator\.real: its images have 32 pixels a side, those of data 64"):
        PairsData(synthetic, batch=4, steps_per_epoch=1, seed=0, real=small)
    with pytest.raises(UserError, match=r"generator\.batch=1"):
        PairsData(synthetic, batch=1, steps_per_epoch=1, seed=0, real=real)


def test_batches_without_real_pairs_are_those_of_before(faces: Faces) -> None:
    """The draws that the cycle's figures were made with: pairs, then mirrored ones, from [seed, step]."""
    train, validation = Pairs(faces.where(split="train")), Pairs(faces.where(split="validation"))
    data = PairsData(faces, batch=4, steps_per_epoch=2, seed=5, validation_pairs=8)
    for step, batch in enumerate(data.train_dataloader()):
        generator = np.random.default_rng([5, step])
        drawn = train.batch(*train.draw(4, generator))
        same(batch, flip(drawn, torch.from_numpy(generator.random(4) < 0.5)))
    (held,) = data.val_dataloader()
    same(held, validation.batch(*validation.draw(8, np.random.default_rng([5, 1]))))


def test_other_colours_are_the_same_for_source_and_target(faces: Faces) -> None:
    plain, other = (
        next(iter(PairsData(faces, batch=64, steps_per_epoch=1, seed=5, augment=share).train_dataloader()))
        for share in (0.0, 0.5)
    )
    changed = (plain.source != other.source).flatten(1).any(dim=1)
    assert 16 < changed.sum() < 48
    assert torch.equal(changed, (plain.target != other.target).flatten(1).any(dim=1))
    assert torch.equal(plain.landmarks, other.landmarks) and torch.equal(plain.source_motion, other.source_motion)
    assert other.source.min() >= 0 and other.source.max() <= 1
    same_colour = (plain.source - plain.target).abs().amax(dim=1) == 0
    assert ((other.source - other.target).abs().amax(dim=1)[same_colour] == 0).all()


@pytest.mark.parametrize("chosen", [[], [2], [0, 1, 2, 3]])
def test_the_chosen_pairs_alone_have_other_colours_and_both_frames_the_same(faces: Faces, chosen: list[int]) -> None:
    pairs = Pairs(faces)
    batch = pairs.batch(*pairs.draw(4, np.random.default_rng(0)))
    batch = batch._replace(target=batch.source)
    picked = torch.zeros(4, dtype=torch.bool)
    picked[chosen] = True
    found = recolour(batch, picked, np.random.default_rng(1))
    assert torch.equal(found.source, found.target) and found.source.min() >= 0 and found.source.max() <= 1
    assert torch.equal((found.source != batch.source).flatten(1).any(1), picked)
