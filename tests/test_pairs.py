from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from generation.motion import ACTIONS
from generation.pairs import Batch, Pairs, PairsData, check_splits, flip
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
