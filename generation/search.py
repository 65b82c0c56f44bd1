"""Evasion without gradients: a reenactor is moved by what a detector answers, and by nothing else of the detector.

What moves are the reenactor's own numbers nearest to the picture, the biases of its `Readout` layers; a forgery stays
the output of a reenactor, and nothing is laid over it. The search is separable natural evolution strategies (Schaul,
Glasmachers and Schmidhuber, GECCO 2011; Wierstra et al., JMLR 2014): a Gaussian over these numbers, moved by the ranks
of its draws. Draws that cost more quality than is allowed rank behind all that do not (Deb, 2000). Quality is measured
against exact targets, which asks the detector nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from generation import losses
from generation.pairs import Batch, Pairs
from generation.records import Faces, UserError, write_beside
from generation.reenactors.reenactment import Readout, blend

CHANGED = 10.0
"""How much more a changed pixel counts in the error of a forgery."""

PROBE = 0.05
"""By how much a number is moved to see what it does."""

HELD, HALVINGS = 16, 6
"""The end of a search is checked on so many times the swaps of a generation, and put right by so many bisections."""


class Oracle(Protocol):
    """Detectors behind a counter.

    asked, budget: queries so far, and at most; every image that a detector scores is one
    weights: Tensor  # (D,) how much each detector counts, summing to 1
    """

    asked: int
    budget: int
    weights: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> (B, D) log-odds, or bool, True where it is called forged."""


@dataclass(frozen=True)
class SearchOptions:
    """population: draws of a generation, all of them judged on the same `images` swaps. spread: of the first draws;
    how far one number's standard deviation moves the forgeries' pixels (root mean square over the frame, in [0, 1]).
    quality_loss: by what share the error of the forgeries may grow."""

    population: int = 20
    images: int = 16
    spread: float = 5e-4
    quality_loss: float = 0.02

    def __post_init__(self) -> None:
        wrong = {
            "population": (self.population < 4 or self.population % 2 == 1, "even and at least 4"),
            "images": (self.images < 1, "at least 1"),
            "spread": (not self.spread > 0, "more than 0"),
            "quality_loss": (not self.quality_loss >= 0, "0 or more, such as 0.02"),
        }
        for name, (broken, allowed) in wrong.items():
            if broken:
                raise UserError(f"generator.search.{name}={getattr(self, name)}: must be {allowed}")

    @property
    def price(self) -> int:
        """Queries that a generation asks of each detector."""
        return self.population * self.images


class Verdict(NamedTuple):
    """Of each draw: its cost (P,), and by how much it breaks the constraint (P,), 0 where it keeps it."""

    cost: Tensor
    violation: Tensor


class State(NamedTuple):
    """Where a search stands: the Gaussian's mean (d,) and standard deviations (d,), whole generations, queries."""

    mean: Tensor
    spread: Tensor
    generation: int = 0
    asked: int = 0


def _write(state: State, path: Path) -> None:
    counts = torch.tensor([state.generation, state.asked])
    write_beside(path, save({"mean": state.mean, "spread": state.spread, "counts": counts}))


def _read(path: Path) -> State:
    found = load_file(path)
    generation, asked = found["counts"].tolist()
    return State(found["mean"], found["spread"], generation, asked)


def utilities(verdict: Verdict) -> Tensor:  # (P,), summing to 0
    """Weights of the draws by rank as in Wierstra et al., the best first; draws of one rank share theirs."""
    count = len(verdict.cost)
    raw = (math.log(count / 2 + 1) - torch.arange(1, count + 1, dtype=torch.float64).log()).clamp_min(0)
    raw = raw / raw.sum() - 1 / count
    violation = verdict.violation.double()
    keys = torch.stack([violation, torch.where(violation > 0, 0, verdict.cost.double())], dim=1)
    _, rank, ties = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)  # sorted by the first column
    shared = torch.stack([part.mean() for part in torch.split(raw, ties.tolist())])
    return shared[rank]


def search(
    judge: Callable[[Tensor, int], Verdict],
    start: State,
    generations: int,
    population: int,
    seed: int,
    keep: Callable[[State], State] = lambda state: state,
) -> State:
    """Go on from `start` until so many generations are whole in all; the same seed finds the same.

    judge: (draws (P, d), number of the generation) -> their verdicts. keep: called after every generation with where
    the search stands; what it returns is gone on from.
    """
    state, size = start, len(start.mean)
    rate = (3 + math.log(size)) / (5 * math.sqrt(size))
    while state.generation < generations:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + state.generation)
        half = torch.randn(population // 2, size, generator=generator, dtype=torch.float64)
        noise = torch.cat([half, -half])
        weight = utilities(judge(state.mean + state.spread * noise, state.generation))[:, None]
        mean = state.mean + state.spread * (weight * noise).sum(0)
        spread = state.spread * torch.exp(rate / 2 * (weight * (noise.square() - 1)).sum(0))
        state = keep(State(mean, spread, state.generation + 1, state.asked))
    return state


class _Candidate:
    """A reenactor whose readouts' biases are set to a vector, and what comes of it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._biases = [
            layer.bias for layer in network.modules() if isinstance(layer, Readout) and layer.bias is not None
        ]
        if not self._biases:
            raise UserError(
                "cycle.disclosure: this reenactor has no readout that a search could move; "
                "allowed for it are white_box and none"
            )

    def vector(self) -> Tensor:  # (d,) float64
        return parameters_to_vector(self._biases).detach().double()

    def put(self, vector: Tensor) -> None:
        with torch.no_grad():
            vector_to_parameters(vector.float(), self._biases)

    @torch.no_grad()
    def forge(self, batch: Batch) -> tuple[Tensor, float]:
        """The forgeries as uint8 (B, 3, H, W), and their error: L1 with the changed pixels counting more."""
        result = self.network(batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion)
        image = (blend(batch.source, result) * 255).round().to(torch.uint8)
        weight = 1 + CHANGED * losses.changed_region(batch.source, batch.target)
        return image, float(losses.reconstruction(image.float() / 255, batch.target, weight))


def displeasure(answers: Tensor, weights: Tensor) -> float:
    """What a forger wants small: mean softplus of the log-odds, or share of forgeries called forged, over detectors by
    weight."""
    cost = answers.double() if answers.dtype == torch.bool else F.softplus(answers.double())
    return float(cost.mean(0) @ weights)


def evade(
    network: nn.Module,
    oracle: Oracle,
    faces: Faces,
    options: SearchOptions,
    seed: int,
    state_file: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Move the readouts of `network`, in place, so that the oracle takes its forgeries of `faces` for real.

    Asks for as many whole generations as the budget pays for, on swaps of the training people. Each draw's error is
    compared with the start's on the same swaps; at the end it is compared on validation people, and the network goes
    back towards its start until it is within what is allowed. What `state_file` holds of the same search is taken up.

    Raises `UserError` where the budget pays for no generation, or the network has no readout.
    """
    price = options.price * len(oracle.weights)
    generations = oracle.budget // price
    if not generations:
        raise UserError(f"cycle.queries={oracle.budget}: one generation of the search takes {price}")
    candidate, pairs = _Candidate(network.eval()), Pairs(faces.where(split="train"))
    start = candidate.vector()
    if state_file.is_file():
        begun = _read(state_file)
    else:
        swaps = pairs.batch(*pairs.draw(options.images, np.random.default_rng([seed, 5])))
        begun = State(start, options.spread / _sensitivity(candidate, swaps))
    oracle.asked = begun.asked

    def judge(draws: Tensor, generation: int) -> Verdict:
        batch = pairs.batch(*pairs.draw(options.images, np.random.default_rng([seed, 3, generation])))
        candidate.put(start)
        _, before = candidate.forge(batch)
        cost, violation = [], []
        for draw in draws:
            candidate.put(draw)
            images, error = candidate.forge(batch)
            cost.append(displeasure(oracle(images), oracle.weights))
            violation.append(max(0.0, error / before - 1 - options.quality_loss))
        return Verdict(torch.tensor(cost), torch.tensor(violation))

    def keep(state: State) -> State:
        state = state._replace(asked=oracle.asked)
        _write(state, state_file)
        if progress:
            progress(state.generation, generations)
        return state

    found = search(judge, begun, generations, options.population, seed, keep)
    people = Pairs(faces.where(split="validation"))
    held = people.batch(*people.draw(HELD * options.images, np.random.default_rng([seed, 4])))
    _within(candidate, start, found.mean, held, options.quality_loss)


def _sensitivity(candidate: _Candidate, batch: Batch) -> Tensor:  # (d,)
    """How far the forgeries' pixels move for each number, root mean square per unit."""
    start = candidate.vector()
    before, _ = candidate.forge(batch)
    found = torch.empty_like(start)
    for index in range(len(start)):
        candidate.put(start + PROBE * F.one_hot(torch.tensor(index), len(start)))
        moved, _ = candidate.forge(batch)
        found[index] = (moved.double() - before.double()).square().mean().sqrt() / 255 / PROBE
    candidate.put(start)
    return found.clamp_min(found.max() / 1000)


def _within(candidate: _Candidate, start: Tensor, found: Tensor, batch: Batch, allowed: float) -> None:
    """Leave the candidate as far from `start` towards `found` as its error on `batch` allows."""
    candidate.put(start)
    _, before = candidate.forge(batch)

    def fits(share: float) -> bool:
        candidate.put(torch.lerp(start, found, share))
        return candidate.forge(batch)[1] <= before * (1 + allowed)

    good, bad = 0.0, 1.0
    if fits(bad):
        return
    for _ in range(HALVINGS):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    candidate.put(torch.lerp(start, found, good))
