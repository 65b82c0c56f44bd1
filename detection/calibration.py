"""Scores -> log-likelihood ratios: what a detector's answer is worth as evidence, and how sure that is.

A log-likelihood ratio (LLR, natural logarithm) says how much more probable the scores are if the face is forged than if
it is real; it holds for any prior odds. It is the log-odds of a logistic regression in which real and forged faces
weigh the same in all (Bruemmer and du Preez 2006, Computer Speech & Language); of several detectors, see `fusion`.
Everything is fitted on validation people; what was fitted are plain numbers, saved beside the detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from detection.metrics import cllr, cllr_min, ece, temperature
from detection.metrics.ranking import Floats, checked
from generation.records import UserError

POOLED = ""
"""The condition that stands for all together."""

FEWEST = 20
"""People on whom a detector by itself is calibrated."""

FEWEST_OF_CONDITION = 15
"""People that a condition needs for a calibration of its own; it takes part in the pooled one whatever their number."""

RIDGE = 1e-3
"""Weight of the squared slopes (scores of variance 1) beside the mean loss: what keeps slopes finite where the
calibration set is ranked without an error."""

SCALE = (
    (2.0, "no support either way"),
    (10.0, "weak support"),
    (100.0, "moderate support"),
    (1e3, "moderately strong support"),
    (1e4, "strong support"),
    (1e6, "very strong support"),
    (math.inf, "extremely strong support"),
)
"""Likelihood ratios up to which a term is used: ENFSI Guideline for Evaluative Reporting in Forensic Science, 2015,
part 3.6; below 2 the guideline has no term of support."""


def verbal(llr: float) -> str:
    """The ENFSI term: how much support, and for what."""
    ratio = math.exp(min(abs(llr), 700.0))
    term = next(term for most, term in SCALE if ratio < most)
    if term == SCALE[0][1]:
        return term
    return f"{term} for {'forged' if llr > 0 else 'real'}"


def balanced(truth: NDArray[np.int64], weights: Floats | None = None) -> Floats:
    """Weights (N,) of sum 1 with which real and forged faces count the same in all."""
    weight = np.ones(len(truth)) if weights is None else weights
    forged = weight * truth
    real = weight - forged
    return np.asarray(forged / forged.sum() / 2 + real / real.sum() / 2)


def logistic(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Slopes and offset, (K + 1,), of the logistic regression of balanced classes on K scores, by Newton's method.

    scores: (N,) or (N, K) log-odds; weights: (N,) how often each counts
    """
    columns = _columns(scores)
    truth, _, weight = checked(labels, columns[:, 0], weights)
    if not np.isfinite(columns).all():
        raise UserError("scores: some are NaN or infinite; a detector has diverged")
    balance = balanced(truth, weight)
    middle = balance @ columns
    spread = np.sqrt(np.maximum(balance @ (columns - middle) ** 2, 1e-12))
    design = np.column_stack([(columns - middle) / spread, np.ones(len(columns))])
    penalty = np.diag([RIDGE] * columns.shape[1] + [0.0])
    found = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        ratio = design @ at
        return float(balance @ np.logaddexp(0, np.where(truth == 1, -ratio, ratio)) + at @ penalty @ at / 2)

    now = loss(found)
    for _ in range(100):
        probability = expit(design @ found)
        gradient = design.T @ (balance * (probability - truth)) + penalty @ found
        curvature = (design.T * (balance * probability * (1 - probability))) @ design + penalty
        step = np.linalg.solve(curvature + 1e-10 * np.eye(len(found)), gradient)
        size, then = 1.0, loss(found - step)
        while then > now and size > 1e-4:
            size /= 2
            then = loss(found - size * step)
        found, change, now = found - size * step, now - then, then
        if change < 1e-12:
            break
    slopes = found[:-1] / spread
    return np.append(slopes, found[-1] - slopes @ middle)


def fusion(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Slopes and offset, (K + 1,), of K detectors together: the LLRs of each alone, by `logistic`, are added (the
    product rule of Kittler et al. 1998, IEEE TPAMI 20, 226), and their sum is calibrated. No detector is weighed
    against another, so those that are better on the calibration set alone do not overrule the others elsewhere; one
    that knows nothing adds nothing.

    scores: (N,) or (N, K) log-odds; weights: as in `logistic`
    """
    columns = _columns(scores)
    alone = np.stack([logistic(labels, column, weights) for column in columns.T])
    total = columns @ alone[:, 0]
    slope, offset = logistic(labels, total, weights)
    return np.append(slope * alone[:, 0], offset)


def _columns(scores: ArrayLike) -> Floats:
    columns = np.asarray(scores, np.float64)
    return columns[:, None] if columns.ndim == 1 else columns


def _linear(coefficients: ArrayLike, columns: Floats) -> Floats:
    numbers = np.asarray(coefficients)
    return np.asarray(columns @ numbers[..., :-1].T + numbers[..., -1])


def platt(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """Slope and offset (2,) of Platt scaling (Platt 1999, Advances in Large Margin Classifiers): maximum likelihood
    with targets of (n + 1) / (n + 2) and 1 / (n + 2); the prior log-odds of the set are taken off."""
    truth, score, _ = checked(labels, scores)
    forged = int(truth.sum())
    real = len(truth) - forged
    target = np.where(truth == 1, (forged + 1) / (forged + 2), 1 / (real + 2))
    middle, spread = score.mean(), max(float(score.std()), 1e-6)
    design = np.column_stack([(score - middle) / spread, np.ones(len(score))])
    found = np.array([0.0, math.log((forged + 1) / (real + 1))])
    for _ in range(100):
        probability = expit(design @ found)
        curvature = (design.T * (probability * (1 - probability))) @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (probability - target))
        found = found - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    slope = found[0] / spread
    return np.array([slope, found[1] - slope * middle - math.log(forged / real)])


def isotonic(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Scores and LLRs at the corners of the best rising map (pool adjacent violators), between which it is linear.

    One imaginary face of each class at both ends keeps the LLRs finite.
    """
    truth, score, _ = checked(labels, scores)
    distinct, place = np.unique(score, return_inverse=True)
    balance = balanced(truth) * len(truth)
    ends = np.array([balance[truth == 0].min(), balance[truth == 1].min()])
    total = np.r_[ends.sum(), np.bincount(place, balance), ends.sum()]
    forged = np.r_[ends[1], np.bincount(place, balance * truth), ends[1]]
    share = isotonic_regression(forged / total, weights=total).x[1:-1]
    return distinct, np.asarray(logit(share))


def calibrators() -> dict[str, Callable[[ArrayLike, ArrayLike], Callable[[Floats], Floats]]]:
    """name -> (labels, scores of validation faces) -> the map of scores (N,) to LLRs (N,)."""

    def scaled(labels: ArrayLike, scores: ArrayLike) -> Callable[[Floats], Floats]:
        divisor = temperature(labels, scores)
        return lambda score: score / divisor

    def straight(
        fit: Callable[[ArrayLike, ArrayLike], Floats],
    ) -> Callable[[ArrayLike, ArrayLike], Callable[[Floats], Floats]]:
        def fitted(labels: ArrayLike, scores: ArrayLike) -> Callable[[Floats], Floats]:
            slope, offset = fit(labels, scores)
            return lambda score: slope * score + offset

        return fitted

    def stepped(labels: ArrayLike, scores: ArrayLike) -> Callable[[Floats], Floats]:
        corners, ratios = isotonic(labels, scores)
        return lambda score: np.interp(score, corners, ratios)

    return {"temperature": scaled, "platt": straight(platt), "logistic": straight(logistic), "isotonic": stepped}


class Given(NamedTuple):
    """Validation faces: labels (N,), scores (N, K) of K detectors, whose faces, and in which condition each is."""

    labels: NDArray[np.int64]
    scores: Floats
    identities: NDArray[np.str_]
    conditions: NDArray[np.str_]

    def rows(self, index: NDArray[Any]) -> Given:
        return Given(*(part[index] for part in self))


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted. coefficients: condition -> (K + 1,) slopes and offset; `POOLED` for all others.

    resampled: condition -> (R, K + 1), the same of R draws of the people, with replacement
    low, high: LLRs beyond which this set, of so many people, can support none
    abstain: least |LLR| that is told as a verdict; about: the set and its figures, for a reader
    """

    coefficients: Mapping[str, Floats]
    resampled: Mapping[str, Floats]
    low: float
    high: float
    abstain: float
    about: Mapping[str, Any] = field(default_factory=dict)

    def llr(self, scores: ArrayLike, condition: str = POOLED) -> Floats:  # (N, K) -> (N,)
        """Natural log-likelihood ratios, within what the set can support."""
        columns = np.atleast_2d(np.asarray(scores, np.float64))
        return np.clip(_linear(self.coefficients[self._known(condition)], columns), self.low, self.high)

    def interval(self, scores: ArrayLike, condition: str = POOLED, level: float = 0.95) -> tuple[float, float]:
        """Between which LLRs other calibration people would have put these scores (K,)."""
        columns = np.atleast_2d(np.asarray(scores, np.float64))
        ratios = np.clip(_linear(self.resampled[self._known(condition)], columns), self.low, self.high)
        low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def _known(self, condition: str) -> str:
        return condition if condition in self.coefficients else POOLED

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "coefficients": {key: np.round(value, 6).tolist() for key, value in self.coefficients.items()},
            "resampled": {key: np.round(value, 4).tolist() for key, value in self.resampled.items()},
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "abstain": round(self.abstain, 4),
            "about": dict(self.about),
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Calibration:
        def numbers(key: str) -> dict[str, Floats]:
            return {name: np.asarray(value, np.float64) for name, value in plain[key].items()}

        low, high, abstain = (float(plain[key]) for key in ("low", "high", "abstain"))
        return Calibration(numbers("coefficients"), numbers("resampled"), low, high, abstain, plain["about"])


def calibrate(given: Given, resamples: int = 200, seed: int = 0, folds: int = 5) -> Calibration:
    """Fit on validation people, all of `given`.

    A condition with at least `FEWEST_OF_CONDITION` people gets a slope and an offset of its own on the pooled LLR.
    Limits, the least LLR that is told, and the figures in `about` come from `folds` folds of people, each judged by the
    others.
    """
    crossed = cross_fitted(given, folds, seed)
    low, high = limits(given.labels, crossed, given.identities)
    bounded = np.clip(crossed, low, high)
    draws: dict[str, list[Floats]] = {}
    people, person = np.unique(given.identities, return_inverse=True)
    whole = _fit(given, None)
    generator = np.random.default_rng([seed, len(people)])
    while len(draws.get(POOLED, [])) < resamples:
        weights = np.bincount(generator.integers(len(people), size=len(people)), minlength=len(people))[person]
        if not 0 < weights @ given.labels < weights.sum():
            continue
        for name, coefficients in _fit(given, weights.astype(np.float64), tuple(whole)).items():
            draws.setdefault(name, []).append(coefficients)
    about = {
        "people": len(people),
        "real": int((given.labels == 0).sum()),
        "forged": int(given.labels.sum()),
        "conditions": {str(name): int((given.conditions == name).sum()) for name in np.unique(given.conditions)},
        **figures(given.labels, bounded),
    }
    return Calibration(
        whole,
        {name: np.stack(values) for name, values in draws.items()},
        low,
        high,
        abstention(given.labels, bounded),
        about,
    )


def _fit(given: Given, weights: Floats | None, wanted: Sequence[str] | None = None) -> dict[str, Floats]:
    """Coefficients of all together, and of the conditions `wanted`, or of those that have people enough."""
    weight = np.ones(len(given.labels)) if weights is None else weights
    pooled = fusion(given.labels, given.scores, weight)
    ratio = _linear(pooled, given.scores)
    found = {POOLED: pooled}
    for name in np.unique(given.conditions):
        here = given.conditions == name
        if (wanted is None and not _enough(given.rows(here))) or (wanted is not None and name not in wanted):
            continue
        forged = float(weight[here] @ given.labels[here])
        if not 0 < forged < weight[here].sum():
            found[str(name)] = pooled  # this draw of people has one class only
            continue
        slope, offset = logistic(given.labels[here], ratio[here], weight[here])
        found[str(name)] = np.append(slope * pooled[:-1], slope * pooled[-1] + offset)
    return found


def _enough(given: Given) -> bool:
    return all(len(np.unique(given.identities[given.labels == label])) >= FEWEST_OF_CONDITION for label in (0, 1))


def cross_fitted(given: Given, folds: int = 5, seed: int = 0) -> Floats:
    """LLRs (N,) of every face by what was fitted on other people, without limits."""
    ratios = np.empty(len(given.labels))
    for here in people_folds(given.identities, folds, seed):
        fitted = _fit(given.rows(~here), None)
        for name in np.unique(given.conditions[here]):
            rows = np.flatnonzero(here & (given.conditions == name))
            ratios[rows] = _linear(fitted.get(str(name), fitted[POOLED]), given.scores[rows])
    return ratios


def people_folds(identities: NDArray[np.str_], folds: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Which faces (N,) each fold holds: whole people."""
    people, person = np.unique(identities, return_inverse=True)
    if len(people) < folds:
        raise UserError(f"identities: {len(people)} people; calibration needs at least {folds}")
    fold = np.random.default_rng([seed, 7]).permutation(len(people)) % folds
    for number in range(folds):
        yield fold[person] == number


def limits(labels: ArrayLike, llr: ArrayLike, identities: NDArray[np.str_]) -> tuple[float, float]:
    """The LLRs, lowest and highest, that a set can support: the empirical lower and upper bound of Vergeer et al. 2016
    (Science & Justice 56, 482), counted in people instead of faces, of whom one more than was seen is misled; who is
    misled on some of their faces counts for that share.

    An LLR of t is supported if, at every threshold from 0 to t, people of the one kind pass at least exp(threshold)
    times as often as people of the other, wrongly.
    """
    truth, ratio, _ = checked(labels, llr)

    def bound(ratios: Floats, right: NDArray[np.bool_]) -> float:
        steps = np.linspace(0, 12, 1201)
        above = ratios[None] >= steps[:, None]
        others = _by_person(identities, ~right)
        misled = (sum(above[:, rows].mean(1) for rows in others) + 1) / (len(others) + 1)
        passed = np.mean([above[:, rows].mean(1) for rows in _by_person(identities, right)], axis=0)
        holds = steps <= np.log(np.maximum(passed, 1e-12) / misled)
        return float(steps[max(0, int(np.argmin(holds)) - 1)]) if not holds.all() else float(steps[-1])

    return -bound(-ratio, truth == 0), bound(ratio, truth == 1)


def _by_person(identities: NDArray[np.str_], keep: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    rows = np.flatnonzero(keep)
    _, person = np.unique(identities[rows], return_inverse=True)
    return [rows[person == number] for number in range(int(person.max()) + 1)]


def risk_coverage(labels: ArrayLike, llr: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """What is risked if only the surest faces are judged: |LLR| from which one judges, the share of faces judged, and
    the share of those judged wrongly, real and forged counting the same in all (Geifman and El-Yaniv 2017,
    arXiv 1705.08500). One entry a distinct |LLR|, the surest first."""
    truth, ratio, _ = checked(labels, llr)
    balance = balanced(truth)
    order = np.argsort(-np.abs(ratio), kind="stable")
    sure = np.abs(ratio)[order]
    judged = np.cumsum(balance[order])
    wrong = np.cumsum((balance * ((ratio > 0) != truth))[order])
    last = np.r_[np.flatnonzero(np.diff(sure)), len(sure) - 1]
    return sure[last], judged[last], wrong[last] / judged[last]


def abstention(labels: ArrayLike, llr: ArrayLike, risk: float = 0.05) -> float:
    """The least |LLR| from which one judges wrongly in at most `risk` of the cases, and never less than what the verbal
    scale calls support."""
    sure, _, wrong = risk_coverage(labels, llr)
    right = np.flatnonzero(wrong <= risk)
    return max(math.log(SCALE[0][0]), float(sure[right[-1]] if len(right) else sure[0]))


def figures(labels: ArrayLike, llr: ArrayLike) -> dict[str, float]:
    """Cllr, what ranking alone costs of it, and ECE with both classes counting the same."""
    truth, ratio, _ = checked(labels, llr)
    return {
        "cllr": round(cllr(truth, ratio), 4),
        "cllr_min": round(cllr_min(truth, ratio), 4),
        "ece": round(ece(truth, ratio, weights=balanced(truth)), 4),
    }


def ece_if_right(labels: ArrayLike, llr: ArrayLike, draws: int = 200, seed: int = 0) -> float:
    """The ECE that LLRs have in the mean where every one of them is right, for want of faces: with truths drawn by the
    LLRs themselves, at the share of forged faces that there is. Both classes count the same, as in `figures`."""
    truth, ratio, _ = checked(labels, llr)
    share = truth.mean()
    probability = expit(ratio + logit(share))
    generator = np.random.default_rng([seed, 11])
    drawn = (generator.random((draws, len(ratio))) < probability).astype(int)
    return float(np.mean([ece(one, ratio, weights=balanced(one)) for one in drawn if 0 < one.sum() < len(one)]))
