"""The factorial set of synthetic faces as records: one bank of expressions on every person in every scene."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing.context import BaseContext
from pathlib import Path

from generation import records
from generation.faces.expressions import expression_bank
from generation.faces.head import load_head
from generation.faces.people import ORIGIN, FacesConfig, sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.faces.truth import Frames

__all__ = ["SHARD_PEOPLE", "Frames", "Renderer", "kind_of", "people_of", "render_records"]

SHARD_PEOPLE = 8
"""People per shard of records: the unit of work."""


VERSION = 1
"""To be raised with every change of what is rendered: records of another version are made anew."""


def kind_of(config: FacesConfig) -> dict[str, object]:
    """What made the records, as `dataset_info.json` tells it."""
    return {"faces": "synthetic", "version": VERSION, **asdict(config)}


def people_of(config: FacesConfig) -> list[tuple[int, str]]:
    """Index and split of every person, in the order of the records."""
    splits = [split for split in records.SPLITS for _ in range(getattr(config, split))]
    return list(enumerate(splits))


def render_records(
    config: FacesConfig, folder: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the factorial set: a clip is one person in one scene, `frame` is the index of the expression in the bank.

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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _renderer = Renderer(config.size, config.samples)


def _end_with_parent() -> None:
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
    bank = expression_bank(config.expressions, config.seed)
    rows = []
    for number, split in people:
        person = sample_person(config.seed, number)
        for which in range(config.scenes):
            scene = sample_scene(config.seed, number, which)
            frames = renderer.render(person, scene, bank)
            rows += [
                records.row(
                    frames.image[frame],
                    clip=f"{person.name}/{scene.name}",
                    frame=frame,
                    identity=person.name,
                    scene=scene.name,
                    expression=bank[frame],
                    pose=frames.pose,
                    landmarks=frames.landmarks[frame],
                    split=split,
                    origin=ORIGIN,
                    seed=config.seed,
                )
                for frame in range(len(bank))
            ]
    records.write_shard(folder, index, rows)
