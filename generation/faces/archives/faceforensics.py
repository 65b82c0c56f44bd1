"""FaceForensics++ and the DeepFakeDetection videos in it: any of its methods and compressions.

Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019.

    original_sequences/{youtube,actors}/<compression>/videos/071.mp4
    manipulated_sequences/<method>/<compression>/videos/071_054.mp4      # target 071, source 054
    manipulated_sequences/<method>/masks/videos/071_054.mp4
    {splits/,dataset/splits/,}{train,val,test}.json                      # [["071", "054"], ...]

Instead of `videos` there may be `images` or `frames` with a folder for every video. Real videos and both forgeries of
a pair are in one split. DeepFakeDetection has no official split.
"""

from __future__ import annotations

from pathlib import Path

from generation.faces.archives.files import Tree, read_json
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import COMPRESSIONS, people_in
from generation.records import UserError

FOLDERS = ("original_sequences", "manipulated_sequences")
SPLIT_FILES = {"train.json": "train", "val.json": "validation", "test.json": "test"}


def recognise(tree: Tree) -> bool:
    return tree.base(*FOLDERS) is not None


def read(tree: Tree) -> Findings:
    """Raises `UserError` for damaged split files."""
    findings = Findings()
    base = tree.base(*FOLDERS) or tree.root
    splits = _splits(tree, base)
    if not splits:
        findings.notes.append(
            "no train.json, val.json and test.json in splits: put those of "
            "https://github.com/ondyari/FaceForensics/tree/master/dataset/splits there for the official splits"
        )
    for kind in FOLDERS:
        for method in tree.folders(base / kind):
            for compression in tree.folders(method):
                if compression.name in COMPRESSIONS:
                    _read_videos(tree, compression, splits, findings)
    return findings


def _read_videos(tree: Tree, folder: Path, splits: dict[str, str], findings: Findings) -> None:
    method, forged = folder.parent, folder.parent.parent.name == FOLDERS[1]
    for name, path in tree.media(folder).items():
        people = people_in(name, "FaceForensics++")
        full = f"{method.name}/{folder.name}/{name}"
        if people == (name,):
            findings.drop(full, "its name is none of FaceForensics++: 071, 071_054, 01__scene, 01_02__scene__ABCDEFGH")
            continue
        split = ""
        if splits and people[0].startswith("ff-"):
            listed = {splits.get(person, "") for person in people}
            if len(listed) > 1 or "" in listed:
                findings.drop(full, f"{' and '.join(people)} are not together in one of the split files")
                continue
            split = listed.pop()
        mask = _mask(tree, method, folder.name, path) if forged else None
        findings.found.append(
            Found(path, int(forged), method.name if forged else "", full, people, split=split, mask=mask)
        )


def _mask(tree: Tree, method: Path, compression: str, video: Path) -> Path | None:
    places = (
        method / "masks" / "videos" / f"{video.stem}.mp4",
        method / compression / "masks" / video.stem,
        method / "c23" / "masks" / video.stem,
    )
    return next((place for place in places if tree.has(place)), None)


def _splits(tree: Tree, base: Path) -> dict[str, str]:
    """Person -> split; empty without split files."""
    for folder in (base / "splits", base / "dataset" / "splits", base):
        there = [name for name in SPLIT_FILES if tree.has(folder / name)]
        if there:
            if missing := [name for name in SPLIT_FILES if name not in there]:
                raise UserError(f"{folder / missing[0]}: missing beside {there[0]}; add it or remove the others")
            break
    else:
        return {}
    splits: dict[str, str] = {}
    for name, split in SPLIT_FILES.items():
        for pair in _pairs(folder / name):
            for person in pair:
                if splits.setdefault(f"ff-{person}", split) != split:
                    raise UserError(f"{folder / name}: {person!r} is in another split file too; fetch the files again")
    return splits


def _pairs(path: Path) -> list[list[str]]:
    pairs = read_json(path)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(person, str) for person in pair) for pair in pairs
    ):
        raise UserError(f'{path}: must be a list of pairs, as [["071", "054"], ...]; fetch the file again')
    return pairs
