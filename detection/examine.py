"""One photo or video -> every face in it, and for each a calibrated verdict, or the statement that there can be none.

Who finds faces is passed in (`examine_looks.Finder`). Only numbers are kept of a look, and the crops of the few worst,
so memory does not grow with a video.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detection.calibration import verbal
from detection.examine_answers import Answers, Map, answers
from detection.examine_basis import Ensemble
from detection.examine_familiarity import descriptors
from detection.examine_looks import Finder, Look, Seen

Floats = NDArray[np.float64]

SMALLEST = 64
"""Pixels of the square around a face below which nothing is said of it, whatever the calibration set."""

SMALL, MEDIUM = 128, 256
"""Pixels of the square around a face below which a photo is of the condition `small`, and of `medium`."""

FEW_FRAMES = 8
"""Frames below which a video is of the condition `frames`: a photo that went through a video's encoder."""

COMPRESSED = 75
"""JPEG quality below which a photo is of the condition `compressed`."""

NOT_CALIBRATED = "not calibrated for this kind of file"

SUSPICIOUS = math.log(10)
"""LLR from which a span of a video is pointed out."""

_AT_ONCE, _WORST, _SMOOTH, _SHORTEST = 16, 3, 5, 3


def condition_of(kind: str, frames: int, side: float, quality: int | None) -> str:
    """The condition that a face is calibrated in: `video`; `frames`, see `FEW_FRAMES`; and of photos `small`, `medium`,
    `compressed`, a JPEG of quality below `COMPRESSED`, and `clear`.

    frames: of the file; side: of the face's square, pixels
    """
    if kind == "video":
        return "video" if frames >= FEW_FRAMES else "frames"
    if side < SMALL:
        return "small"
    if side < MEDIUM:
        return "medium"
    return "compressed" if quality is not None and quality < COMPRESSED else "clear"


class Scored(NamedTuple):
    """What is kept of a look; scores (K,), described (8,), features (F,), see `examine_familiarity`."""

    number: int
    frame: int
    seconds: float
    box: tuple[float, ...]
    side: float
    scores: Floats
    described: Floats
    features: Floats


class Asked(NamedTuple):
    """A look, what is kept of it, and by detector its map or None, see `examine_answers`."""

    look: Look
    kept: Scored
    maps: list[Map | None]


def scored(looks: Iterator[Look], modules: Sequence[nn.Module]) -> Iterator[Asked]:
    """The looks with the detectors' answers, some at a time: of those before while the next are found."""
    asked: list[tuple[list[Look], Future[Answers]]] = []
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as beside:
        while batch := list(islice(looks, _AT_ONCE)):
            images = torch.from_numpy(np.stack([look.crop for look in batch])).permute(0, 3, 1, 2)
            asked.append((batch, beside.submit(answers, modules, images)))
            if len(asked) > 1:
                yield from _answered(*asked.pop(0))
        for one in asked:
            yield from _answered(*one)


def _answered(batch: Sequence[Look], future: Future[Answers]) -> Iterator[Asked]:
    found = future.result()
    for index, look in enumerate(batch):
        described = descriptors(look.crop, look.side, look.pose)
        box = tuple(float(value) for value in look.box)
        numbers = found.scores[index], described, found.features[index]
        kept = Scored(look.number, look.frame, look.seconds, box, look.side, *numbers)
        yield Asked(look, kept, found.maps_of(index))


@dataclass(frozen=True, eq=False)
class Worst:
    """A frame that speaks most for a forgery. llr: of this frame alone; None where there is no verdict.
    maps: by detector, see `examine_answers.Answers`; foremost: index of the detector that alone speaks most for one."""

    look: Look
    llr: float | None
    maps: list[Map | None]
    foremost: int


@dataclass(frozen=True, eq=False)
class Face:
    """One person in a file.

    llr, low, high: natural log-likelihood ratio, forged against real, with its 95 % interval; None where the file is
        too far from the calibration set
    scale: the verbal scale; abstains: whether the LLR is too small to be told as a verdict
    condition: see `condition_of`; strange: why there is no verdict, [] where there is one
    detectors: name -> (mean score, its LLR alone or None)
    seconds, ratios: of every look, for a timeline (ratios are not bounded by a verdict's being there)
    spans: of a video, where its LLR is at least `SUSPICIOUS`: (start, end, mean LLR)
    """

    number: int
    looks: int
    box: tuple[float, ...]
    side: float
    llr: float | None
    low: float | None
    high: float | None
    scale: str
    abstains: bool
    condition: str
    strange: list[str]
    detectors: dict[str, tuple[float, float | None]]
    seconds: Floats
    ratios: Floats
    spans: list[tuple[float, float, float]]
    worst: list[Worst]

    @property
    def disagreement(self) -> float | None:
        """Between which LLRs the detectors alone lie: the difference of the highest and the lowest."""
        alone = [llr for _, llr in self.detectors.values() if llr is not None]
        return max(alone) - min(alone) if len(alone) > 1 else None


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything that is said of a file. container, provenance: as they were given, apart from what the pixels say."""

    path: str
    seen: Seen
    faces: list[Face]
    container: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def examine(path: Path, ensemble: Ensemble, finder: Finder, quality: int | None = None) -> tuple[Seen, list[Face]]:
    """The faces of a file. quality: of a JPEG, None for others. Raises `UserError` where there is no picture."""
    basis, seen = ensemble.basis, Seen()
    looks: list[Scored] = []
    distances: list[float] = []
    kept: dict[int, list[tuple[float, int, Asked]]] = {}
    for asked in scored(finder.looks(path, basis.size, seen), ensemble.modules):
        look, one, _ = asked
        distances.append(float(basis.familiarity.distance(one.features[None])[0]))
        looks.append(one._replace(features=np.empty(0)))
        ratio = float(basis.calibration.llr(one.scores)[0])
        heap = kept.setdefault(look.track, [])
        heapq.heappush(heap, (ratio, look.number, asked))
        if len(heap) > _WORST:
            heapq.heappop(heap)
    people: dict[int, list[int]] = {}
    for index, one in enumerate(looks):
        people.setdefault(seen.person[one.number], []).append(index)
    crops = [item for heap in kept.values() for item in heap]
    faces = []
    for number, rows in enumerate(people.values()):
        own = {looks[row].number for row in rows}
        worst = sorted((item for item in crops if item[1] in own), key=lambda item: -item[0])[:_WORST]
        faces.append(
            _face(
                number,
                [looks[row] for row in rows],
                np.array([distances[row] for row in rows]),
                [asked for *_, asked in worst],
                ensemble,
                seen,
                quality,
            )
        )
    return seen, faces


def _face(
    number: int,
    looks: list[Scored],
    distances: Floats,
    worst: list[Asked],
    ensemble: Ensemble,
    seen: Seen,
    quality: int | None,
) -> Face:
    basis, calibration = ensemble.basis, ensemble.basis.calibration
    scores = np.stack([look.scores for look in looks])
    mean, side = scores.mean(0), float(np.median([look.side for look in looks]))
    condition = condition_of(seen.kind, seen.frames, side, quality)
    described = np.median(np.stack([look.described for look in looks]), axis=0)
    if np.isnan(described).any() and len(looks) > 1:
        described = np.nanmedian(np.stack([look.described for look in looks]), axis=0)
    strange = basis.familiarity.strange(described, float(np.median(distances)), condition, basis.size)
    if side < SMALLEST:
        strange.insert(0, f"the square around the face has {side:.0f} pixels; at least {SMALLEST} are needed")
    seconds = np.array([look.seconds for look in looks])
    ratios = calibration.llr(scores, condition)
    llr: float | None = None
    low: float | None = None
    high: float | None = None
    if not strange:
        llr = float(calibration.llr(mean, condition)[0])
        low, high = calibration.interval(mean, condition)
        low, high = min(low, llr), max(high, llr)
    alone = {
        name: (float(mean[index]), None if strange else _alone(basis.singles[name], float(mean[index]), ensemble))
        for index, name in enumerate(ensemble.names)
    }
    told = [
        Worst(
            asked.look,
            None if strange else float(ratios[_place(looks, asked.look)]),
            asked.maps,
            _foremost(asked.kept.scores, ensemble),
        )
        for asked in worst
    ]
    return Face(
        number=number,
        looks=len(looks),
        box=looks[0].box,
        side=side,
        llr=llr,
        low=low,
        high=high,
        scale=NOT_CALIBRATED if llr is None else verbal(llr),
        abstains=llr is None or abs(llr) < calibration.abstain,
        condition=condition,
        strange=strange,
        detectors=alone,
        seconds=seconds,
        ratios=ratios,
        spans=[] if strange or seen.kind != "video" else spans(seconds, ratios),
        worst=told,
    )


def _alone(line: Sequence[float], score: float, ensemble: Ensemble) -> float:
    calibration = ensemble.basis.calibration
    return float(np.clip(line[0] * score + line[1], calibration.low, calibration.high))


def _foremost(scores: Floats, ensemble: Ensemble) -> int:
    slopes, offsets = np.array([ensemble.basis.singles[name] for name in ensemble.names]).T
    return int(np.argmax(slopes * scores + offsets))


def _place(looks: list[Scored], look: Look) -> int:
    return next(index for index, one in enumerate(looks) if one.number == look.number)


def smoothed(ratios: Floats) -> Floats:  # (N,)
    """The running median over `_SMOOTH` looks."""
    padded = np.pad(ratios, _SMOOTH // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH), axis=1))


def spans(seconds: Floats, ratios: Floats, least: float = SUSPICIOUS) -> list[tuple[float, float, float]]:
    """Where the smoothed LLR is at least `least` for `_SHORTEST` looks or more: (start, end, mean LLR)."""
    above = np.concatenate([[False], smoothed(ratios) >= least, [False]])
    starts, ends = np.flatnonzero(above[1:] & ~above[:-1]), np.flatnonzero(above[:-1] & ~above[1:])
    return [
        (float(seconds[start]), float(seconds[end - 1]), float(ratios[start:end].mean()))
        for start, end in zip(starts, ends, strict=True)
        if end - start >= _SHORTEST
    ]
