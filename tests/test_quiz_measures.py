"""What the quiz measures: figures against reference implementations, and many people's results pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm
from sklearn.metrics import brier_score_loss

from detection.quiz_analysis import BLOCKS, FORGED, SCHEMA, VERSION, analyse, read_results
from detection.quiz_measures import bootstrap_mean, calibration_curve, figures, wilson
from generation.records import UserError


def drawn(seed: int, count: int = 16, tenths: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(count) % 2)
    answers = rng.integers(0, 11, count) / 10 if tenths else rng.uniform(0, 1, count)
    return truth, answers


CASES = [
    *(drawn(seed, 16, tenths=seed % 2 == 0) for seed in range(4)),
    (np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 0.9, 1.0])),  # perfect: no infinity
    (np.array([0, 0, 1, 1]), np.array([1.0, 0.9, 0.1, 0.0])),
    (np.array([0, 1, 1]), np.array([0.5, 0.5, 0.5])),  # cannot tell
]


@pytest.mark.parametrize(("truth", "answers"), CASES)
def test_figures_are_those_of_other_implementations(truth: np.ndarray, answers: np.ndarray) -> None:
    found = figures(truth, answers)
    said = np.select([answers > 0.5, answers < 0.5], [1.0, 0.0], 0.5)
    hit = (said[truth == 1].sum() + 0.5) / (np.sum(truth == 1) + 1)
    alarm = (said[truth == 0].sum() + 0.5) / (np.sum(truth == 0) + 1)
    assert found.d_prime == pytest.approx(norm.ppf(hit) - norm.ppf(alarm), abs=1e-12)
    assert found.criterion == pytest.approx(-(norm.ppf(hit) + norm.ppf(alarm)) / 2, abs=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(truth, answers), abs=1e-12)
    assert found.accuracy == pytest.approx(np.mean(np.where(truth == 1, said, 1 - said)))
    assert found.low <= found.accuracy <= found.high and found.d_prime_low < found.d_prime < found.d_prime_high


@pytest.mark.parametrize(("right", "count"), [(0, 16), (5, 16), (9, 16), (16, 16), (37, 61)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    interval = binomtest(right, count).proportion_ci(0.95, "wilson")
    assert wilson(right, count) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_interval_of_d_prime_holds_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(60) % 2
    inside = 0
    for _ in range(300):
        evidence = rng.normal(1.2 * truth, 1) - 0.6
        found = figures(truth, norm.cdf(evidence))
        inside += found.d_prime_low <= 1.2 <= found.d_prime_high
    assert 0.90 <= inside / 300 <= 0.99


def test_the_bootstrap_is_scipys() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.1, 30)
    interval = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    assert bootstrap_mean(values, 20_000, 0) == pytest.approx((interval.low, interval.high), abs=0.002)
    assert bootstrap_mean(values[:1], 100, 0) is None


def test_the_calibration_curve_counts_every_answer() -> None:
    truth, answers = drawn(5, 50)
    curve = calibration_curve(truth, answers)
    assert sum(point["count"] for point in curve) == 50
    first = answers < 0.2
    assert curve[0] == {"stated": answers[first].mean(), "true": truth[first].mean(), "count": first.sum()}


def session(seed: int, skill: tuple[float, float, float] = (0.5, 1.0, 0.5), blocks: int = 3) -> dict[str, Any]:
    """What a person with some skill (d' by block) would have downloaded; the detector is wrong on two of eight."""
    rng = np.random.default_rng(seed)
    answers = []
    for block, sharpness in zip(BLOCKS[:blocks], skill, strict=False):
        for place, kind in enumerate(["real", "compressed", "swapped", "reenacted"] * 2):
            forged = FORGED[kind]
            believed = rng.normal(sharpness * (forged - 0.5), 1)
            answer = round(100 * float(norm.cdf(believed)))
            detector = 0.8 if forged == (place > 1) else 0.2
            answers.append(
                {
                    "block": block,
                    "position": place + 1,
                    "item": f"{block}-{place}",
                    "kind": kind,
                    "forged": forged,
                    "compressed": False,
                    "moving": False,
                    "answer": answer,
                    "seconds": 4.0 + place,
                    "detector": detector,
                    "advice_shown": block == "advice",
                }
            )
    about = {"schema": SCHEMA, "version": VERSION, "quiz": "abc", "person": f"person-{seed}", "consent": True}
    return about | {"seed": seed, "answers": answers}


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    for seed in range(12):
        (tmp_path / f"{seed}.json").write_text(json.dumps(session(seed)))
    return tmp_path


def test_results_are_pooled_by_person(folder: Path) -> None:
    results, refused = read_results(folder)
    assert refused == [] and len(results) == 12
    found = analyse(results, resamples=500)
    by_person = []
    for seed in sorted(range(12), key=str):
        own = [one for one in session(seed)["answers"] if one["block"] == "after"]
        by_person.append(figures([one["forged"] for one in own], [one["answer"] / 100 for one in own]))
    for key in ("accuracy", "d_prime", "criterion", "brier"):
        values = [getattr(one, key) for one in by_person]
        assert found["blocks"]["after"][key] == {
            "value": pytest.approx(np.mean(values)),
            **dict(zip(("low", "high"), map(pytest.approx, bootstrap_mean(values, 500, 0) or ()), strict=True)),
            "people": 12,
        }
    lesson = found["blocks"]["after"]["d_prime"]["value"] - found["blocks"]["before"]["d_prime"]["value"]
    assert found["lesson"]["d_prime"]["value"] == pytest.approx(lesson)
    assert found["detector"]["advice"]["accuracy"]["value"] == 0.75
    assert sum(point["count"] for point in found["calibration"]["before"]) == 96
    assert found["kinds"]["swapped"]["before"]["people"] == 12 and "given_real" not in found["kinds"]
    assert found["published"]["untrained"]["value"] == 0.5554
    assert analyse(results, resamples=500) == found


def test_wrong_advice_that_is_followed_shows(tmp_path: Path) -> None:
    for seed in range(3):
        content = session(seed)
        for one in content["answers"]:
            if one["block"] == "advice":
                one["answer"] = round(100 * one["detector"])  # always follows
            else:
                one["answer"] = 90 if one["forged"] else 10  # never errs
        (tmp_path / f"{seed}.json").write_text(json.dumps(content))
    advice = analyse(read_results(tmp_path)[0], resamples=50)["advice"]
    values = {key: one["value"] for key, one in advice.items()}
    assert values == {
        "right_advice": 1, "wrong_advice": 0, "without_advice": 1, "reliance": 1, "cost_of_wrong_advice": 1,
        "followed_wrong": 1,
    }  # fmt: skip


def test_people_who_stopped_early_count_where_they_answered(tmp_path: Path) -> None:
    for seed, blocks in enumerate((3, 1)):
        (tmp_path / f"{seed}.json").write_text(json.dumps(session(seed, blocks=blocks)))
    found = analyse(read_results(tmp_path)[0], resamples=50)
    people = [found["blocks"][block]["brier"]["people"] for block in BLOCKS]
    assert people == [2, 1, 1] and found["lesson"]["brier"] == found["lesson"]["brier"] | {"low": None, "people": 1}


def changed(key: str, value: Any, answer: bool = True) -> dict[str, Any]:
    content = session(99)
    (content["answers"][0] if answer else content)[key] = value
    return content


BAD = [
    ("{", "cannot be read as JSON"),
    ([], "no result of a quiz"),
    (changed("schema", "other", False), "no result of a quiz"),
    (changed("version", 2, False), "version 2 of the schema; this program reads 1"),
    (changed("consent", False, False), "did not agree"),
    (changed("answers", None, False), "answers (a list)"),
    (changed("answers", [], False), "holds no answer"),
    (changed("answers", [3], False), "answer 1: must be an object"),
    (changed("answer", 101), "answer 1: answer=101 must be a number from 0 to 100"),
    (changed("answer", True), "answer=True must be a number"),
    (changed("kind", "fake"), "kind='fake' must be one of real"),
    (changed("forged", True), "forged=True does not fit kind=real"),
    (changed("detector", 1.5), "detector=1.5 must be a number from 0 to 1, or null"),
    (changed("seconds", -1), "seconds=-1 must be a number, 0 or more"),
    (changed("block", "later"), "block='later' must be one of before, after, advice"),
    (changed("item", "before-1"), "an item is answered twice"),
    (changed("answers", session(99)["answers"][:2], False), "block before has real or forged items only"),
    (changed("person", "person-3", False), "another file already"),
]


@pytest.mark.parametrize(("content", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_files_are_named_and_left_out(folder: Path, content: Any, line: str) -> None:
    path = folder / "zz.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    results, refused = read_results(folder)
    assert len(results) == 12 and len(refused) == 1
    assert str(path) in refused[0] and line in refused[0] and "\n" not in refused[0]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_results(tmp_path / "none")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no result of a quiz; .*a\.json"):
        read_results(tmp_path)
