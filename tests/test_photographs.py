"""Whole photographs to train and calibrate verdicts on."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_media import shared

from detection.examine_views import inner_square
from generation.faces.expressions import SIX_EMOTIONS, settled
from generation.records import SPLITS, UserError, row, write
from scripts import examine_photos, examine_rows
from scripts.bench import Recipe
from scripts.examine_photos import CONDITIONS, VISIBLE, Photograph, PhotographsConfig, photographs, ways_to_forge
from scripts.examine_rows import photo_rows
from scripts.train_ensemble import TrainEnsembleConfig, _faces, _trained_on

CONFIG = PhotographsConfig(
    train=1, validation=1, test=0, london=False, expressions=1, train_expressions=2, conditions=3
)


def made(folder: Path, workers: int, splits: Sequence[str] = SPLITS) -> tuple[Path, list[Photograph]]:
    shared("weights/mediapipe/face_landmarker.task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine_photos, "cache_folder", lambda: folder)
        return photographs(CONFIG, workers=workers, splits=splits)


def test_rows_show_the_inner_face_where_it_was_changed(tmp_path: Path) -> None:
    """Under the mask a forgery differs from its real photograph, elsewhere only by what the file format does."""
    where, index = made(tmp_path, 1)
    rows = list(photo_rows(where, index, 256, lambda done, total: None))
    assert len(rows) == len(index) and {one["split"] for one in rows} == {"train", "validation"}
    real = {one["clip"]: pixels(one["image"]) for one in rows if not one["label"]}
    assert {image.shape for image in real.values()} == {(inner_square(256)[2],) * 2 + (3,)}
    inside, outside = [], []
    for forged in (one for one in rows if one["label"]):
        assert forged["source"] == {"clip": forged["clip"], "frame": forged["frame"]}
        changed = np.abs(pixels(forged["image"]).astype(int) - real[forged["clip"]]).max(-1)
        mask = pixels(forged["mask"])
        inside.append(changed[mask > 250].mean())
        outside.append(changed[mask == 0].mean())
    assert np.mean(inside) > 2.5 * np.mean(outside)


def test_rows_and_their_order_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, index = made(tmp_path, 1, ("train",))
    monkeypatch.setattr(examine_rows, "_AT_ONCE", 1)
    seen: list[tuple[int, int]] = []
    one, two = (
        [(row["clip"], row["method"], row["image"]["bytes"]) for row in photo_rows(where, index, 256, bar, workers)]
        for workers, bar in ((1, lambda done, total: None), (2, lambda done, total: seen.append((done, total))))
    )
    assert one == two and len(one) == len(index)
    assert seen == [(done + 1, 6) for done in range(6)]


def test_an_ensemble_is_trained_on_synthetic_people_and_on_those_of_london_apart(tmp_path: Path) -> None:
    """Pools of forgeries by where people are from, all splits of them, in memory that is shared with what was read."""
    rows = [
        row(
            np.full((16, 16, 3), shade, np.uint8), clip=f"{name}-{kind}", frame=0, identity=name, scene="jpeg_85",
            expression=np.zeros(52), pose=np.zeros(6), landmarks=np.zeros((68, 2)), split=split,
            origin=f"invented {name[:3]}", seed=0,
            **({"mask": np.full((16, 16), 255, np.uint8), "method": "warp"} if kind else {}),
        )
        for shade, (name, split) in enumerate(
            [("synthetic-0001", "train"), ("london-001", "train"), ("synthetic-0002", "validation"),
             ("london-002", "validation"), ("synthetic-0003", "train")]
        )
        for kind in (0, 1, 1)
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"london_share=1\.5: must be between 0 and 1"):
        TrainEnsembleConfig({"one": Recipe()}, london_share=1.5)
    with pytest.raises(UserError, match="none is left to judge"):
        TrainEnsembleConfig({"one": Recipe(begins_with="other"), "other": Recipe(begins_with="one")})
    stages = {"first": Recipe(), "one": Recipe(begins_with="first"), "other": Recipe(begins_with="first")}
    assert TrainEnsembleConfig(stages).judging == ("one", "other")
    write(tmp_path / "inner-faces-16", rows)
    real, pools = _faces(tmp_path, [], 16)
    assert len(real) == 5 and not real.label.any()
    assert {name: sorted(set(pool.identity.tolist())) for name, pool in pools.items()} == {
        "london": ["london-001", "london-002"],
        "synthetic": ["synthetic-0001", "synthetic-0002", "synthetic-0003"],
    }
    storage = real.image.untyped_storage().data_ptr()
    for pool in pools.values():
        assert pool.label.all() and pool.image.untyped_storage().data_ptr() == storage
        for split in ("train", "validation"):
            assert len(pool.where(split, 1)) == 2 * len(set(pool.where(split, 1).identity.tolist()))


def pixels(image: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image["bytes"])))


def test_files_pairs_and_conditions_are_as_planned_whatever_the_number_of_processes(tmp_path: Path) -> None:
    (where, index), (again, other) = made(tmp_path / "one", 1), made(tmp_path / "two", 2)
    assert index == other and index
    for path in (path for path in where.rglob("*") if path.is_file()):
        theirs = again / path.relative_to(where)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(theirs.read_bytes()).digest(), path
    for split, photos, conditions in (("train", 2, 3), ("validation", 1, len(CONDITIONS))):
        here = [item for item in index if item.split == split]
        real = [item for item in here if not item.label]
        assert len(real) == photos * conditions and {item.source for item in real} == {""}
        times = set(Counter(item.mask for item in here if item.label).values())
        assert times == {1 if split == "train" else conditions}
    files = {item.file: item for item in index}
    forged = [item for item in index if item.label]
    assert forged and all(item.visible >= VISIBLE for item in forged)
    for item in forged:
        source = files[item.source]
        assert (source.label, source.identity, source.condition) == (0, item.identity, item.condition)
        assert np.asarray(Image.open(where / item.mask)).max() > 127


def test_people_of_a_split_are_the_same_without_the_others(tmp_path: Path) -> None:
    where, some = made(tmp_path, 1, ("validation",))
    assert some and not (where / "train").exists()
    again, everything = made(tmp_path, 1)
    assert again == where and some == [item for item in everything if item.split == "validation"]


def test_checkpoints_are_chosen_on_every_condition_and_few_people() -> None:
    seen = [
        Photograph("", split, f"{place}-{number:03d}", 0, "", condition, "", "", "", 0.0)
        for split in SPLITS for place in ("synthetic", "london") for number in range(100, 160)
        for condition in CONDITIONS
    ]  # fmt: skip
    chosen = [item for item in seen if _trained_on(item)]
    held = [item for item in chosen if item.split == "validation"]
    assert [item for item in chosen if item.split == "train"] == [item for item in seen if item.split == "train"]
    assert {item.split for item in chosen} == {"train", "validation"}
    assert {item.condition for item in held} == set(CONDITIONS)
    assert set(Counter(item.identity for item in held).values()) == {1} and len(held) == 40


def test_every_split_is_forged_in_ways_of_its_own() -> None:
    """No reenactor of one size is asked for the same strength in two splits. Of expressions, training and validation
    share a kiss at full strength, and the test split none."""
    ways = {split: ways_to_forge(split) for split in SPLITS}
    asked = {
        split: {tuple(expression) for way in found for expression in way.bank if expression.any()}
        for split, found in ways.items()
    }
    for one, other in combinations(SPLITS, 2):
        assert len(asked[one] & asked[other]) <= ("test" not in (one, other))
        for here in ways[one]:
            for there in ways[other]:
                if (here.name, here.redrawer.size) == (there.name, there.redrawer.size):
                    assert here.strengths[1] <= there.strengths[0]
    assert 64 in {way.redrawer.size for way in ways["test"] if way.name == "warp"}
    assert all(way.redrawer.size > 64 for split in ("train", "validation") for way in ways[split])


def test_a_seventh_of_what_training_asks_for_is_a_smile_that_no_other_split_asks_for() -> None:
    smile = settled(SIX_EMOTIONS["joy"])
    share = {split: {float((way.bank == smile).all(1).mean()) for way in ways_to_forge(split)} for split in SPLITS}
    assert share["validation"] == share["test"] == {0.0}
    assert [round(one, 2) for one in share["train"]] == [round(1 / 7, 2)]
