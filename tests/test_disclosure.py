"""The study of disclosure: every way of disclosing a detector, tiny and real."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunHere
from PIL import Image

from detection.pictures import pareto_picture
from generation.records import UserError
from scripts.disclosure import DisclosureConfig, main
from scripts.door import configure

SETTINGS = [
    "generator.fine_tune_steps=2", "generator.steps_per_epoch=2", "generator.batch=4", "generator.precision=32-true",
    "generator.search.population=4", "generator.search.images=4", "study.evasion=[0.03]", "study.queries=[40]",
    "study.judged=0", "cycle.train_forgeries=16", "cycle.validation_forgeries=8", "cycle.test_forgeries=8",
    "cycle.detector_steps=5", "cycle.detector_batch=8", "cycle.resamples=20",
]  # fmt: skip
NAMES = ["G0", "G1_plain", "white_box_0.03", "scores_40", "decisions_40", "G0_blur"]


def test_every_disclosure_starts_from_one_g0(
    faces_folder: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    done = run_here(main, f"data.records={faces_folder}", "hydra.run.dir=run", *SETTINGS)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "summary.json").read_text())["disclosures"]
    assert list(found) == NAMES
    assert [found[name]["queries"] for name in NAMES] == [0, 0, 0, 32, 32, 0]
    for one in found.values():
        assert 0 <= one["auroc_D0"] <= 1 and 0 <= one["passed_D0"] <= 1 and one["quality"]["changed_l1_ratio"] > 0
    starts = {
        name: json.loads((folder / "reenactors" / f"{name}.json").read_text())["meta"]["start"] for name in NAMES[1:-1]
    }
    assert starts == {
        "G1_plain": "G0.safetensors", "white_box_0.03": "G0.safetensors",
        "scores_40": "G1_plain.safetensors", "decisions_40": "G1_plain.safetensors",
    }  # fmt: skip
    assert all(name in done.stderr for name in NAMES)
    for name in ("pareto", *(f"samples_{name}" for name in NAMES[:-1])):
        Image.open(folder / f"{name}.png").verify()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"study": {"queries": [319]}}, r"study.queries=\[319\]: one generation of the search asks 320"),
        ({"study": {"evasion": [0.0]}}, "study.evasion"),
        ({"study": {"judged": -1}}, "study.judged=-1"),
        ({"cycle": {"queries": 50}}, "cycle.queries"),
        ({"cycle": {"disclosure": "scores"}}, "cycle.disclosure"),
        ({"cycle": {"rounds": 2}}, "cycle.rounds"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        configure(DisclosureConfig, wrong)


def test_the_pareto_picture_shows_every_point_that_has_numbers() -> None:
    points = {"G0": (0.01, 0.8, 0.05), "G1": (0.8, None, 0.06), "G1_plain": (0.02, 0.79, None)}
    kinds = {"G0": "G0", "G1": "white_box", "G1_plain": "control"}
    content = pareto_picture(points, kinds, "D0")
    assert content == pareto_picture(points, kinds, "D0")
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    colours = {(31, 119, 180): 2, (255, 127, 14): 1, (44, 160, 44): 1}  # of tab10, and in how many panels
    middle = picture.shape[1] // 2
    for colour, panels in colours.items():
        seen = [(np.abs(half - colour).max(2) < 3).any() for half in (picture[:, :middle], picture[:, middle:])]
        assert sum(map(bool, seen)) == panels
    pareto_picture({"G0": (0.01, None, None)}, {"G0": "G0"}, "D0")
