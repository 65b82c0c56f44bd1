"""Whether a score means what it says: calibration of its probability, and its worth as evidence.

Labels, scores, weights and errors as in `ranking`; a score is a natural log-odds. A detector that was trained on as
many real as forged faces has prior odds of 1, so its log-odds are log-likelihood ratios.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import expit, logit

from detection.metrics.ranking import Floats, checked
from generation.records import UserError


class Reliability(NamedTuple):
    """What is stated and what is true in bins of equal width of the stated probability; NaN where a bin is empty.

    stated: (bins,) mean probability of a forgery; true: (bins,) share of forged faces; share: (bins,) of all faces
    """

    stated: Floats
    true: Floats
    share: Floats


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = 15, weights: ArrayLike | None = None) -> Reliability:
    """The reliability diagram of sigmoid(score)."""
    truth, score, weight = checked(labels, scores, weights)
    probability = expit(score)
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count, stated, forged = (
        np.bincount(index, values, bins) for values in (weight, weight * probability, weight * truth)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(stated / count, forged / count, count / count.sum())


def ece(labels: ArrayLike, scores: ArrayLike, bins: int = 15, weights: ArrayLike | None = None) -> float:
    """Expected calibration error of sigmoid(score), the stated probability of a forgery, over equal-width bins.

    The mean over the faces of |mean probability - share of forged faces| in their bin: 0 is calibrated, 1 is always
    sure and wrong. It depends on the share of forged faces in the set.
    """
    stated, true, share = reliability(labels, scores, bins, weights)
    return float(np.nansum(np.abs(stated - true) * share))


def brier(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean squared error of sigmoid(score) (Brier 1950); 0 is perfect, .25 is always saying one half."""
    truth, score, weight = checked(labels, scores, weights)
    return float(np.average((expit(score) - truth) ** 2, weights=weight))


def cllr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cost of the scores as log-likelihood ratios, in bits (Bruemmer and du Preez 2006, Computer Speech & Language).

    0 is perfect, 1 is what a detector that always says 0 has; more than 1 is worse than saying nothing.
    """
    truth, score, weight = checked(labels, scores, weights)
    return _cllr(truth, score, weight)


def _cllr(truth: NDArray[np.int64], ratio: Floats, weight: Floats) -> float:
    cost = np.logaddexp(0, np.where(truth == 1, -ratio, ratio)) / np.log(2)
    forged = weight * truth
    real = weight - forged
    return float((np.average(cost, weights=forged) + np.average(cost, weights=real)) / 2)


def calibrated(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The log-likelihood ratios (N,) that no rising function of the scores can better on these very faces: pool
    adjacent violators (Bruemmer and du Preez 2006), ties together. May be infinite."""
    truth, score, weight = checked(labels, scores, weights)
    _, place = np.unique(score, return_inverse=True)
    total, forged = np.bincount(place, weight), np.bincount(place, weight * truth)
    seen = total > 0
    share = isotonic_regression(forged[seen] / total[seen], weights=total[seen]).x
    ratios = np.full(len(total), np.nan)
    with np.errstate(divide="ignore"):
        ratios[seen] = logit(np.clip(share, 0, 1)) - logit(float(weight @ truth) / float(weight.sum()))
    return np.asarray(ratios[place])


def cllr_min(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The `cllr` that is left when the scores are calibrated as well as can be: what ranking alone costs."""
    truth, _, weight = checked(labels, scores, weights)
    seen = weight > 0
    return _cllr(truth[seen], calibrated(labels, scores, weights)[seen], weight[seen])


def temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """The T > 0 for which sigmoid(score / T) is most likely (Guo et al. 2017, arXiv 1706.04599), to be found on
    validation faces, real and forged counting the same in all. Between 1e-3 and 1e3."""
    truth, score, _ = checked(labels, scores)
    balance = np.where(truth == 1, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))

    def loss(log_temperature: float) -> float:
        ratio = score * np.exp(-log_temperature)
        return float(np.average(np.logaddexp(0, np.where(truth == 1, -ratio, ratio)), weights=balance))

    bound = np.log(1e3)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def looks_like_probabilities(scores: ArrayLike) -> bool:
    """Whether every score lies in [0, 1] and some are on both sides of one half: not log-odds, most likely."""
    score = np.asarray(scores, dtype=np.float64)
    if score.size == 0:
        raise UserError("scores: empty")
    return bool(score.min() >= 0 and score.max() <= 1 and score.min() < 0.5 < score.max())
