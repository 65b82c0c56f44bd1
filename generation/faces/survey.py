"""A survey of the synthetic population: random people and sweeps of every action, shown to the judges.

Rendering and judging stream in parts of a few people; a part that is on the disk is not done again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from generation.faces.expressions import conflicts
from generation.faces.judges import Judgement, Judges
from generation.faces.people import Scene, sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.motion import ACTIONS
from generation.records import UserError, write_beside
from generation.workers import each

PART = 5
"""People per part."""

SWEEP_PEOPLE = 8
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHEET, THUMBNAIL = 96, 128
"""Pictures on the contact sheet, and how many pixels wide they are there at most."""
_LIPS_REACH = 0.4
"""How far the jaw can drop while the lips stay closed, as a share of `jawOpen`."""


def _movements() -> dict[str, tuple[str, ...]]:
    gaze = {
        "eyeLookLeft": ("eyeLookOutLeft", "eyeLookInRight"),
        "eyeLookRight": ("eyeLookInLeft", "eyeLookOutRight"),
    }
    moves: dict[str, tuple[str, ...]] = {}
    for name in ACTIONS:
        stem = name.removesuffix("Left").removesuffix("Right")
        pair = tuple(action for action in (f"{stem}Left", f"{stem}Right") if action in ACTIONS)
        sided = stem in ("jaw", "mouth") or not pair
        if stem not in ("eyeLookIn", "eyeLookOut"):
            moves[name if sided else stem] = (name,) if sided else pair
    return {**moves, **gaze}


MOVEMENTS = _movements()
"""What is drawn as one, name -> actions: people move both sides of the face together and both eyes to the same side;
only the jaw and the mouth are pushed to one side."""


@dataclass(frozen=True)
class SurveyConfig:
    """count: pictures, two of each person; size: their pixels; seed: draws people, scenes and expressions."""

    count: int = 1000
    size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 4 or self.count % 2:
            raise UserError(f"count={self.count}: must be an even number, 4 or more: two pictures of each person")
        if not 64 <= self.size <= 1024:
            raise UserError(f"size={self.size}: must be between 64 and 1024")
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: must be 0 or more")


@dataclass(frozen=True)
class Survey:
    """What the judges say of N pictures of N / 2 people, and of sweeps of every movement, M of them, on P people.

    identity: (N,) int; truth, reading: (N, 52); found: (N, 3) bool; embedding: (N, D): see `Judgement`
    rest: (N, 52), the reading of the same person in the same scene without expression
    sheet: (up to `SHEET`, h, h, 3) uint8, the first pictures
    responses: (P, M, 52), how MediaPipe's reading changes as a movement goes from 0 to 1; NaN where no face is found
    strips: (P, M, len(STRENGTHS), h, h, 3) uint8, the sweeps in pictures
    network: file of the recognition network
    """

    identity: np.ndarray
    truth: np.ndarray
    reading: np.ndarray
    rest: np.ndarray
    found: np.ndarray
    embedding: np.ndarray
    sheet: np.ndarray
    responses: np.ndarray
    strips: np.ndarray
    network: str


def expression_of_movement(name: str, strength: float) -> np.ndarray:  # (52,)
    """One movement; lips can only close over a jaw that is open."""
    expression = np.zeros(len(ACTIONS), np.float32)
    for action in (*MOVEMENTS[name], *(["jawOpen"] if name == "mouthClose" else [])):
        expression[ACTIONS.index(action)] = strength
    return expression


def sparse_mixture(rng: np.random.Generator) -> np.ndarray:  # (52,)
    """One to four movements that do not exclude one another, each anywhere between nothing and all."""
    while True:
        chosen = rng.choice(list(MOVEMENTS), size=int(rng.integers(1, 5)), replace=False)
        strength = [rng.uniform(0, 1) * (_LIPS_REACH if name == "mouthClose" else 1) for name in chosen]
        parts = [expression_of_movement(str(name), value) for name, value in zip(chosen, strength, strict=True)]
        expression = np.asarray(np.max(parts, axis=0))
        if not conflicts(expression):
            return expression


def frontal(scene: Scene) -> Scene:
    """The scene with the head straight on and in the middle."""
    return replace(scene, pose=(0.0, 0.0, 0.0, 0.0, -0.1, 0.47))


def survey(
    config: SurveyConfig, folder: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Render and judge, in `workers` processes, on which nothing depends; `progress` takes (people done, people).

    The parts are kept in `folder`, which belongs to this configuration alone; an interrupted survey goes on from them.
    """
    people = config.count // 2
    parts = [("people", first, min(first + PART, people)) for first in range(0, people, PART)]
    parts += [("sweep", index, index + 1) for index in range(SWEEP_PEOPLE)]
    left = [part for part in parts if not _path(folder, part).is_file()]
    done = sum(part[2] - part[1] for part in parts if part not in left)
    network = Judges().network  # here so that what is missing is told before any process starts
    jobs = [(config, folder, part) for part in left]
    for job, judged in each(_work, jobs, workers, preload=__name__):
        if judged is None:
            raise RuntimeError(f"a process that judged {left[job]} was killed; the same command goes on")
        done += left[job][2] - left[job][1]
        if progress:
            progress(done, people + SWEEP_PEOPLE)
    return _collected(folder, parts, network)


def _path(folder: Path, part: tuple[str, int, int]) -> Path:
    return folder / f"{part[0]}-{part[1]:05d}.npz"


def _collected(folder: Path, parts: list[tuple[str, int, int]], network: str) -> Survey:
    stored: dict[str, list[dict[str, np.ndarray]]] = {"people": [], "sweep": []}
    for part in parts:
        with np.load(_path(folder, part)) as values:
            stored[part[0]].append(dict(values))
    people = {key: np.concatenate([part[key] for part in stored["people"]]) for key in stored["people"][0]}
    sweeps = {key: np.stack([part[key] for part in stored["sweep"]]) for key in stored["sweep"][0]}
    return Survey(**people, **sweeps, network=network)


@cache
def _judging(size: int) -> tuple[Renderer, Judges]:
    """The renderer and the judges of a worker process, until it ends."""
    return Renderer(size), Judges().__enter__()


def _work(config: SurveyConfig, folder: Path, part: tuple[str, int, int]) -> bool:
    renderer, judges = _judging(config.size)
    kind, first, last = part
    values = (
        _people(renderer, judges, config, first, last) if kind == "people" else _sweep(renderer, judges, config, first)
    )
    buffer = io.BytesIO()
    np.savez(buffer, **values)  # type: ignore[arg-type]
    write_beside(_path(folder, part), buffer.getvalue())
    return True


def _people(renderer: Renderer, judges: Judges, config: SurveyConfig, first: int, last: int) -> dict[str, np.ndarray]:
    """Two pictures of each person, in two scenes, each with an expression of its own."""
    identity, truth, rest, sheet = [], [], [], []
    said: list[Judgement] = []
    for index in range(first, last):
        person = sample_person(config.seed, index)
        for which in range(2):
            expression = sparse_mixture(np.random.default_rng([config.seed, 7, index, which]))
            scene, both = sample_scene(config.seed, index, which), np.stack([expression, np.zeros_like(expression)])
            frames = renderer.render(person, scene, both)
            said.append(judges.judge(frames.image[0], frames.landmarks[0]))
            rest.append(judges.read(frames.image[1]))
            identity.append(index)
            truth.append(expression)
            if 2 * index + which < SHEET:
                sheet.append(_thumbnail(frames.image[0]))
    small = min(config.size, THUMBNAIL)
    return {
        "identity": np.array(identity),
        "truth": np.array(truth),
        "reading": np.array([judgement.reading for judgement in said]),
        "rest": np.array(rest),
        "found": np.array([judgement.found for judgement in said]),
        "embedding": np.array([judgement.embedding for judgement in said]),
        "sheet": np.array(sheet, np.uint8).reshape(-1, small, small, 3),
    }


def _sweep(renderer: Renderer, judges: Judges, config: SurveyConfig, index: int) -> dict[str, np.ndarray]:
    """Every movement in steps on one person, seen from the front."""
    person, scene = sample_person(config.seed, index), frontal(sample_scene(config.seed, index, 0))
    steps = np.array([expression_of_movement(name, strength) for name in MOVEMENTS for strength in STRENGTHS])
    images = renderer.render(person, scene, steps).image.reshape(len(MOVEMENTS), len(STRENGTHS), config.size, -1, 3)
    rest = judges.read(images[0, 0])
    return {
        "responses": np.array([judges.read(strip[-1]) - rest for strip in images]),
        "strips": np.array([[_thumbnail(image) for image in strip] for strip in images]),
    }


def _thumbnail(image: np.ndarray) -> np.ndarray:  # uint8 (h, h, 3)
    small = min(len(image), THUMBNAIL)
    return np.asarray(Image.fromarray(image).resize((small, small), Image.Resampling.BOX))
