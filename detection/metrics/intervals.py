"""What chance alone would change: intervals by identity, differences of two detectors, groups of people.

Labels, scores and errors as in `ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from detection.metrics.ranking import Floats, auroc, checked
from generation.records import UserError

_MOST_PEOPLE = 400
"""Up to so many a bootstrap of the AUROC is faster, and as exact, from pairs of people than from faces."""


class Statistic(Protocol):
    """(labels (N,), scores (N,), weights=(N,)) -> one number, as all functions of `ranking` are."""

    def __call__(self, labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> float: ...


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
    truth, score, _ = checked(labels, scores)
    names, person = _people(identities, len(truth))
    if len(names) < 2:
        raise UserError(f"identities: only {names[0]!s}; an interval by identity needs at least two people")
    order = np.argsort(score, kind="stable")  # what is sorted already is ranked faster
    truth, score, person = truth[order], score[order], person[order]
    forged, faces = np.bincount(person, truth), np.bincount(person)
    of_people = _auroc_of_people(truth, score, person) if statistic is auroc and len(names) <= _MOST_PEOPLE else None
    generator = np.random.default_rng([seed, len(names)])
    values = np.empty(resamples)
    for index in range(resamples):
        times = np.zeros(len(names))
        while not 0 < times @ forged < times @ faces:
            times = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names)).astype(float)
        values[index] = statistic(truth, score, weights=times[person]) if of_people is None else of_people(times)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _auroc_of_people(truth: NDArray[np.int64], score: Floats, person: NDArray[np.int64]) -> Callable[[Floats], float]:
    """The AUROC as a function of how often every person counts: from the share of pairs, a forged face of one and a
    real one of the other, that are ranked rightly, which is found once for every two people.

    score: sorted, lowest first
    """
    count = int(person.max()) + 1
    forged, real = truth == 1, truth == 0
    right = np.empty((count, count))
    for other in range(count):
        reals = score[real & (person == other)]
        below = (np.searchsorted(reals, score[forged]) + np.searchsorted(reals, score[forged], side="right")) / 2
        right[:, other] = np.bincount(person[forged], below, count)
    forgeries, originals = (np.bincount(person[kind], minlength=count) for kind in (forged, real))
    return lambda times: float(times @ right @ times / ((times @ forgeries) * (times @ originals)))


def _people(identities: ArrayLike, count: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    names, person = np.unique(np.asarray(identities), return_inverse=True)
    if person.shape != (count,):
        raise UserError(f"identities {person.shape} and labels {(count,)}: one identity is needed for every label")
    return names, person


class Difference(NamedTuple):
    """AUROC of detector a minus that of b, its standard error, and the probability of as large a difference or more,
    to either side, were there none."""

    value: float
    error: float
    p: float


def delong(labels: ArrayLike, a: ArrayLike, b: ArrayLike, identities: ArrayLike | None = None) -> Difference:
    """DeLong's test of two detectors on the same faces (DeLong, DeLong and Clarke-Pearson 1988, Biometrics; by ranks
    as Sun and Xu 2014).

    With `identities` (N,) faces of one person may depend on each other: the covariance of Obuchowski 1997 (Biometrics),
    which sums what the faces of a person contribute. Needs two real and two forged faces, or two people.
    """
    truth, first, _ = checked(labels, a)
    _, second, _ = checked(labels, b)
    forged, real = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    of_forged, of_real, value = [], [], []
    for score in (first, second):
        ranks = rankdata(score)
        of_forged.append((ranks[forged] - rankdata(score[forged])) / len(real))
        of_real.append(1 - (ranks[real] - rankdata(score[real])) / len(forged))
        value.append(of_forged[-1].mean())
    difference = value[0] - value[1]
    up, down = of_forged[0] - of_forged[1] - difference, of_real[0] - of_real[1] - difference
    if identities is None:
        if min(len(forged), len(real)) < 2:
            raise UserError("labels: DeLong's test needs at least two real and two forged faces")
        variance = up.var(ddof=1) / len(forged) + down.var(ddof=1) / len(real)
    else:
        variance = _clustered(up, down, forged, real, identities, len(truth))
    error = float(np.sqrt(variance))
    p = 2 * float(norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
    return Difference(float(difference), error, p)


def _clustered(
    up: Floats, down: Floats, forged: NDArray[np.int64], real: NDArray[np.int64], identities: ArrayLike, count: int
) -> float:
    """Variance of a difference of AUROCs from what each forged and each real face contributes, both of mean 0."""
    names, person = _people(identities, count)
    sums, with_forged, with_real = np.zeros(len(names)), len(set(person[forged])), len(set(person[real]))
    if min(with_forged, with_real) < 2:
        raise UserError("identities: the test needs at least two people with forged and two with real faces")
    ups = np.bincount(person[forged], up, len(names)) * np.sqrt(with_forged / (with_forged - 1)) / len(forged)
    downs = np.bincount(person[real], down, len(names)) * np.sqrt(with_real / (with_real - 1)) / len(real)
    sums = ups + downs
    return float(sums @ sums)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a table of tests, corrected so that the chance of any false finding stays below the level
    (Holm 1979, Scandinavian Journal of Statistics)."""
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise UserError("p-values: they lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty(len(p))
    corrected[order] = stepped
    return [float(value) for value in corrected]


class Group(NamedTuple):
    """A figure of the faces of one group of people, its interval by identity, and how many people they are of."""

    name: str
    value: float
    low: float
    high: float
    people: int


def by_group(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    identities: ArrayLike,
    groups: Mapping[str, ArrayLike],
    seed: int = 0,
) -> list[Group]:
    """The figure in every group, the lowest first.

    groups: {name: (N,) whether a face belongs to it}; those without real and forged faces of two people are left out
    """
    truth, score, _ = checked(labels, scores)
    identity = np.asarray(identities)
    found = []
    for name, members in groups.items():
        rows = np.flatnonzero(np.asarray(members, dtype=bool))
        people = len(np.unique(identity[rows]))
        if people < 2 or len(np.unique(truth[rows])) < 2:
            continue
        given = truth[rows], score[rows]
        interval = bootstrap_by_identity(statistic, *given, identity[rows], seed=seed)
        found.append(Group(name, statistic(*given), *interval, people))
    return sorted(found, key=lambda group: group.value)
