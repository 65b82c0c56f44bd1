"""The whole cycle, tiny and real: what it writes, that it repeats itself, and that kill -9 changes nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunHere
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from detection.cycle import CycleOptions
from generation.forge import forge
from generation.records import INFO, Faces, UserError, encode_png, load
from generation.reenactors import load_reenactor
from scripts.arms_race import ArmsRaceConfig, main
from scripts.door import configure
from scripts.red_team import shipped

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = [
    "generator.steps=12", "generator.steps_per_epoch=4", "generator.batch=4", "generator.fine_tune_steps=4",
    "generator.precision=32-true", "generator.judged=4", "cycle.rounds=2", "cycle.train_forgeries=24",
    "cycle.validation_forgeries=12", "cycle.test_forgeries=16", "cycle.detector_steps=10", "cycle.detector_batch=8",
    "cycle.resamples=50",
]  # fmt: skip
PHASES = ["train G0", "forge G0", "train D0", "train G1_plain", "forge G0_more1", "arena"]
"""One of each kind, in order."""


def command(records: Path, folder: Path, *more: str) -> list[str]:
    script = str(ROOT / "scripts" / "arms_race.py")
    return [sys.executable, script, f"data.records={records}", f"hydra.run.dir={folder}", *SETTINGS, *more]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "VICIOUS_CYCLE_CACHE": str(tmp_path / "cache")}


def run(records: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(records, folder, *more),
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env=environment(folder.parent),
    )


@pytest.fixture(scope="module")
def race(faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race") / "run"
    done = run(faces_folder, folder)
    assert done.returncode == 0, done.stderr
    return folder


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_the_summary_says_who_beats_whom(race: Path) -> None:
    found = summary(race)
    payoff = found["payoff"]
    assert payoff["metric"] == "auroc"
    assert payoff["reenactors"] == ["G0", "G1"] and payoff["detectors"] == ["D0", "D1", "W0"]
    matrix, low, high = (np.asarray(payoff[key]) for key in ("matrix", "low", "high"))
    assert matrix.shape == low.shape == high.shape == (2, 3)
    assert (low <= matrix).all() and (matrix <= high).all() and (low >= 0).all() and (high <= 1).all()
    assert sum(found["game"]["red"].values()) == pytest.approx(1) and abs(found["game"]["nash_conv"]) < 1e-9
    assert set(found["quality"]) == {"G0", "G1", "G1_plain"}
    for numbers in found["quality"].values():
        assert {"changed_l1_ratio", "psnr", "ssim", "aed"} <= set(numbers)
    assert found["controls"]["payoff"]["detectors"] == ["D0", "D1", "D1_extra", "W0"]
    assert set(PHASES) <= set(found["seconds"]) and {"config", "seed", "commit", "versions"} <= set(found)


def test_the_run_leaves_checkpoints_forgeries_and_a_marked_report(race: Path) -> None:
    for name in ("G0", "G1", "G1_plain"):
        assert load_file(race / "reenactors" / f"{name}.safetensors")
    for name in ("D0", "D1", "W0", "D1_extra"):
        assert "threshold" in json.loads((race / "detectors" / f"{name}.json").read_text())["meta"]
    page = (race / "report.html").read_text()
    assert "AI generated" in page or "AI GENERATED" in page
    assert (race / "payoff.png").read_bytes().startswith(b"\x89PNG")
    assert not list((race / "forgeries").glob("**/*.png"))


def test_every_round_forges_the_same_test_swaps(race: Path) -> None:
    first, *others = (load(race / "forgeries" / name, "test") for name in ("G0", "G1", "G1_plain"))
    for other in others:
        assert (first.source_clip == other.source_clip).all() and (first.driver_frame == other.driver_frame).all()
        assert (first.image != other.image).any()


def test_nothing_but_the_forged_region_tells_forged_from_real(race: Path, faces_folder: Path) -> None:
    """Outside the mask a forgery is its source, bit for bit; size and statement of origin are the same too."""
    real, forged = load(faces_folder), load(race / "forgeries" / "G0")
    rows = {key: i for i, key in enumerate(zip(real.clip, real.frame, strict=True))}
    sources = real.select([rows[key] for key in zip(forged.source_clip, forged.source_frame, strict=True)])
    outside = forged.mask == 0
    assert bool((forged.image == sources.image)[outside.expand(-1, 3, -1, -1)].all())
    assert forged.size == real.size and set(forged.origin) == set(real.origin)


def test_killed_in_every_kind_of_phase_it_ends_with_the_same_payoff(
    race: Path, faces_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for phase in PHASES:
        with subprocess.Popen(
            command(faces_folder, folder), cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True
        ) as started:
            assert started.stderr is not None
            for line in started.stderr:
                if line.startswith(f"{phase} ..."):
                    break
            else:
                pytest.fail(f"the run ended before {phase}")
            time.sleep(0.15)
            started.send_signal(signal.SIGKILL)
        assert not (folder / "summary.json").exists()
    done = run(faces_folder, folder)
    assert done.returncode == 0, done.stderr
    assert summary(folder)["payoff"] == summary(race)["payoff"]
    assert summary(folder)["quality"] == summary(race)["quality"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["cycle.round=3"], "cycle.round"),
        (["cycle.rounds=many"], "cycle.rounds=many"),
        (["cycle.disclosure=black_box"], "white_box, scores, decisions, none"),
        (["cycle.withheld=frequency"], "cycle.withheld"),
        (["cycle.disclosed=xceptoin"], "xceptoin"),
        (["generator.learning_rate=1e30"], "training stopped at step"),
        (["data.records=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    more: list[str], named: str, faces_folder: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    done = run_here(main, f"data.records={faces_folder}", "hydra.run.dir=run", *SETTINGS, *more)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1 and named in lines[0]
    assert "Traceback" not in done.stderr


ASKED = ["cycle.disclosure=scores", "cycle.queries=100", "generator.search.population=4", "generator.search.images=4"]


def test_a_red_team_that_may_only_ask_is_counted_and_controlled(
    faces_folder: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    done = run_here(main, f"data.records={faces_folder}", "hydra.run.dir=run", *SETTINGS, *ASKED)
    assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "run")
    assert found["queries"] == {"G1": 96}  # six generations of 16; 4 queries pay for nothing
    assert list(found["seconds"])[4:7] == ["train G1_plain", "forge G1_plain", "search G1"]
    assert found["controls"]["payoff"]["reenactors"] == ["G0", "G1", "G1_plain"]
    made, plain = (load_file(tmp_path / "run" / "reenactors" / f"{name}.safetensors") for name in ("G1", "G1_plain"))
    assert all(torch.equal(value, plain[key]) for key, value in made.items() if not key.endswith("bias"))
    assert "96 queries" in (tmp_path / "run" / "report.html").read_text()


def test_an_unfinished_set_of_faces_is_refused(faces_folder: Path, run_here: RunHere, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for path in faces_folder.glob("shard-*.parquet"):
        (half / path.name).write_bytes(path.read_bytes())
    done = run_here(main, "data.records=half", "hydra.run.dir=run")
    assert done.returncode == 2 and INFO in done.stderr


def test_ctrl_c_says_how_to_go_on(faces_folder: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command(faces_folder, tmp_path / "run", "generator.steps=4000"), cwd=tmp_path, env=environment(tmp_path),
        stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        assert started.stderr is not None
        for line in started.stderr:
            if line.startswith("train G0"):
                break
        time.sleep(1)
        started.send_signal(signal.SIGINT)
        rest = started.stderr.read()
    assert started.returncode == 130 and "hydra.run.dir=" in rest and "Traceback" not in rest


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0}, {"queries": 0}, {"pool": "best"}, {"withheld": "frequency"}, {"withheld": "external"},
        {"disclosed": "external"}, {"disclosed": "nobody"}, {"adversarial": 1.5},
    ],
)  # fmt: skip
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        CycleOptions(**wrong)


@pytest.mark.parametrize(("rounds", "least"), [(1, 320), (2, 320), (4, 960)])
def test_a_budget_that_pays_for_no_generation_is_named(rounds: int, least: int) -> None:
    cycle = {"disclosure": "scores", "rounds": rounds, "queries": least - 1}
    with pytest.raises(UserError, match=f"cycle.queries={least - 1}: one generation of the search asks {least} "):
        configure(ArmsRaceConfig, {"cycle": cycle})
    configure(ArmsRaceConfig, {"cycle": cycle | {"queries": least}})
    configure(ArmsRaceConfig, {"cycle": cycle | {"disclosure": "white_box"}})


def test_a_linear_model_on_all_but_the_picture_is_at_chance(faces: Faces, tmp_path: Path) -> None:
    """Bytes of the file, its format and what stands in its header, mean colour, place among the rows: none may tell a
    forgery of the shipped reenactor from its source."""
    reenactor, _ = load_reenactor(shipped("warp_64"))
    everyone = replace(faces, split=np.full(len(faces), "test"))
    forge(reenactor, everyone, tmp_path, {"test": 240}, seed=0, method="warp", round=0, made_by={})
    forged = load(tmp_path)
    ids = {key: i for i, key in enumerate(zip(faces.clip, faces.frame, strict=True))}
    sources = faces.select([ids[key] for key in zip(forged.source_clip, forged.source_frame, strict=True)])
    both = Faces.concatenate([sources, forged])
    features = []
    for row, image in enumerate(both.image.permute(0, 2, 3, 1).numpy()):
        content = encode_png(image)
        header = Image.open(io.BytesIO(content))
        shape = [*header.size, len(header.getbands()), len(header.info)]
        features.append([len(content), *shape, *image.mean((0, 1)), row % len(sources)])
    label = np.repeat([0, 1], len(sources))
    model = make_pipeline(StandardScaler(), LogisticRegression())
    guesses = cross_val_predict(model, features, label, groups=both.identity, cv=GroupKFold(5), method="predict_proba")
    assert 0.4 <= roc_auc_score(label, guesses[:, 1]) <= 0.6
