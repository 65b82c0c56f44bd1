"""Train one detector on records of real and forged faces and measure it on people it has never seen.

python scripts/train_detector.py data.real=REAL data.forged=[FORGED]                 # frequency, 500 steps
python scripts/train_detector.py detector=mesonet data.real=REAL data.forged=[A,B]   # two reenactors, equally often
python scripts/train_detector.py data=DIR                                            # pictures in real/ and fake/

REAL, FORGED, A and B are folders of records, as render_faces, train_generator and arms_race write them; DIR may be one
too, of real and forged faces. Who is shown in a picture is told by its sub-folder, or by its name where it is in none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig
from torch import nn

from detection.calibration import FEWEST
from detection.clips import ClipData, ClipScores, score_clips, takes_clips
from detection.data import DetectorData
from detection.degradations import LIGHT, Degrade
from detection.detectors import DETECTORS, build_detector, check_trainable, save_detector
from detection.examine_basis import basis_of_faces
from detection.metrics import auroc, summarise
from detection.training import AdversarialOptions, DetectorTrainer, choose_threshold, score
from generation.pairs import check_splits
from generation.records import Faces, UserError, load
from scripts.data import load_labelled_faces
from scripts.door import configure, entry, say
from scripts.trainer import TrainerConfig, fit


@dataclass(frozen=True)
class DetectorConfig:
    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PoolsConfig:
    """real, forged: folders of records; or folder: of pictures in real/ and fake/, which become `size` pixels large, or
    of records with both classes. clip: frames that a detector of clips sees at once. See `detection.data.DetectorData`
    for the others."""

    real: Path | None = None
    forged: tuple[Path, ...] = ()
    folder: Path | None = None
    size: int = 128
    clip: int = 8
    weights: tuple[float, ...] | None = None
    paired: bool = True
    self_blended: float = 0.0
    batch: int = 64


@dataclass(frozen=True)
class DegradeConfig:
    """See `detection.degradations.Degrade`."""

    names: tuple[str, ...] = LIGHT
    probability: float = 0.2
    severity: int = 2


@dataclass(frozen=True)
class TrainingConfig:
    """adversarial: see `detection.training.AdversarialOptions`."""

    steps: int = 500
    steps_per_epoch: int = 100
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    adversarial: AdversarialOptions = field(default_factory=AdversarialOptions)


@dataclass(frozen=True)
class TrainDetectorConfig:
    data: PoolsConfig
    detector: DetectorConfig
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0


@entry("train_detector", paths={"data": "data.folder"})
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Train a detector, choose its checkpoint and threshold on validation people, and measure it on test people."""
    settings = configure(TrainDetectorConfig, config)
    made = prepare(settings)
    module, data, training = made.module, made.data, settings.training
    trainer = DetectorTrainer(
        module, training.steps, training.learning_rate, training.weight_decay, training.adversarial
    )
    fit(trainer, data, folder / "training", settings.trainer.with_steps(training.steps, training.steps_per_epoch))

    held = _scored(module, data.held("validation"), settings.data.clip)
    threshold, validation = choose_threshold(held.label, held.score), auroc(held.label, held.score)
    meta = {"threshold": threshold, "validation_auroc": validation, "pools": made.pools}
    meta |= _verdict(settings, module, data)
    weights = save_detector(folder / "detector", module, settings.detector.name, made.options, meta)
    results = measure(module, data, made.pools, threshold, settings.seed, settings.data.clip)
    found = results["test"]
    interval = f"[{found['auroc_low']:.3f}, {found['auroc_high']:.3f}]"
    say(f"AUROC {found['auroc']:.3f} {interval} on {found['identities']} unseen people")
    return {"detector": weights.name, "validation_auroc": validation, **results}


def _verdict(settings: TrainDetectorConfig, module: nn.Module, data: DetectorData) -> dict[str, Any]:
    """What `examine` needs to give verdicts with this detector; {} for one of clips, or where people are too few."""
    held = data.held("validation")
    if takes_clips(module) or len(np.unique(held.identity)) < FEWEST:
        return {}
    where = settings.data.folder or settings.data.real
    what = f"validation people of {where and where.name}"
    return {"verdict": basis_of_faces(settings.detector.name, module, held, what, settings.seed).plain()}


class Prepared(NamedTuple):
    """What training needs; `pools` names each pool of forgeries."""

    module: nn.Module
    options: dict[str, Any]
    data: DetectorData
    pools: list[str]


def prepare(settings: TrainDetectorConfig) -> Prepared:
    """Build the detector and read the faces; what is wrong with either is found here, before training."""
    name, options, chosen = settings.detector.name, settings.detector.options, settings.data
    check_trainable(name)
    options = asdict(configure(DETECTORS[name].options, options, "detector.options"))
    module = build_detector(name, options, settings.seed)
    degrade = Degrade(**asdict(settings.degrade))
    real, pools = load_pools(chosen)
    given: dict[str, Any] = {
        "batch": chosen.batch,
        "steps_per_epoch": settings.training.steps_per_epoch,
        "seed": settings.seed,
        "degrade": degrade,
        "paired": chosen.paired,
    }
    if takes_clips(module):
        if chosen.self_blended:
            raise UserError(f"data.self_blended={chosen.self_blended}: {name} sees clips; only images are self-blended")
        data: DetectorData = ClipData(real, list(pools.values()), chosen.weights, length=chosen.clip, **given)
    else:
        masks = hasattr(module, "locate") and all(bool(pool.mask.any()) for pool in pools.values())
        given |= {"self_blended": chosen.self_blended, "masks": masks, "window": getattr(module, "window", 0)}
        data = DetectorData(real, list(pools.values()), chosen.weights, **given)
    where = chosen.folder or f"{chosen.real} with data.forged"
    check_splits(Faces.concatenate([real, *pools.values()]), str(where))
    if len(np.unique(data.held("test").identity)) < 2:
        raise UserError(
            f"{chosen.folder or chosen.real}: one identity in the test split; an interval by identity needs at least "
            "two"
        )
    return Prepared(module, options, data, list(pools))


def load_pools(chosen: PoolsConfig) -> tuple[Faces, dict[str, Faces]]:
    """Real faces, and the forgeries by the name of their pool: their folder's, or of one folder each method's."""
    if chosen.folder is not None:
        if chosen.real is not None or chosen.forged:
            raise UserError("data.folder: holds both classes; give either data.folder or data.real and data.forged")
        return _pools_of(chosen.folder, chosen)
    if chosen.real is None:
        raise UserError("data.real: must be given, as data.real=REAL data.forged=[FORGED], or else data.folder=DIR")
    if not chosen.forged and chosen.self_blended < 1:
        raise UserError(
            "data.forged=[]: at least one folder of forged records is needed, as data.forged=[FOLDER], or "
            "data.self_blended=1"
        )
    names = [folder.resolve().name for folder in chosen.forged]
    real, pools = load(chosen.real).where(label=0), {}
    for index, (name, folder) in enumerate(zip(names, chosen.forged, strict=True)):
        faces = load(folder).where(label=1)
        if len(faces) == 0:
            raise UserError(f"{folder}: holds no forged faces")
        pools[name if names.count(name) == 1 else f"{name}-{index}"] = faces
    if len(real) == 0:
        raise UserError(f"{chosen.real}: holds no real faces")
    return real, pools


def _pools_of(folder: Path, chosen: PoolsConfig) -> tuple[Faces, dict[str, Faces]]:
    faces = load_labelled_faces(folder, chosen.size)
    if chosen.self_blended and not bool(faces.landmarks.any()):
        raise UserError(
            f"data.self_blended={chosen.self_blended}: needs landmarks, which the pictures in {folder} do not have; "
            f"make records with scripts/ingest.py data=archive data.root={folder}"
        )
    real, forged = faces.where(label=0), faces.where(label=1)
    for kind, one in (("real", real), ("forged", forged)):
        if len(one) == 0:
            raise UserError(f"{folder}: holds no {kind} faces")
    return real, {str(name): forged.select(forged.method == name) for name in np.unique(forged.method)}


def _scored(module: nn.Module, faces: Faces, clip: int) -> ClipScores:
    """Of every window for a detector of clips, of every frame for all others."""
    if takes_clips(module):
        return score_clips(module, faces, clip)
    return ClipScores(score(module, faces.image), faces.label.numpy(), faces.clip, faces.identity)


def measure(
    module: nn.Module, data: DetectorData, pools: list[str], threshold: float, seed: int, clip: int
) -> dict[str, Any]:
    """Figures on the test split: of all forgeries together, and of each pool that has some there; without a pool, of
    self-blended images. clip: see `PoolsConfig`"""
    real = data.real.where("test", 0)
    forged = {name: faces.where("test", 1) for name, faces in zip(pools, data.forged, strict=True)}
    if not forged:
        forged = {"self_blended": data.held("test").where(label=1)}
    found = {name: _scored(module, faces, clip) for name, faces in forged.items() if len(faces)}
    originals = _scored(module, real, clip)

    def figures(names: list[str]) -> dict[str, float | int]:
        parts = [originals, *(found[name] for name in names)]
        labels, scores, identities = (
            np.concatenate([getattr(part, key) for part in parts]) for key in ("label", "score", "identity")
        )
        return summarise(labels, scores, identities, threshold, seed)

    return {"test": figures(list(found)), "pools": {name: figures([name]) for name in found}}


if __name__ == "__main__":
    main()
