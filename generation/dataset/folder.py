"""The folder of a set: who may write it, what it was begun as, and how it is finished."""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from generation import records
from generation.dataset.design import PlanConfig
from generation.dataset.features import CARD, CROISSANT, DATASHEET, FEATURES, PLAN, SHEET, SUMS
from generation.dataset.papers import write_papers
from generation.dataset.sheet import write_sheet
from generation.dataset.sums import check_sums, undamaged, write_sums
from generation.records import INFO, UserError, write_beside

_KIND = ".unfinished.json"


@contextmanager
def held(folder: Path, rank: int, world: int) -> Iterator[None]:
    """While a rank writes the folder: nobody else may as the same rank, or with another number of ranks.

    Raises `UserError` where somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f".lock-{rank}-of-{world}"
    others = [path for path in folder.glob(".lock-*") if not path.name.endswith(f"-of-{world}")]
    with mine.open("w") as lock:
        if not _free(lock) or not all(_unused(path) for path in others):
            raise UserError(f"{folder}: another run writes it now; wait for it, or choose another folder")
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)


def _free(lock: io.TextIOWrapper) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unused(path: Path) -> bool:
    try:
        with path.open("r") as lock:
            return _free(lock)
    except FileNotFoundError:
        return True


def is_finished(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (INFO, SUMS, SHEET))


def begin(folder: Path, plan: pd.DataFrame, kind: Mapping[str, Any], say: Callable[[str], None]) -> bool:
    """Make the folder ready for shards of this plan; those that are there stay. Returns whether something is left to
    do: nothing of a finished set, unless some of it is damaged, which is named.

    Raises `UserError` for a folder that holds another set, or anything else.
    """
    text = json.dumps(dict(kind), sort_keys=True)
    begun: str | None
    if (folder / INFO).is_file():
        begun = json.dumps(json.loads((folder / INFO).read_bytes())["kind"], sort_keys=True)
    else:
        begun = (folder / _KIND).read_text() if (folder / _KIND).is_file() else None
        stray = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".lock-"))
        if begun is None and stray:
            raise UserError(f"{folder}: holds {stray[0]} and is no folder of a data set; choose another with out=DIR")
    if begun not in (None, text):
        raise UserError(
            f"{folder}: holds a data set of another plan or of other checkpoints; choose another folder with "
            "out=DIR, or delete it"
        )
    if is_finished(folder) and not _reopened(folder, say):
        return False
    write_beside(folder / _KIND, text.encode())
    buffer = io.BytesIO()
    plan.to_parquet(buffer, index=False)
    write_beside(folder / PLAN, buffer.getvalue())
    return True


def _reopened(folder: Path, say: Callable[[str], None]) -> bool:
    """Whether a finished set is damaged; if so it is unfinished again, and its shards have their hashes beside them."""
    damaged = {name: state for name, state in check_sums(folder) if state != "ok"}
    if not damaged:
        return False
    for line in (folder / SUMS).read_text().splitlines():
        noted, _, name = line.partition("  ")
        if name.startswith("shard-"):
            write_beside(folder / f".{name}.sha256", noted.encode())
        elif name in damaged:
            say(f"{folder / name}: {damaged[name]}; it is made again")
    (folder / SUMS).unlink()
    return True


def complete(folder: Path, plan: pd.DataFrame, kind: Mapping[str, Any], config: PlanConfig) -> bool:
    """Finish the set if all its shards are there: check every hash and every count, describe, sum and sign it.

    Returns whether it is finished; with several ranks the last one does it. Raises `UserError` for a shard that does
    not hold what was planned.
    """
    counts = (plan.groupby("shard").size() * config.frames).tolist()
    paths = [records.shard_path(folder, index) for index in range(len(counts))]
    said: list[str] = []
    if not all(undamaged(path, said.append) for path in paths):
        if said:
            raise UserError(said[0] + " by the same command")
        return False
    for path, count in zip(paths, counts, strict=True):
        if pq.read_metadata(path).num_rows != count:
            raise UserError(f"{path}: holds other rows than were planned; delete it and run the same command again")
    records.finish(folder, len(paths), kind, FEATURES)
    write_papers(folder)
    write_sums(folder, [PLAN, INFO, *(path.name for path in paths), CROISSANT, DATASHEET, CARD])
    write_sheet(folder, config)
    for path in paths:
        path.with_name(f".{path.name}.sha256").unlink(missing_ok=True)
    return True


def size_of(folder: Path) -> int:
    """Bytes of everything in the set."""
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
