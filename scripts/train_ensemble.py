"""Train the detectors that verdicts rest on, and calibrate them together on photographs of people they have never seen.

python scripts/train_ensemble.py  # what `examine` ships with
python scripts/train_ensemble.py photographs.london=false footage=false  # of synthetic people alone

`members/` in the run's folder gets the detectors and `ensemble.json`: `examine.py detector=RUN/members` uses them.
Figures are of the test split of the photographs: other people, forged by reenactors and settings used nowhere else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from detection.detectors import save_detector
from detection.examine_basis import save_ensemble
from generation.records import Faces, UserError, finished, load, write
from scripts.bench import Arm, Recipe, train
from scripts.calibrate import Judges, basis_on_photographs, described, tested
from scripts.door import configure, entry, progress, say
from scripts.examine_photos import CONDITIONS, Photograph, PhotographsConfig, photographs
from scripts.examine_rows import photo_rows
from scripts.trainer import TrainerConfig


@dataclass(frozen=True)
class TrainEnsembleConfig:
    """See conf/train_ensemble.yaml."""

    members: dict[str, Recipe] = field(default_factory=dict)
    size: int = 512
    london_share: float = 0.33
    photographs: PhotographsConfig = field(default_factory=PhotographsConfig)
    footage: bool = True
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("members: at least one is needed, as members.NAME.detector=frequency")
        if not self.judging:
            raise UserError("members: each begins with another of them, so none is left to judge")
        if not 0 <= self.london_share <= 1:
            raise UserError(f"london_share={self.london_share}: must be between 0 and 1")

    @property
    def judging(self) -> tuple[str, ...]:
        """Members that are asked: not those that others begin with."""
        begun = {recipe.begins_with for recipe in self.members.values()}
        return tuple(name for name in self.members if name not in begun)


@entry("train_ensemble", named=("members",))
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainEnsembleConfig, config)
    with progress("photographs") as bar:
        where, index = photographs(settings.photographs, bar, settings.workers)
    real, pools = _faces(where, index, settings.size, settings.workers)
    shares = {place: settings.london_share if place == "london" else 1 - settings.london_share for place in pools}
    made, members = {}, folder / "members"
    for name in settings.judging:
        arm = Arm(name, name, () if settings.members[name].protocols == ("none",) else tuple(pools))
        one = train(arm, settings.members, real, pools, settings.trainer, settings.seed, folder / "training", shares)
        save_detector(members / name, one.module, one.name, one.options, one.meta)
        made[name] = one
    names = tuple(made)
    basis = basis_on_photographs(
        Judges(members, names),
        settings.size,
        settings.photographs,
        settings.footage,
        folder,
        settings.seed,
        settings.workers,
    )
    about = {
        "trained_on": "synthetic people" + (" and the London Set (CC BY 4.0)" if settings.photographs.london else ""),
        "families": ["warp and landmark_warp in whole photographs"],
        "seed": settings.seed,
    }
    save_ensemble(members, names, basis, about)
    results = tested(members, settings.photographs, folder, settings.workers)
    say(described(results))
    say(f"python scripts/examine.py path=FILE detector={members}")
    return {
        "members": {name: one.meta for name, one in made.items()},
        **results,
        "photographs": asdict(settings.photographs),
    }


def _faces(where: Path, index: list[Photograph], size: int, workers: int = 1) -> tuple[Faces, dict[str, Faces]]:
    """Inner faces of the photographs, kept as records beside them: the real ones, and the forged ones by where their
    people are from. Those of validation, a third of the people in one condition each, only choose checkpoints."""
    folder = where / f"inner-faces-{size}"
    if not finished(folder):
        with progress("faces of photographs") as bar:
            write(folder, photo_rows(where, [item for item in index if _trained_on(item)], size, bar, workers))
    faces = load(folder, order=("label", "origin", "split"))
    real, forged = faces.where(label=0), faces.where(label=1)
    place = np.array([name.partition("-")[0] for name in forged.identity])
    return real, {name: forged.select(place == name) for name in sorted(set(place))}


def _trained_on(item: Photograph) -> bool:
    number = int(item.identity[-2:])
    held = number % 3 == 0 and item.condition == tuple(CONDITIONS)[number // 3 % len(CONDITIONS)]
    return item.split == "train" or (item.split == "validation" and held)


if __name__ == "__main__":
    main()
