"""Squares and crops: against the crop of the London photos, scikit-image, and readings of the other crop."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from real_media import shared

from generation.faces.alignment import (
    EYE_DISTANCE,
    EYE_HEIGHT,
    Square,
    bench_square,
    face_crop,
    fitted_square,
    moved,
    steady_squares,
)
from generation.faces.identities import link, split_people
from generation.faces.landmarks import FaceReader
from generation.records import SPLITS

POINTS = np.array([(200.0, 210.0), (270.0, 220.0), (230.0, 250.0), (200.0, 290.0), (255.0, 298.0)])


def test_inside_and_outside_undo_each_other() -> None:
    square = Square(120.0, 80.0, 60.0, 0.3)
    inside = square.inside(POINTS, 64)
    assert np.allclose(square.outside(inside, 64), POINTS)
    assert np.allclose(square.inside(np.array([120.0, 80.0]), 64), 32)
    along = np.array([np.cos(0.3), np.sin(0.3)])  # turned clockwise: its upper edge falls to the right
    assert np.allclose(square.inside((120, 80) + 30 * along, 64), (64, 32))


@pytest.mark.parametrize("size", [32, 64, 200])
@pytest.mark.parametrize("eyes", [[(150.0, 140.0), (195.0, 170.0)], [(90.0, 150.0), (330.0, 120.0)]])
def test_the_crop_is_that_of_the_london_photos(size: int, eyes: list[tuple[float, float]]) -> None:
    y, x = np.mgrid[:300, :400]
    waves = 127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 11)
    image = np.stack([waves, waves.T[:1].T + 0 * waves, 255 - waves], -1).round().clip(0, 255).astype(np.uint8)
    places = np.array([(0.5 - EYE_DISTANCE / 2, EYE_HEIGHT), (0.5 + EYE_DISTANCE / 2, EYE_HEIGHT)]) * size
    square = fitted_square(np.array(eyes), places, size)
    difference = np.abs(square.crop(image, size).astype(float) - face_crop(image, np.array(eyes), size))
    assert difference.mean() < 0.4 and difference.max() <= 3


def test_a_fitted_square_is_the_similarity_of_scikit_image() -> None:
    from skimage.transform import SimilarityTransform

    wanted = POINTS[:, ::-1] * 0.4 + np.random.default_rng(0).normal(0, 3, POINTS.shape)
    ours = fitted_square(POINTS, wanted, 96).matrix(96)
    assert np.allclose(ours, SimilarityTransform.from_estimate(POINTS, wanted).params[:2])


def test_steady_squares_of_a_face_at_rest_have_the_eyes_in_place() -> None:
    (square,) = steady_squares(POINTS[None], np.zeros(1))
    assert np.allclose(square.inside(POINTS[:2].mean(0), 1), (0.5, EYE_HEIGHT))
    assert square.angle == pytest.approx(np.arctan2(10, 70))
    profile = POINTS.copy()
    profile[1] = profile[0] + (12, 1)
    (turned,) = steady_squares(profile[None], np.zeros(1))
    assert turned.side > 0.7 * square.side, "a face that turns does not come nearer"


def test_steady_squares_calm_a_tremble_and_follow_a_walk() -> None:
    seconds = np.sort(np.random.default_rng(0).uniform(0, 6, 200))
    tremble = np.random.default_rng(1).normal(0, 3, (200, 1, 2))
    walk = np.stack([40 * seconds, 0 * seconds], 1)[:, None]
    squares = steady_squares(POINTS + tremble + walk, seconds)
    path = np.array([(square.x, square.y) for square in squares])
    (start,) = steady_squares(POINTS[None], np.zeros(1))
    away = path - (start.x, start.y) - walk[:, 0]
    assert np.abs(away).max() < 3 and np.abs(away[20:-20]).std() < 1
    assert np.ptp([square.side for square in squares]) < 0.05 * start.side


def test_a_reading_moves_with_its_square() -> None:
    model = shared("weights/mediapipe/face_landmarker.task")
    with Image.open(shared("data/london/014_smiling.jpg")) as photo:
        image = np.asarray(photo.convert("RGB"))
    with FaceReader(model) as reader:
        whole = reader.read(image)
        assert whole is not None
        one = Square(256, 256, 400, 0.0)
        for other in (bench_square(whole.landmarks), Square(230, 270, 330, 0.25)):
            read, direct = reader.read(one.crop(image, 256)), reader.read(other.crop(image, 256))
            assert read is not None and direct is not None
            through = moved(read, one, 256, other, 256)
            assert np.abs(through.landmarks - direct.landmarks).mean() < 1.5
            assert np.abs(through.pose - direct.pose).max() < 0.05
            assert (through.expression == read.expression).all()


def test_people_are_told_apart_by_the_mean_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(5, 64))
    owners = rng.integers(5, size=40)
    clips = people[owners] + rng.normal(0, 0.4, (40, 64))
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    found = link(clips)
    order = list(dict.fromkeys(owners.tolist()))
    assert found == [order.index(owner) for owner in owners]
    assert link([]) == [] and link(clips[:1]) == [0]


@pytest.mark.parametrize(
    ("count", "shares", "sizes"),
    [
        (20, (0.6, 0.15, 0.25), (12, 3, 5)),
        (3, (0.6, 0.15, 0.25), (1, 1, 1)),
        (4, (0.9, 0.05, 0.05), (2, 1, 1)),
        (2, (0.6, 0.15, 0.25), (1, 0, 1)),
        (7, (0, 0, 1), (0, 0, 7)),
        (0, (0.6, 0.15, 0.25), (0, 0, 0)),
    ],
)
def test_splits_by_share(count: int, shares: tuple[float, ...], sizes: tuple[int, ...]) -> None:
    people = [f"person-{index}" for index in range(count)]
    splits = split_people(people, shares, seed=0)
    assert set(splits) == set(people) and splits == split_people(people, shares, seed=0)
    assert tuple(list(splits.values()).count(split) for split in SPLITS) == sizes
    if count == 20:
        assert splits != split_people(people, shares, seed=1)
