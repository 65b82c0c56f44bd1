"""The factorial set of synthetic faces as records: one bank of expressions on every person in every scene; or clips.

A shard's truth layers (`layers.py`) are written before the shard itself, so records that are there have theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from generation import records
from generation.faces.cast import cast, people_of
from generation.faces.expressions import expression_bank
from generation.faces.head import load_head
from generation.faces.layers import remove_layers, write_layers
from generation.faces.people import ORIGIN, FacesConfig, Scene
from generation.faces.renderer import Renderer
from generation.faces.trajectories import KINDS, trajectory
from generation.faces.truth import Frames
from generation.workers import each

__all__ = ["SHARD_PEOPLE", "Frames", "Renderer", "kind_of", "people_of", "render_records"]

SHARD_PEOPLE = 8
"""People per shard of records: the unit of work."""


SEQUENCES = 16
"""Sequences of expressions in clips of motion, all kinds of `KINDS` in turn."""

VERSION = 2
"""To be raised with every change of what is rendered: records of another version are made anew."""


def kind_of(config: FacesConfig) -> dict[str, object]:
    """What made the records, as `dataset_info.json` tells it."""
    return {"faces": "synthetic", "version": VERSION, **asdict(config)}


def render_records(
    config: FacesConfig, folder: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the set: a clip is one person in one scene, `frame` is the index of the expression in the bank, or the
    number of the frame in a clip of motion.

    The bytes do not depend on the number of `workers` (processes). An interrupted run goes on with the shards that are
    there; a finished folder of the same configuration stays as it is. `progress` takes (clips done, clips in all).
    """
    kind = kind_of(config)
    if records.finished(folder, kind):
        return
    load_head()
    records.begin(folder, kind)
    people = people_of(config)
    shards = [people[first : first + SHARD_PEOPLE] for first in range(0, len(people), SHARD_PEOPLE)]
    left = [index for index in range(len(shards)) if not records.shard_path(folder, index).is_file()]
    total = len(people) * config.scenes
    if len(left) == len(shards):
        remove_layers(folder)
    done = total - config.scenes * sum(len(shards[index]) for index in left)

    def finished(shard: int) -> None:
        nonlocal done
        done += config.scenes * len(shards[shard])
        if progress:
            progress(done, total)

    if workers <= 1 or len(left) <= 1:
        renderer = Renderer(config.size, config.samples)
        for index in left:
            _write_shard(renderer, config, folder, index, shards[index])
            finished(index)
    else:
        jobs = [(config, folder, index, shards[index]) for index in left]
        for job, done_now in each(_work, jobs, workers, preload=__name__):
            if done_now is None:
                raise RuntimeError(f"a process that rendered shard {left[job]} was killed; the same command goes on")
            finished(left[job])
    records.finish(folder, len(shards), kind)


@cache
def _renderer(size: int, samples: int) -> Renderer:
    """The renderer of a worker process."""
    return Renderer(size, samples)


def _work(config: FacesConfig, folder: Path, index: int, people: list[tuple[int, str]]) -> bool:
    _write_shard(_renderer(config.size, config.samples), config, folder, index, people)
    return True


def _write_shard(
    renderer: Renderer, config: FacesConfig, folder: Path, index: int, people: list[tuple[int, str]]
) -> None:
    rows = []
    for number, split in people:
        person, scenes = cast(config, number, split)
        for which, scene in enumerate(scenes):
            clip = f"{person.name}/{scene.name}"
            expressions, poses = _motion(config, number, which, scene)
            if config.layers:
                truth = renderer.truth(person, scene, expressions, poses)
                frames = truth.frames
                before = np.maximum(np.arange(len(expressions)) - 1, 0)
                flow_to = np.zeros_like(before) if config.motion == "bank" else before
                write_layers(folder, clip, truth, config.layers, renderer.head.landmarks, flow_to)
            else:
                frames = renderer.render(person, scene, expressions, poses)
            rows += [
                records.row(
                    frames.image[frame],
                    clip=clip,
                    frame=frame,
                    identity=person.name,
                    scene=scene.name,
                    expression=expressions[frame],
                    pose=frames.pose if poses is None else frames.pose[frame],
                    landmarks=frames.landmarks[frame],
                    split=split,
                    origin=ORIGIN,
                    seed=config.seed,
                )
                for frame in range(len(expressions))
            ]
    records.write_shard(folder, index, rows)


def _motion(config: FacesConfig, number: int, which: int, scene: Scene) -> tuple[np.ndarray, np.ndarray | None]:
    """Expressions (E, 52) of a clip, and poses (E, 6) where they are not the scene's.

    As the bank does, each of `SEQUENCES` crosses people and scenes: many say and feel the same, each in another pose.
    """
    if config.motion == "bank":
        return expression_bank(config.expressions, config.seed), None
    sequence = (number + which) % SEQUENCES
    course = trajectory(
        config.frames,
        (config.seed, sequence),
        KINDS[sequence % len(KINDS)],
        scene.pose,
        head_seed=(config.seed, number, which),
    )
    return course.expression, course.pose
