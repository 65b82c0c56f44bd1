"""Whole photographs to train and calibrate verdicts on."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_media import shared

from detection.examine_views import inner_square
from scripts import examine_photos
from scripts.calibrate import LOOK_EVERY, photo_rows
from scripts.examine_faces import FaceSource
from scripts.examine_photos import CONDITIONS, VISIBLE, Photograph, PhotographsConfig, photographs

CONFIG = PhotographsConfig(
    train=1, validation=1, test=0, london=False, expressions=1, train_expressions=2, conditions=1
)


def made(folder: Path, workers: int) -> tuple[Path, list[Photograph]]:
    shared("weights/mediapipe/face_landmarker.task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine_photos, "cache_folder", lambda: folder)
        return photographs(CONFIG, workers=workers)


def test_rows_show_the_inner_face_where_it_was_changed(tmp_path: Path) -> None:
    """Under the mask a forgery differs from its real photograph, elsewhere only by what the file format does."""
    where, index = made(tmp_path, 1)
    with FaceSource(LOOK_EVERY) as finder:
        rows = list(photo_rows(where, index, finder, 256, lambda done, total: None))
    assert len(rows) == len(index) and {row["split"] for row in rows} == {"train", "validation"}
    real = {row["clip"]: pixels(row["image"]) for row in rows if not row["label"]}
    assert {image.shape for image in real.values()} == {(inner_square(256)[2],) * 2 + (3,)}
    inside, outside = [], []
    for row in (row for row in rows if row["label"]):
        assert row["source"] == {"clip": row["clip"], "frame": row["frame"]}
        changed = np.abs(pixels(row["image"]).astype(int) - real[row["clip"]]).max(-1)
        mask = pixels(row["mask"])
        inside.append(changed[mask > 250].mean())
        outside.append(changed[mask == 0].mean())
    assert np.mean(inside) > 2.5 * np.mean(outside)


def pixels(image: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image["bytes"])))


def test_files_pairs_and_conditions_are_as_planned_whatever_the_number_of_processes(tmp_path: Path) -> None:
    (where, index), (again, other) = made(tmp_path / "one", 1), made(tmp_path / "two", 2)
    assert index == other and index
    for path in (path for path in where.rglob("*") if path.is_file()):
        theirs = again / path.relative_to(where)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(theirs.read_bytes()).digest(), path
    for split, photos, conditions in (("train", 2, 1), ("validation", 1, len(CONDITIONS))):
        real = [item for item in index if item.split == split and not item.label]
        assert len(real) == photos * conditions and {item.source for item in real} == {""}
    files = {item.file: item for item in index}
    forged = [item for item in index if item.label]
    assert forged and all(item.visible >= VISIBLE for item in forged)
    for item in forged:
        source = files[item.source]
        assert (source.label, source.identity, source.condition) == (0, item.identity, item.condition)
        assert np.asarray(Image.open(where / item.mask)).max() > 127
