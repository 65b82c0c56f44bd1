"""Evasion by asking: what an oracle gives away, what a search makes of it, and that a stopped one ends the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detection.detectors import Detector, build_detector
from detection.oracle import BudgetSpentError, Oracle
from detection.training import score
from generation.forge import draw_swaps, reenact
from generation.records import Faces, UserError
from generation.reenactors import load_reenactor
from generation.reenactors.reenactment import Readout
from generation.search import SearchOptions, State, Verdict, displeasure, evade, search, utilities
from scripts.red_team import shipped

SMALL = SearchOptions(population=6, images=4)


def detector(seed: int = 0, threshold: float = 0.0) -> Detector:
    return Detector(build_detector("frequency", {}, seed).eval(), "frequency", {}, {"threshold": threshold})


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_scores_are_the_detectors_and_carry_no_gradient() -> None:
    one, other = detector(0), detector(1)
    oracle = Oracle([one, other], [1.0, 3.0], "scores", 20)
    answers = oracle(pictures(5))
    assert answers.shape == (5, 2) and not answers.requires_grad and answers.grad_fn is None
    for column, asked in enumerate((one, other)):
        np.testing.assert_array_equal(answers[:, column].numpy(), score(asked.module, pictures(5)))
    assert oracle.weights.tolist() == [0.25, 0.75]


def test_images_that_could_carry_a_gradient_are_refused() -> None:
    oracle = Oracle([detector()], [1.0], "scores", 20)
    with pytest.raises(TypeError, match="8-bit"):
        oracle((pictures(2).float() / 255).requires_grad_())
    assert oracle.asked == 0


def test_decisions_are_booleans_at_the_detectors_threshold() -> None:
    scores = torch.from_numpy(score(detector().module, pictures(9)))
    threshold = float(scores.median())
    answers = Oracle([detector(threshold=threshold)], [1.0], "decisions", 9)(pictures(9))
    assert answers.dtype == torch.bool
    assert (answers[:, 0] == (scores >= threshold)).all() and 0 < int(answers.sum()) < 9


def test_every_image_and_detector_is_a_query_and_the_budget_is_never_passed() -> None:
    oracle = Oracle([detector(0), detector(1), detector(2)], [0.5, 0.0, 0.5], "scores", 17)
    for expected in (6, 12):
        oracle(pictures(3))
        assert oracle.asked == expected
    with pytest.raises(BudgetSpentError, match="12 of 17"):
        oracle(pictures(3))
    assert oracle.asked == 12
    oracle(pictures(2))
    assert oracle.asked == 16


def test_utilities_are_those_of_the_paper_and_put_the_allowed_first() -> None:
    """Wierstra et al. 2014: u_k = max(0, ln(n / 2 + 1) - ln k), normalised, minus 1 / n."""
    raw = [max(0.0, math.log(3) - math.log(k)) for k in (1, 2, 3, 4)]
    expected = [value / sum(raw) - 0.25 for value in raw]
    cost, violation = torch.tensor([5.0, 1.0, 0.0, 9.0]), torch.tensor([0.0, 0.0, 0.2, 0.1])
    torch.testing.assert_close(
        utilities(Verdict(cost, violation)), torch.tensor([expected[k] for k in (1, 0, 3, 2)], dtype=torch.float64)
    )
    assert utilities(Verdict(torch.ones(4), torch.zeros(4))).abs().max() < 1e-12


def sphere(centre: Tensor) -> Callable[[Tensor, int], Verdict]:
    """Cost by distance to `centre`; the first number may not be above 0."""
    return lambda draws, _: Verdict((draws - centre).square().sum(1), draws[:, 0].clamp_min(0))


def test_the_search_finds_the_best_that_is_allowed() -> None:
    centre = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    start = State(torch.full((3,), -1.0, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64))
    found = search(sphere(centre), start, 150, 20, seed=0)
    torch.testing.assert_close(found.mean, centre.clamp(max=torch.tensor([0.0, 9, 9])), atol=0.02, rtol=0)
    assert found.generation == 150


@pytest.mark.parametrize("stop", [1, 7])
def test_a_search_in_parts_is_the_same_search(stop: int) -> None:
    start = State(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    judge = sphere(torch.arange(4.0, dtype=torch.float64))
    whole = search(judge, start, 20, 8, seed=3)
    parts = search(judge, search(judge, start, stop, 8, seed=3), 20, 8, seed=3)
    other = search(judge, start, 20, 8, seed=4)
    assert torch.equal(whole.mean, parts.mean) and torch.equal(whole.spread, parts.spread)
    assert not torch.equal(whole.mean, other.mean)


@pytest.mark.parametrize(
    ("answers", "values"), [("scores", [[-1.0, 2.0], [3.0, 0.0]]), ("decisions", [[1, 0], [1, 1]])]
)
def test_what_displeases_a_forger(answers: str, values: list[list[float]]) -> None:
    given = torch.tensor(values, dtype=torch.bool if answers == "decisions" else torch.float64)
    each = np.asarray(values) if answers == "decisions" else np.logaddexp(0, values)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert displeasure(given, weights) == pytest.approx(float(each.mean(0) @ [0.25, 0.75]))


class Spy(Oracle):
    """An oracle that may be cut off, and remembers what it was shown."""

    def __init__(self, answers: str, budget: int, cut: int | None = None, threshold: float = 0.0) -> None:
        super().__init__([detector(threshold=threshold)], [1.0], answers, budget)
        self.cut, self.seen = cut, 0

    def __call__(self, images: Tensor) -> Tensor:
        if self.cut is not None and self.asked >= self.cut:
            raise KeyboardInterrupt
        self.seen += len(images)
        return super().__call__(images)


def evaded(faces: Faces, oracle: Oracle, state: Path, options: SearchOptions = SMALL) -> dict[str, Tensor]:
    network, _ = load_reenactor(shipped("warp_64"))
    evade(network, oracle, faces, options, 5, state)
    return network.state_dict()


@pytest.mark.parametrize("answers", ["scores", "decisions"])
def test_only_readouts_move_and_no_more_is_asked_than_allowed(answers: str, faces: Faces, tmp_path: Path) -> None:
    oracle = Spy(answers, 60, threshold=float(np.median(score(detector().module, faces.image))))
    far = SearchOptions(population=6, images=4, spread=0.05, quality_loss=10.0)
    moved = evaded(faces, oracle, tmp_path / "state", far)
    network, _ = load_reenactor(shipped("warp_64"))
    allowed = {f"{name}.bias" for name, layer in network.named_modules() if isinstance(layer, Readout)}
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, moved[name])}
    assert oracle.asked == oracle.seen == 48  # two generations of 24; the rest pays for no third
    assert changed and changed <= allowed


def test_a_stopped_search_goes_on_and_ends_the_same(faces: Faces, tmp_path: Path) -> None:
    whole = evaded(faces, Spy("scores", 96), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaded(faces, Spy("scores", 96, cut=64), tmp_path / "parts")
    again = Spy("scores", 96)
    parts = evaded(faces, again, tmp_path / "parts")
    assert again.asked == 96 and again.seen == 48  # the generation that was cut is asked once more, and counts once
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_search_lowers_the_scores_and_keeps_the_quality(faces: Faces, tmp_path: Path) -> None:
    """Against a detector that only sees how bright a picture's changed mouth region is."""

    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(200.0))

        def forward(self, images: Tensor) -> Tensor:
            return self.gain * (images[:, :, 40:, 16:48].mean((1, 2, 3)) - 0.4)

    judge = Detector(Brightness(), "brightness", {}, {"threshold": 0.0})
    network, _ = load_reenactor(shipped("warp_64"))
    test = faces.where(split="test")
    swaps = draw_swaps(test, 40, 0)
    before, _ = reenact(network, test, swaps)
    options = SearchOptions(population=8, images=4, quality_loss=0.3)
    evade(network, Oracle([judge], [1.0], "scores", 480), faces, options, 0, tmp_path / "state")
    after, _ = reenact(network, test, swaps)
    assert score(judge.module, after).mean() < score(judge.module, before).mean() - 0.2

    def error(images: Tensor) -> float:
        return float((images.float() - test.image[swaps.target].float()).abs().mean())

    assert error(after) < 1.3 * error(before)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"population": 5}, "population=5: must be even"),
        ({"population": 2}, "population=2"),
        ({"images": 0}, "images=0"),
        ({"spread": 0.0}, "spread=0.0: must be more than 0"),
        ({"quality_loss": -0.1}, "quality_loss=-0.1"),
        ({"quality_loss": math.nan}, "quality_loss=nan"),
    ],
)
def test_options_are_checked(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SearchOptions(**wrong)


def test_a_budget_that_pays_for_nothing_is_named(faces: Faces, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cycle.queries=23: one generation of the search takes 24"):
        evaded(faces, Spy("scores", 23), tmp_path / "state")


def test_a_reenactor_without_readouts_is_named(faces: Faces, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readout"):
        evade(torch.nn.Conv2d(3, 3, 1), Spy("scores", 60), faces, SMALL, 0, tmp_path / "state")
