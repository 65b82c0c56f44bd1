"""What calibrates an ensemble and tests it: photographs looked at by several processes, part by part."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from real_media import shared

from detection.detectors import build_detector, save_detector
from detection.examine import examine
from detection.examine_basis import load_ensemble
from detection.examine_container import jpeg_quality
from detection.metrics import cllr
from generation.records import UserError
from scripts import calibrate, examine_photos
from scripts.calibrate import (
    Judged,
    Judges,
    Looked,
    _by_parts,
    _figures,
    described,
    judge,
    look_at,
    some_conditions,
)
from scripts.examine_faces import FaceSource
from scripts.examine_photos import Photograph, PhotographsConfig, photographs
from scripts.examine_rows import LOOK_EVERY

WEIGHTS = Path(str(resources.files("detection") / "weights"))
CONFIG = PhotographsConfig(train=0, validation=0, test=2, london=False, expressions=1, forgeries=1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("weights/yunet", "weights/mediapipe", "weights/insightface_minipack"):
        shared(name)
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def made(kept: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Photograph]]:
    monkeypatch.setattr(examine_photos, "cache_folder", lambda: kept)
    where, index = photographs(CONFIG, workers=2, splits=("test",))
    return where, some_conditions(index, "test", 0)


def test_what_is_seen_does_not_depend_on_processes_and_is_kept(
    made: tuple[Path, list[Photograph]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, chosen = made
    monkeypatch.setattr(calibrate, "_AT_ONCE", 5)
    path = tmp_path / "one.safetensors"
    save_detector(path, build_detector("frequency", seed=1), "frequency", {}, {})
    given = (LOOK_EVERY, 128, Judges(path))
    alone, beside = (_by_parts("seen", look_at, where, chosen, given, tmp_path / str(n), n) for n in (1, 2))
    assert alone == beside and len(alone) == len(chosen) and any(alone)
    for row in alone:
        assert row is None or [len(part) for part in Looked(*row)[2:4]] == [1, 8]
    parts = sorted((tmp_path / "1").rglob("*.json"))
    assert len(parts) == -(-len(chosen) // 5)
    parts[0].unlink()
    before = {part: part.stat().st_mtime_ns for part in parts[1:]}
    assert _by_parts("seen", look_at, where, chosen, given, tmp_path / "1", 1) == alone
    assert parts[0].is_file() and before == {part: part.stat().st_mtime_ns for part in parts[1:]}


def test_an_ensemble_is_tested_with_the_verdicts_that_examine_gives(
    made: tuple[Path, list[Photograph]], tmp_path: Path
) -> None:
    where, chosen = made
    results = calibrate.tested(WEIGHTS, CONFIG, tmp_path, 2)
    ensemble, ratios = load_ensemble(WEIGHTS), []
    with FaceSource(LOOK_EVERY) as finder:
        for item in chosen[:3]:
            _, faces = examine(where / item.file, ensemble, finder, jpeg_quality(where / item.file))
            ratios.append(max(faces, key=lambda face: face.side).llr)
    rows = [row and Judged(*row) for row in _by_parts("test", judge, where, chosen[:3], (WEIGHTS,), tmp_path, 1)]
    assert any(ratio is not None for ratio in ratios)
    assert [row.llr if row and row.told else None for row in rows] == pytest.approx(ratios, abs=1e-5)
    found = results["test"]["outside the calibration set too"]
    assert found["people"] == 2 and found["real"] + found["forged"] + results["no_face"] == len(chosen)
    assert f"Cllr {found['cllr']:.3f}" in described(results)


def test_figures_are_those_of_their_rows() -> None:
    generator = np.random.default_rng(5)
    photo = Photograph("", "test", "", 0, "", "jpeg_95", "", "", "", 0.0)
    labels, ratios = np.arange(200) % 2, generator.normal(0, 1, 200) + np.arange(200) % 2 * 2 - 1
    rows = [
        (
            replace(photo, identity=f"p{n // 10}", label=int(label)),
            Judged(200, "clear", ratio, True),
        )
        for n, (label, ratio) in enumerate(zip(labels, ratios.tolist(), strict=True))
    ]
    found = _figures(rows)
    low, high = found["cllr_interval"]
    assert found["cllr"] == pytest.approx(cllr(labels, ratios), abs=1e-4) and low < found["cllr"] < high
    assert found["real_above_0"] == np.mean(ratios[labels == 0] > 0) and found["people"] == 20
    assert _figures(rows[:10]) == {} and _figures(rows[::2]) == {}  # one person; one class


def dies(where: Path, items: list[Photograph]) -> list[None]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_a_killed_process_is_named_by_its_file(tmp_path: Path) -> None:
    photo = Photograph("a.jpg", "test", "one", 0, "", "jpeg_95", "", "", "", 0.0)
    with pytest.raises(UserError, match=r"seen: the process at .*a\.jpg was killed; the same command goes on"):
        _by_parts("seen", dies, tmp_path, [photo], (), tmp_path, 1)
