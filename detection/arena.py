"""The arena: every reenactor against every detector, and the game between the two sides.

The payoff is AUROC on test identities: 1 where the detector separates all forgeries from the real frames, .5 where it
guesses. The game is played for evasion, 1 - AUROC, which the red side (rows) maximises and the blue side (columns)
minimises: a zero-sum matrix game, solved exactly by linear programming (von Neumann 1928; NashConv as in Lanctot et al.
2017, arXiv 1711.00832).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from detection.metrics import auroc, bootstrap_by_identity
from generation.records import UserError


@dataclass(frozen=True, eq=False)
class Payoff:
    """Who beats whom: `matrix[i, j]` is the AUROC of detector j on the forgeries of reenactor i.

    matrix: np.ndarray     # (G, D) in [0, 1]
    low, high: np.ndarray  # (G, D) ends of the interval, by identities drawn with replacement
    """

    reenactors: tuple[str, ...]
    detectors: tuple[str, ...]
    matrix: np.ndarray
    low: np.ndarray
    high: np.ndarray
    metric: str = "auroc"

    def cell(self, reenactor: str, detector: str) -> tuple[float, float, float]:
        """AUROC and the two ends of its interval."""
        at = self.reenactors.index(reenactor), self.detectors.index(detector)
        return float(self.matrix[at]), float(self.low[at]), float(self.high[at])

    def evasion(self, reenactors: Sequence[str], detectors: Sequence[str]) -> np.ndarray:
        """1 - AUROC of the named rows and columns, in the order given: the matrix `solve` takes."""
        rows = [self.reenactors.index(name) for name in reenactors]
        columns = [self.detectors.index(name) for name in detectors]
        return 1 - self.matrix[np.ix_(rows, columns)]  # (len(reenactors), len(detectors))

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and exact floats, ready for JSON."""
        return {
            "metric": self.metric,
            "reenactors": list(self.reenactors),
            "detectors": list(self.detectors),
            "matrix": self.matrix.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Payoff:
        """The inverse of `as_dict`."""
        return Payoff(
            reenactors=tuple(content["reenactors"]),
            detectors=tuple(content["detectors"]),
            metric=content["metric"],
            **{name: np.asarray(content[name], np.float64) for name in ("matrix", "low", "high")},
        )


def payoff_matrix(
    real: Mapping[str, np.ndarray],
    real_identities: np.ndarray,
    forged: Mapping[str, Mapping[str, np.ndarray]],
    forged_identities: Mapping[str, np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Payoff:
    """AUROC of every detector on every reenactor's forgeries, with an interval by identity bootstrap.

    real: detector -> (N,) log-odds of the real frames, whose identities are `real_identities` (N,).
    forged: reenactor -> detector -> (M,) log-odds of its forgeries, of the identities `forged_identities[reenactor]`.
    Every cell draws the same identities (one seed): cells may be compared. Rows and columns keep the mappings' order.
    Raises `UserError` that names the cell for scores which are missing, not finite or of one class only.
    """
    if not real or not forged:
        raise UserError("payoff: no detector or no reenactor to score; give at least one of each")
    cells = np.empty((3, len(forged), len(real)))
    for i, (reenactor, scores) in enumerate(forged.items()):
        identities = np.concatenate([real_identities, forged_identities[reenactor]])
        for j, (detector, real_scores) in enumerate(real.items()):
            if detector not in scores:
                raise UserError(
                    f"payoff: detector {detector!r} has no scores on the forgeries of {reenactor!r}; score them first"
                )
            both = np.concatenate([real_scores, scores[detector]])
            labels = np.repeat([0, 1], [len(real_scores), len(scores[detector])])
            try:
                cells[0, i, j] = auroc(labels, both)
                cells[1:, i, j] = bootstrap_by_identity(auroc, labels, both, identities, resamples, seed, level)
            except UserError as error:
                raise UserError(f"payoff of {detector!r} on {reenactor!r}: {error}") from error
    return Payoff(tuple(forged), tuple(real), *cells)


@dataclass(frozen=True, eq=False)
class Game:
    """An equilibrium: the mixtures `red` (G,) and `blue` (D,), the evasion `value` they meet at, their `nash_conv`."""

    value: float
    red: np.ndarray
    blue: np.ndarray
    nash_conv: float


def nash_conv(payoff: np.ndarray, red: np.ndarray, blue: np.ndarray) -> float:
    """What both sides together could gain by changing alone: 0 at an equilibrium, else positive.

    payoff: np.ndarray  # (G, D), red maximises, blue minimises; red (G,) and blue (D,) are probabilities
    """
    return float((payoff @ blue).max() - (red @ payoff).min())


def _best_mixture(payoff: np.ndarray) -> np.ndarray:  # (G, D) -> (G,)
    """The row mixture whose worst column is best: maximise v with payoff.T @ p >= v."""
    rows, columns = payoff.shape
    found = linprog(
        np.r_[np.zeros(rows), -1],
        A_ub=np.c_[-payoff.T, np.ones(columns)],
        b_ub=np.zeros(columns),
        A_eq=np.r_[np.ones(rows), 0][None],
        b_eq=[1],
        bounds=[(0, None)] * rows + [(None, None)],
        method="highs",
    )
    if found.x is None:
        raise ArithmeticError(f"linear programme of a {rows} x {columns} game: {found.message}")
    mixture = np.clip(found.x[:-1], 0, None)
    return np.asarray(mixture / mixture.sum())


def solve(payoff: np.ndarray) -> Game:
    """The equilibrium of a zero-sum game whose rows maximise and whose columns minimise.

    payoff: np.ndarray  # (G, D) evasion (1 - AUROC) of reenactor i from detector j; finite, else `UserError`
    Where there are several equilibria the solver's vertex is returned; the same matrix always gives the same one.
    """
    payoff = np.asarray(payoff, np.float64)
    if payoff.ndim != 2 or payoff.size == 0:
        raise UserError(
            f"game: a payoff of shape {payoff.shape}; it must be reenactors x detectors with at least one of each"
        )
    if not np.isfinite(payoff).all():
        row, column = np.argwhere(~np.isfinite(payoff))[0]
        raise UserError(f"game: payoff[{row}, {column}] is {payoff[row, column]}; every cell must be a finite number")
    red, blue = _best_mixture(payoff), _best_mixture(-payoff.T)
    return Game(float(red @ payoff @ blue), red, blue, nash_conv(payoff, red, blue))


@dataclass(frozen=True)
class RoundGame:
    """The game as it stood after one round, in names.

    value: float              # evasion at equilibrium
    red, blue: dict           # name -> probability
    nash_conv: float          # error of the equilibrium, 0 but for rounding
    newest: float             # evasion of the newest detector alone, by the best reenactor against it
    newest_nash_conv: float   # NashConv of newest against newest: what playing without the older ones gives away
    """

    round: int
    value: float
    red: dict[str, float]
    blue: dict[str, float]
    nash_conv: float
    newest: float
    newest_nash_conv: float


def rounds(payoff: Payoff, reenactors: Sequence[str], detectors: Sequence[str]) -> list[RoundGame]:
    """The game of every round: after round r the sides hold the first r + 1 of `reenactors` and of `detectors`."""
    games = []
    for last, _ in enumerate(zip(reenactors, detectors, strict=True)):
        red, blue = reenactors[: last + 1], detectors[: last + 1]
        evasion = payoff.evasion(red, blue)
        game, newest = solve(evasion), np.eye(last + 1)[-1]
        games.append(
            RoundGame(
                round=last,
                value=game.value,
                red=dict(zip(red, game.red.tolist(), strict=True)),
                blue=dict(zip(blue, game.blue.tolist(), strict=True)),
                nash_conv=game.nash_conv,
                newest=float(evasion[:, -1].max()),
                newest_nash_conv=nash_conv(evasion, newest, newest),
            )
        )
    return games


def forgetting(matrix: np.ndarray, reenactor_rounds: Sequence[int], detector_rounds: Sequence[int]) -> dict[int, float]:
    """Average forgetting after every round (CDDB, Li et al. 2022, arXiv 2205.05467): what was known and has been lost.

    matrix: np.ndarray  # (G, D) AUROC; the two sequences give the round of every row and of every column
    For the detector of round r and every reenactor of a round i < r: the best AUROC on it of the detectors of rounds
    i .. r - 1, which had learned from it, minus the AUROC now; then the mean over i. Positive: forgotten; negative:
    improved. A detector with no such past is left out.
    """
    lost: dict[int, float] = {}
    for column, now in enumerate(detector_rounds):
        losses = []
        for row, past in enumerate(reenactor_rounds):
            learned = [matrix[row, other] for other, then in enumerate(detector_rounds) if past <= then < now]
            if learned:
                losses.append(max(learned) - matrix[row, column])
        if losses:
            lost[now] = float(np.mean(losses))
    return lost


def transfer(
    matrix: np.ndarray, reenactor_rounds: Sequence[int], detector_rounds: Sequence[int]
) -> dict[str, float | None]:
    """Mean AUROC of detectors on reenactors `newer` than they (never seen), of the `same` round, and `older`.

    matrix: np.ndarray  # (G, D) AUROC; the two sequences give the round of every row and of every column
    A kind of which there is no pair is None.
    """
    age = np.subtract.outer(np.asarray(reenactor_rounds), np.asarray(detector_rounds))  # (G, D), positive: newer
    chosen = {"newer": age > 0, "same": age == 0, "older": age < 0}
    return {name: float(matrix[cells].mean()) if cells.any() else None for name, cells in chosen.items()}
