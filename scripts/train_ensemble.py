"""Train the detectors that verdicts rest on, and calibrate them together on photographs of people they have never seen.

python scripts/train_ensemble.py                           # what `examine` ships with
python scripts/train_ensemble.py photographs.london=false  # of synthetic people alone

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
from detection.examine_basis import Ensemble, load_ensemble, save_ensemble
from generation.records import Faces, UserError, finished, load, write
from scripts.bench import Arm, ForgeConfig, Forger, Recipe, forgeries, train
from scripts.calibrate import LOOK_EVERY, basis_on_photographs, described, photo_rows, tested
from scripts.data import apart_from_data, load_split_faces, prepare
from scripts.door import configure, entry, progress, say
from scripts.examine_faces import FaceSource
from scripts.examine_photos import Photograph, PhotographsConfig, photographs
from scripts.trainer import TrainerConfig


@dataclass(frozen=True)
class TrainEnsembleConfig:
    """Everything but the faces of `data`; see conf/train_ensemble.yaml."""

    members: dict[str, Recipe] = field(default_factory=dict)
    forgers: dict[str, Forger] = field(default_factory=dict)
    forge: ForgeConfig = field(default_factory=ForgeConfig)
    photographs: PhotographsConfig = field(default_factory=PhotographsConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("members: at least one is needed, as members.NAME.detector=frequency")


@entry("train_ensemble", named=("members", "forgers"))
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainEnsembleConfig, apart_from_data(config))
    records = prepare(config.data, settings.workers)
    real = load_split_faces(records)
    forged = forgeries(settings.forgers, settings.forge, real, records, settings.trainer, settings.seed)
    with progress("photographs") as bar:
        where, index = photographs(settings.photographs, bar)
    taken = _photo_faces(where, index, real.size)
    real = Faces.concatenate([real, taken.where(label=0)])
    for place in ("synthetic", "london"):
        chosen = np.array([str(name).startswith(place) for name in taken.identity]) & (taken.label.numpy() == 1)
        if chosen.any():
            forged[f"photographs_{place}"] = taken.select(chosen)
    made = {}
    for name, recipe in settings.members.items():
        families = () if recipe.protocols == ("none",) else tuple(forged)
        arm = Arm(name, name, families)
        made[name] = train(arm, recipe, real, forged, settings.trainer, settings.seed, folder / "training")
        save_detector(
            folder / "members" / name, made[name].module, made[name].name, made[name].options, made[name].meta
        )
    names, modules = tuple(made), tuple(one.module for one in made.values())
    basis = basis_on_photographs(names, modules, real.size, settings.photographs, settings.seed)
    about = {
        "trained_on": "synthetic people" + (" and the London Set (CC BY 4.0)" if settings.photographs.london else ""),
        "families": sorted(forged),
        "seed": settings.seed,
    }
    save_ensemble(folder / "members", names, basis, about)
    ensemble: Ensemble = load_ensemble(folder / "members")
    results = tested(ensemble, settings.photographs)
    say(described(results))
    say(f"python scripts/examine.py path=FILE detector={folder / 'members'}")
    return {
        "members": {name: one.meta for name, one in made.items()},
        **results,
        "photographs": asdict(settings.photographs),
    }


def _photo_faces(where: Path, index: list[Photograph], size: int) -> Faces:
    """The faces in the training photographs, and in some validation ones of one condition, as records beside them."""
    folder = where / f"faces-{size}"
    if not finished(folder):
        with FaceSource(LOOK_EVERY) as finder, progress("faces of photographs") as bar:
            write(folder, photo_rows(where, [item for item in index if _trained_on(item)], finder, size, bar))
    return load(folder)


def _trained_on(item: Photograph) -> bool:
    held = item.split == "validation" and item.condition == "jpeg_85" and int(item.identity[-2:]) % 3 == 0
    return item.split == "train" or held


if __name__ == "__main__":
    main()
