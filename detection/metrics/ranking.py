"""How well scores rank forged faces above real ones, by any threshold or by one.

A score is a log-odds, higher where more likely forged; a label is 0 (real) or 1 (forged). Ranks are taken on float64
log-odds, never on probabilities: a float32 sigmoid makes all logits above 17 equal and ties them. `weights` (N,), 0 or
more, count a face so many times; where there are none, every face counts once. Every function raises `UserError` for
scores that are NaN or infinite, for labels of one class only, and for lengths that differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from generation.records import UserError

Floats = NDArray[np.float64]


def checked(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Labels, scores and weights as (N,) arrays, or a `UserError` that says what is wrong with them."""
    truth, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise UserError(f"labels {truth.shape}, scores {score.shape}: one score is needed for every label, as (N,)")
    if not np.isfinite(score).all():
        bad = int((~np.isfinite(score)).sum())
        raise UserError(f"scores: {bad} of {len(score)} are NaN or infinite; the detector has diverged")
    if not ((truth == 0) | (truth == 1)).all():
        raise UserError("labels: only 0 (real) and 1 (forged) are allowed")
    truth = truth.astype(np.int64)
    weight = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != truth.shape or not (weight >= 0).all():
        raise UserError(f"weights {weight.shape}: one weight of 0 or more is needed for every label")
    forged = float(weight @ truth)
    if not 0 < forged < float(weight.sum()):
        kind = "empty" if not weight.any() else "all forged" if forged else "all real"
        raise UserError(f"labels: {kind}; real and forged faces are both needed")
    return truth, score, weight


def _counts(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """False and true positives at every distinct threshold, from the highest score to the lowest, after a leading 0."""
    truth, score, weight = checked(labels, scores, weights)
    order = np.argsort(score, kind="stable")[::-1]
    last_of_tie = np.r_[np.flatnonzero(np.diff(score[order])), len(order) - 1]
    ranked, forged = weight[order], (weight * truth)[order]
    true = np.cumsum(forged)[last_of_tie]
    return np.r_[0.0, np.cumsum(ranked)[last_of_tie] - true], np.r_[0.0, true]


def roc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """False and true positive rates at the ROC curve's corners from (0, 0) to (1, 1), one pair a distinct score."""
    false, true = _counts(labels, scores, weights)
    return false / false[-1], true / true[-1]


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a forged face scores higher than a real one, ties counting half. 1 is perfect, .5 is chance."""
    false, true = roc(labels, scores, weights)
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1])) / 2)


def eer(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Equal error rate: where the ROC curve, joined by lines, has as many misses as false alarms; 0 is perfect."""
    false, true = roc(labels, scores, weights)
    excess = false + true - 1  # rises from -1 to 1; 0 where the miss rate equals the false alarm rate
    after = int(np.argmax(excess >= 0))
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Precision averaged over the recall steps, without interpolation.

    1 is perfect; chance is the share of forged faces.
    """
    false, true = _counts(labels, scores, weights)
    flagged = true[1:] + false[1:]
    precision = np.divide(true[1:], flagged, out=np.zeros_like(flagged), where=flagged > 0)
    return float(np.sum(np.diff(true) / true[-1] * precision))


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float = 0.01, weights: ArrayLike | None = None) -> float:
    """Share of forgeries found at the best threshold that flags at most `fpr` of the real faces (no interpolation)."""
    if not 0 <= fpr <= 1:
        raise UserError(f"fpr = {fpr}: a false positive rate lies in [0, 1]")
    false, true = roc(labels, scores, weights)
    return float(true[false <= fpr].max())


def balanced_accuracy(
    labels: ArrayLike, scores: ArrayLike, threshold: float = 0.0, weights: ArrayLike | None = None
) -> float:
    """Mean of the shares of real and of forged faces judged rightly, where a score >= `threshold` says forged.

    .5 is chance.
    """
    truth, score, weight = checked(labels, scores, weights)
    forged, right = weight * truth, (score >= threshold) == truth
    return float((forged @ right / forged.sum() + (weight - forged) @ right / (weight - forged).sum()) / 2)
