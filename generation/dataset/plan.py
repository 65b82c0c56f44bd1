"""The plan of a controlled data set: one row a clip, drawn from one seed before anything is rendered.

Clips come in pairs: two real clips of different people of one split, and, for every reenactor, both forgeries that swap
their expressions. What is a matter of the clip (pose, light, degradation, ...) is the same for a real clip and for its
forgeries, so nothing but the forged region tells them apart.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from generation.dataset.design import OF_CLIPS, OF_PAIRS, OF_SWAPS, SYNTHETIC_ONLY, PlanConfig, check_degradations
from generation.faces.people import ORIGIN
from generation.records import SPLITS, UserError

SHARD_FRAMES = 320
"""About so many frames are a shard, in whole pairs: the unit of work."""

PEOPLE_SEED = 10_000
"""Added to the seed of a set: its people are none that a shipped reenactor was trained on."""


class Take(NamedTuple):
    """A real clip of footage that a plan may use: its name in the records."""

    clip: str
    identity: str
    split: str
    origin: str


def make_plan(config: PlanConfig, degradations: Collection[str], takes: Sequence[Take] = ()) -> pd.DataFrame:
    """The plan: one row a clip, real ones before their forgeries, pair after pair.

    degradations: names that there are; takes: real clips of the footage
    Columns: row, clip, shard, split, label, method, round, source, driver (clips, "" for real ones), pair, identity,
    person, scene (numbers of a synthetic one, else -1), take (clip of the footage, else ""), the factors (null or ""
    where they do not apply), origin, seed.
    Raises `UserError` for factors that contradict each other, more people or clips than there are, or a number of clips
    that the design cannot have.
    """
    check_degradations(config.factors.degradation, degradations)
    cells = list(itertools.product(*(config.factors.levels(name) or (None,) for name in (*OF_CLIPS, *OF_PAIRS))))
    pairs = _pairs(config, len(cells))
    real = _cast(config, pairs, takes, len(cells))
    for level in (*OF_CLIPS, *OF_PAIRS):
        real[level] = _assigned(config, level, real, cells)
    rows = [row for _, pair in real.groupby("pair", sort=False) for row in _rows_of(config, _dicts(pair))]
    plan = pd.DataFrame(rows)
    drawn = np.random.default_rng([config.seed, 4])
    forged = (plan["label"] == 1).to_numpy()
    if config.design == "random":
        for name in OF_SWAPS:
            plan.loc[forged, name] = pd.Series(_balanced(config.factors.levels(name), forged.sum(), drawn)).to_numpy()
    plan.insert(0, "row", np.arange(len(plan)))
    a_shard = max(1, SHARD_FRAMES // (config.clips_a_pair * config.frames)) * config.clips_a_pair
    plan["shard"] = plan["row"] // a_shard
    plan["seed"] = [row_seed(config.seed, row) for row in plan["row"]]
    for name in ("skin", "age", "yaw", "light", "strength"):
        plan[name] = plan[name].astype("float32")
    return plan


def row_seed(seed: int, row: int) -> int:
    """Of one row, in [0, 2**63): neither order nor worker matters."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:8], "big") >> 1


def _pairs(config: PlanConfig, cells: int) -> int:
    if config.design == "factorial":
        pairs = cells * (config.people // 2)
        if config.clips not in (None, pairs * config.clips_a_pair):
            raise UserError(
                f"dataset.clips={config.clips}: {config.people} people in all {cells} combinations of the levels make "
                f"{pairs * config.clips_a_pair} clips; leave clips out, or change people or levels"
            )
        return pairs
    each = config.clips_a_pair
    if config.clips is None or config.clips < each or config.clips % each:
        near = max(1, round((config.clips or 0) / each)) * each
        raise UserError(
            f"dataset.clips={config.clips}: two real clips and their forgeries by {len(config.reenactors)} reenactors "
            f"are {each} clips; take a multiple of that, as {near}"
        )
    return config.clips // each


def _shared(total: int, config: PlanConfig, least: int, what: str) -> list[int]:
    """`total` in parts by the shares of the splits, at least `least` where a share is not 0."""
    shares = np.array(config.shares) / sum(config.shares)
    wanted = [least if share > 0 else 0 for share in shares]
    if sum(wanted) > total:
        raise UserError(
            f"{what}: {total} are too few for {np.count_nonzero(shares)} splits, which need {least} each; take more, "
            "or set a share of dataset.train, dataset.validation, dataset.test to 0"
        )
    while sum(wanted) < total:
        wanted[int(np.argmax(shares * total - wanted))] += 1
    return wanted


def _cast(config: PlanConfig, pairs: int, takes: Sequence[Take], cells: int) -> pd.DataFrame:
    """Two real clips a pair, with who and what they show."""
    synthetic = {"synthetic": pairs, "footage": 0, "both": (pairs + 1) // 2}[config.source]
    rows: list[dict[str, Any]] = []
    if synthetic:
        rows += _synthetic(config, synthetic, cells)
    if pairs > synthetic:
        rows += _filmed(config, pairs - synthetic, takes)
    for index, row in enumerate(rows):
        row["clip"] = f"{index:05d}"
        row["pair"] = f"{index - index % 2:05d}_{index - index % 2 + 1:05d}"
    return pd.DataFrame(rows)


def _synthetic(config: PlanConfig, pairs: int, cells: int) -> Iterator[dict[str, Any]]:
    if config.people % 2 or config.people > 2 * pairs:
        raise UserError(
            f"dataset.people={config.people}: must be even, as people swap expressions in pairs, and at most "
            f"{2 * pairs}, the real clips of this plan"
        )
    factorial = config.design == "factorial"
    teams = _shared(config.people // 2, config, 1, f"dataset.people={config.people}, in pairs")
    shown = [count * cells for count in teams] if factorial else _shared(pairs, config, 1, f"{pairs} pairs of clips")
    first = 0
    scenes: dict[int, int] = {}
    for split, team, count in zip(SPLITS, teams, shown, strict=True):
        people = 2 * team
        for index in range(count):
            place, turn = (index // cells, 0) if factorial else (index % team, index // team)
            one = 2 * place
            other = 2 * ((place + turn) % team) + 1
            for person in (first + one, first + other):
                scene = scenes[person] = scenes.get(person, -1) + 1
                yield {
                    "split": split,
                    "identity": f"synthetic-{PEOPLE_SEED + config.seed}-{person:05d}",
                    "person": person,
                    "scene": 0 if factorial else scene,
                    "take": "",
                    "origin": ORIGIN,
                    "cell": index % cells,
                }
        first += people


def _filmed(config: PlanConfig, pairs: int, takes: Sequence[Take]) -> Iterator[dict[str, Any]]:
    for split, count in zip(SPLITS, _shared(pairs, config, 0, f"{pairs} pairs of clips"), strict=True):
        found = _disjoint([take for take in takes if take.split == split])
        if len(found) < count:
            people = len({take.identity for take in takes})
            raise UserError(
                f"{config.footage}: the plan needs {count} pairs of clips of different people in {split}, the "
                f"records hold {len(found)} ({len(takes)} clips of {people} people in all); ask for fewer clips or "
                "set other shares"
            )
        for take in itertools.chain.from_iterable(found[:count]):
            yield {
                "split": split, "identity": take.identity, "person": -1, "scene": -1, "take": take.clip,
                "origin": take.origin, "cell": 0,
            }  # fmt: skip


def _disjoint(takes: Sequence[Take]) -> list[tuple[Take, Take]]:
    """Every clip with one of somebody else, none of them twice: as many such pairs as there can be, up to one."""
    waiting: dict[str, list[Take]] = {}
    for take in sorted(takes):
        waiting.setdefault(take.identity, []).append(take)
    found: list[tuple[Take, Take]] = []
    while True:
        most = sorted((name for name in waiting if waiting[name]), key=lambda name: (-len(waiting[name]), name))[:2]
        if len(most) < 2:
            return found
        found.append((waiting[most[0]].pop(0), waiting[most[1]].pop(0)))


def _assigned(config: PlanConfig, name: str, real: pd.DataFrame, cells: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The level of a factor for every real clip."""
    names = (*OF_CLIPS, *OF_PAIRS)
    filmed = (real["take"] != "").to_numpy()
    nothing = "" if name == "motion" else None
    if config.design == "factorial":
        levels = [cells[cell][names.index(name)] for cell in real["cell"]]
    else:
        drawn = np.random.default_rng([config.seed, 3, names.index(name)])
        of_pair = name in OF_PAIRS
        values = _balanced(config.factors.levels(name) or (None,), len(real) // (1 + of_pair), drawn)
        levels = [values[index // 2] if of_pair else values[index] for index in range(len(real))]
    return [nothing if was and name in SYNTHETIC_ONLY else level for was, level in zip(filmed, levels, strict=True)]


def _balanced(levels: Sequence[Any], count: int, generator: np.random.Generator) -> list[Any]:
    """Every level as often as every other, but for the rest of a division, in random order."""
    order = generator.permutation(count)
    return [levels[place % len(levels)] for place in order]


def _dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _rows_of(config: PlanConfig, pair: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for clip in pair:
        yield {
            **{key: value for key, value in clip.items() if key != "cell"},
            "label": 0, "method": "", "round": -1, "source": "", "driver": "", "strength": None, "region": "",
        }  # fmt: skip
    swaps = list(itertools.product(config.factors.strength, config.factors.region))[: config.swaps]
    for method, maker in config.reenactors.items():
        for clip, other in (pair, pair[::-1]):
            for index, (strength, region) in enumerate(swaps):
                yield {
                    **{key: value for key, value in clip.items() if key != "cell"},
                    "clip": f"{method}/{clip['clip']}_{other['clip']}" + (f"-{index}" if len(swaps) > 1 else ""),
                    "label": 1, "method": method, "round": maker.round, "source": clip["clip"],
                    "driver": other["clip"], "strength": strength, "region": region,
                }  # fmt: skip
