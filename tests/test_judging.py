"""The commands that say how good a reenactor is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from conftest import RunHere
from real_media import shared

from generation.records import Faces, UserError, load
from generation.reenactors import load_reenactor
from scripts import clip_quality
from scripts.judge_reenactor import JudgeReenactorConfig, main
from scripts.quality import judged_quality
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig, shipped
from scripts.trainer import TrainerConfig

ASKED = {
    "changed_l1_ratio", "psnr", "psnr_face", "psnr_changed", "ssim", "ssim_face", "l1", "l1_face", "aed", "aed_copy",
    "aed_truth", "akd_256", "akd_iod", "apd", "csim", "csim_ceiling", "background_l1", "jitter", "jitter_target",
    "lpips", "unread", "judges",
}  # fmt: skip
CLIPS = {"jitter", "jitter_target", "jitter_copy", "clip_aed"}


def test_forgeries_get_every_number_and_its_judge(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared("weights/mediapipe/face_landmarker.task")
    shared("weights/insightface_minipack/mobilefacenet.onnx")
    one = partial(clip_quality.synthetic_pairs, people=clip_quality.PEOPLE[:1])
    monkeypatch.setattr(clip_quality, "synthetic_pairs", one)
    checkpoint = shipped("warp_64")
    with RedTeam(faces, ReenactorConfig(), GeneratorConfig(), TrainerConfig(progress=False), seed=0) as red:
        red.forge(checkpoint, "G0", 0, {"test": 5}, 0, tmp_path / "forgeries")
        swapped = red.swapped(load(tmp_path / "forgeries"))
    found = judged_quality(load_reenactor(checkpoint)[0], swapped, 3, 0, tmp_path / "clip.png")
    assert set(found) >= ASKED
    assert {name for name in ASKED if found[name] is None} <= {"lpips"}
    assert (found["swaps"], found["judged"], found["clips"]) == (5, 3, 1)
    assert found["changed_l1_ratio"] < 0.6 and found["aed"] < found["aed_copy"]
    assert found["judges"].keys() >= ASKED - {"aed_copy", "unread", "judges", "jitter_target"}
    assert f"psnr_face: {found['psnr_face']}" in capsys.readouterr().err
    assert (tmp_path / "clip.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(found)


def test_a_shipped_reenactor_is_judged_on_records(faces_folder: Path, run_here: RunHere, tmp_path: Path) -> None:
    shared("weights/mediapipe/face_landmarker.task")
    shared("weights/insightface_minipack/mobilefacenet.onnx")
    done = run_here(main, "hydra.run.dir=run", "data=london", f"data.records={faces_folder}", "count=6", "shown=2")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["quality"]
    assert (found["swaps"], found["judged"]) == (6, 6)
    assert 0 < found["changed_l1_ratio"] < 0.6 and found["aed"] < found["aed_copy"] and found["akd_iod_copy"] > 0
    assert {found[name] for name in CLIPS} == {None} and "jitter is not judged" in done.stderr
    assert (tmp_path / "run" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "clip.png").exists()


@pytest.mark.parametrize(("key", "value"), [("count", 0), ("shown", 0), ("seed", -1)])
def test_bad_settings_are_named(key: str, value: int) -> None:
    with pytest.raises(UserError, match=f"^{key}={value}: must be at least"):
        JudgeReenactorConfig(**{key: value})
