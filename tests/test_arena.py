"""The arena's numbers against closed forms, brute force and plain loops."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from detection.arena import Payoff, forgetting, nash_conv, payoff_matrix, rounds, solve, transfer
from generation.records import UserError

ROCK_PAPER_SCISSORS = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])


def brute_force_value(payoff: np.ndarray) -> float:
    """The value by enumeration: on some square support both mixtures equalise and no outside strategy does better."""
    rows, columns = payoff.shape
    for size in range(1, min(rows, columns) + 1):
        for chosen in itertools.product(
            itertools.combinations(range(rows), size), itertools.combinations(range(columns), size)
        ):
            part = payoff[np.ix_(*chosen)]
            system = np.block([[part, -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            flipped = np.block([[part.T, -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            if min(abs(np.linalg.det(system)), abs(np.linalg.det(flipped))) < 1e-12:
                continue
            blue, red = np.zeros(columns), np.zeros(rows)
            goal = np.r_[np.zeros(size), 1]
            blue[list(chosen[1])] = np.linalg.solve(system, goal)[:-1]
            red[list(chosen[0])] = np.linalg.solve(flipped, goal)[:-1]
            if min(red.min(), blue.min()) > -1e-12 and (payoff @ blue).max() - (red @ payoff).min() < 1e-9:
                return float(red @ payoff @ blue)
    raise AssertionError("every matrix game has a value")


@pytest.mark.parametrize(
    ("payoff", "value", "red", "blue"),
    [
        (ROCK_PAPER_SCISSORS, 0.5, [1 / 3] * 3, [1 / 3] * 3),
        ([[0.7]], 0.7, [1], [1]),
        ([[0.2, 0.3], [0.6, 0.9]], 0.6, [0, 1], [1, 0]),  # the second row and the first column dominate
        ([[0.1, 0.8], [0.7, 0.2]], 0.45, [5 / 12, 7 / 12], [1 / 2, 1 / 2]),
        ([[0.1], [0.4], [0.3]], 0.4, [0, 1, 0], [1]),
    ],
)
def test_known_games(payoff: list[list[float]], value: float, red: list[float], blue: list[float]) -> None:
    game = solve(np.asarray(payoff))
    assert game.value == pytest.approx(value)
    np.testing.assert_allclose(game.red, red, atol=1e-9)
    np.testing.assert_allclose(game.blue, blue, atol=1e-9)
    assert game.nash_conv == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_two_by_two_closed_form(seed: int) -> None:
    a, b, c, d = payoff = np.random.default_rng(seed).random(4)
    saddle = max(min(a, b), min(c, d)) >= min(max(a, c), max(b, d))
    value = max(min(a, b), min(c, d)) if saddle else (a * d - b * c) / (a + d - b - c)
    assert solve(payoff.reshape(2, 2)).value == pytest.approx(value)


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (5, 1), (3, 3), (3, 4), (4, 3), (4, 4)])
@pytest.mark.parametrize("seed", range(5))
def test_random_games_against_brute_force(rows: int, columns: int, seed: int) -> None:
    payoff = np.random.default_rng([seed, rows, columns]).random((rows, columns))
    game = solve(payoff)
    assert game.value == pytest.approx(brute_force_value(payoff))
    for mixture in (game.red, game.blue):
        assert mixture.min() >= 0 and mixture.sum() == pytest.approx(1)
    assert (game.red @ payoff).min() == pytest.approx((payoff @ game.blue).max())  # duality
    again = solve(payoff.copy())
    assert np.array_equal(again.red, game.red) and np.array_equal(again.blue, game.blue)


def test_nash_conv_is_what_both_could_gain() -> None:
    rock, paper, even = np.eye(3)[0], np.eye(3)[1], np.full(3, 1 / 3)
    assert nash_conv(ROCK_PAPER_SCISSORS, rock, rock) == 1.0  # either could turn .5 into a win
    assert nash_conv(ROCK_PAPER_SCISSORS, rock, paper) == 1.0  # red could turn 0 into 1, blue has what it wants
    assert nash_conv(ROCK_PAPER_SCISSORS, even, rock) == pytest.approx(0.5)
    assert nash_conv(ROCK_PAPER_SCISSORS, even, even) == pytest.approx(0)


@pytest.mark.parametrize(
    ("payoff", "says"),
    [
        (np.zeros((0, 2)), "at least one of each"),
        (np.zeros(3), "reenactors x detectors"),
        (np.array([[0.1, np.nan]]), r"payoff\[0, 1\] is nan"),
        (np.array([[0.1], [np.inf]]), r"payoff\[1, 0\] is inf"),
    ],
)
def test_what_is_no_game_is_refused(payoff: np.ndarray, says: str) -> None:
    with pytest.raises(UserError, match=says):
        solve(payoff)


PEOPLE = [f"p{i}" for i in range(12)]


def scores(seed: int, frames: int, shift: float) -> np.ndarray:
    """Rounded, so that there are ties; people differ."""
    generator = np.random.default_rng(seed)
    person = generator.normal(size=(len(PEOPLE), 1))
    return np.round((person + generator.normal(size=(len(PEOPLE), frames)) + shift).ravel(), 1)


@pytest.fixture
def scored() -> dict[str, dict]:
    return {
        "real": {"D0": scores(1, 5, 0), "W": scores(2, 5, 0)},
        "real_identities": np.repeat(PEOPLE, 5),
        "forged": {
            f"G{g}": {d: scores(10 * g + j, 3 + g, 1.5 - g) for j, d in enumerate(("D0", "W"))} for g in (0, 1, 2)
        },
        "forged_identities": {f"G{g}": np.repeat(PEOPLE, 3 + g) for g in (0, 1, 2)},
    }


def pairs(real: np.ndarray, forged: np.ndarray) -> float:
    """AUROC by counting pairs."""
    return float(np.mean((forged[:, None] > real).astype(float) + 0.5 * (forged[:, None] == real)))


def test_payoff_cells_and_intervals_by_plain_loops(scored: dict[str, dict]) -> None:
    payoff = payoff_matrix(**scored, resamples=400, seed=3)
    assert (payoff.reenactors, payoff.detectors) == (("G0", "G1", "G2"), ("D0", "W"))
    generator = np.random.default_rng(99)
    for i, j in itertools.product(range(3), range(2)):
        reenactor, detector = payoff.reenactors[i], payoff.detectors[j]
        real = scored["real"][detector].reshape(len(PEOPLE), -1)
        forged = scored["forged"][reenactor][detector].reshape(len(PEOPLE), -1)
        assert payoff.matrix[i, j] == pytest.approx(pairs(real.ravel(), forged.ravel()), abs=1e-12)
        draws = [generator.integers(len(PEOPLE), size=len(PEOPLE)) for _ in range(400)]
        values = [pairs(real[draw].ravel(), forged[draw].ravel()) for draw in draws]
        expected = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose([payoff.low[i, j], payoff.high[i, j]], expected, atol=0.05)
        assert payoff.cell(reenactor, detector) == (payoff.matrix[i, j], payoff.low[i, j], payoff.high[i, j])


def test_payoff_is_exact_in_json_and_the_same_again(scored: dict[str, dict]) -> None:
    payoff = payoff_matrix(**scored, resamples=20, seed=3)
    content = json.loads(json.dumps(payoff.as_dict()))
    assert content["metric"] == "auroc" and content == payoff_matrix(**scored, resamples=20, seed=3).as_dict()
    assert Payoff.from_dict(content).as_dict() == content
    assert content["low"] != payoff_matrix(**scored, resamples=20, seed=4).as_dict()["low"]


def test_evasion_takes_names_in_any_order(scored: dict[str, dict]) -> None:
    payoff = payoff_matrix(**scored, resamples=5)
    evasion = payoff.evasion(["G2", "G0"], ["W"])
    np.testing.assert_array_equal(evasion, 1 - payoff.matrix[[[2], [0]], [[1], [1]]])


def test_bad_scores_name_their_cell(scored: dict[str, dict]) -> None:
    scored["forged"]["G1"]["W"][4] = np.nan
    with pytest.raises(UserError, match=r"'W' on 'G1'.*NaN"):
        payoff_matrix(**scored, resamples=5)
    del scored["forged"]["G1"]["W"]
    with pytest.raises(UserError, match="'W' has no scores on the forgeries of 'G1'"):
        payoff_matrix(**scored, resamples=5)
    with pytest.raises(UserError, match="no detector or no reenactor"):
        payoff_matrix({}, np.array([]), {}, {})


def test_the_game_of_every_round() -> None:
    matrix = np.array([[0.9, 0.5, 0.6], [0.4, 0.99, 0.9]])
    payoff = Payoff(("G0", "G1"), ("D0", "W", "D1"), matrix, matrix, matrix)
    first, second = rounds(payoff, ["G0", "G1"], ["D0", "D1"])
    assert (first.round, first.red, first.blue) == (0, {"G0": 1.0}, {"D0": 1.0})
    assert first.value == first.newest == pytest.approx(0.1)
    game = solve(np.array([[0.1, 0.4], [0.6, 0.1]]))
    assert second.value == pytest.approx(game.value) == pytest.approx(0.23 / 0.8)
    assert list(second.red.values()) == pytest.approx(game.red) and list(second.red) == ["G0", "G1"]
    assert list(second.blue.values()) == pytest.approx(game.blue) and list(second.blue) == ["D0", "D1"]
    assert second.newest == pytest.approx(0.4)  # D1 alone: G0 evades it best
    assert second.newest_nash_conv == pytest.approx(0.4 - 0.1)  # red would go to G0, blue is content
    with pytest.raises(ValueError):
        rounds(payoff, ["G0"], ["D0", "D1"])


def test_forgetting_and_transfer_by_hand() -> None:
    matrix = np.array([[0.9, 0.8, 0.5], [0.3, 1.0, 0.9], [0.2, 0.4, 0.7]])
    # D1 on G0: .9 before, .8 now. D2 on G0: .9 before, .5 now; on G1: 1 before (D0 never saw G1), .9 now.
    lost = {1: pytest.approx(0.1), 2: pytest.approx((0.4 + 0.1) / 2)}
    passed = {
        "newer": pytest.approx((0.3 + 0.2 + 0.4) / 3),
        "same": pytest.approx((0.9 + 1.0 + 0.7) / 3),
        "older": pytest.approx((0.8 + 0.5 + 0.9) / 3),
    }
    assert forgetting(matrix, range(3), range(3)) == lost
    assert transfer(matrix, range(3), range(3)) == passed
    shuffled = matrix[[2, 0, 1]][:, [1, 2, 0]], [2, 0, 1], [1, 2, 0]
    assert forgetting(*shuffled) == lost and transfer(*shuffled) == passed
    assert forgetting(matrix[:1, :1], [0], [0]) == {}
    assert transfer(matrix[:1, :1], [0], [0]) == {"newer": None, "same": 0.9, "older": None}


@pytest.mark.parametrize("number", [2, 5])
def test_forgetting_by_plain_loops(number: int) -> None:
    matrix = np.random.default_rng(number).random((number, number))
    found = forgetting(matrix, range(number), range(number))
    assert list(found) == list(range(1, number))
    for now, value in found.items():
        lost = [matrix[i, i:now].max() - matrix[i, now] for i in range(now)]
        assert value == pytest.approx(sum(lost) / now)
