"""Calibrate a detector, so that `examine` may give verdicts with it: on photographs, or on validation people.

python scripts/calibrate.py detector=FILE.safetensors             # on photographs, see scripts/examine_photos.py
python scripts/calibrate.py detector=FILE.safetensors records=DIR    # on the validation split of records
python scripts/calibrate.py detector=detection/weights      # an ensemble, on photographs, and tested on others

What was fitted are numbers; they are put into the detector's .json, of an ensemble into `ensemble.json`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from detection.calibration import Given, balanced, figures
from detection.detectors import load_detector
from detection.examine import SMALLEST, Scored, condition_of, examine, scored
from detection.examine_basis import (
    ENSEMBLE,
    Basis,
    Ensemble,
    Observed,
    add_basis,
    basis_of,
    basis_of_faces,
    load_ensemble,
    save_ensemble,
    single_detector,
)
from detection.examine_container import jpeg_quality
from detection.examine_looks import Finder, Look, Seen
from detection.examine_views import inner_square
from detection.metrics import auroc
from generation import records
from generation.faces.alignment import cropped
from generation.faces.media import Media
from generation.records import UserError
from generation.workers import each
from scripts.data import load_labelled_faces
from scripts.door import configure, entry, progress, say
from scripts.examine import quoted
from scripts.examine_faces import FaceSource
from scripts.examine_footage import LOOK_EVERY as LOOK_AT_CLIPS
from scripts.examine_footage import talking_clips
from scripts.examine_photos import CONDITIONS, Photograph, PhotographsConfig, photographs

LOOK_EVERY = 3
"""Frames of the short clips that are looked at: the first, which is whole by itself, and the fourth, which is not."""

WHO = {"synthetic": "synthetic", "london": "of the London Set", "talking": "talking in clips of others"}
"""Beginning of an identity: who that is."""

_AT_ONCE = 16
"""Photographs whose faces are found by a process before it hands them on."""

_Sized = TypeVar("_Sized", Look, Scored)

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
        return recalibrated(settings.weights, settings)
    path = single_detector(settings.weights)
    made = load_detector(path)
    modules, names = (made.module,), (made.name,)
    if settings.records is not None:
        faces = load_labelled_faces(settings.records, settings.size).where(split="validation")
        what = f"validation people of {settings.records.name}"
        basis = basis_of_faces(made.name, made.module, faces, what, settings.seed)
    else:
        basis = basis_on_photographs(
            names, modules, settings.size, settings.photographs, settings.footage, settings.seed, settings.workers
        )
    add_basis(path, basis)
    found = dict(basis.calibration.about)
    say(f"{path.name}: Cllr {found['cllr']}, at best {found['cllr_min']}, ECE {found['ece']}, {found['people']} people")
    return {"detector": str(path), "calibration": found}


def recalibrated(path: Path, settings: CalibrateConfig) -> dict[str, Any]:
    """Of an ensemble; its figures are of the test split of the photographs."""
    if settings.records is not None:
        raise UserError(f"records={settings.records}: an ensemble is calibrated on photographs; leave records out")
    old = load_ensemble(path)
    basis = basis_on_photographs(
        old.names, old.modules, old.basis.size, settings.photographs, settings.footage, settings.seed, settings.workers
    )
    save_ensemble(path, old.names, basis, old.about)
    results = tested(load_ensemble(path), settings.photographs, settings.workers)
    say(described(results))
    return {"detector": str(path), "calibration": dict(basis.calibration.about), **results}


def basis_on_photographs(
    names: Sequence[str],
    modules: Sequence[nn.Module],
    size: int,
    config: PhotographsConfig,
    footage: bool,
    seed: int,
    workers: int = 1,
) -> Basis:
    """On the validation split of the photographs, and on footage, file by file, as `examine` sees them."""
    with progress("photographs") as bar:
        where, index = photographs(config, bar, workers, ("validation",))
    sets = [(where, some_conditions(index, "validation", seed), LOOK_EVERY)]
    if footage:
        with progress("clips of people talking") as bar:
            sets.append((*talking_clips(bar, seed), LOOK_AT_CLIPS))
    rows = []
    for folder, chosen, every in sets:
        with FaceSource(every) as finder, progress("calibration") as bar:
            rows += [
                (item, looks, condition)
                for item, looks, condition in _observed(folder, chosen, finder, modules, size, bar)
                if looks[0].side >= SMALLEST
            ]
    given = Given(
        np.array([item.label for item, *_ in rows]),
        np.stack([np.mean([look.scores for look in looks], axis=0) for _, looks, _ in rows]),
        np.array([item.identity for item, *_ in rows]),
        np.array([condition for *_, condition in rows]),
    )
    described_rows = np.stack([np.median([look.described for look in looks], axis=0) for _, looks, _ in rows])
    features = np.stack([np.mean([look.features for look in looks], axis=0) for _, looks, _ in rows])
    people = len(np.unique(given.identities))
    kinds = [(kind, len({item.identity for item, *_ in rows if item.identity.startswith(kind)})) for kind in WHO]
    told = ", ".join(f"{count} {WHO[kind]}" for kind, count in kinds if count)
    what = (
        f"photographs and short H.264 clips of {people} people ({told}), as they are and with their expressions "
        "changed by warp and landmark_warp"
    )
    return basis_of(Observed(given, described_rows, features), names, size, what, seed)


def some_conditions(index: Sequence[Photograph], split: str, seed: int) -> list[Photograph]:
    """The photographs of a split, those of each person in `SEEN_IN` conditions, drawn, all alike whether real or
    forged."""
    names = sorted({item.condition for item in index})
    people = sorted({item.identity for item in index if item.split == split})
    generator = np.random.default_rng([seed, 41])
    wanted = {person: {names[i] for i in generator.permutation(len(names))[: SEEN_IN[split]]} for person in people}
    return [item for item in index if item.split == split and item.condition in wanted[item.identity]]


def _observed(
    where: Path,
    index: Sequence[Photograph],
    finder: Finder,
    modules: Sequence[nn.Module],
    size: int,
    bar: Callable[[int, int], None],
) -> Iterator[tuple[Photograph, list[Scored], str]]:
    for done, item in enumerate(index):
        seen, path = Seen(), where / item.file
        looks = [asked.kept for asked in scored(finder.looks(path, size, seen), modules)]
        looks = _of_largest(looks)
        if looks:
            side = float(np.median([look.side for look in looks]))
            yield item, looks, condition_of(seen.kind, seen.frames, side, jpeg_quality(path))
        bar(done + 1, len(index))


def _of_largest(looks: Sequence[_Sized]) -> list[_Sized]:
    """Those of the face that a photograph is of: what else was taken for one is small."""
    largest = max((look.side for look in looks), default=0.0)
    return [look for look in looks if look.side > 0.7 * largest]


def photo_rows(
    where: Path, index: Sequence[Photograph], size: int, bar: Callable[[int, int], None], workers: int = 1
) -> Iterator[dict[str, Any]]:
    """Rows of records of the inner faces in crops of `size` pixels; of a clip, in its last frame that is looked at. The
    face of a forgery is where it is in the real photograph. workers: processes; rows and their order do not depend on
    them."""
    together: dict[str, list[Photograph]] = {}
    for item in index:
        together.setdefault(item.source or item.file, []).append(item)
    groups = list(together.items())
    jobs = [(where, groups[start : start + _AT_ONCE], size) for start in range(0, len(groups), _AT_ONCE)]
    made: dict[int, list[dict[str, Any]]] = {}
    done = 0
    for job, rows in each(_inner_rows, jobs, workers, preload="scripts.calibrate"):
        if rows is None:
            raise UserError(f"faces of photographs: the process at {jobs[job][1][0][0]} was killed; run it again")
        made[job] = rows
        while done in made:
            yield from made.pop(done)
            done += 1
            bar(done, len(jobs))


def _inner_rows(where: Path, groups: Sequence[tuple[str, list[Photograph]]], size: int) -> list[dict[str, Any]]:
    rows = []
    for original, items in groups:
        looks = [look for look in _finder().looks(where / original, size, Seen()) if not np.isnan(look.landmarks).any()]
        looks = _of_largest(looks)
        rows += [_inner_row(where, item, looks[-1], size) for item in items if looks]
    return rows


@cache
def _finder() -> FaceSource:
    """What a worker process finds faces with, until it ends."""
    return FaceSource(LOOK_EVERY).__enter__()


def _inner_row(where: Path, item: Photograph, look: Look, size: int) -> dict[str, Any]:
    top, left, side = inner_square(size)
    part = np.s_[top : top + side, left : left + side]
    crop, mask = look.crop, None
    if item.label:
        image = next(frame for frame in Media(where / item.file) if frame.index == look.frame).image()
        crop = cropped(image, look.matrix, size)
        whole = np.asarray(Image.open(where / item.mask).convert("L"))
        mask = _cropped_mask(whole, look, item, size)[part]
    return records.row(
        crop[part],
        clip=item.source or item.file,
        frame=look.frame,
        identity=item.identity,
        scene=item.condition,
        expression=np.zeros(52),
        pose=np.array([*look.pose, 0, 0, 0, 1]),
        landmarks=look.landmarks - (left, top),
        split=item.split,
        origin=item.origin,
        seed=0,
        mask=mask,
        method=item.method,
        source=(item.source, look.frame) if item.label else None,
    )


def _cropped_mask(whole: np.ndarray, look: Look, item: Photograph, size: int) -> np.ndarray:
    """The mask of the original in the crop of a face, which may have been made smaller, or moved with the camera."""
    scale = CONDITIONS[item.condition][2]
    shift = np.array([look.frame, look.frame // 2]) if item.file.endswith(".mp4") else np.zeros(2)
    matrix = look.matrix.copy()
    matrix[:, 2] -= matrix[:, :2] @ shift
    matrix[:, :2] *= scale
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return cv2.warpAffine(whole, matrix, (size, size), flags=cv2.INTER_LINEAR)


def tested(ensemble: Ensemble, config: PhotographsConfig, workers: int = 1) -> dict[str, Any]:
    """Figures of the verdicts on the test split of the photographs, all and condition by condition."""
    with progress("photographs to test on") as bar:
        where, index = photographs(config, bar, workers, ("test",))
    chosen = some_conditions(index, "test", 0)
    rows: list[tuple[Photograph, str, float, bool]] = []
    missed = 0
    with FaceSource(LOOK_EVERY) as finder, progress("test") as bar:
        for done, item in enumerate(chosen):
            path = where / item.file
            quality = jpeg_quality(path)
            _, faces = examine(path, ensemble, finder, quality)
            bar(done + 1, len(chosen))
            if not faces:
                missed += 1
                continue
            face = max(faces, key=lambda face: face.side)
            mean = np.array([score for score, _ in face.detectors.values()])
            ratio = float(ensemble.basis.calibration.llr(mean, face.condition)[0])
            if face.side >= SMALLEST:
                rows.append((item, face.condition, ratio, face.llr is not None))
    table = {"all": [row for row in rows if row[3]], "outside the calibration set too": rows}
    for name in sorted({row[1] for row in rows}):
        table[f"condition {name}"] = [row for row in rows if row[1] == name and row[3]]
    for place in ("synthetic", "london"):
        table[place] = [row for row in rows if row[0].identity.startswith(place) and row[3]]
    for method in sorted({row[0].method for row in rows if row[0].method}):
        table[f"method {method}"] = [row for row in rows if row[0].method in ("", method) and row[3]]
    found = {name: _figures(part) for name, part in table.items()}
    return {"test": {name: one for name, one in found.items() if one}, "no_face": missed, "told": _share(rows)}


def _share(rows: Sequence[tuple[Photograph, str, float, bool]]) -> float:
    return round(float(np.mean([row[3] for row in rows])), 4)


def _figures(rows: Sequence[tuple[Photograph, str, float, bool]]) -> dict[str, Any]:
    labels = np.array([row[0].label for row in rows])
    if len(np.unique(labels)) < 2:
        return {}
    ratios = np.array([row[2] for row in rows])
    real = labels == 0
    return {
        "real": int(real.sum()),
        "forged": int((~real).sum()),
        "people": len({row[0].identity for row in rows}),
        **figures(labels, ratios),
        "auroc": round(auroc(labels, ratios, balanced(labels)), 4),
        "forged_above_0": round(float((ratios[~real] > 0).mean()), 4),
        "real_above_0": round(float((ratios[real] > 0).mean()), 4),
        "real_above_2": round(float((ratios[real] > 2).mean()), 4),
        "highest_real": round(float(ratios[real].max()), 3),
    }


def described(results: dict[str, Any]) -> str:
    """The figures as lines."""
    lines = [
        f"{name}: Cllr {one['cllr']:.3f}, at best {one['cllr_min']:.3f}, ECE {one['ece']:.3f}, "
        f"AUROC {one['auroc']:.3f}; "
        f"LLR > 0: {one['forged_above_0']:.1%} of forged, {one['real_above_0']:.1%} of real ({one['people']} people)"
        for name, one in results["test"].items()
    ]
    return "\n".join([*lines, f"a verdict was given on {results['told']:.1%}"])


if __name__ == "__main__":
    sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
    main()
