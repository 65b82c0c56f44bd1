"""Scores -> figures. A score is a log-odds, higher where more likely forged; a label is 0 (real) or 1 (forged).

Ranks are taken on float64 log-odds, never on probabilities: a float32 sigmoid makes all logits above 17 equal and ties
them. Every function raises `UserError` for scores that are NaN or infinite, for labels of one class only, and for
lengths that differ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from generation.records import UserError

Statistic = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
"""(labels (N,), scores (N,)) -> one number."""


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and scores as (N,) arrays of int64 and float64, or a `UserError` that says what is wrong with them."""
    truth, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise UserError(f"labels {truth.shape}, scores {score.shape}: one score is needed for every label, as (N,)")
    if not np.isfinite(score).all():
        bad = int((~np.isfinite(score)).sum())
        raise UserError(f"scores: {bad} of {len(score)} are NaN or infinite; the detector has diverged")
    if not np.isin(truth, (0, 1)).all():
        raise UserError("labels: only 0 (real) and 1 (forged) are allowed")
    truth = truth.astype(np.int64)
    if len(np.unique(truth)) < 2:
        kind = "empty" if len(truth) == 0 else "all forged" if truth[0] else "all real"
        raise UserError(f"labels: {kind}; real and forged faces are both needed")
    return truth, score


def _counts(truth: NDArray[np.int64], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positives at every distinct threshold, from the highest score to the lowest, after a leading 0."""
    order = np.argsort(score, kind="stable")[::-1]
    ranked = truth[order]
    last_of_tie = np.r_[np.flatnonzero(np.diff(score[order])), len(ranked) - 1]
    true = np.cumsum(ranked)[last_of_tie]
    false = last_of_tie + 1 - true
    return np.r_[0.0, false], np.r_[0.0, true]


def roc(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at the ROC curve's corners from (0, 0) to (1, 1), one pair a distinct score."""
    false, true = _counts(*checked(labels, scores))
    return false / false[-1], true / true[-1]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a forged face scores higher than a real one, ties counting half. 1 is perfect, .5 is chance."""
    false, true = roc(labels, scores)
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1])) / 2)


def eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """Equal error rate: where the ROC curve, joined by lines, has as many misses as false alarms; 0 is perfect."""
    false, true = roc(labels, scores)
    excess = false + true - 1  # rises from -1 to 1; 0 where the miss rate equals the false alarm rate
    after = int(np.argmax(excess >= 0))
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Precision averaged over the recall steps, without interpolation.

    1 is perfect; chance is the share of forged faces.
    """
    false, true = _counts(*checked(labels, scores))
    precision = true[1:] / (true[1:] + false[1:])
    return float(np.sum(np.diff(true) / true[-1] * precision))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float = 0.01) -> float:
    """Share of forgeries found at the best threshold that flags at most `fpr` of the real faces (no interpolation)."""
    if not 0 <= fpr <= 1:
        raise UserError(f"fpr = {fpr}: a false positive rate lies in [0, 1]")
    false, true = roc(labels, scores)
    return float(true[false <= fpr].max())


def balanced_accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.0) -> float:
    """Mean of the shares of real and of forged faces judged rightly, where a score >= `threshold` says forged.

    .5 is chance.
    """
    truth, score = checked(labels, scores)
    flagged = score >= threshold
    return float((flagged[truth == 1].mean() + 1 - flagged[truth == 0].mean()) / 2)


def ece(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of sigmoid(score), the stated probability of a forgery, over equal-width bins.

    The mean over the faces of |mean probability - share of forged faces| in their bin: 0 is calibrated, 1 is always
    sure and wrong. It depends on the share of forged faces in the set.
    """
    truth, score = checked(labels, scores)
    probability = expit(score)
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(index, probability - truth)).sum() / len(truth))


def bootstrap_by_identity(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    identities: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """A percentile interval of `statistic` under resampling of people, not of frames: frames of one person are not
    independent.

    Identities are drawn with replacement, each with all its faces, real and forged together; a draw that holds one
    class only is drawn again. `identities` are (N,) names. Raises `UserError` where there are fewer than two
    identities.
    """
    truth, score = checked(labels, scores)
    names, person = np.unique(np.asarray(identities), return_inverse=True)
    if person.shape != truth.shape:
        raise UserError(f"identities {person.shape} and labels {truth.shape}: one identity is needed for every label")
    if len(names) < 2:
        raise UserError(f"identities: only {names[0]!s}; an interval by identity needs at least two people")
    order = np.argsort(score, kind="stable")  # a resample of sorted rows stays sorted, which makes ranking it cheap
    truth, score, person = truth[order], score[order], person[order]
    generator = np.random.default_rng([seed, len(names)])
    values = np.empty(resamples)
    for index in range(resamples):
        rows = truth[:0]
        while len(np.unique(truth[rows])) < 2:
            times = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
            rows = np.repeat(np.arange(len(truth)), times[person])
        values[index] = statistic(truth[rows], score[rows])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(
    labels: ArrayLike, scores: ArrayLike, identities: ArrayLike, threshold: float, seed: int = 0
) -> dict[str, float | int]:
    """All figures of one detector on one set of faces; `threshold` was chosen on other people."""
    truth, score = checked(labels, scores)
    low, high = bootstrap_by_identity(auroc, truth, score, identities, seed=seed)
    return {
        "auroc": auroc(truth, score),
        "auroc_low": low,
        "auroc_high": high,
        "eer": eer(truth, score),
        "average_precision": average_precision(truth, score),
        "tpr_at_1_percent_fpr": tpr_at_fpr(truth, score, 0.01),
        "balanced_accuracy": balanced_accuracy(truth, score, threshold),
        "ece": ece(truth, score),
        "threshold": float(threshold),
        "real": int((truth == 0).sum()),
        "forged": int(truth.sum()),
        "identities": len(np.unique(np.asarray(identities))),
    }
