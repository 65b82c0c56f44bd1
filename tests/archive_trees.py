"""Every archive's layout as a tree of real, tiny files, and what must be true of whatever is read off one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generation.faces.archives import Index, Item, Origin, detect, read_archive
from generation.records import SPLITS

BY_HAND = Origin(consent="asked in writing", licence="CC BY 4.0")
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
PAIRS = {"train": [("071", "054"), ("087", "081")], "val": [("720", "672")], "test": [("000", "003")]}


def put(path: Path, content: bytes | str | object = b"video") -> Path:
    """A file with this content; what is neither bytes nor text is written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_frames(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def read(root: Path, name: str | None = None, select: tuple[str, ...] = ()) -> Index:
    """The archive, with what must be true of every index checked."""
    index = read_archive(name or detect(root), root, BY_HAND, select)
    names = [item.name for item in index.items]
    assert names == sorted(set(names)) and index.dropped == sorted(set(index.dropped))
    splits: dict[str, str] = {}
    for item in index.items:
        assert item.split in SPLITS and (item.label, bool(item.method)) in ((0, False), (1, True)) and item.identity
        assert splits.setdefault(item.identity, item.split) == item.split
        for path in (item.path, *(item.frames or ()), *([item.mask] if item.mask else [])):
            assert path.exists() and path.resolve().is_relative_to(root.resolve())
    return index


def by_name(index: Index) -> dict[str, Item]:
    return {item.name: item for item in index.items}


def by_split(index: Index) -> dict[str, set[str]]:
    return {split: {item.name for item in index.items if item.split == split} for split in SPLITS}


def faceforensics(root: Path, methods: tuple[str, ...] = METHODS, compressions: tuple[str, ...] = ("c23",)) -> Path:
    for split, pairs in PAIRS.items():
        for one, other in pairs:
            for compression in compressions:
                for person in (one, other):
                    put(root / "original_sequences" / "youtube" / compression / "videos" / f"{person}.mp4")
                for method in methods:
                    folder = root / "manipulated_sequences" / method
                    for name in (f"{one}_{other}", f"{other}_{one}"):
                        put(folder / compression / "videos" / f"{name}.mp4")
                        put(folder / "masks" / "videos" / f"{name}.mp4")
        put(root / "splits" / f"{split}.json", pairs)
    return root


def celeb_df(root: Path) -> Path:
    for person in ("id0", "id1", "id2", "id3", "id4", "id5"):
        put(root / "Celeb-real" / f"{person}_0000.mp4")
        put(root / "Celeb-real" / f"{person}_0001.mp4")
    for target, source in (("id0", "id1"), ("id2", "id3"), ("id3", "id2"), ("id0", "id2"), ("id4", "id5")):
        put(root / "Celeb-synthesis" / f"{target}_{source}_0000.mp4")
    for number in range(3):
        put(root / "YouTube-real" / f"0017{number}.mp4")
    lines = ["1 YouTube-real/00170.mp4", "1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4"]
    put(root / "List_of_testing_videos.txt", "\n".join(lines) + "\n")
    return root


def dfdc(root: Path) -> Path:
    for part in range(2):
        entries: dict[str, Any] = {}
        for name in ("abc", "def"):
            put(root / f"dfdc_train_part_{part}" / f"{name}{part}.mp4")
            put(root / f"dfdc_train_part_{part}" / f"{name}{part}x.mp4")
            entries[f"{name}{part}.mp4"] = {"label": "REAL", "split": "train", "original": None}
            entries[f"{name}{part}x.mp4"] = {"label": "FAKE", "split": "train", "original": f"{name}{part}.mp4"}
        put(root / f"dfdc_train_part_{part}" / "metadata.json", entries)
    put(root / "test" / "yes.mp4")
    put(root / "test" / "no.mp4")
    put(root / "test" / "labels.csv", "filename,label\nyes.mp4,1\nno.mp4,0\n")
    return root


def dfdcp(root: Path) -> Path:
    entries: dict[str, Any] = {}
    for one, other, split in (("643991", "1224068", "train"), ("77", "78", "train"), ("2030094", "9", "test")):
        for target, swapped in ((one, other), (other, one)):
            real, fake = (f"{kind}/{target}/{target}_C_001.mp4" for kind in ("original_videos", "method_A"))
            entries[str(real)] = {"label": "real", "set": split, "target_id": target, "swapped_id": None}
            entries[str(fake)] = {"label": "fake", "set": split, "target_id": int(target), "swapped_id": swapped}
            put(root / real)
            put(root / fake)
    put(root / "dataset.json", entries)
    return root


def deepfakebench(root: Path) -> Path:
    """FaceForensics++ and Celeb-DF-v2 as `rearrange.py` leaves them."""
    faces: dict[str, Any] = {"FF-real": {}, "FF-DF": {}, "FF-F2F": {}}
    for split, pairs in PAIRS.items():
        for one, other in pairs:
            videos = {
                "FF-real": [one, other],
                "FF-DF": [f"{one}_{other}", f"{other}_{one}"],
                "FF-F2F": [f"{one}_{other}"],
            }
            for label, names in videos.items():
                place = "original_sequences/youtube" if label == "FF-real" else "manipulated_sequences"
                place += {"FF-DF": "/Deepfakes", "FF-F2F": "/Face2Face"}.get(label, "")
                for name in names:
                    frames = put_frames(root / "FaceForensics++" / place / "c23" / "frames" / name, 0, 2, 10)
                    entry: dict[str, Any] = {"label": label, "frames": listed(root, frames)}
                    if label == "FF-DF":
                        masks = put_frames(root / "FaceForensics++" / place / "c23" / "masks" / name, 0, 2, 10)
                        entry["masks"] = listed(root, masks)
                    faces[label].setdefault(split, {"c23": {}})["c23"][name] = entry
    put(root / "dataset_json" / "FaceForensics++.json", {"FaceForensics++": faces})
    put(root / "dataset_json" / "FF-DF.json", {"FF-DF": {label: faces[label] for label in ("FF-real", "FF-DF")}})
    celeb: dict[str, Any] = {}
    for label, folder, name in (("real", "Celeb-real", "id0_0000"), ("fake", "Celeb-synthesis", "id0_id1_0000")):
        frames = put_frames(root / "Celeb-DF-v2" / folder / "frames" / name, 0, 1)
        entry = {name: {"label": f"CelebDFv2_{label}", "frames": listed(root, frames)}}
        celeb[f"CelebDFv2_{label}"] = {"train": entry, "val": entry, "test": entry}
    put(root / "dataset_json" / "Celeb-DF-v2.json", {"Celeb-DF-v2": celeb})
    return root


def listed(root: Path, folder: Path) -> list[str]:
    """Frames in the order that a folder happens to give them: not theirs."""
    return [path.relative_to(root).as_posix() for path in sorted(folder.iterdir())]


def df40(root: Path) -> Path:
    for name in ("071_054", "000_003", "720_672"):
        put_frames(root / "DF40_train" / "simswap" / "frames" / name, 0, 1)
    put_frames(root / "DF40" / "simswap" / "ff" / "frames" / "953_974", 0, 1)
    put_frames(root / "DF40" / "simswap" / "cdf" / "frames" / "id0_id1_0000", 0, 1)
    put_frames(root / "DF40" / "ddim" / "ff", 0, 1)
    put(root / "DF40" / "heygen" / "fake" / "videos" / "a.mp4")
    put_frames(root / "DF40" / "heygen" / "real" / "b", 3)
    return root


def folders(root: Path) -> Path:
    for name in ("a", "b", "c"):
        put(root / "real" / f"{name}.mp4")
        put_frames(root / "fake" / name, 0, 1)
    put_frames(root / "real", 7)
    return root


BUILD: dict[str, Callable[[Path], Path]] = {
    "deepfakebench": deepfakebench,
    "faceforensics++": faceforensics,
    "celeb-df": celeb_df,
    "dfdcp": dfdcp,
    "dfdc": dfdc,
    "df40": df40,
    "folders": folders,
}
