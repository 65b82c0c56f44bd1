"""Plans: every pair is whole, every level is had as often as promised, and what contradicts itself is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from detection.degradations import _CRF, DEGRADATIONS
from generation.dataset.design import COMPRESSIONS, Factors, Maker, PlanConfig, degradations_of
from generation.dataset.plan import SHARD_FRAMES, Take, make_plan, row_seed
from generation.records import SPLITS, UserError
from scripts.door import configure

METHODS = {"warp": Maker("warp_64"), "landmark_warp": Maker(round=2)}
FACTORS = Factors(
    motion=("speech", "emotion"), yaw=(-20.0, 0.0, 20.0), strength=(0.5, 1.0), region=("all", "mouth", "eyes+brows"),
    degradation=("none", "jpeg-3", "resize-2+jpeg-1"), compression=("raw", "c23"),
)  # fmt: skip
RANDOM = PlanConfig("random", clips=240, people=24, reenactors=METHODS, factors=FACTORS)
CROSSED = PlanConfig(
    "crossed", design="factorial", people=12, reenactors=METHODS,
    factors=Factors(motion=("speech",), skin=(0.1, 0.8), yaw=(0.0, 20.0), strength=(0.5, 1.0), region=("all", "mouth")),
)  # fmt: skip
PRESETS = sorted(
    path.name.removesuffix(".yaml")
    for path in (resources.files("conf") / "dataset").iterdir()
    if path.name.endswith(".yaml")
)


def preset(name: str) -> PlanConfig:
    """A preset of `conf/dataset` as the script reads it."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("make_dataset", [f"dataset={name}"])
    return configure(PlanConfig, OmegaConf.to_container(config.dataset))  # type: ignore[arg-type]


def footage(clips: dict[str, int], split: str = "train") -> list[Take]:
    return [
        Take(f"{name}-{index}", name, split, "CC0; consent: asked")
        for name, count in clips.items()
        for index in range(count)
    ]


@pytest.fixture(scope="module", params=[RANDOM, CROSSED, *PRESETS], ids=lambda p: p if isinstance(p, str) else p.name)
def planned(request: pytest.FixtureRequest) -> tuple[PlanConfig, pd.DataFrame]:
    config = preset(request.param) if isinstance(request.param, str) else request.param
    return config, make_plan(config, DEGRADATIONS)


def test_every_pair_holds_two_people_of_a_split_and_all_their_forgeries(
    planned: tuple[PlanConfig, pd.DataFrame],
) -> None:
    config, plan = planned
    assert plan["clip"].is_unique and plan["row"].tolist() == list(range(len(plan)))
    real = plan[plan["label"] == 0].set_index("clip")
    swaps = 1 if config.design == "random" else len(config.factors.strength) * len(config.factors.region)
    for _, pair in list(plan.groupby("pair"))[:: max(1, len(plan) // 2000)]:
        assert pair["split"].nunique() == pair["shard"].nunique() == 1
        one, other = pair[pair["label"] == 0].itertuples()
        assert one.identity != other.identity
        forged = pair[pair["label"] == 1]
        assert len(forged) == 2 * swaps * len(config.reenactors) and set(forged["method"]) == set(config.reenactors)
        assert set(zip(forged["source"], forged["driver"], strict=True)) == {
            (one.clip, other.clip), (other.clip, one.clip),
        }  # fmt: skip
    forged = plan[plan["label"] == 1]
    sources = real.loc[forged["source"]]
    for name in ("identity", "split", "motion", "skin", "age", "yaw", "light", "degradation", "compression", "origin"):
        own, source = forged[name].to_numpy(), sources[name].to_numpy()
        assert ((own == source) | (pd.isna(own) & pd.isna(source))).all(), name


def test_nobody_is_in_two_splits_and_shares_are_kept(planned: tuple[PlanConfig, pd.DataFrame]) -> None:
    config, plan = planned
    assert (plan.groupby("identity")["split"].nunique() == 1).all()
    assert plan["identity"].nunique() == config.people
    shares = plan.groupby("split").size() / len(plan)
    for split, share in zip(SPLITS, config.shares, strict=True):
        assert abs(shares[split] - share / sum(config.shares)) < 2 / config.people + 0.02


def test_shards_are_whole_pairs_of_about_the_same_size(planned: tuple[PlanConfig, pd.DataFrame]) -> None:
    config, plan = planned
    sizes = plan.groupby("shard").size() * config.frames
    assert sizes.max() <= max(SHARD_FRAMES, config.clips_a_pair * config.frames) and (sizes.iloc[:-1] == sizes[0]).all()


def test_a_random_plan_has_every_level_equally_often() -> None:
    plan = make_plan(RANDOM, DEGRADATIONS)
    real, forged = plan[plan["label"] == 0], plan[plan["label"] == 1]
    for name in ("motion", "yaw", "degradation", "compression"):
        counts = real[name].value_counts()
        assert set(counts.index) == set(FACTORS.levels(name)) and counts.max() - counts.min() <= 2
    for name in ("strength", "region"):
        counts = forged[name].value_counts()
        assert len(counts) == len(FACTORS.levels(name)) and counts.max() - counts.min() <= 1
    assert real["strength"].isna().all() and set(real["region"]) == {""}


def test_a_factorial_plan_crosses_everything_on_the_same_people_and_scenes() -> None:
    plan = make_plan(CROSSED, DEGRADATIONS)
    forged = plan[plan["label"] == 1]
    cells = forged.groupby(["identity", "method", "skin", "yaw", "strength", "region"]).size()
    assert len(cells) == 12 * 2 * 2 * 2 * 2 * 2 and (cells == 1).all()
    assert set(plan["scene"]) == {0} and len(plan) == len(cells) + 12 * 4


def test_the_seed_alone_draws() -> None:
    again, other = make_plan(RANDOM, DEGRADATIONS), make_plan(replace(RANDOM, seed=1), DEGRADATIONS)
    pd.testing.assert_frame_equal(make_plan(RANDOM, DEGRADATIONS), again)
    assert not again["degradation"].equals(other["degradation"])
    assert not set(again["identity"]) & set(other["identity"]) and not set(again["seed"]) & set(other["seed"])
    assert [row_seed(0, row) for row in (5, 6)] == again["seed"].tolist()[5:7] and again["seed"].is_unique


def test_footage_is_paired_across_people_and_no_clip_is_used_twice() -> None:
    takes = [*footage({"a": 4, "b": 2, "c": 2}), *footage({"d": 1, "e": 1}, "test")]
    config = PlanConfig(
        "filmed", source="footage", footage=Path("records"), clips=30, reenactors=METHODS, train=4, validation=0, test=1
    )
    plan = make_plan(config, DEGRADATIONS, takes)
    real = plan[plan["label"] == 0]
    assert sorted(real["take"]) == sorted(take.clip for take in takes) and (real["person"] == -1).all()
    assert set(plan["origin"]) == {"CC0; consent: asked"} and set(plan["motion"]) == {""} and plan["yaw"].isna().all()
    both = replace(config, source="both", clips=36, people=4, train=1, test=1)
    mixed = make_plan(both, DEGRADATIONS, takes)
    assert set(mixed["take"] == "") == {True, False} and mixed["pair"].nunique() == 6


def test_compressions_are_the_rate_factors_of_faceforensics() -> None:
    for name, chain in COMPRESSIONS.items():
        assert [_CRF[severity - 1] for _, severity in chain] == ([] if name == "raw" else [int(name[1:])])
    assert degradations_of("resize-2+jpeg-1") == [("resize", 2), ("jpeg", 1)] and degradations_of("none") == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"clips": 241}, r"dataset\.clips=241: two real clips .* are 6 clips; take a multiple of that, as 240"),
    ({"clips": None}, r"dataset\.clips=None: .* as 6"),
    ({"people": 23}, r"dataset\.people=23: must be even"),
    ({"people": 600}, r"dataset\.people=600: .* at most 80, the real clips of this plan"),
    ({"people": 4}, r"dataset\.people=4, in pairs: 2 are too few for 3 splits"),
    ({"reenactors": {}}, r"dataset\.reenactors: name at least one"),
    ({"reenactors": {"../x": Maker()}}, "letters, digits and _ only"),
    ({"source": "footage"}, r"dataset\.source=footage and dataset\.footage=None contradict each other"),
    ({"train": -0.1}, "none may be negative"),
    ({"design": "factorial"}, r"dataset\.clips=240: 24 people in all 36 combinations"),
]
WRONG_FACTORS: list[tuple[dict[str, Any], str]] = [
    ({"strength": (0.0,)}, r"factors\.strength=\[0\.0\]: must be above 0, as a forgery that changes nothing is none"),
    ({"strength": (1.0, 1.0)}, "a level stands there twice"),
    ({"region": ("nose",)}, r"factors\.region=nose: allowed are all, and eyes, brows, mouth"),
    ({"region": ()}, r"factors\.region=\[\]: name at least one level"),
    ({"yaw": (50.0,)}, r"factors\.yaw=\[50\.0\]: must lie between -25 and 25"),
    ({"motion": ("dance",)}, r"factors\.motion=dance: there is no such motion; there are speech"),
    ({"degradation": ("jpeg",)}, r"factors\.degradation=jpeg: must be none, or a name and a severity"),
    ({"degradation": ("none", "sepia-2")}, r"factors\.degradation=sepia-2: .* there are jpeg, resize"),
    ({"compression": ("c30",)}, r"factors\.compression=c30: allowed are raw, c23, c40"),
    ({"degradation": ("h264-3",), "compression": ("c23",)}, "contradict each other: both are H.264"),
]


@pytest.mark.parametrize(("change", "line"), WRONG, ids=lambda value: str(value)[:24])
def test_what_cannot_be_planned_is_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make_plan(replace(RANDOM, **change), DEGRADATIONS)


@pytest.mark.parametrize(("change", "line"), WRONG_FACTORS, ids=lambda value: str(value)[:24])
def test_factors_that_contradict_themselves_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make_plan(replace(RANDOM, factors=Factors(**change)), DEGRADATIONS)


def test_factors_of_synthetic_people_cannot_be_set_on_footage() -> None:
    with pytest.raises(UserError, match=r"factors\.skin=\[0\.5\]: cannot be set on footage"):
        PlanConfig("x", source="footage", footage=Path("r"), reenactors=METHODS, factors=Factors(skin=(0.5,)))


def test_more_people_than_the_footage_holds_are_refused() -> None:
    config = PlanConfig(
        "x", source="footage", footage=Path("r"), clips=60, reenactors=METHODS, train=1, validation=0, test=0
    )
    with pytest.raises(UserError, match=r"r: the plan needs 10 pairs .* in train, the records hold 3 \(6 clips of 3"):
        make_plan(config, DEGRADATIONS, footage({"a": 2, "b": 2, "c": 2}))


def test_levels_are_balanced_over_any_number_of_clips() -> None:
    for pairs, levels in itertools.product((7, 11), (2, 3, 5)):
        config = replace(
            RANDOM, clips=6 * pairs, people=6, factors=Factors(yaw=tuple(map(float, range(levels)))), train=1,
            validation=0, test=0,
        )  # fmt: skip
        real = make_plan(config, DEGRADATIONS).query("label == 0")
        assert np.ptp(real["yaw"].value_counts().to_numpy()) <= 1
