"""Calibrate a detector, so that `examine` may give verdicts with it: on photographs, or on validation people.

python scripts/calibrate.py detector=FILE.safetensors             # on photographs, see scripts/examine_photos.py
python scripts/calibrate.py detector=FILE.safetensors records=DIR    # on the validation split of records
python scripts/calibrate.py detector=detection/weights      # an ensemble, on photographs, and tested on others

What was fitted are numbers; they are put into the detector's .json, of an ensemble into `ensemble.json`. What was seen
of each photograph is kept in the run's folder: the same command with the same hydra.run.dir goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from detection.calibration import Given, balanced, ece_if_right, figures
from detection.detectors import load_detector
from detection.examine import SMALLEST, condition_of, examine, scored
from detection.examine_basis import (
    ENSEMBLE,
    Basis,
    Observed,
    add_basis,
    basis_of,
    basis_of_faces,
    load_ensemble,
    load_members,
    save_ensemble,
    single_detector,
)
from detection.examine_container import jpeg_quality
from detection.examine_looks import Seen
from detection.metrics import auroc, bootstrap_by_identity, cllr
from generation.records import UserError, write_beside
from generation.workers import each
from scripts.data import load_labelled_faces
from scripts.door import configure, entry, progress, say
from scripts.examine import quoted
from scripts.examine_faces import face_finder
from scripts.examine_footage import LOOK_EVERY as LOOK_AT_CLIPS
from scripts.examine_footage import talking_clips
from scripts.examine_photos import Photograph, PhotographsConfig, photographs
from scripts.examine_rows import LOOK_EVERY, of_largest
from scripts.summary import commit, jsonable

WHO = {"synthetic": "synthetic", "london": "of the London Set", "talking": "talking in clips of others"}
"""Beginning of an identity: who that is."""

_AT_ONCE = 16
"""Photographs that a process looks at before it hands on what it saw."""

SEEN_IN = {"validation": 3, "test": 3}
"""Conditions in which each person of these photographs is looked at."""


@dataclass(frozen=True)
class CalibrateConfig:
    """See conf/calibrate.yaml."""

    weights: Path | None = None
    records: Path | None = None
    size: int = 128
    photographs: PhotographsConfig = field(default_factory=PhotographsConfig)
    footage: bool = True
    seed: int = 0
    workers: int = 1


@entry("calibrate")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(CalibrateConfig, config)
    if settings.weights is None:
        raise UserError("detector: must be given, as detector=FILE.safetensors")
    if (settings.weights / ENSEMBLE).is_file():
        return recalibrated(settings.weights, settings, folder)
    path = single_detector(settings.weights)
    if settings.records is not None:
        made = load_detector(path)
        faces = load_labelled_faces(settings.records, settings.size).where(split="validation")
        what = f"validation people of {settings.records.name}"
        basis = basis_of_faces(made.name, made.module, faces, what, settings.seed)
    else:
        basis = basis_on_photographs(
            Judges(path), settings.size, settings.photographs, settings.footage, folder, settings.seed, settings.workers
        )
    add_basis(path, basis)
    found = dict(basis.calibration.about)
    say(f"{path.name}: Cllr {found['cllr']}, at best {found['cllr_min']}, ECE {found['ece']}, {found['people']} people")
    return {"detector": str(path), "calibration": found}


def recalibrated(path: Path, settings: CalibrateConfig, folder: Path) -> dict[str, Any]:
    """Of an ensemble; its figures are of the test split of the photographs. folder: of the run"""
    if settings.records is not None:
        raise UserError(f"records={settings.records}: an ensemble is calibrated on photographs; leave records out")
    old = load_ensemble(path)
    judges, size = Judges(path, old.names), old.basis.size
    basis = basis_on_photographs(
        judges, size, settings.photographs, settings.footage, folder, settings.seed, settings.workers
    )
    save_ensemble(path, old.names, basis, old.about)
    results = tested(path, settings.photographs, folder, settings.workers)
    say(described(results))
    return {"detector": str(path), "calibration": dict(basis.calibration.about), **results}


class Judges(NamedTuple):
    """Detectors by where they lie: the one at `path`, or those of `names` in it, as members of an ensemble."""

    path: Path
    names: tuple[str, ...] = ()

    def modules(self) -> tuple[nn.Module, ...]:
        return load_members(self.path, self.names) if self.names else (load_detector(self.path).module,)

    def digest(self) -> str:
        files = [self.path / f"{name}.safetensors" for name in self.names] or [self.path]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


_modules, _ensemble = cache(Judges.modules), cache(load_ensemble)  # what a worker process judges with, until it ends


class Looked(NamedTuple):
    """A photograph as detectors see it. side: of its largest face, pixels; condition: see `detection.examine`; scores
    (K,), described (8,), features (F,): the mean over looks, of what is described the median"""

    side: float
    condition: str
    scores: list[float]
    described: list[float]
    features: list[float]


class Judged(NamedTuple):
    """The verdict on the largest face of a photograph. llr: also where none is told"""

    side: float
    condition: str
    llr: float
    told: bool


def basis_on_photographs(
    judges: Judges,
    size: int,
    config: PhotographsConfig,
    footage: bool,
    folder: Path,
    seed: int = 0,
    workers: int = 1,
) -> Basis:
    """On the validation split of the photographs, and on footage, file by file, as `examine` sees them.

    size: pixels of the crops; folder: of the run, which goes on where it was; workers: processes, on which nothing that
    is found depends
    """
    with progress("photographs") as bar:
        where, index = photographs(config, bar, workers, ("validation",))
    sets = [(where, some_conditions(index, "validation", seed), LOOK_EVERY)]
    if footage:
        with progress("clips of people talking") as bar:
            sets.append((*talking_clips(bar, seed), LOOK_AT_CLIPS))
    parts = folder / "looks" / judges.digest()[:12]
    rows: list[tuple[Photograph, Looked]] = []
    for place, chosen, every in sets:
        found = _by_parts("calibration", look_at, place, chosen, (every, size, judges), parts, workers)
        rows += [(item, Looked(*row)) for item, row in zip(chosen, found, strict=True) if row is not None]
    rows = [(item, row) for item, row in rows if row.side >= SMALLEST]
    given = Given(
        np.array([item.label for item, _ in rows]),
        np.array([row.scores for _, row in rows]),
        np.array([item.identity for item, _ in rows]),
        np.array([row.condition for _, row in rows]),
    )
    described_rows = np.array([row.described for _, row in rows], dtype=float)
    features = np.array([row.features for _, row in rows])
    people = np.unique(given.identities)
    kinds = [(kind, sum(name.startswith(kind) for name in people)) for kind in WHO]
    told = ", ".join(f"{count} {WHO[kind]}" for kind, count in kinds if count)
    what = (
        f"photographs and short H.264 clips of {len(people)} people ({told}), as they are and with their expressions "
        "changed by warp and landmark_warp"
    )
    names = judges.names or (load_detector(judges.path).name,)
    return basis_of(Observed(given, described_rows, features), names, size, what, seed)


def _by_parts(
    title: str,
    work: Callable[..., list[Any]],
    where: Path,
    items: Sequence[Photograph],
    given: tuple[Any, ...],
    folder: Path,
    workers: int,
) -> list[Any]:
    """`work(where, some items, *given)`, a value for each item, by several processes; what this commit left of it in
    `folder` is not made again."""
    made_by = commit().removesuffix("-dirty")  # the shipped ensemble lies in the checkout, which calibrating it changes
    what = json.dumps([where.name, [item.file for item in items], str(given), made_by])
    parts = folder / hashlib.sha256(what.encode()).hexdigest()[:12]
    jobs = {
        parts / f"{start:05d}.json": (where, items[start : start + _AT_ONCE], *given)
        for start in range(0, len(items), _AT_ONCE)
    }
    waiting = [part for part in jobs if not part.is_file()]
    with progress(title) as bar:
        for index, values in each(work, [jobs[part] for part in waiting], workers, preload="scripts.calibrate"):
            if values is None:
                first = where / jobs[waiting[index]][1][0].file
                raise UserError(f"{title}: the process at {first} was killed; the same command goes on")
            write_beside(waiting[index], json.dumps(jsonable(values)).encode())
            bar(sum(part.is_file() for part in jobs), len(jobs))
    return [value for part in jobs for value in json.loads(part.read_bytes())]


def look_at(where: Path, items: Sequence[Photograph], every: int, size: int, judges: Judges) -> list[Looked | None]:
    """In a process of its own."""
    torch.set_num_threads(1)
    modules = _modules(judges)
    rows: list[Looked | None] = []
    for item in items:
        seen, path = Seen(), where / item.file
        looks = of_largest([asked.kept for asked in scored(face_finder(every).looks(path, size, seen), modules)])
        if not looks:
            rows.append(None)
            continue
        side = float(np.median([look.side for look in looks]))
        rows.append(
            Looked(
                looks[0].side,
                condition_of(seen.kind, seen.frames, side, jpeg_quality(path)),
                np.mean([look.scores for look in looks], axis=0).tolist(),
                np.median([look.described for look in looks], axis=0).tolist(),
                np.mean([look.features for look in looks], axis=0).tolist(),
            )
        )
    return rows


def some_conditions(index: Sequence[Photograph], split: str, seed: int) -> list[Photograph]:
    """The photographs of a split, those of each person in `SEEN_IN` conditions, drawn, all alike whether real or
    forged."""
    names = sorted({item.condition for item in index})
    people = sorted({item.identity for item in index if item.split == split})
    generator = np.random.default_rng([seed, 41])
    wanted = {person: {names[i] for i in generator.permutation(len(names))[: SEEN_IN[split]]} for person in people}
    return [item for item in index if item.split == split and item.condition in wanted[item.identity]]


def tested(path: Path, config: PhotographsConfig, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Figures of the verdicts of the ensemble at `path` on the test split of the photographs, all and condition by
    condition. folder: of the run"""
    with progress("photographs to test on") as bar:
        where, index = photographs(config, bar, workers, ("test",))
    chosen = some_conditions(index, "test", 0)
    found = _by_parts(
        "test", judge, where, chosen, (path,), folder / "verdicts" / load_ensemble(path).digest[:12], workers
    )
    rows = [(item, Judged(*row)) for item, row in zip(chosen, found, strict=True) if row is not None]
    rows = [(item, row) for item, row in rows if row.side >= SMALLEST]
    told = [(item, row) for item, row in rows if row.told]
    table = {"all": told, "outside the calibration set too": rows}
    for name in sorted({row.condition for _, row in rows}):
        table[f"condition {name}"] = [pair for pair in told if pair[1].condition == name]
    for place in ("synthetic", "london"):
        table[place] = [pair for pair in told if pair[0].identity.startswith(place)]
    for method in sorted({item.method for item, _ in rows if item.method}):
        table[f"method {method}"] = [pair for pair in told if pair[0].method in ("", method)]
    figures_of = {name: _figures(part) for name, part in table.items()}
    return {
        "test": {name: one for name, one in figures_of.items() if one},
        "no_face": sum(row is None for row in found),
        "told": round(len(told) / max(1, len(rows)), 4),
    }


def judge(where: Path, items: Sequence[Photograph], path: Path) -> list[Judged | None]:
    """In a process of its own."""
    torch.set_num_threads(1)
    ensemble = _ensemble(path)
    rows: list[Judged | None] = []
    for item in items:
        _, faces = examine(where / item.file, ensemble, face_finder(LOOK_EVERY), jpeg_quality(where / item.file))
        if not faces:
            rows.append(None)
            continue
        face = max(faces, key=lambda face: face.side)
        mean = np.array([score for score, _ in face.detectors.values()])
        ratio = float(ensemble.basis.calibration.llr(mean, face.condition)[0])
        rows.append(Judged(face.side, face.condition, ratio, face.llr is not None))
    return rows


def _figures(rows: Sequence[tuple[Photograph, Judged]]) -> dict[str, Any]:
    labels = np.array([item.label for item, _ in rows])
    identities = np.array([item.identity for item, _ in rows])
    people = len(np.unique(identities))
    if len(np.unique(labels)) < 2 or people < 2:
        return {}
    ratios = np.array([row.llr for _, row in rows])
    real = labels == 0
    interval = bootstrap_by_identity(cllr, labels, ratios, identities)
    return {
        "real": int(real.sum()),
        "forged": int((~real).sum()),
        "people": people,
        **figures(labels, ratios),
        "cllr_interval": [round(value, 4) for value in interval],
        "ece_if_right": round(ece_if_right(labels, ratios), 4),
        "auroc": round(auroc(labels, ratios, balanced(labels)), 4),
        "forged_above_0": round(float((ratios[~real] > 0).mean()), 4),
        "real_above_0": round(float((ratios[real] > 0).mean()), 4),
        "real_above_2": round(float((ratios[real] > 2).mean()), 4),
        "highest_real": round(float(ratios[real].max()), 3),
    }


def described(results: dict[str, Any]) -> str:
    """The figures as lines."""
    lines = [
        f"{name}: Cllr {one['cllr']:.3f} ({one['cllr_interval'][0]:.3f} to {one['cllr_interval'][1]:.3f}), "
        f"at best {one['cllr_min']:.3f}, ECE {one['ece']:.3f} ({one['ece_if_right']:.3f} if every LLR were right), "
        f"AUROC {one['auroc']:.3f}; "
        f"LLR > 0: {one['forged_above_0']:.1%} of forged, {one['real_above_0']:.1%} of real ({one['people']} people)"
        for name, one in results["test"].items()
    ]
    return "\n".join([*lines, f"a verdict was given on {results['told']:.1%}"])


if __name__ == "__main__":
    sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
    main()
