"""Every figure has a second opinion: scikit-learn, torchmetrics or a plain loop, over odd sizes and ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn import metrics as reference
from torchmetrics.functional.classification import binary_calibration_error

from detection import metrics
from generation.records import UserError

KINDS = ("continuous", "ties", "separated", "reversed", "huge", "all_equal")
FIGURES = {
    "auroc": metrics.auroc,
    "eer": metrics.eer,
    "average_precision": metrics.average_precision,
    "tpr_at_fpr": metrics.tpr_at_fpr,
    "balanced_accuracy": metrics.balanced_accuracy,
    "ece": metrics.ece,
    "brier": metrics.brier,
    "cllr": metrics.cllr,
    "cllr_min": metrics.cllr_min,
}


def _scores(kind: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 3 == 0).astype(int)
    noise = generator.normal(size=count)
    return labels, {
        "continuous": labels + noise,
        "ties": np.round(labels + noise),
        "separated": labels * 8 + noise / 10,
        "reversed": noise - 2 * labels,
        "huge": 20 + 20 * (labels + noise / 9),
        "all_equal": np.zeros(count),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 7, 64, 501])
def test_ranking_figures_agree_with_scikit_learn(kind: str, count: int) -> None:
    labels, scores = _scores(kind, count)
    assert metrics.auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )
    false, true, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    for limit in (0.0, 0.01, 0.1, 1.0):
        assert metrics.tpr_at_fpr(labels, scores, limit) == true[false <= limit].max()
    crossing = brentq(lambda rate: 1 - rate - np.interp(rate, *_upper(false, true)), 0, 1)
    assert metrics.eer(labels, scores) == pytest.approx(crossing, abs=1e-6)


def _upper(false: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC polyline as a function of the false positive rate; vertical steps are leaned over by 1e-9."""
    return false + np.arange(len(false)) * 1e-9, true


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0])
def test_balanced_accuracy_agrees_with_scikit_learn(kind: str, threshold: float) -> None:
    labels, scores = _scores(kind, 333)
    expected = reference.balanced_accuracy_score(labels, (scores >= threshold).astype(int))
    assert metrics.balanced_accuracy(labels, scores, threshold) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["continuous", "ties", "separated", "reversed"])
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_agrees_with_torchmetrics(kind: str, bins: int) -> None:
    labels, scores = _scores(kind, 333, seed=1)
    probability = torch.from_numpy(scores).sigmoid()
    expected = binary_calibration_error(probability, torch.from_numpy(labels), n_bins=bins)
    assert metrics.ece(labels, scores, bins) == pytest.approx(float(expected), abs=1e-6)


def test_a_calibrated_score_has_a_small_ece_and_a_sure_wrong_one_has_one() -> None:
    generator = np.random.default_rng(2)
    scores = generator.normal(size=200_000) * 2
    labels = (generator.random(len(scores)) < 1 / (1 + np.exp(-scores))).astype(int)
    assert metrics.ece(labels, scores) < 0.01
    assert metrics.ece([0, 1], [1000, -1000]) == 1


def test_log_odds_beyond_the_sigmoid_of_float32_are_still_ranked() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([30.0, 31.0, 32.0, 33.0])
    assert len(np.unique(torch.tensor(scores).float().sigmoid())) == 1
    assert metrics.auroc(labels, scores) == 1


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_counts_a_face_so_many_times(figure: metrics.Statistic, kind: str) -> None:
    labels, scores = _scores(kind, 60)
    weights = np.random.default_rng(4).integers(0, 4, 60)
    repeated = (np.repeat(values, weights) for values in (labels, scores))
    assert figure(labels, scores, weights=weights) == pytest.approx(figure(*repeated), abs=1e-12)


def _interval_by_loop(
    labels: np.ndarray, scores: np.ndarray, people: np.ndarray, resamples: int
) -> tuple[float, float]:
    generator = np.random.default_rng(99)
    names = sorted(set(people))
    values = []
    while len(values) < resamples:
        drawn = [names[i] for i in generator.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(people == name) for name in drawn])
        if len(set(labels[rows])) == 2:
            values.append(reference.roc_auc_score(labels[rows], scores[rows]))
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def test_bootstrap_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    people = np.array([f"p{i}" for i in generator.integers(13, size=401)])
    shift = {name: generator.normal() for name in sorted(set(people))}
    labels = generator.integers(2, size=401)
    scores = np.round(labels + generator.normal(size=401) + [shift[name] for name in people], 1)
    low, high = metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, resamples=1500)
    expected = _interval_by_loop(labels, scores, people, 1500)
    assert (low, high) == pytest.approx(expected, abs=0.012)
    assert low < metrics.auroc(labels, scores) < high
    narrow = metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, resamples=1500, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert (low, high) == metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, resamples=1500)
    assert (low, high) != metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, resamples=1500, seed=1)


@pytest.mark.parametrize("people", [2, 13, 300])
def test_bootstrap_of_the_auroc_by_pairs_of_people_is_that_by_faces(people: int) -> None:
    generator = np.random.default_rng(people)
    labels = generator.integers(2, size=901)
    scores = np.round(labels + generator.normal(size=901), 1)
    identities = np.r_[np.arange(people), generator.integers(people, size=901 - people)]

    def by_faces(*given: object, weights: object = None) -> float:
        return metrics.auroc(*given, weights=weights)  # type: ignore[arg-type]

    found = [metrics.bootstrap_by_identity(one, labels, scores, identities, 200) for one in (metrics.auroc, by_faces)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_bootstrap_resamples_people_and_not_frames() -> None:
    """Copying every frame ten times tells nothing new: the interval must not shrink."""
    labels, scores = _scores("continuous", 120)
    people = np.arange(120) % 8
    once = metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, seed=5)
    often = metrics.bootstrap_by_identity(metrics.auroc, *(np.repeat(x, 10) for x in (labels, scores, people)), seed=5)
    assert once == pytest.approx(often, abs=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 0, 0, 0, 0, 0]])
def test_bootstrap_where_a_person_has_one_class_only(labels: list[int]) -> None:
    low, high = metrics.bootstrap_by_identity(metrics.auroc, labels, np.arange(len(labels)), labels, resamples=50)
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([1, 1], [0.0, 1.0], "all forged"),
        ([0, 0], [0.0, 1.0], "all real"),
        ([], [], "empty"),
        ([0, 1], [0.0, np.nan], "1 of 2 are NaN"),
        ([0, 1], [np.inf, np.nan], "2 of 2 are NaN or infinite"),
        ([0, 1, 1], [0.0, 1.0], "one score is needed for every label"),
        ([0, 2], [0.0, 1.0], "only 0"),
    ],
)
def test_bad_scores_are_named(figure: metrics.Statistic, labels: list[int], scores: list[float], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        figure(labels, scores)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("people", "says"), [(["a", "a"], "at least two people"), (["a"], "one identity is needed for every label")]
)
def test_bad_identities_are_named(people: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        metrics.bootstrap_by_identity(metrics.auroc, [0, 1], [0.0, 1.0], people)


def test_a_false_positive_rate_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(UserError, match=r"fpr = 1\.5"):
        metrics.tpr_at_fpr([0, 1], [0.0, 1.0], 1.5)


def test_summarise_holds_every_figure() -> None:
    labels, scores = _scores("continuous", 90)
    people = np.arange(90) % 6
    summary = metrics.summarise(labels, scores, people, threshold=0.5, seed=3)
    low, high = metrics.bootstrap_by_identity(metrics.auroc, labels, scores, people, seed=3)
    assert summary == {
        "auroc": metrics.auroc(labels, scores),
        "auroc_low": low,
        "auroc_high": high,
        "eer": metrics.eer(labels, scores),
        "average_precision": metrics.average_precision(labels, scores),
        "tpr_at_1_percent_fpr": metrics.tpr_at_fpr(labels, scores, 0.01),
        "tpr_at_0.1_percent_fpr": metrics.tpr_at_fpr(labels, scores, 0.001),
        "balanced_accuracy": metrics.balanced_accuracy(labels, scores, 0.5),
        "ece": metrics.ece(labels, scores),
        "brier": metrics.brier(labels, scores),
        "cllr": metrics.cllr(labels, scores),
        "cllr_min": metrics.cllr_min(labels, scores),
        "threshold": 0.5,
        "real": 60,
        "forged": 30,
        "identities": 6,
    }
