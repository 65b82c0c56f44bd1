"""A finished set in the layouts that other people's tools read: marked files in, marked files out.

A new layout is one file and one line in `LAYOUTS`. Beside what each layout asks for there is `clips.csv`, the plan with
the name that each clip has there, and the set's `DATASHEET.md`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from generation import records
from generation.dataset.features import DATASHEET, PLAN, SUMS
from generation.dataset.folder import held, is_finished
from generation.dataset.layouts import deepfakebench, faceforensics, folders
from generation.dataset.layouts.clips import Clip, File, Frame, Origin
from generation.dataset.sums import check_sums, digest
from generation.provenance.keys import laboratory_key
from generation.records import INFO, UserError, write_beside
from generation.workers import each

CLIPS = "clips.csv"
_NOTE = ".export.json"


class Layout(NamedTuple):
    """files: what is to be written of a clip, given the set's name; known_as: a clip's name there; lists: (path,
    content) of what names them all."""

    files: Callable[[Clip, str], Iterator[File]]
    known_as: Callable[[Clip], str]
    lists: Callable[[Sequence[Clip], str], Iterator[tuple[str, bytes]]]


LAYOUTS: dict[str, Layout] = {
    "faceforensics": Layout(faceforensics.files, faceforensics.known_as, faceforensics.lists),
    "deepfakebench": Layout(deepfakebench.files, deepfakebench.known_as, deepfakebench.lists),
    "folders": Layout(folders.files, folders.known_as, folders.lists),
}


def export_layout(
    name: str, source: Path, to: Path, progress: Callable[[int, int], None], workers: int = 1
) -> dict[str, int]:
    """Write the finished set `source` as the layout `name` of `LAYOUTS` into `to`; what is there already stays.

    progress: takes (frames done, of all)
    Returns counts of clips, frames and files of media, and the bytes of everything.

    Raises `UserError` for a layout that there is not, a set that is unfinished or damaged, a folder that holds anything
    else, names that the layout cannot have.
    """
    if name not in LAYOUTS:
        raise UserError(f"export={name}: no such layout; there are {', '.join(LAYOUTS)}")
    _whole(source)
    plan, config = pd.read_parquet(source / PLAN), _config(source)
    origin = Origin(str(config["name"]), digest(source / SUMS))
    clips = _clips(plan, config)
    lists = dict(LAYOUTS[name].lists(clips, origin.name))
    laboratory_key()  # made before several processes might make one each
    with held(to, 0, 1):
        _claim(to, {"layout": name, "sums": origin.sums})
        done = 0
        jobs = [(name, source, to, origin, int(shard)) for shard in plan["shard"].unique()]
        for made in _made(jobs, workers):
            done += made
            progress(done, len(clips) * config["frames"])
        for path, content in lists.items():
            write_beside(to / path, content)
        known = plan.assign(exported_as=[LAYOUTS[name].known_as(clip) for clip in clips])
        write_beside(to / CLIPS, known.to_csv(index=False).encode())
        write_beside(to / DATASHEET, (source / DATASHEET).read_bytes())
    return {
        "clips": len(clips),
        "frames": done,
        "files": sum(1 for clip in clips for _ in LAYOUTS[name].files(clip, origin.name)),
        "bytes": _size(to),
    }


def _whole(source: Path) -> None:
    if not is_finished(source):
        raise UserError(f"from={source}: no finished data set; the command that makes it goes on where it stopped")
    for name, state in check_sums(source):
        if state != "ok":
            raise UserError(
                f"{source / name}: {state}, as {SUMS} says; make the set again, which mends what is damaged"
            )


def _config(source: Path) -> Mapping[str, Any]:
    """What the set was asked for."""
    found: dict[str, Any] = json.loads((source / INFO).read_bytes())["kind"]
    return found


def _clips(plan: pd.DataFrame, config: Mapping[str, Any]) -> list[Clip]:
    return [Clip.of(row, config["frames"], config["size"]) for row in plan.to_dict("records")]  # type: ignore[arg-type]


def _claim(to: Path, kind: Mapping[str, str]) -> None:
    note, text = to / _NOTE, json.dumps(kind, sort_keys=True)
    stray = sorted(path.name for path in to.iterdir() if not path.name.startswith(".lock-"))
    if stray and (not note.is_file() or note.read_text() != text):
        raise UserError(
            f"to={to}: holds {stray[-1]} and is no export of this set in this layout; choose another folder"
        )
    write_beside(note, text.encode())


def _made(jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[int]:
    """Frames of every shard, as they are done."""
    if workers == 1:
        yield from (_export(*job) for job in jobs)
        return
    for index, frames in each(_export, jobs, workers, preload=__name__):
        if frames is None:
            raise RuntimeError(f"a process that exported shard {jobs[index][-1]} was killed; the same command goes on")
        yield frames


def _export(name: str, source: Path, to: Path, origin: Origin, shard: int) -> int:
    """Write the clips of one shard as far as they are not there; how many frames they have."""
    plan = pd.read_parquet(source / PLAN, filters=[("shard", "=", shard)])
    clips = _clips(plan, _config(source))
    missing = {
        clip: [file for file in LAYOUTS[name].files(clip, origin.name) if not (to / file.path).is_file()]
        for clip in clips
    }
    if any(missing.values()):
        frames = _frames(records.shard_path(source, shard))
        for clip, left in missing.items():
            for file in left:
                file.write(to / file.path, frames[clip.name], origin)
    return sum(clip.frames for clip in clips)


def _frames(path: Path) -> dict[str, list[Frame]]:
    """The rows of a shard by clip, in order."""
    found: dict[str, list[Frame]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["clip"], []).append(row)
    return {clip: sorted(rows, key=lambda row: int(row["frame"])) for clip, rows in found.items()}


def _size(folder: Path) -> int:
    return sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names)
