"""What a controlled data set is asked for: its factors and their levels, its size, its reenactors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from generation.editing.drivers import REGIONS
from generation.faces.trajectories import KINDS
from generation.records import SPLITS, UserError

Source = Literal["synthetic", "footage", "both"]
COMPRESSIONS: dict[str, tuple[tuple[str, int], ...]] = {"raw": (), "c23": (("h264", 2),), "c40": (("h264", 5),)}
"""FaceForensics++'s names -> the degradation: H.264 with constant rate factor 23 or 40."""
OF_CLIPS = ("motion", "skin", "age", "yaw", "light")
OF_PAIRS = ("degradation", "compression")
OF_SWAPS = ("strength", "region")
SYNTHETIC_ONLY = ("motion", "skin", "age", "yaw", "light")
_RANGES = {"skin": (0.0, 1.0), "age": (0.0, 1.0), "yaw": (-25.0, 25.0), "light": (-80.0, 80.0)}


@dataclass(frozen=True)
class Factors:
    """The levels of each factor; none leaves it as people and scenes are drawn.

    motion: what people do, of `KINDS`
    skin: melanin, 0 to 1; age: from the youngest adult, 0, to the oldest, 1; the person stays the same
    yaw: of the head, light: azimuth of the key light; degrees, 0 is from the front
    strength: of the swap, above 0, 1 is the driver's expression, at most 1.5
    region: what of the expression is taken: all, or eyes, brows, mouth joined by +
    degradation: none, or a name and a severity as jpeg-3; compression: raw, c23, c40, H.264 after the degradation
    """

    motion: tuple[str, ...] = KINDS
    skin: tuple[float, ...] = ()
    age: tuple[float, ...] = ()
    yaw: tuple[float, ...] = ()
    light: tuple[float, ...] = ()
    strength: tuple[float, ...] = (1.0,)
    region: tuple[str, ...] = ("all",)
    degradation: tuple[str, ...] = ("none",)
    compression: tuple[str, ...] = ("raw",)

    def levels(self, name: str) -> tuple[Any, ...]:
        return tuple(getattr(self, name))


@dataclass(frozen=True)
class Maker:
    """A reenactor of the set. checkpoint: its path or the name of a shipped one, null for a family without weights;
    round: of the cycle that it comes from, -1 where it comes from none."""

    checkpoint: str | None = None
    round: int = -1


@dataclass(frozen=True)
class PlanConfig:
    """design: `random` draws `clips` clips with every level equally often; `factorial` crosses all levels with all
        people, `clips` may then be null
    source: whose faces; footage: a folder of finished records of them
    size, frames: of every clip; people: of the synthetic ones, an even number of each split
    train, validation, test: shares of people and clips
    reenactors: name of the method -> what makes it
    flow: whether the reenactors' flow is kept
    """

    name: str
    seed: int = 0
    design: Literal["random", "factorial"] = "random"
    source: Source = "synthetic"
    footage: Path | None = None
    clips: int | None = None
    frames: int = 8
    size: int = 128
    people: int = 40
    train: float = 0.6
    validation: float = 0.15
    test: float = 0.25
    reenactors: dict[str, Maker] = field(default_factory=dict)
    factors: Factors = field(default_factory=Factors)
    flow: bool = False

    def __post_init__(self) -> None:
        for name, least, most in (("frames", 1, 1000), ("size", 64, 1024), ("seed", 0, 2**31), ("people", 2, 10**6)):
            if not least <= getattr(self, name) <= most:
                raise UserError(f"dataset.{name}={getattr(self, name)}: must lie between {least} and {most}")
        if min(self.shares) < 0 or sum(self.shares) <= 0:
            raise UserError(
                f"dataset.train, validation, test = {self.shares}: none may be negative, one must be above 0"
            )
        if not self.reenactors:
            raise UserError("dataset.reenactors: name at least one, as dataset.reenactors.warp.checkpoint=warp_128")
        if any(not name.isidentifier() for name in self.reenactors):
            raise UserError(f"dataset.reenactors={list(self.reenactors)}: names may hold letters, digits and _ only")
        if (self.footage is None) != (self.source == "synthetic"):
            raise UserError(
                f"dataset.source={self.source} and dataset.footage={self.footage} contradict each other: footage=DIR, "
                "a folder of records as ingest writes them, goes with source=footage or both"
            )
        _check_factors(self)

    @property
    def shares(self) -> tuple[float, ...]:
        return tuple(getattr(self, split) for split in SPLITS)

    @property
    def swaps(self) -> int:
        """Forgeries of one clip by one reenactor."""
        return len(self.factors.strength) * len(self.factors.region) if self.design == "factorial" else 1

    @property
    def clips_a_pair(self) -> int:
        return 2 * (1 + len(self.reenactors) * self.swaps)


def _check_factors(config: PlanConfig) -> None:
    factors = config.factors
    for name in (*OF_CLIPS, *OF_PAIRS, *OF_SWAPS):
        levels, key = factors.levels(name), f"dataset.factors.{name}"
        if len(set(levels)) < len(levels):
            raise UserError(f"{key}={list(levels)}: a level stands there twice")
        if not levels and name not in _RANGES:
            raise UserError(f"{key}=[]: name at least one level")
        if name in _RANGES and any(not _RANGES[name][0] <= level <= _RANGES[name][1] for level in levels):
            raise UserError(f"{key}={list(levels)}: must lie between {_RANGES[name][0]:g} and {_RANGES[name][1]:g}")
        if config.source == "footage" and name in SYNTHETIC_ONLY and levels != getattr(Factors(), name):
            raise UserError(f"{key}={list(levels)}: cannot be set on footage; leave it out, or take source=synthetic")
    for motion in factors.motion:
        if motion not in KINDS:
            raise UserError(f"dataset.factors.motion={motion}: there is no such motion; there are {', '.join(KINDS)}")
    if any(not 0 < strength <= 1.5 for strength in factors.strength):
        raise UserError(
            f"dataset.factors.strength={list(factors.strength)}: must be above 0, as a forgery that changes nothing "
            "is none, and at most 1.5"
        )
    for region in factors.region:
        parts = region.split("+")
        if region != "all" and (not set(parts) <= set(REGIONS) or len(set(parts)) < len(parts)):
            raise UserError(
                f"dataset.factors.region={region}: allowed are all, and {', '.join(REGIONS)} joined by +, as eyes+brows"
            )
    for compression in factors.compression:
        if compression not in COMPRESSIONS:
            raise UserError(f"dataset.factors.compression={compression}: allowed are {', '.join(COMPRESSIONS)}")
    if any(level.startswith("h264") for level in factors.degradation) and factors.compression != ("raw",):
        raise UserError(
            "dataset.factors.degradation and compression contradict each other: both are H.264; keep one of them"
        )


def degradations_of(level: str) -> list[tuple[str, int]]:
    """A level of the factor `degradation` -> names and severities, in order."""
    if level == "none":
        return []
    return [(part.rpartition("-")[0], int(part.rpartition("-")[2])) for part in level.split("+")]


def check_degradations(levels: Sequence[str], known: Collection[str]) -> None:
    for level in levels:
        for part in level.split("+") if level != "none" else ():
            name, _, severity = part.rpartition("-")
            if name not in known or severity not in ("1", "2", "3", "4", "5"):
                raise UserError(
                    f"dataset.factors.degradation={level}: must be none, or a name and a severity from 1 to 5 as "
                    f"jpeg-3, several joined by +; there are {', '.join(known)}"
                )
