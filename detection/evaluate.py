"""Detectors x data sets x conditions -> scores. What was scored already is not scored again: every detector, data set
and condition has a file of its own.

A condition is what happens to the pictures: nothing, a degradation at a severity, or an attack on one of the classes.
Degraded pictures are made once for all detectors; attacks are made against each detector alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from detection.attacks import ATTACKS, BLIND, Ball, Victim, expected, pgd, stuck_on, universal_patch
from detection.clips import takes_clips, windows
from detection.data import AT_ONCE
from detection.degradations import DEGRADATIONS, LIGHT, SEVERITIES, Degrade
from detection.scores import COLUMNS, write_scores
from detection.training import score
from generation.records import Faces, UserError

MORE_ATTACKS = ("eot", "patch")
"""`pgd` on the mean over degradations, measured on other draws of them; one patch for all, of a tenth of the area."""

_TARGETS = {"forged": 1, "real": 0}
_EOT_DRAWS = 4


@dataclass(frozen=True)
class AttackConfig:
    """names: of `ATTACKS` and `MORE_ATTACKS`; targets: the class that is attacked, each for itself; radius: of the
    ball, for values in [0, 1]; steps: of those that follow gradients; queries: steps of those that only ask; faces:
    test faces of each method and class that are attacked, chosen evenly."""

    names: tuple[str, ...] = ()
    targets: tuple[Literal["forged", "real"], ...] = ("forged", "real")
    norm: Literal["linf", "l2"] = "linf"
    radius: float = 2 / 255
    steps: int = 20
    queries: int = 300
    faces: int = 64

    def __post_init__(self) -> None:
        allowed = (*ATTACKS, *MORE_ATTACKS)
        for name in self.names:
            if name not in allowed:
                raise UserError(f"attacks.names: there is no attack {name!r}; there are {', '.join(allowed)}")
        if self.norm == "l2" and "square" in self.names:
            raise UserError("attacks.norm=l2: the square attack is for linf only; leave it out of attacks.names")
        for key in ("radius", "steps", "queries", "faces"):
            if not getattr(self, key) > 0:
                raise UserError(f"attacks.{key}={getattr(self, key)}: must be more than 0")


class Condition(NamedTuple):
    """degradation and severity, or attack ("pgd forged": on which class), or neither."""

    degradation: str = ""
    severity: int = 0
    attack: str = ""

    def __str__(self) -> str:
        if self.attack:
            return self.attack.replace(" ", "-")
        return f"{self.degradation}-{self.severity}" if self.degradation else "clean"


def conditions(degradations: Sequence[str], severities: Sequence[int], attacks: AttackConfig) -> list[Condition]:
    """The clean one, every degradation at every severity, every attack on every class."""
    for name in degradations:
        if name not in DEGRADATIONS:
            raise UserError(f"degradations: there is no degradation {name!r}; there are {', '.join(DEGRADATIONS)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise UserError(f"severities={list(severities)}: each must be one of {', '.join(map(str, SEVERITIES))}")
    degraded = [Condition(name, severity) for name in degradations for severity in severities]
    attacked = [Condition(attack=f"{name} {target}") for name in attacks.names for target in attacks.targets]
    return [Condition(), *degraded, *attacked]


def evaluate(
    detectors: Mapping[str, nn.Module],
    sets: Mapping[str, Faces],
    wanted: Sequence[Condition],
    folder: Path,
    *,
    attacks: AttackConfig | None = None,
    clip: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The scores of `detection.scores`, of the test split under every condition and of the validation split clean.

    sets: real and forged faces by name. `folder`/scores/<data>/<detector>/<condition>.parquet is taken up where it is.
    Attacks by gradients are left out for a detector that has none, all attacks for one of clips, which has a score for
    every window of `clip` frames, in the row of its first frame.
    """
    attacks = attacks or AttackConfig()
    files: dict[tuple[str, str, Condition], Path] = {
        (data, name, condition): folder / "scores" / data / name / f"{condition}.parquet"
        for data in sets
        for condition in wanted
        for name in detectors
    }
    done = 0
    for data, faces in sets.items():
        for condition in wanted:
            waiting = {name: one for name, one in detectors.items() if not files[data, name, condition].is_file()}
            for name, table in _scored(waiting, data, faces, condition, attacks, clip, seed).items():
                write_scores(files[data, name, condition], table)
            done += len(detectors)
            if progress is not None:
                progress(done, len(files))
    return pd.concat([pd.read_parquet(path) for path in files.values() if path.is_file()], ignore_index=True)


def differentiable(module: nn.Module, images: Tensor) -> bool:  # uint8 (1, 3, H, W)
    """Whether attacks can follow this detector's gradients; a third party's may give none."""
    module.eval()
    return bool(module((images.float() / 255).requires_grad_()).requires_grad)


def _scored(
    detectors: Mapping[str, nn.Module],
    data: str,
    faces: Faces,
    condition: Condition,
    attacks: AttackConfig,
    clip: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    if not detectors:
        return {}
    test = faces.where(split="test")
    draws = zlib.crc32(f"{data} {condition}".encode())
    if condition.attack:
        name, target = condition.attack.split(" ")
        chosen = test.select(_some(test, attacks.faces))
        held = faces.where(split="validation")
        found = {}
        for detector, module in detectors.items():
            if takes_clips(module) or (name not in BLIND and not differentiable(module, chosen.image[:1])):
                continue
            logits = score(module, chosen.image)
            hit = np.flatnonzero(chosen.label.numpy() == _TARGETS[target])
            logits[hit] = _attacked(module, name, chosen.select(hit), held, attacks, [seed, draws])
            found[detector] = table_of(detector, data, condition, chosen, logits)
        return found
    if condition.degradation:
        seen = replace(test, image=_degraded(test.image, condition, [seed, draws]))
    else:
        seen = faces.select(np.isin(faces.split, ("validation", "test")))
    return {name: _table(name, module, data, condition, seen, clip) for name, module in detectors.items()}


def _table(detector: str, module: nn.Module, data: str, condition: Condition, faces: Faces, clip: int) -> pd.DataFrame:
    if not takes_clips(module):
        return table_of(detector, data, condition, faces, score(module, faces.image))
    rows = windows(faces, clip, every=clip)
    logits = score(module, faces.image[rows], batch=max(1, AT_ONCE // clip))
    return table_of(detector, data, condition, faces.select(rows[:, 0]), logits)


def table_of(detector: str, data: str, condition: Condition, faces: Faces, logits: np.ndarray) -> pd.DataFrame:
    """Rows of `detection.scores`."""
    return pd.DataFrame(
        {
            "detector": detector,
            "data": data,
            "degradation": condition.degradation,
            "severity": condition.severity,
            "attack": condition.attack,
            "method": faces.method,
            "clip": faces.clip,
            "frame": faces.frame,
            "identity": faces.identity,
            "split": faces.split,
            "label": faces.label.numpy(),
            "score": logits,
        },
        columns=list(COLUMNS),
    )


def _degraded(images: Tensor, condition: Condition, seed: Sequence[int]) -> Tensor:  # uint8 (N, 3, H, W) -> the same
    result = torch.empty_like(images)
    for index, rows in enumerate(torch.split(torch.arange(len(images)), AT_ONCE)):
        generator = torch.Generator().manual_seed(_number([*seed, index]))
        changed = DEGRADATIONS[condition.degradation](images[rows].float() / 255, condition.severity, generator)
        result[rows] = (changed * 255).round().to(torch.uint8)
    return result


def _number(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _some(faces: Faces, count: int) -> np.ndarray:
    """Rows: at most `count` of each method, real faces a method of their own, evenly spread."""
    rows = []
    for method in np.unique(faces.method):
        here = np.flatnonzero(faces.method == method)
        rows.append(here[np.linspace(0, len(here) - 1, min(count, len(here))).astype(int)])
    return np.sort(np.concatenate(rows))


def _attacked(
    module: nn.Module, name: str, faces: Faces, held: Faces, attacks: AttackConfig, seed: Sequence[int]
) -> np.ndarray:
    """Log-odds of faces, all of one class, that were attacked."""
    module.eval()
    ball, patch = Ball(attacks.norm, attacks.radius), None
    if name == "patch":
        patch = _patch(module, held, int(faces.label[0]), attacks, seed)
    found = []
    for index, rows in enumerate(np.array_split(np.arange(len(faces)), -(-len(faces) // AT_ONCE))):
        images, labels = faces.image[rows].float() / 255, faces.label[rows]
        generator = torch.Generator().manual_seed(_number([*seed, index]))
        answer: Victim = module
        if patch is not None:
            worst = stuck_on(images, patch, generator)
        elif name == "eot":
            degrade = Degrade(LIGHT, 1.0, 2)
            victim = expected(module, degrade, _EOT_DRAWS, seed=index)
            worst = pgd(victim, images, labels, ball, attacks.steps, generator)
            answer = expected(module, degrade, _EOT_DRAWS, seed=index + 1_000_003)
        else:
            steps = attacks.queries if name == "square" else attacks.steps
            worst = ATTACKS[name](module, images, labels, ball, steps, generator)
        with torch.no_grad():
            found.append(answer(worst).double().numpy())
    return np.concatenate(found)


def _patch(module: nn.Module, held: Faces, label: int, attacks: AttackConfig, seed: Sequence[int]) -> Tensor:
    """A patch trained on validation people of the class."""
    people = held.where(label=label)
    if len(people) == 0:
        raise UserError("attacks.names: patch is trained on validation faces, and there are none of the class attacked")
    images = people.image[_some(people, AT_ONCE)][:AT_ONCE].float() / 255
    side = max(1, round(images.shape[-1] * 0.1**0.5))
    generator = torch.Generator().manual_seed(_number([*seed, 99]))
    labels = torch.full((len(images),), label)
    return universal_patch(module, images, labels, side, attacks.steps, generator)
