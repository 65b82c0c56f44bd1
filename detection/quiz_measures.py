"""How well somebody tells forged pictures from real ones, and what chance alone would change.

An answer is a probability in [0, 1] that a picture is forged; above one half it says "forged", below "real", and one
half counts as half of each. The page's JavaScript (`templates/quiz_measures.js.j2`) computes the same figures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from generation.records import UserError

PUBLISHED = {"untrained": (0.5554, 0.4887, 0.6210), "trained": (0.6514, 0.5521, 0.7446)}
"""Accuracy of people with its 95 % interval, without and with training or support: the meta-analysis of Diel et al.
2024, Computers in Human Behavior Reports 16, doi 10.1016/j.chbr.2024.100538."""


class Figures(NamedTuple):
    """Of one person's, or one detector's, answers.

    pictures: how many; accuracy: share of right answers, with Wilson's 95 % interval `low` to `high`
    d_prime: how far forged and real pictures lie apart for whoever answers, 0 is guessing, with its 95 % interval
    criterion: 0 is unbiased, above it more is called real than forged, below it more forged
    brier: mean squared error of the probability; .25 is always saying one half
    """

    pictures: int
    accuracy: float
    low: float
    high: float
    d_prime: float
    d_prime_low: float
    d_prime_high: float
    criterion: float
    brier: float


def wilson(right: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share (Wilson 1927, Journal of the American Statistical Association 22)."""
    z = float(norm.ppf((1 + level) / 2))
    share, square = right / count, z * z / count
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def verdicts(answers: ArrayLike) -> NDArray[np.float64]:  # (N,) in [0, 1] -> (N,) of 0, .5, 1
    """What the answers call forged."""
    given = np.asarray(answers, np.float64)
    return np.where(given == 0.5, 0.5, (given > 0.5).astype(np.float64))


def right(truth: ArrayLike, answers: ArrayLike) -> NDArray[np.float64]:  # (N,), (N,) -> (N,) of 0, .5, 1
    """Which answers are right."""
    forged = np.asarray(truth, bool)
    said = verdicts(answers)
    return np.asarray(np.where(forged, said, 1 - said))


def figures(truth: ArrayLike, answers: ArrayLike) -> Figures:
    """truth: (N,) 1 for forged and 0 for real pictures, both there; answers: (N,) in [0, 1].

    Rates of hits and false alarms are log-linearly corrected, half an event and one picture added to each class
    (Hautus 1995, Behavior Research Methods 27), so that d' is finite and a perfect score is none of infinity. The
    interval of d' is that of Gourevitch and Galanter (1967, Psychometrika 32) with these rates.
    """
    forged = np.asarray(truth, bool)
    given = np.asarray(answers, np.float64)
    if forged.shape != given.shape or not 0 < forged.sum() < len(forged):
        raise UserError("answers: real and forged pictures are both needed, and one answer to each")
    said = verdicts(given)
    events = {"hit": said[forged], "false alarm": said[~forged]}
    rates = {name: (values.sum() + 0.5) / (len(values) + 1) for name, values in events.items()}
    scores = {name: float(norm.ppf(rate)) for name, rate in rates.items()}
    variance = sum(
        rate * (1 - rate) / (len(events[name]) * float(norm.pdf(scores[name])) ** 2) for name, rate in rates.items()
    )
    d_prime = scores["hit"] - scores["false alarm"]
    half = float(norm.ppf(0.975)) * math.sqrt(variance)
    correct = float(right(forged, given).sum())
    return Figures(
        len(forged),
        correct / len(forged),
        *wilson(correct, len(forged)),
        d_prime,
        d_prime - half,
        d_prime + half,
        -(scores["hit"] + scores["false alarm"]) / 2,
        float(np.mean((given - forged) ** 2)),
    )


def calibration_curve(truth: ArrayLike, answers: ArrayLike, bins: int = 5) -> list[dict[str, float | int]]:
    """Mean answer, share of forged pictures and count in bins of equal width of the answer; empty ones are left out."""
    forged, given = np.asarray(truth, np.float64), np.asarray(answers, np.float64)
    place = np.minimum((given * bins).astype(int), bins - 1)
    return [
        {"stated": float(given[here].mean()), "true": float(forged[here].mean()), "count": int(here.sum())}
        for here in (place == index for index in range(bins))
        if here.any()
    ]


def bootstrap_mean(values: ArrayLike, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float] | None:
    """A percentile interval of the mean of one number a person, people drawn with replacement; None for one person."""
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        return None
    generator = np.random.default_rng([seed, len(numbers)])
    means = numbers[generator.integers(len(numbers), size=(resamples, len(numbers)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
