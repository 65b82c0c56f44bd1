"""DeepfakeBench JSON: what its `rearrange.py` writes, what is released with it, and what DF40 comes with.

Yan et al., DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection, NeurIPS 2023; DF40, NeurIPS 2024.

    {data set: {label: {split: {[compression:] {video: {"label": ..., "frames": [...], "masks": [...]}}}}}}

The JSON files lie in the root, in its `dataset_json` or in its `preprocessing/dataset_json`, and name frames from the
root; leading folders that are not there (another machine's) are skipped. Frames stand in no order, and are sorted by
number. One video in several files or lists is one video; see `splits` for what becomes of the splits then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generation.faces.archives.files import IMAGES, Tree, UnusableError, natural, read_json
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import (
    COMPRESSIONS,
    SPLIT_NAMES,
    label_if_said,
    label_of,
    method_of,
    people_in,
)
from generation.records import UserError

PLACES = ("", "dataset_json", "preprocessing/dataset_json")
ENTRY = ("label", "frames", "masks")
KEPT = 2
"""So many folders of a frame's path are never skipped: its own and that folder's folder."""


def recognise(tree: Tree) -> bool:
    for path in _lists(tree):
        try:
            content = read_json(path)
        except UserError:
            continue
        groups = content.values() if isinstance(content, dict) else []
        labels = [label for group in groups if isinstance(group, dict) for label in group.values()]
        if any(isinstance(label, dict) and SPLIT_NAMES.keys() & label.keys() for label in labels):
            return True
    return False


def read(tree: Tree) -> Findings:
    """A damaged JSON is dropped; the others are read."""
    findings = Findings()
    frames = _Frames(tree)
    for path in _lists(tree):
        try:
            content = read_json(path)
        except UserError as error:
            findings.drop(tree.relative(path), error)
            continue
        file = tree.relative(path)
        for archive, labels in _groups(content, file, findings):
            for label, splits in _groups(labels, f"{file}: {archive}", findings):
                for split, videos in _groups(splits, f"{file}: {archive}/{label}", findings):
                    _read_list(videos, archive, label, split, frames, findings)
    return findings


def _lists(tree: Tree) -> Iterator[Path]:
    for place in PLACES:
        yield from tree.files(tree.root / place, frozenset({".json"}))


def _groups(node: Any, where: str, findings: Findings) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    else:
        findings.drop(where, f"holds {type(node).__name__}, and should hold a group of keys")


def _read_list(videos: Any, archive: str, label: str, split: str, frames: _Frames, findings: Findings) -> None:
    where = f"{archive}/{label}/{split}"
    if split.lower() not in SPLIT_NAMES:
        findings.drop(where, f"no such split; there are {', '.join(SPLIT_NAMES)}")
        return
    for keys, entry in _videos(videos, where, findings):
        try:
            found = _found((archive, label), keys, SPLIT_NAMES[split.lower()], entry, frames, findings)
            findings.found.append(found)
        except UnusableError as reason:
            findings.drop("/".join((archive, label, *keys)), reason)
            if keys and SPLIT_NAMES[split.lower()] == "test":
                findings.test_people |= {*_people(archive, keys[-1], entry)}


def _videos(node: Any, where: str, findings: Findings) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """(compression and name, entry) of every video; `rearrange.py` writes one of DFDC's validation without a name."""
    if isinstance(node, dict) and isinstance(node.get("frames"), list):
        yield (), node
        node = {key: child for key, child in node.items() if key not in ENTRY}
    for key, child in _groups(node, where, findings):
        if key in COMPRESSIONS or (
            isinstance(child, dict) and child and all(isinstance(c, dict) for c in child.values())
        ):
            for video, entry in _groups(child, f"{where}/{key}", findings):
                if isinstance(entry, dict):
                    yield (key, video), entry
                else:
                    findings.drop(f"{where}/{key}/{video}", "its entry is no group of keys")
        elif isinstance(child, dict):
            yield (key,), child
        else:
            findings.drop(f"{where}/{key}", "its entry is no group of keys")


def _found(
    where: tuple[str, str],
    keys: tuple[str, ...],
    split: str,
    entry: dict[str, Any],
    frames: _Frames,
    findings: Findings,
) -> Found:
    archive, label = where
    forged = label_of(entry.get("label", label))
    if label_if_said(label) == 1 - forged:
        raise UnusableError(f"stands under {label}, but its label is {entry['label']!r}")
    paths = frames.read(entry.get("frames"), "/".join((*where, *keys)), findings)
    video = keys[-1] if keys else paths[0].parent.name
    single = len(paths) == 1
    return Found(
        paths[0] if single else paths[0].parent,
        forged,
        method_of(label, archive) if forged else "",
        "/".join((*where, *(keys or (video,)))),
        _people(archive, video, entry),
        split=split,
        frames=None if single else paths,
        mask=frames.mask(entry.get("masks"), paths[0]) if forged else None,
    )


def _people(archive: str, video: str, entry: dict[str, Any]) -> tuple[str, ...]:
    listed = entry.get("frames")
    people = people_in(video, f"{archive} {listed[0] if isinstance(listed, list) and listed else ''}")
    return people if people != (video,) else (f"{archive}-{video}",)


class _Frames:
    """Paths of a list -> files under the root."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._places: dict[str, list[Path]] = {}

    def read(self, listed: object, name: str, findings: Findings) -> tuple[Path, ...]:
        """The frames that are there, by number; those that are not are noted. Raises `UnusableError` if none is."""
        if not isinstance(listed, list) or not listed:
            raise UnusableError("has no list of frames")
        found: set[Path] = set()
        lost: list[str] = []
        for text in listed:
            try:
                found.add(self._locate(text))
            except UnusableError as reason:
                lost.append(f"{text}: {reason}")
        if lost:
            said = f"{len(lost)} of {len(listed)} frames cannot be used, the first is {lost[0]}"
            if not found:
                raise UnusableError(said)
            findings.drop(f"{name} (in part)", said)
        return tuple(sorted(found, key=lambda path: (str(path.parent), natural(path.name))))

    def _locate(self, text: object) -> Path:
        if not isinstance(text, str):
            raise UnusableError("is no path")
        folder, _, name = text.replace("\\", "/").rpartition("/")
        if folder not in self._places:
            self._places[folder] = self._folders(self._tree.parts(text)[:-1])
        for place in self._places[folder]:
            if self._tree.entries(place).get(name) is False and os.path.splitext(name)[1].lower() in IMAGES:
                return place / name
        self._tree.locate(text)
        raise UnusableError("is no image")

    def _folders(self, parts: tuple[str, ...]) -> list[Path]:
        """Where a folder may lie, with none, one or more of its leading parts skipped."""
        skips = range(max(0, len(parts) - KEPT) + 1)
        places = [self._tree.root.joinpath(*parts[skip:]) for skip in skips]
        return [place for place in places if self._tree.entries(place)]

    def mask(self, listed: object, frame: Path) -> Path | None:
        """The folder of the masks: where the list says, else beside `frames`, for c23 if not for this compression."""
        if isinstance(listed, list) and listed:
            try:
                return self._locate(listed[0]).parent
            except UnusableError:
                pass
        beside = re.sub("/frames/", "/masks/", self._tree.relative(frame.parent), count=1)
        c23 = re.sub(f"/({'|'.join(COMPRESSIONS)})/masks/", "/c23/masks/", beside, count=1)
        places = (self._tree.root / place for place in (beside, c23) if "/masks/" in place)
        return next((place for place in places if self._tree.has(place)), None)
