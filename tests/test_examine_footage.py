"""Clips of real people that verdicts on video are calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_media import shared

from generation.faces.media import Media
from generation.records import UserError
from scripts import examine_footage
from scripts.examine_footage import INDEX
from scripts.examine_photos import VISIBLE


def test_clips_are_forged_with_expressions_of_others_and_encoded_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared("weights/mediapipe/face_landmarker.task")
    clips = [shared(f"data/talking/{name}.mp4") for name in ("d0", "s29")]
    monkeypatch.setattr(examine_footage, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(examine_footage, "_clips", lambda: clips)
    monkeypatch.setattr(examine_footage, "FRAMES", 6)
    folder, index = examine_footage.talking_clips()
    real = {item.file: item for item in index if not item.label}
    forged = [item for item in index if item.label]
    assert [item.identity for item in real.values()] == ["talking-d0", "talking-s29"] and forged
    assert {item.split for item in index} == {"validation"} and all(item.visible >= VISIBLE for item in forged)
    for item in forged:
        source = real[item.source]
        assert (source.identity, source.condition) == (item.identity, item.condition)
        before, after = ([frame.image() for frame in Media(folder / file)] for file in (source.file, item.file))
        assert len(before) == len(after) == 6 and before[0].shape == after[0].shape
        assert np.mean([np.abs(a.astype(int) - b).max() for a, b in zip(before, after, strict=True)]) > 40
    (folder / INDEX).unlink()
    (folder / "clips" / "d0.json").unlink()
    assert examine_footage.talking_clips() == (folder, index)  # as after a stop: the clip that is missing is made again
    written = (folder / INDEX).stat().st_mtime_ns
    assert examine_footage.talking_clips() == (folder, index) and (folder / INDEX).stat().st_mtime_ns == written


def test_without_clips_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_footage, "shared_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="footage=true: needs data/talking in VICIOUS_CYCLE_SHARED; or footage=false"):
        examine_footage.talking_clips()
