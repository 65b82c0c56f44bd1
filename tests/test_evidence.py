"""Calibration, evidence and tests of detectors, each beside scikit-learn or a plain loop over faces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, brier_score_loss, jaccard_score, roc_auc_score

from detection import metrics
from generation.records import UserError

CASES = [(kind, count, seed) for kind in ("continuous", "ties", "separated") for count in (4, 9, 80) for seed in (0, 1)]


def drawn(kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([seed, count])
    labels = generator.permutation(np.arange(count) % 2)
    scores = labels * (9 if kind == "separated" else 1.2) + generator.normal(size=count)
    return labels, np.round(scores) if kind == "ties" else scores


@pytest.mark.parametrize(("kind", "count", "seed"), CASES)
def test_brier_and_cllr_are_what_a_loop_over_faces_gives(kind: str, count: int, seed: int) -> None:
    labels, scores = drawn(kind, count, seed)
    assert metrics.brier(labels, scores) == pytest.approx(brier_score_loss(labels, 1 / (1 + np.exp(-scores))), abs=1e-9)
    forged = [np.log2(1 + np.exp(-score)) for label, score in zip(labels, scores, strict=True) if label]
    real = [np.log2(1 + np.exp(score)) for label, score in zip(labels, scores, strict=True) if not label]
    assert metrics.cllr(labels, scores) == pytest.approx((np.mean(forged) + np.mean(real)) / 2, abs=1e-9)


@pytest.mark.parametrize(("kind", "count", "seed"), CASES)
def test_cllr_min_is_the_cost_after_pool_adjacent_violators(kind: str, count: int, seed: int) -> None:
    labels, scores = drawn(kind, count, seed)
    share = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels)
    odds = labels.mean() / (1 - labels.mean())
    with np.errstate(divide="ignore"):
        forged = np.log2(1 + odds * (1 - share[labels == 1]) / share[labels == 1])
        real = np.log2(1 + share[labels == 0] / (1 - share[labels == 0]) / odds)
    assert metrics.cllr_min(labels, scores) == pytest.approx((forged.mean() + real.mean()) / 2, abs=1e-9)
    assert metrics.cllr_min(labels, scores) <= min(1, metrics.cllr(labels, scores)) + 1e-12


def test_evidence_of_saying_nothing_costs_one_bit_and_of_being_wrong_more() -> None:
    assert metrics.cllr([0, 1], [0, 0]) == 1 and metrics.cllr([0, 1], [5, -5]) > 5
    assert metrics.cllr([0, 1], [-40, 40]) < 1e-9 == pytest.approx(metrics.cllr_min([0, 1], [0.1, 0.2]), abs=1e-8)
    assert metrics.calibrated([0, 1, 0, 1], [1, 1, 1, 1]) == pytest.approx(np.zeros(4))


def test_the_temperature_undoes_what_scores_were_multiplied_by() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=40_000) * 2
    labels = (generator.random(len(scores)) < 1 / (1 + np.exp(-scores))).astype(int)
    for factor in (0.2, 1.0, 5.0):
        found = metrics.temperature(labels, scores * factor)
        assert found == pytest.approx(factor, rel=0.05)
        assert metrics.ece(labels, scores * factor / found) < 0.012
    grid = np.exp(np.linspace(-2, 2, 2001))
    labels, scores = drawn("continuous", 80, 3)
    losses = [metrics.cllr(labels, scores / t) for t in grid]
    assert metrics.temperature(labels, scores) == pytest.approx(grid[np.argmin(losses)], rel=0.01)


def test_the_reliability_curve_is_what_a_loop_over_bins_gives() -> None:
    labels, scores = drawn("continuous", 80, 0)
    curve = metrics.reliability(labels, scores, bins=7)
    probability = 1 / (1 + np.exp(-scores))
    for index in range(7):
        inside = (probability >= index / 7) & (probability < (index + 1) / 7)
        assert curve.share[index] == pytest.approx(inside.mean())
        if inside.any():
            assert curve.stated[index] == pytest.approx(probability[inside].mean())
            assert curve.true[index] == pytest.approx(labels[inside].mean())
        else:
            assert np.isnan(curve.stated[index]) and np.isnan(curve.true[index])


def delong_by_loops(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    def wins(scores: np.ndarray) -> np.ndarray:
        forged, real = scores[labels == 1], scores[labels == 0]
        return np.array([[1.0 if f > r else 0.5 if f == r else 0.0 for r in real] for f in forged])

    difference = wins(a) - wins(b)
    s10 = np.var(difference.mean(1), ddof=1) / len(difference)
    s01 = np.var(difference.mean(0), ddof=1) / difference.shape[1]
    error = np.sqrt(s10 + s01)
    with np.errstate(divide="ignore"):
        return difference.mean(), error, 2 * (1 - norm.cdf(abs(difference.mean()) / error))


@pytest.mark.parametrize(("kind", "count", "seed"), [case for case in CASES if case[0] != "separated"])
def test_delong_is_what_its_definition_gives(kind: str, count: int, seed: int) -> None:
    labels, a = drawn(kind, count, seed)
    b = np.round(a + np.random.default_rng(9).normal(size=count), 1)
    found = metrics.delong(labels, a, b)
    assert found.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b), abs=1e-12)
    assert found == pytest.approx(delong_by_loops(labels, a, b), abs=1e-9)
    back = metrics.delong(labels, b, a)
    assert (back.value, back.error, back.p) == pytest.approx((-found.value, found.error, found.p), abs=1e-12)


def test_delong_by_identity_knows_that_copies_of_a_face_tell_nothing_new() -> None:
    labels, a = drawn("continuous", 80, 2)
    b, people = a + np.random.default_rng(5).normal(size=80), np.arange(80)
    alone = metrics.delong(labels, a, b, people)
    assert alone == pytest.approx(metrics.delong(labels, a, b), abs=1e-9)
    copied = [np.repeat(values, 10) for values in (labels, a, b, people)]
    assert metrics.delong(*copied) == pytest.approx(alone, abs=1e-9)
    assert metrics.delong(*copied[:3]).error < 0.4 * alone.error


def test_delong_of_a_detector_with_itself_finds_nothing() -> None:
    labels, a = drawn("continuous", 80, 0)
    assert metrics.delong(labels, a, a) == (0, 0, 1)
    with pytest.raises(UserError, match="at least two real and two forged"):
        metrics.delong([0, 1], [0, 1], [1, 0])
    with pytest.raises(UserError, match="two people"):
        metrics.delong([0, 1, 0, 1], [0, 1, 2, 3], [1, 0, 0, 0], ["a", "a", "a", "a"])


def test_delong_is_wrong_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    p = []
    for _ in range(400):
        labels = np.arange(120) % 2
        skill = labels + generator.normal(size=120)
        p.append(metrics.delong(labels, *(skill + generator.normal(size=(2, 120)))).p)
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.085


def test_holm_is_what_its_steps_give() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert metrics.holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.5])
    assert metrics.holm([]) == [] and metrics.holm([0.7, 0.9]) == [1, 1]
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        metrics.holm([1.2])


def test_groups_come_worst_first_with_their_interval() -> None:
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(24), 20)
    labels = np.tile(np.arange(20) % 2, 24)
    hard = people % 3 == 0
    scores = labels * np.where(hard, 0.3, 3.0) + generator.normal(size=len(labels))
    groups = {"easy": ~hard, "hard": hard, "nobody": people > 99, "one": people == 3}
    found = metrics.by_group(metrics.auroc, labels, scores, people, groups)
    assert [group.name for group in found] == ["hard", "easy"] and [group.people for group in found] == [8, 16]
    assert found[0].value == metrics.auroc(labels[hard], scores[hard])
    assert found[0].low < found[0].value < found[0].high < found[1].low


def test_localisation_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((4, 9, 7), bool)
    masks[0, 2:5, 1:4] = masks[1, :, 3:] = masks[2] = True
    maps = masks * 1.5 + generator.normal(size=masks.shape) - 0.5
    expected = np.mean([average_precision_score(masks[i].ravel(), maps[i].ravel()) for i in range(3)])
    assert metrics.localisation_ap(maps, masks) == pytest.approx(expected, abs=1e-12)
    expected = np.mean([jaccard_score(masks[i].ravel(), maps[i].ravel() >= 0) for i in range(3)])
    assert metrics.localisation_iou(maps, masks) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(UserError, match="no pixel"):
        metrics.localisation_ap(maps, masks & False)
    with pytest.raises(UserError, match="one mask is needed"):
        metrics.localisation_iou(maps[:2], masks)


def test_probabilities_in_place_of_log_odds_are_noticed() -> None:
    scores = drawn("continuous", 80, 0)[1]
    assert not metrics.looks_like_probabilities(scores)
    assert metrics.looks_like_probabilities(1 / (1 + np.exp(-scores)))
    assert not metrics.looks_like_probabilities(np.abs(scores))
