"""Train the detectors that verdicts rest on, and calibrate them together on photographs of people they have never seen.

python scripts/train_ensemble.py                           # what `examine` ships with
python scripts/train_ensemble.py photographs.london=false  # of synthetic people alone

`members/` in the run's folder gets the detectors and `ensemble.json`: `examine.py detector=RUN/members` uses them.
Figures are of the test split of the photographs: other people, forged by reenactors and settings used nowhere else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig

from detection.detectors import Detector, load_detector, save_detector
from detection.examine_basis import Ensemble, load_ensemble, save_ensemble
from detection.examine_views import View, ViewName, inner_square
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
    views: dict[str, ViewName] = field(default_factory=dict)
    size: int = 256
    forgers: dict[str, Forger] = field(default_factory=dict)
    forge: ForgeConfig = field(default_factory=ForgeConfig)
    photographs: PhotographsConfig = field(default_factory=PhotographsConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("members: at least one is needed, as members.NAME.detector=frequency")
        for name in self.views:
            if name not in self.members:
                raise UserError(f"views.{name}: there is no such member; there are {', '.join(self.members)}")


@entry("train_ensemble", named=("members", "forgers"))
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainEnsembleConfig, apart_from_data(config))
    records = prepare(config.data, settings.workers)
    real = load_split_faces(records)
    forged = forgeries(settings.forgers, settings.forge, real, records, settings.trainer, settings.seed)
    with progress("photographs") as bar:
        where, index = photographs(settings.photographs, bar, settings.workers)
    real, forged = thinned(real), {name: thinned(faces) for name, faces in forged.items()}
    taken = _photo_faces(where, index, settings.size)
    made: dict[str, Detector] = {}
    for name, recipe in settings.members.items():
        view = settings.views.get(name, "whole")
        originals, pools = _seen(view, taken, real, forged)
        families = () if recipe.protocols == ("none",) else tuple(pools)
        arm = Arm(name, name, families)
        one = train(arm, settings.members, originals, pools, settings.trainer, settings.seed, folder / "training")
        meta = {**one.meta, "view": view, "size": originals.size}
        save_detector(folder / "members" / name, one.module, one.name, one.options, meta)
        made[name] = one
    names = tuple(made)
    views = [View(one.module, settings.views.get(name, "whole"), _size(name, folder)) for name, one in made.items()]
    basis = basis_on_photographs(names, views, settings.size, settings.photographs, settings.seed)
    about = {
        "trained_on": "synthetic people" + (" and the London Set (CC BY 4.0)" if settings.photographs.london else ""),
        "families": [*forged, "warp and landmark_warp in whole photographs"],
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


def _seen(view: str, taken: Faces, real: Faces, forged: dict[str, Faces]) -> tuple[Faces, dict[str, Faces]]:
    """What a detector is trained on, real faces and pools of forgeries: photographs, and for one that sees whole crops
    the families' forgeries too."""
    part = inner(taken) if view == "inner" else reduced(taken, real.size)
    pools = {} if view == "inner" else dict(forged)
    for place in ("synthetic", "london"):
        chosen = np.array([str(name).startswith(place) for name in part.identity]) & (part.label.numpy() == 1)
        if chosen.any():
            pools[f"photographs_{place}"] = part.select(chosen)
    originals = part.where(label=0)
    return originals if view == "inner" else Faces.concatenate([real, originals]), pools


def thinned(faces: Faces, most: int = 150) -> Faces:
    """At most so many validation faces, evenly spread: they only choose a checkpoint here."""
    held = np.flatnonzero(faces.split == "validation")
    kept = held[np.linspace(0, len(held) - 1, min(most, len(held))).astype(int)]
    return faces.select(np.sort(np.concatenate([np.flatnonzero(faces.split != "validation"), kept])))


def reduced(faces: Faces, size: int) -> Faces:
    """The same faces on fewer pixels, each the mean over its area."""
    parts = [
        torch.cat([F.adaptive_avg_pool2d(some.float(), size).round().to(torch.uint8) for some in torch.split(of, 256)])
        for of in (faces.image, faces.mask)
    ]
    return replace(faces, image=parts[0], mask=parts[1], landmarks=faces.landmarks * (size / faces.size))


def inner(faces: Faces) -> Faces:
    """What the view `inner` shows of them."""
    top, left, side = inner_square(faces.size)
    rows, columns = slice(top, top + side), slice(left, left + side)
    landmarks = faces.landmarks - torch.tensor([left, top], dtype=faces.landmarks.dtype)
    return replace(
        faces,
        image=faces.image[..., rows, columns].clone(),
        mask=faces.mask[..., rows, columns].clone(),
        landmarks=landmarks,
    )


def _size(name: str, folder: Path) -> int:
    return int(load_detector(folder / "members" / f"{name}.safetensors").meta["size"])


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
