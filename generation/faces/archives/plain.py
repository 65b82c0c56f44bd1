"""Plain folders: `real` and `fake`, with videos and photos in them, or a folder of frames for every video.

    [train/ | val/ | test/] {real,fake}/x.mp4, {real,fake}/x.png, {real,fake}/x/000.png

Nothing is known about who is in them: a real and a forged video of the same name are taken for the same person, all
others for different people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from generation.faces.archives.df40 import videos_in
from generation.faces.archives.files import IMAGES, VIDEOS, Tree
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import SPLIT_NAMES

LABELS = {"real": 0, "fake": 1}


def recognise(tree: Tree) -> bool:
    return any(folder.name.lower() in LABELS for _, folder in _folders(tree))


def read(tree: Tree) -> Findings:
    findings = Findings()
    for split, folder in _folders(tree):
        label = LABELS.get(folder.name.lower())
        if label is None:
            findings.drop(f"{tree.relative(folder)}/", "neither real nor fake; not read")
            continue
        for path in videos_in(tree, folder):
            shown = path.relative_to(folder).as_posix()
            name = tree.relative(path)
            person = Path(shown).with_suffix("").as_posix() if path.suffix.lower() in IMAGES | VIDEOS else shown
            findings.found.append(Found(path, label, "fake" if label else "", name, (person,), split=split))
    return findings


def _folders(tree: Tree) -> Iterator[tuple[str, Path]]:
    """(split, folder) of what should be real or fake."""
    for folder in tree.folders(tree.root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            yield "", folder
        else:
            yield from ((split, child) for child in tree.folders(folder))
