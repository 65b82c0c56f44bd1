"""What detectors are compared on: faces forged by every family of reenactors, and detectors trained on some of them.

A recipe says how a detector is trained; its protocols say on which families: on `each` alone, on all but one
(`leave_one_out`), on `all`, or on `none` (self-blended real faces alone). A recipe can also combine the detectors of
others. Everything lies in the run's folder and is taken up from there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from detection.data import DetectorData
from detection.degradations import Degrade
from detection.detectors import Detector, build_detector, load_detector, save_detector
from detection.metrics import auroc, temperature
from detection.training import AdversarialOptions, DetectorTrainer, choose_threshold, score
from generation.records import Faces, UserError, cache_folder, finished, load
from generation.reenactors import shipped
from scripts.console import say
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.train_detector import DegradeConfig
from scripts.trainer import TrainerConfig, check_compiler, fit

Protocol = Literal["each", "leave_one_out", "all", "none"]


@dataclass(frozen=True)
class Forger:
    """A reenactor. shipped: the name of one that comes with the package and is used as it is; else one is trained for
    `steps` steps with `options`."""

    name: str = "warp"
    options: dict[str, Any] = field(default_factory=dict)
    shipped: str | None = None
    steps: int = 1200


@dataclass(frozen=True)
class ForgeConfig:
    """Forgeries of each reenactor."""

    train: int = 2000
    validation: int = 300
    test: int = 600


@dataclass(frozen=True)
class Recipe:
    """detector: its family; self_blended: share of the forged half that is self-blended real faces; combines: names of
    recipes whose detectors, trained under the same protocol or on none, answer as one here, and nothing is trained;
    begins_with: name of a recipe of the same network, whose weights this one goes on from, on draws of its own;
    averaged: the weights become the mean of those it began with and those it ended with (Wortsman et al. 2022, arXiv
    2109.01903); compile: train through `torch.compile`, which needs a C++ compiler."""

    detector: str = "frequency"
    options: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = ("all",)
    self_blended: float = 0.0
    combines: tuple[str, ...] = ()
    begins_with: str = ""
    averaged: bool = False
    steps: int = 500
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    compile: bool = False
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    adversarial: AdversarialOptions = field(default_factory=AdversarialOptions)

    def __post_init__(self) -> None:
        if self.averaged and not self.begins_with:
            raise UserError("averaged=true of a recipe: with what it begins with, so begins_with must name one")


class Arm(NamedTuple):
    """A detector to be trained: `families` are the reenactors whose forgeries it sees, `left_out` the one that it is
    meant to meet for the first time."""

    name: str
    recipe: str
    families: tuple[str, ...]
    left_out: str | None = None


def arms(recipes: Mapping[str, Recipe], families: tuple[str, ...]) -> list[Arm]:
    """Every recipe under its protocols."""
    found = []
    for name, recipe in recipes.items():
        for protocol in recipe.protocols:
            if protocol == "none":
                found.append(Arm(name if len(recipe.protocols) == 1 else f"{name}-on-none", name, ()))
            elif protocol == "all":
                found.append(Arm(name if len(recipe.protocols) == 1 else f"{name}-on-all", name, families))
            elif protocol == "each":
                found += [Arm(f"{name}-on-{one}", name, (one,)) for one in families]
            else:
                if len(families) < 2:
                    raise UserError(f"recipes.{name}.protocols: leave_one_out needs two forgers, there is one")
                found += [
                    Arm(f"{name}-without-{one}", name, tuple(other for other in families if other != one), one)
                    for one in families
                ]
    return found


def forgeries(
    forgers: Mapping[str, Forger],
    counts: ForgeConfig,
    faces: Faces,
    records: Path,
    trainer: TrainerConfig,
    seed: int,
) -> dict[str, Faces]:
    """The same swaps by every reenactor, from the cache where the same was forged before.

    faces: real ones of all splits, as loaded from the folder `records`
    """
    made: dict[str, Faces] = {}
    for name, forger in forgers.items():
        what = json.dumps([asdict(forger), asdict(counts), str(records), len(faces), seed], sort_keys=True)
        folder = cache_folder() / "forgeries" / hashlib.sha256(what.encode()).hexdigest()[:12]
        here = folder / name
        if not finished(here):
            generator = GeneratorConfig(steps=forger.steps, steps_per_epoch=max(1, forger.steps // 5), judged=0)
            with RedTeam(faces, ReenactorConfig(forger.name, forger.options), generator, trainer, seed) as red:
                checkpoint = (
                    shipped(forger.shipped)
                    if forger.shipped
                    else red.train(name, None, (), (), folder / "reenactor" / name)
                )
                red.forge(checkpoint, name, 0, asdict(counts), seed * 1000, here)
        forged = load(here)
        made[name] = replace(forged, method=np.full(len(forged), name))
    return made


def train(
    arm: Arm,
    recipes: Mapping[str, Recipe],
    real: Faces,
    forged: Mapping[str, Faces],
    trainer: TrainerConfig,
    seed: int,
    folder: Path,
    shares: Mapping[str, float] | None = None,
) -> Detector:
    """The detector of an arm, with threshold and temperature from validation people; from the folder if it is there.

    shares: how often each family is drawn from; None: equally often
    """
    path = folder / f"{arm.name}.safetensors"
    if path.is_file():
        return load_detector(path)
    recipe = recipes[arm.recipe]
    name, options, members = recipe.detector, recipe.options, []
    if recipe.combines:
        members = [
            train(_member(arm, "combines", one, recipes), recipes, real, forged, trainer, seed, folder, shares)
            for one in recipe.combines
        ]
        name, options = "combined", {"members": [_as_member(one) for one in members]}
    network = build_detector(name, options, seed)
    first = None
    before = _before(arm.recipe, recipes)
    if before:
        beginning = _member(arm, "begins_with", recipe.begins_with, recipes)
        first = train(beginning, recipes, real, forged, trainer, seed, folder, shares)
        _take_over(network, first, arm.recipe)
    data = DetectorData(
        real,
        [forged[family] for family in arm.families],
        None if shares is None else [shares[family] for family in arm.families],
        batch=recipe.batch,
        steps_per_epoch=max(1, recipe.steps // 5),
        seed=seed + len(before),
        degrade=Degrade(**asdict(recipe.degrade)),
        self_blended=recipe.self_blended if arm.families else 1.0,
        masks=hasattr(network, "locate"),
        window=getattr(network, "window", 0),
    )
    if members:
        for own, one in zip(network.members, members, strict=True):  # type: ignore[arg-type]
            own.load_state_dict(one.module.state_dict())
        cost = {key: sum(one.meta[key] for one in members) for key in ("images", "seconds")}
    else:
        if recipe.compile:
            check_compiler(f"the recipe {arm.recipe}: compile")
        say(f"train {arm.name} ...")
        start = time.perf_counter()
        module = DetectorTrainer(
            network, recipe.steps, recipe.learning_rate, recipe.weight_decay, recipe.adversarial, recipe.compile
        )
        fit(module, data, folder / arm.name, trainer.with_steps(recipe.steps, data.steps_per_epoch))
        cost = {"images": recipe.steps * recipe.batch, "seconds": round(time.perf_counter() - start, 1)}
        if first is not None:
            if recipe.averaged:
                _average(network, first)
            cost = {key: round(value + first.meta[key], 1) for key, value in cost.items()}
    held = data.held("validation")
    logits = score(network, held.image)
    meta = {
        "threshold": choose_threshold(held.label, logits),
        "temperature": temperature(held.label, logits),
        "validation_auroc": auroc(held.label, logits),
        "families": list(arm.families),
        "left_out": arm.left_out,
        "recipe": arm.recipe,
        "people": len(set(real.where(split="train").identity.tolist())),
        "parameters": sum(weights.numel() for weights in network.parameters()),
        **cost,
    }
    save_detector(path, network, name, options, meta)
    return load_detector(path)


def _member(arm: Arm, key: str, recipe: str, recipes: Mapping[str, Recipe]) -> Arm:
    """What another recipe, named under `key` of this arm's, trains under its protocol; the same for all arms where it
    sees no forgery."""
    able = [name for name, one in recipes.items() if not one.combines]
    if recipe not in able:
        raise UserError(f"recipes.{arm.recipe}.{key}: {recipe} is none of the recipes that train: {', '.join(able)}")
    if recipes[recipe].protocols == ("none",):
        return Arm(recipe, recipe, ())
    return arm._replace(name=recipe + arm.name.removeprefix(arm.recipe), recipe=recipe)


def _before(name: str, recipes: Mapping[str, Recipe]) -> list[str]:
    """The recipes that one goes on from, the nearest first."""
    found: list[str] = []
    while (one := recipes.get(found[-1] if found else name)) and one.begins_with:
        found.append(one.begins_with)
        if one.begins_with == name or one.begins_with in found[:-1]:
            raise UserError(f"recipes.{name}.begins_with: it goes round ({' -> '.join([name, *found])})")
    return found


def _average(network: nn.Module, first: Detector) -> None:
    """The mean of the weights and running statistics of a network and of what it began with."""
    with torch.no_grad():
        begun = first.module.state_dict()
        for name, values in network.state_dict().items():
            if values.is_floating_point():
                values.lerp_(begun[name].to(values.device), 0.5)


def _take_over(network: nn.Module, first: Detector, recipe: str) -> None:
    try:
        network.load_state_dict(first.module.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"recipes.{recipe}.begins_with: its network is another one; give both the same detector and options"
        ) from error


def _as_member(one: Detector) -> dict[str, Any]:
    options = {key: False if key == "pretrained" else value for key, value in one.options.items()}
    return {"name": one.name, "options": options, "temperature": one.meta["temperature"]}
