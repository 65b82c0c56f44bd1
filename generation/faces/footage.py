"""Footage: folders and single files of photos and videos -> one set of records, people told apart and split.

A finished file is never read again: its clips lie in `VICIOUS_CYCLE_CACHE` under `footage`, by what the file holds and
how it was to be clipped, and the records are put together from them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from generation import records, workers
from generation.faces.clipping import ClipConfig, Clipper, Item
from generation.faces.contact_sheet import contact_sheet
from generation.faces.identities import SAME_PERSON, link, split_people
from generation.faces.media import PHOTOS, VIDEOS
from generation.records import UserError

REPORT, SHEET, TIMES = "ingest_report.json", "contact_sheet.png", "times.csv"
"""Written beside the records: what was found in every file; pictures of the clips; the time of every row."""

VERSION = 1
"""To be raised with every change of how clips are made: files are then read anew."""


@dataclass(frozen=True)
class File:
    """A photo or video of which nothing is known but where it lies, see `Item`."""

    path: Path
    name: str
    frames: tuple[Path, ...] | None = None
    label: int = 0
    method: str = ""
    identity: str = ""
    split: str = ""
    mask: Path | None = None


@dataclass(frozen=True)
class OriginConfig:
    """consent: how the people shown have agreed to this use; licence: under which terms the media may be used."""

    consent: str | None = None
    licence: str | None = None

    def statement(self) -> str:
        """The `origin` of every row. Raises `UserError` where one of the two is missing."""
        for name, example in (("consent", "signed release, research use"), ("licence", "CC BY 4.0, Jane Doe")):
            if not (getattr(self, name) or "").strip():
                raise UserError(
                    f"origin.{name}: must be given, as 'origin.{name}=\"{example}\"': footage shows real people, and "
                    "every record carries their consent and the licence"
                )
        return f"{self.licence}; consent: {self.consent}"


@dataclass(frozen=True)
class IngestConfig(ClipConfig):
    """How clips become a set.

    same_person: least mean cosine of clips of one person, see `identities.SAME_PERSON`
    train, validation, test: shares of the people
    seed: draws who is in which split
    """

    same_person: float = SAME_PERSON
    train: float = 0.6
    validation: float = 0.15
    test: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.same_person < 1:
            raise UserError(f"data.same_person={self.same_person}: must lie between 0 and 1")
        shares = [getattr(self, split) for split in records.SPLITS]
        if min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"data.train, data.validation, data.test = {shares}: none may be negative, one must be above 0"
            )
        if self.seed < 0:
            raise UserError(f"data.seed={self.seed}: must be at least 0")


@dataclass(frozen=True)
class FootageConfig(IngestConfig):
    """root: a folder of photos and videos, at any depth, or one of them; origin: whose they are"""

    root: str | None = None
    origin: OriginConfig = field(default_factory=OriginConfig)


def files_in(root: str | None) -> tuple[list[File], list[str]]:
    """Photos and videos, and the names of other files, each in order of name; hidden ones and links to folders are
    left alone.

    Raises `UserError` where there is no such place or no photo or video in it.
    """
    if root is None:
        raise UserError("data.root: must be given, as data.root=DIR: a folder of photos and videos, or one of them")
    top = Path(root)
    if top.is_file():
        return [File(top, top.name)], []
    if not top.is_dir():
        raise UserError(f"{top}: no such file or folder; set data.root to photos and videos")
    media, others = [], []
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            shown = os.fsencode(path.relative_to(top).as_posix()).decode("utf-8", "backslashreplace")
            if path.suffix.lower() in PHOTOS + VIDEOS and path.is_file():
                media.append(File(path, shown))
            else:
                others.append(shown)
    if not media:
        endings = ", ".join(ending[1:] for ending in PHOTOS + VIDEOS)
        raise UserError(f"{top}: no photo or video in {len(others)} files; known endings are {endings}")
    return sorted(media, key=lambda file: file.name), sorted(others)


Progress = Callable[[int, int], None]


def footage_records(
    config: FootageConfig, folder: Path, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """`ingest` for the files in `config.root`."""
    origin = config.origin.statement()
    files, others = files_in(config.root)
    return ingest(files, config, origin, folder, workers, progress, others)


def ingest(
    items: Sequence[Item],
    config: IngestConfig,
    origin: str,
    folder: Path,
    processes: int = 1,
    progress: Progress | None = None,
    others: Sequence[str] = (),
    dropped: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    parts: Path | None = None,
) -> dict[str, Any]:
    """Write the clips of all items to `folder` as records, with `REPORT`, `SHEET` and `TIMES` beside them.

    A file that cannot be read is told in the report and stops nothing. The records do not depend on the number of
    `processes`; with more than one, a file that makes a decoder crash costs its process alone. A folder that already
    holds the same stays as it is. `progress` takes (steps done, steps in all), two steps a file.
    `others` are names of files that were left alone, `dropped` the names and reasons of what an archive lists and has
    not, `notes` what else should be known: all three for the report. `parts` is where finished files are kept, None for
    `footage` in `VICIOUS_CYCLE_CACHE`.

    Returns what the report holds, and in `read` how many files were read now. Raises `UserError` where no face is
    found in any.
    """
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1
        if progress:
            progress(told, 2 * len(items))

    with Clipper(config) as clipper:
        networks = clipper.networks
        keys = []
        for item in items:
            keys.append(_key(item, config, origin, networks))
            tell()
        kind = {
            "faces": "footage",
            **_settings(config, IngestConfig),
            "files": _digest([*keys, *others, *dropped, *notes]),
        }
        kind |= networks
        if records.finished(folder, kind):
            return {**json.loads((folder / REPORT).read_bytes()), "read": 0}
        places = [(parts or records.cache_folder() / "footage") / key for key in keys]
        left = [index for index, place in enumerate(places) if not (place / REPORT).is_file()]
        for _ in range(len(items) - len(left)):
            tell()
        jobs = [(items[index], _settings(config, ClipConfig), origin, config.seed, places[index]) for index in left]
        if processes <= 1 or len(left) <= 1:
            for job in jobs:
                _read(clipper, *job)
                tell()
    if processes > 1 and len(left) > 1:
        for index, entry in workers.each(_work, jobs, processes, preload=__name__):
            if entry is None:
                item, place = items[left[index]], places[left[index]]
                _keep(place, {"file": item.name, "clips": [], "dropped": ["a decoder crashed on it"]})
            tell()
    entries = [json.loads((place / REPORT).read_bytes()) for place in places]
    missing = [{"file": name, "clips": [], "frames": 0, "dropped": [reason]} for name, reason in dropped]
    report = {"files": entries + missing, "others": list(others), "notes": list(notes), "origin": origin, **networks}
    _name_people(entries, items, config)
    folder.mkdir(parents=True, exist_ok=True)
    _write_beside(folder, entries, places, report)
    if not any(entry["clips"] for entry in entries):
        raise UserError(
            f"no face in {len(entries)} files that can be used; {folder / REPORT} tells why for each, "
            f"for example: {entries[0]['file']}: {'; '.join(entries[0]['dropped'])}"
        )
    with records.Writer(folder, kind) as writer:
        for row in _rows(entries, places):
            writer.add(row)
    return {**report, "read": len(left)}


def _settings(config: ClipConfig, of: type[ClipConfig]) -> dict[str, Any]:
    return {item.name: getattr(config, item.name) for item in fields(of)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _key(item: Item, config: IngestConfig, origin: str, networks: dict[str, str]) -> str:
    """What a file's clips depend on; a file that cannot be read at all is known by that."""
    about = [item.name, item.label, item.method, item.identity, item.split, origin, config.seed, VERSION]
    held = [_held(path) for path in [*(item.frames or [item.path]), *([item.mask] if item.mask else [])]]
    return _digest([*about, _settings(config, ClipConfig), networks, held])[:32]


def _held(path: Path) -> Any:
    try:
        if path.is_dir():
            return [_held(item) for item in sorted(path.iterdir())]
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return str(error)


_clipper: Clipper | None = None
"""The networks of a worker process, which holds them until it ends."""


def _work(item: Item, settings: dict[str, Any], origin: str, seed: int, place: Path) -> bool:
    global _clipper
    if _clipper is None:
        _clipper = Clipper(ClipConfig(**settings)).__enter__()
    _read(_clipper, item, settings, origin, seed, place)
    return True


def _read(clipper: Clipper, item: Item, settings: dict[str, Any], origin: str, seed: int, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _keep(place, clipper.clips(item, origin, seed, place))


def _keep(place: Path, entry: dict[str, Any]) -> None:
    records.write_beside(place / REPORT, json.dumps(entry).encode())


def _name_people(entries: list[dict[str, Any]], items: Sequence[Item], config: IngestConfig) -> None:
    """Give every clip its identity and split: the item's own, or those of the people that embeddings tell apart."""
    clips = [(clip, item) for entry, item in zip(entries, items, strict=True) for clip in entry["clips"]]
    unknown = [clip for clip, item in clips if not item.identity]
    for clip, person in zip(
        unknown, link(np.array([clip["embedding"] for clip in unknown]), config.same_person), strict=True
    ):
        clip["identity"] = f"person-{person:03d}"
    for clip, item in clips:
        clip["identity"] = item.identity or clip["identity"]
    free = dict.fromkeys(clip["identity"] for clip, item in clips if not item.split)
    splits = split_people(list(free), [getattr(config, split) for split in records.SPLITS], config.seed)
    for clip, item in clips:
        clip["split"] = item.split or splits[clip["identity"]]


def _rows(entries: list[dict[str, Any]], places: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for entry, place in zip(entries, places, strict=True):
        for clip in entry["clips"]:
            with pq.ParquetFile(place / f"{clip['part']}.parquet") as part:
                for batch in part.iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        yield {**row, "identity": clip["identity"], "split": clip["split"]}


def _write_beside(folder: Path, entries: list[dict[str, Any]], places: Sequence[Path], report: dict[str, Any]) -> None:
    """The report, the contact sheet and the table of times; embeddings and times leave the report."""
    times, strips = io.StringIO(), []
    table = csv.writer(times, lineterminator="\n")
    table.writerow(("clip", "frame", "seconds"))
    for entry, place in zip(entries, places, strict=True):
        for clip in entry["clips"]:
            table.writerows((clip["clip"], frame, seconds) for frame, seconds in clip["times"])
            label = f"{clip['identity']} ({clip['split']})  {clip['clip']}  {clip['frames']} frames"
            strips.append((label, place / f"{clip['part']}.png"))
    records.write_beside(folder / TIMES, times.getvalue().encode())
    dropped = [f"{entry['file']}: {reason}" for entry in entries for reason in entry["dropped"]]
    records.write_beside(folder / SHEET, records.encode_png(contact_sheet(sorted(strips), dropped)))
    for entry in entries:
        for clip in entry["clips"]:
            clip.pop("times"), clip.pop("embedding")
    records.write_beside(folder / REPORT, json.dumps(report, indent=1).encode())
