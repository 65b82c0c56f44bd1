"""The factorial set of synthetic faces as records: one bank of expressions on every person in every scene; or clips.

A shard's truth layers (`layers.py`) are written before the shard itself, so records that are there have theirs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.context import BaseContext
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

__all__ = ["SHARD_PEOPLE", "Frames", "Renderer", "kind_of", "people_of", "render_records"]

SHARD_PEOPLE = 8
"""People per shard of records: the unit of work."""


SEQUENCES = 16
"""Sequences of expressions in clips of motion, all kinds of `KINDS` in turn."""

VERSION = 2
"""To be raised with every change of what is rendered: records of another version are made anew."""


def kind_of(config: FacesConfig) -> dict[str, object]:
    """What made the records, as `dataset_info.json` tells it."""
    return {"faces": "synthetic", "version": VERSION, **records.described(config)}


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
        with ProcessPoolExecutor(min(workers, len(left)), _processes(), _start_worker, (config,)) as pool:
            try:
                jobs = {pool.submit(_work, config, folder, index, shards[index]): index for index in left}
                for job in as_completed(jobs):
                    job.result()
                    finished(jobs[job])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    records.finish(folder, len(shards), kind)


def _processes() -> BaseContext:
    """How workers start: as copies of one process that has done the imports, where the platform can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


_renderer: Renderer | None = None
"""The renderer of a worker process."""


def _start_worker(config: FacesConfig) -> None:
    global _renderer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    _renderer = Renderer(config.size, config.samples)


def end_with_parent() -> None:
    """A killed run leaves no workers behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(config: FacesConfig, folder: Path, index: int, people: list[tuple[int, str]]) -> None:
    assert _renderer is not None
    _write_shard(_renderer, config, folder, index, people)


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
