"""Scores read and refused, the leaderboard against scikit-learn, conditions and attacks, the page and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import RunHere
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from detection import metrics
from detection.detectors import build_detector, save_detector
from detection.evaluate import AttackConfig, conditions, evaluate
from detection.evaluation_report import Evaluation, clip_by_clip, matrix, ranked, render
from detection.leaderboard import ALL, Calibration, calibrations, figures, leaderboard, write_leaderboard
from detection.scores import COLUMNS, checked_table, read_scores, write_scores
from detection.training import choose_threshold
from generation.faces.people import FacesConfig
from generation.records import Faces, UserError, row, write
from scripts.bench import Recipe, arms
from scripts.evaluate import main
from scripts.groups import groups_of


def some_scores(seed: int = 0, people: int = 12, frames: int = 6) -> pd.DataFrame:
    """Two detectors, two methods; the second detector is worse; validation and test people."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for frame in range(frames):
            for method in ("", "warp", "blend"):
                signal = {"": 0.0, "warp": 2.0, "blend": 1.0}[method] + rng.normal(0, 0.5)
                for detector, noise in (("good", 0.5), ("poor", 3.0)):
                    rows.append(
                        {
                            "detector": detector,
                            "data": "mine",
                            "method": method,
                            "clip": f"{method}{person}",
                            "frame": frame,
                            "identity": f"p{person}",
                            "split": "validation" if person < 3 else "test",
                            "label": int(bool(method)),
                            "score": 3 * signal - 2 + rng.normal(0, noise),
                        }
                    )
    return checked_table(pd.DataFrame(rows), "these")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    scores = some_scores()
    write_scores(tmp_path / f"a.{ending}", scores)
    again = read_scores(tmp_path / f"a.{ending}")
    assert list(again.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(again, scores)


def test_two_columns_are_enough(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,score\n0,-1.5\n1,2\n1,-0.5\n0,-3\n")
    scores = read_scores(tmp_path / "a.csv")
    assert scores["identity"].tolist() == ["0", "1", "2", "3"] and set(scores["split"]) == {"test"}
    (found,) = leaderboard(scores, resamples=50).rows
    assert (found["auroc"], found["n"], found["method"], found["level"]) == (1.0, 4, "forged", "frame")
    assert found["balanced_accuracy"] is None and found["ece_scaled"] is None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("label,score\n0,1\n1,nan\n", r"a\.csv, row 1: the score is NaN or infinite"),
        ("label,score\n0,1\n1,inf\n", r"a\.csv, row 1: the score is NaN"),
        ("label,score\nreal,1\nfake,2\n", r"a\.csv, row 0: label 'real' is no number; 0 \(real\) or 1"),
        ("label,score\n0,1\n2,2\n", r"a\.csv, row 1: label 2; 0"),
        ("label,score\n0,high\n1,2\n", r"row 0: score 'high'"),
        ("label\n0\n1\n", "lacks score"),
        ("label,score,colour\n0,1,red\n", "unknown columns colour"),
        ("clip,frame,label,score\na,0,0,1\na,0,0,2\nb,0,1,1\n", r"row 1: clip 'a', frame 0 .*already; 1 rows"),
        ("label,score,split\n0,1,train\n1,1,test\n", "row 0: split 'train'; test or validation"),
        ("label,score\n", "no rows"),
        ("", "cannot be read as csv"),
    ],
)
def test_scores_that_are_refused(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        read_scores(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "missing.csv"])
def test_files_that_are_no_scores(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("label,score\n0,1\n")
    with pytest.raises(UserError, match=re.escape(name)):
        read_scores(tmp_path / name)


def test_one_class_has_no_leaderboard() -> None:
    with pytest.raises(UserError, match="no forged faces in the test split"):
        leaderboard(checked_table(pd.DataFrame({"label": [0, 0], "score": [1.0, 2.0]}), "x"))


def test_rows_are_those_of_scikit_learn() -> None:
    scores = some_scores()
    found = leaderboard(scores, resamples=100)
    assert {(r["detector"], r["method"], r["level"]) for r in found.rows} == {
        (d, m, level) for d in ("good", "poor") for m in (ALL, "warp", "blend") for level in ("frame", "clip")
    }
    test = scores[scores["split"] == "test"]
    for row_ in found.rows:
        part = test[(test["detector"] == row_["detector"])]
        part = part[(part["label"] == 0) | (part["method"] == row_["method"]) | (row_["method"] == ALL)]
        if row_["level"] == "clip":
            part = part.groupby(["clip", "label"], as_index=False)["score"].mean()
        assert row_["auroc"] == pytest.approx(roc_auc_score(part["label"], part["score"]), abs=1e-12)
        assert row_["ap"] == pytest.approx(average_precision_score(part["label"], part["score"]), abs=1e-12)
        assert row_["n"] == len(part) and row_["low"] <= row_["auroc"] <= row_["high"]
    assert [row_["detector"] for row_ in ranked(found.rows, "mine")] == ["good", "poor"]
    (difference,) = found.differences
    assert difference["difference"] > 0.1 and difference["p_holm"] < 0.01
    assert any("fewer than ten people" in doubt for doubt in found.unreliable["good"])


def test_threshold_and_temperature_are_of_validation_people_alone() -> None:
    scores = some_scores()
    known = calibrations(scores)["good", "mine"]
    held = scores[(scores["split"] == "validation") & (scores["detector"] == "good")]
    assert known.threshold == choose_threshold(held["label"], held["score"])
    assert known.temperature == metrics.temperature(held["label"], held["score"])
    shuffled = scores.copy()
    there = shuffled["split"] == "test"
    shuffled.loc[there, "score"] = shuffled.loc[there, "score"].to_numpy()[::-1]
    assert calibrations(shuffled) == calibrations(scores)
    test = scores[(scores["split"] == "test") & (scores["detector"] == "good")]
    found = figures(test, Calibration(1.0, 4.0), resamples=0)
    truth, score = test["label"].to_numpy(), test["score"].to_numpy()
    assert found["balanced_accuracy"] == metrics.balanced_accuracy(truth, score, 1.0)
    assert found["cllr_scaled"] == pytest.approx(metrics.cllr(truth, score / 4)) and found["low"] is None


def test_groups_of_people_and_the_worst_of_them() -> None:
    scores = some_scores()
    sick = scores["identity"].isin(["p3", "p4", "p5"]) & (scores["detector"] == "good")
    scores.loc[sick, "score"] = -scores.loc[sick, "score"]
    groups = {"sick": lambda part: part["identity"].isin(["p3", "p4", "p5"]).to_numpy(),
              "well": lambda part: ~part["identity"].isin(["p3", "p4", "p5"]).to_numpy()}  # fmt: skip
    found = [g for g in leaderboard(scores, groups=groups, resamples=50).groups if g["detector"] == "good"]
    assert [g["name"] for g in found] == ["sick", "well"] and found[0]["value"] < 0.5 < found[1]["value"]
    assert found[0]["people"] == 3


def test_groups_of_synthetic_people_are_of_their_truth(faces: Faces) -> None:
    config = FacesConfig(size=64, seed=7, train=6, validation=2, test=3, scenes=1, expressions=6)
    groups = groups_of(config)
    rows = pd.DataFrame({"identity": faces.where(split="test").identity})
    skins = np.stack([groups[f"skin: {word}"](rows) for word in ("light", "medium", "dark")])
    assert (skins.sum(0) == 1).all() and skins.any(1).all(), "a third each"
    assert (groups["sex: female"](rows) != groups["sex: male"](rows)).all()
    assert (groups["glasses: yes"](rows) != groups["glasses: no"](rows)).all()


def test_a_blind_attack_that_does_more_harm_is_flagged() -> None:
    rows = []
    for attack, shift in (("", 0.0), ("pgd forged", 1.0), ("square forged", 5.0)):
        part = some_scores()
        part["attack"] = attack
        hit = (part["label"] == 1) & (part["split"] == "test") & (part["detector"] == "good")
        part.loc[hit, "score"] -= shift
        rows.append(part[(part["split"] == "test") | (attack == "")])
    found = leaderboard(pd.concat(rows), resamples=0)
    assert any("gradients are masked" in doubt for doubt in found.unreliable["good"])
    assert not any("gradients are masked" in doubt for doubt in found.unreliable["poor"])


def test_probabilities_are_noticed() -> None:
    scores = some_scores()
    scores["score"] = 1 / (1 + np.exp(-scores["score"]))
    assert any("probabilities" in doubt for doubt in leaderboard(scores, resamples=0).unreliable["good"])


class Counted(nn.Module):
    """Says how bright the mouth's half is; counts what it was asked."""

    def __init__(self, sign: float = 1.0, seen: bool = True) -> None:
        super().__init__()
        self.scale, self.seen, self.asked = nn.Parameter(torch.tensor(sign)), seen, 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        answer = self.scale * 20 * (images[:, :, images.shape[-1] // 2 :].mean((1, 2, 3)) - 0.4)
        return answer if self.seen else answer.detach()


def test_conditions_are_scored_once_and_taken_up(labelled: Faces, tmp_path: Path) -> None:
    wanted = conditions(["jpeg", "noise"], [1, 5], AttackConfig())
    assert [str(condition) for condition in wanted] == ["clean", "jpeg-1", "jpeg-5", "noise-1", "noise-5"]
    one, other = Counted(), Counted(-1.0)
    scores = evaluate({"one": one, "other": other}, {"set": labelled}, wanted, tmp_path, seed=3)
    test, held = (int((labelled.split == split).sum()) for split in ("test", "validation"))
    assert one.asked == other.asked == 5 * test + held and len(scores) == 2 * (5 * test + held)
    assert set(scores["split"]) == {"test", "validation"} and "train" not in set(scores["split"])
    again = evaluate({"one": one, "other": other}, {"set": labelled}, wanted, tmp_path, seed=3)
    assert one.asked == 5 * test + held
    pd.testing.assert_frame_equal(again, scores)
    (tmp_path / "scores" / "set" / "one" / "noise-5.parquet").unlink()
    again = evaluate({"one": one, "other": other}, {"set": labelled}, wanted, tmp_path, seed=3)
    assert one.asked == 6 * test + held and other.asked == 5 * test + held
    pd.testing.assert_frame_equal(again, scores)
    checked_table(scores.copy(), "scores")
    by = scores.groupby(["detector", "degradation", "severity"])["score"].apply(list)
    assert by["one", "noise", 5] != by["one", "noise", 1]


@pytest.mark.parametrize("target", ["forged", "real"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "eot", "patch"])
def test_attacks_move_the_attacked_class_alone(labelled: Faces, tmp_path: Path, name: str, target: str) -> None:
    attacks = AttackConfig((name,), (target,), faces=6, steps=4, queries=30, radius=8 / 255)  # type: ignore[arg-type]
    wanted = conditions([], [], attacks)
    scores = evaluate({"one": Counted()}, {"set": labelled}, wanted, tmp_path, attacks=attacks)
    keys = ["clip", "frame", "label"]
    clean = scores[scores["attack"] == ""].set_index(keys)["score"]
    hit = scores[scores["attack"] == f"{name} {target}"]
    assert len(hit) == 12 and hit["label"].sum() == 6
    moved = hit.set_index(keys)["score"] - clean.reindex(pd.MultiIndex.from_frame(hit[keys]))
    attacked, other = (
        moved[moved.index.get_level_values("label") == kind] for kind in ((1, 0) if target == "forged" else (0, 1))
    )
    assert np.allclose(other, 0, atol=1e-5)
    assert ((attacked if target == "real" else -attacked) > -0.05).all() and abs(attacked).mean() > 0.05


def test_a_detector_without_gradients_is_attacked_blindly_alone(labelled: Faces, tmp_path: Path) -> None:
    attacks = AttackConfig(("pgd", "square"), ("forged",), faces=4, steps=2, queries=5)
    scores = evaluate(
        {"one": Counted(seen=False)}, {"set": labelled}, conditions([], [], attacks), tmp_path, attacks=attacks
    )
    assert set(scores["attack"]) == {"", "square forged"}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: conditions(["fog"], [1], AttackConfig()), "no degradation 'fog'"),
        (lambda: conditions(["jpeg"], [6], AttackConfig()), "severities"),
        (lambda: AttackConfig(("magic",)), "no attack 'magic'"),
        (lambda: AttackConfig(("square",), norm="l2"), "square attack is for linf"),
        (lambda: AttackConfig(radius=0), r"attacks\.radius=0"),
        (lambda: arms({"a": Recipe(protocols=("leave_one_out",))}, ("warp",)), "needs two forgers"),
    ],
)
def test_what_cannot_be_asked_for(make: object, named: str) -> None:
    with pytest.raises(UserError, match=named):
        make()  # type: ignore[operator]


def a_page(scores: pd.DataFrame) -> Evaluation:
    found = leaderboard(scores, resamples=20)
    return Evaluation("A <page>", "2026-01-01", "abc", 0, scores, found, {"good": {"images": 500}})


def test_the_page_has_every_number_and_nothing_from_outside(tmp_path: Path) -> None:
    parts = [some_scores()]
    for severity in (1, 3):
        part = some_scores(severity)
        part["degradation"], part["severity"] = "jpeg", severity
        parts.append(part[part["split"] == "test"])
    page = a_page(pd.concat(parts, ignore_index=True))
    html = render(page)
    assert html == render(page) and "A &lt;page&gt;" in html and "<script" not in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    detectors, methods, cells = matrix(page.found.rows, "mine")
    assert (detectors, methods) == (["good", "poor"], ["warp", "blend"])
    for cell in cells.values():
        assert f"{cell['auroc']:.3f}" in html
    clean = page.scores[(page.scores["split"] == "test") & (page.scores["degradation"] == "")]
    shown = clip_by_clip(clean, ["poor", "good"])
    assert len(shown) == 27 and [one["label"] for one in shown] == [1] * 18 + [0] * 9
    one = clean[(clean["clip"] == shown[0]["clip"]) & (clean["detector"] == "good")]
    assert shown[0]["scores"][1] == pytest.approx(one["score"].mean()) and shown[0]["clip"] in html
    write_leaderboard(tmp_path, page.found, page.about, "abc")
    kept = json.loads((tmp_path / "good.json").read_text())
    assert kept["about"] == {"images": 500} and kept["commit"] == "abc" and kept["unreliable"] is True
    assert kept["rows"] == [one for one in page.found.rows if one["detector"] == "good"]


def test_the_command_from_scores_alone(run_here: RunHere, tmp_path: Path) -> None:
    write_scores(tmp_path / "mine.csv", some_scores())
    done = run_here(main, "hydra.run.dir=run", "scores=mine.csv", "resamples=20")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["leaderboard"]) == 12 and (tmp_path / "run" / "report.html").is_file()
    assert {"detector", "data", "method", "degradation", "severity", "attack", "level", "n", "auroc", "low", "high",
            "ap", "eer", "tpr1", "tpr01", "ece", "cllr", "cllr_min"} <= set(summary["leaderboard"][0])  # fmt: skip
    done = run_here(main, "hydra.run.dir=none")
    assert done.returncode == 2 and "nothing to evaluate" in done.stderr and "Traceback" not in done.stderr


def test_the_command_on_records_with_a_detector(labelled: Faces, run_here: RunHere, tmp_path: Path) -> None:
    write(tmp_path / "set", (
        row(
            labelled.image[i].permute(1, 2, 0).numpy(), clip=str(labelled.clip[i]), frame=int(labelled.frame[i]),
            identity=str(labelled.identity[i]), scene="", expression=labelled.expression[i].numpy(),
            pose=labelled.pose[i].numpy(), landmarks=labelled.landmarks[i].numpy(), split=str(labelled.split[i]),
            origin="", seed=0, method=str(labelled.method[i]),
        )
        for i in range(len(labelled))
    ))  # fmt: skip
    save_detector(tmp_path / "D", build_detector("localizer", {"widths": [8, 8]}), "localizer", {"widths": [8, 8]}, {})
    done = run_here(
        main, "hydra.run.dir=run", "sets.mine=set", "detectors.D=D.safetensors",
        "degradations=[blur]", "severities=[2]", "resamples=20", "trainer.progress=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {(r["degradation"], r["severity"]) for r in summary["leaderboard"]} == {("", 0), ("blur", 2)}
    html = (tmp_path / "run" / "report.html").read_text()
    assert "Heat maps on mine" in html and "Worst errors on mine" in html
