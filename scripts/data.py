"""Which faces a script works on: the table of data sources, and where their records lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from generation.faces.archives import ArchiveConfig, archive_records
from generation.faces.archives.pictures import read_pictures
from generation.faces.footage import FootageConfig, footage_records
from generation.faces.london import LondonConfig, photo_records
from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.pairs import check_splits
from generation.records import Faces, UserError, cache_folder, finished, load
from scripts.door import configure, progress, say

Progress = Callable[[int, int], None]


class Source(NamedTuple):
    """config: its dataclass; make: (config, folder, workers, progress) writes the records, unless the folder holds
    the very same."""

    config: type
    make: Callable[[Any, Path, int, Progress | None], object]


def _photos(config: LondonConfig, folder: Path, workers: int, progress: Progress | None) -> None:
    photo_records(config, folder, progress)


SOURCES: dict[str, Source] = {
    "synthetic": Source(FacesConfig, render_records),
    "london": Source(LondonConfig, _photos),
    "footage": Source(FootageConfig, footage_records),
    "archive": Source(ArchiveConfig, archive_records),
}


def apart_from_data(config: DictConfig) -> DictConfig:
    """The configuration without what describes the faces: `data`, and the `origin` of footage and archives."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("data", "origin")])


def records_folder(name: str, config: Any) -> Path:
    """Where in the cache the records of a source lie that `config` (its dataclass) describes."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / "records" / f"{name}-{digest}"


def prepare(data: DictConfig, workers: int) -> Path:
    """The folder of the records that `data` describes; they are made first if they are not there yet.

    `data.records` names a folder of finished records and is taken as it is.
    """
    plain: dict[str, Any] = dict(data)
    records, name = plain.pop("records", None), plain.pop("name", None)
    if records is not None:
        return Path(records)
    if name not in SOURCES:
        raise UserError(f"data.name={name}: there is no such source of faces; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    config: Any = configure(source.config, plain, "data")
    folder = records_folder(name, config)
    with progress(f"{name} faces") as bar:
        source.make(config, folder, workers, bar)
    return folder


def load_split_faces(folder: Path) -> Faces:
    """All real rows, with people in train, validation and test, disjoint by identity."""
    faces = load(folder).where(label=0)
    check_splits(faces, str(folder))
    return faces


NOTES = 8
"""Lines that are told of how pictures were read."""


def load_labelled_faces(folder: Path, size: int) -> Faces:
    """Real and forged rows of one folder: finished records as they are, or pictures in real/ and fake/, made `size`
    pixels large."""
    if finished(folder):
        return load(folder)
    with progress("pictures") as bar:
        found = read_pictures(folder, size, bar)
    for note in found.notes[:NOTES]:
        say(note)
    if len(found.notes) > NOTES:
        say(f"... and {len(found.notes) - NOTES} more")
    return found.faces
