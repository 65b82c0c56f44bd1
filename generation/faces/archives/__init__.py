"""Archives of forged and real faces on disk -> a list of items with label, method, identity and split.

    index = read_archive(detect(root), root, Origin(terms="celeb-df"))
    index.items, index.dropped, index.notes, index.origin

`read_archive` reads only lists and folders, no picture: what cannot be used is dropped with a reason, what is missing
is listed. `archive_records` clips what it found. A new archive is one file and one line in `ARCHIVES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from generation.faces.archives import celeb_df, deepfakebench, df40, dfdc, faceforensics, plain
from generation.faces.archives.files import Tree, frames_in
from generation.faces.archives.items import Findings, Index, Item, one_line
from generation.faces.archives.splits import settle
from generation.faces.archives.terms import TERMS, Origin, confirmed
from generation.faces.footage import IngestConfig, Progress, ingest
from generation.records import UserError

__all__ = [
    "ARCHIVES",
    "TERMS",
    "ArchiveConfig",
    "Index",
    "Item",
    "Origin",
    "archive_records",
    "confirmed",
    "detect",
    "frames_in",
    "read_archive",
]


class Archive(NamedTuple):
    """layout: how it is known, in words; recognise: whether a folder is one; read: what it holds."""

    layout: str
    recognise: Callable[[Tree], bool]
    read: Callable[[Tree], Findings]


ARCHIVES: dict[str, Archive] = {
    "deepfakebench": Archive(
        "JSON files in it or in dataset_json/, with the frames that they list",
        deepfakebench.recognise,
        deepfakebench.read,
    ),
    "faceforensics++": Archive(
        "original_sequences/ or manipulated_sequences/", faceforensics.recognise, faceforensics.read
    ),
    "celeb-df": Archive(
        "Celeb-real/, Celeb-synthesis/ and List_of_testing_videos.txt", celeb_df.recognise, celeb_df.read
    ),
    "dfdcp": Archive("dataset.json", dfdc.recognise_preview, dfdc.read_preview),
    "dfdc": Archive("metadata.json or labels.csv in it or in its folders", dfdc.recognise, dfdc.read),
    "df40": Archive("METHOD/ff/ and METHOD/cdf/", df40.recognise, df40.read),
    "folders": Archive("real/ and fake/", plain.recognise, plain.read),
}
"""Name -> reader, in the order in which a folder is tried."""


@dataclass(frozen=True)
class ArchiveConfig(IngestConfig):
    """An archive on disk, and how its videos are clipped. Shares of people count only where it gives no split.

    root: its folder
    archive: its name in `ARCHIVES`; None finds out
    select: patterns of names, of which one must fit, as ["*/c23/*"]; empty takes all
    origin: the user's word on its terms
    """

    size: int = 256
    alignment: Literal["steady", "deepfakebench"] = "deepfakebench"
    frames: int | None = 32
    root: str | None = None
    archive: str | None = None
    select: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.archive is not None:
            _known(self.archive, "data.archive")


def _known(name: str, key: str) -> Archive:
    if name not in ARCHIVES:
        near = get_close_matches(name, ARCHIVES, n=1)
        suggestion = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{key}={name}: no such archive; {suggestion}there are {', '.join(ARCHIVES)}")
    return ARCHIVES[name]


def detect(root: Path) -> str:
    """Which archive a folder is. Raises `UserError` that says what is looked for."""
    tree = Tree(root)
    for name, archive in ARCHIVES.items():
        if archive.recognise(tree):
            return name
    layouts = "; ".join(f"{name}: {archive.layout}" for name, archive in ARCHIVES.items())
    raise UserError(f"{root}: holds none of the archives that can be read ({layouts}); set data.root to one")


def read_archive(name: str, root: Path, origin: Origin, select: Sequence[str] = ()) -> Index:
    """Everything usable under `root`, read as the archive `name` of `ARCHIVES`.

    select: patterns of names, of which one must fit; the splits are those of the whole archive

    Raises `UserError` for terms that are not confirmed, no such folder, a damaged list that nothing can be read
    without, or nothing usable.
    """
    archive = _known(name, "archive")
    statement = confirmed(name, origin)
    tree = Tree(root)
    findings = archive.read(tree)
    items = settle(findings)
    dropped = sorted({(one_line(what), one_line(why)) for what, why in (*findings.dropped, *tree.refused)})
    chosen = [item for item in items if not select or any(fnmatchcase(item.name, pattern) for pattern in select)]
    if not items:
        why = f"the first reason: {dropped[0][0]}: {dropped[0][1]}" if dropped else f"expected is {archive.layout}"
        raise UserError(f"{root}: nothing in it can be used as {name} ({len(dropped)} dropped); {why}")
    if not chosen:
        raise UserError(
            f"data.select={list(select)}: fits none of {len(items)} videos, which are named as {items[0].name}"
        )
    return Index(name, chosen, dropped, findings.notes, statement)


def archive_records(
    config: ArchiveConfig, folder: Path, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Clips of everything usable in an archive, as `footage.ingest` writes them.

    Raises `UserError` as `read_archive` and `ingest` do.
    """
    if config.root is None:
        raise UserError("data.root: must be given, as data.root=DIR: the folder of the archive")
    root = Path(config.root)
    index = read_archive(config.archive or detect(root), root, config.origin, config.select)
    return ingest(
        index.items, config, index.origin, folder, workers, progress, dropped=index.dropped, notes=index.notes
    )
