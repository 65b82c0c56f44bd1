"""Whole photographs to train and calibrate verdicts on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_media import shared

from scripts import examine_photos
from scripts.examine_photos import CONDITIONS, VISIBLE, Photograph, PhotographsConfig, photographs

CONFIG = PhotographsConfig(
    train=1, validation=1, test=0, london=False, expressions=1, train_expressions=2, conditions=1
)


def made(folder: Path, workers: int) -> tuple[Path, list[Photograph]]:
    shared("weights/mediapipe/face_landmarker.task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine_photos, "cache_folder", lambda: folder)
        return photographs(CONFIG, workers=workers)


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
