"""The cycle's settings, and its journal of what has been done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.detectors import DETECTORS, check_trainable
from detection.oracle import ANSWERS
from generation.records import UserError, write_beside

CLIPS = tuple(name for name, family in DETECTORS.items() if getattr(family.build, "takes_clips", False))
"""Families that look at clips; reenactors are trained frame by frame, so these cannot be disclosed to them."""


@dataclass(frozen=True)
class CycleOptions:
    """rounds: reenactors G0 .. G(rounds-1). disclosure: what of the detectors the red team gets. queries: how much it
    may ask in a round where that is `scores` or `decisions`; every image that a detector scores is a query. pool: what
    D_r trains on: G_r alone (`latest`), all reenactors so far equally (`uniform`), or the mixture that red would play
    against the detectors before it (`nash`). adversarial: share of the batches of D0, D1, ... (and of their controls,
    not of W0) that is PGD examples, see `training.AdversarialOptions`. Forgeries are counted per reenactor,
    `resamples` are those of the bootstrap by identity."""

    rounds: int = 3
    disclosure: str = "white_box"
    queries: int = 20_000
    pool: str = "uniform"
    disclosed: str = "frequency"
    withheld: str = "mesonet"
    train_forgeries: int = 3000
    validation_forgeries: int = 400
    test_forgeries: int = 1000
    detector_steps: int = 400
    detector_batch: int = 64
    detector_learning_rate: float = 4e-3
    adversarial: float = 0.0
    resamples: int = 1000

    def __post_init__(self) -> None:
        allowed = {"disclosure": ("white_box", *ANSWERS, "none"), "pool": ("latest", "uniform", "nash")}
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise UserError(f"cycle.{key}={getattr(self, key)}: allowed are {', '.join(values)}")
        if self.rounds < 1:
            raise UserError(f"cycle.rounds={self.rounds}: at least 1 is needed")
        if self.queries < 1:
            raise UserError(f"cycle.queries={self.queries}: at least 1 is needed")
        for key in ("disclosed", "withheld"):
            check_trainable(getattr(self, key), f"cycle.{key}")
        if self.disclosed in CLIPS:
            raise UserError(
                f"cycle.disclosed={self.disclosed}: looks at clips, and reenactors make single frames; it can be "
                "cycle.withheld"
            )
        if not 0 <= self.adversarial <= 1:
            raise UserError(f"cycle.adversarial={self.adversarial}: must lie in [0, 1]")
        if self.withheld == self.disclosed:
            raise UserError(f"cycle.withheld={self.withheld}: must be another family than cycle.disclosed")


class Journal:
    """What has been done: phase -> {"seconds", "result"}, in one JSON file that is rewritten whole after each phase."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self.entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes()) if path.is_file() else {}

    def run(self, phase: str, work: Callable[[], Any]) -> Any:
        """The phase's JSON-able result: from the journal, or by working now."""
        if phase not in self.entries:
            self.say(f"{phase} ...")
            start = time.perf_counter()
            result = work()
            self.entries[phase] = {"seconds": round(time.perf_counter() - start, 3), "result": result}
            content = json.dumps(self.entries, indent=1)
            write_beside(self.path, content.encode())
            self.entries = json.loads(content)
            self.say(f"{phase} done in {self.entries[phase]['seconds']:.0f} s")
        return self.entries[phase]["result"]

    @property
    def seconds(self) -> dict[str, float]:
        return {phase: entry["seconds"] for phase, entry in self.entries.items()}
