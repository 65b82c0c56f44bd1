"""DF40 as it is downloaded: forty methods, each a folder, with the faces that were forged and sometimes the real ones.

Yan et al., DF40: Toward Next-Generation Deepfake Detection, NeurIPS 2024.

    [DF40_train/ | DF40/ | train/ | test/] <method>/{ff,cdf,fake,real}/[frames/]<video>/000.png
    [DF40_train/ | ...] <method>/frames/<video>/000.png

`ff` and `cdf` are forgeries of videos of FaceForensics++ and Celeb-DF; the real ones are in those archives. What is in
`DF40_train` or `train` is for training, what is in `DF40` beside it, or in `test`, is the official test. A folder that
holds images beside no other folder of images is a video; images that lie in `ff`, `cdf`, `fake` or `real` themselves
are a photo each. DF40's JSON files, which know more, are read as `deepfakebench`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from generation.faces.archives.files import BESIDE_FRAMES, IMAGES, LAYERS, VIDEOS, Tree
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import people_in

DOMAINS = {"ff": 1, "cdf": 1, "fake": 1, "real": 0}
SPLITS = {"df40_train": "train", "train": "train", "df40": "test", "test": "test"}


def recognise(tree: Tree) -> bool:
    return any(folder.name.lower() in ("ff", "cdf") for *_, folder in _domains(tree)) or any(
        folder.name.lower().startswith("df40") for folder in tree.folders(tree.root)
    )


def read(tree: Tree) -> Findings:
    findings = Findings()
    for split, method, folder in _domains(tree):
        label = DOMAINS.get(folder.name.lower(), 1)
        for path in videos_in(tree, folder):
            shown = path.relative_to(folder).as_posix()
            video = path.stem if path.suffix.lower() in IMAGES | VIDEOS else path.name
            people = people_in(video, "DF40") if folder.name.lower() not in ("fake", "real") else (video,)
            findings.found.append(
                Found(
                    path,
                    label,
                    method if label else "",
                    path.relative_to(tree.root).as_posix(),
                    people if people != (video,) else (f"df40-{method}-{shown}",),
                    split=split,
                )
            )
    return findings


def _domains(tree: Tree) -> Iterator[tuple[str, str, Path]]:
    """(split, method, folder) of everything that holds videos of one method and domain."""
    tops = {folder.name.lower(): folder for folder in tree.folders(tree.root)}
    official = {name: folder for name, folder in tops.items() if name in SPLITS}
    for split, top in ((SPLITS[name], folder) for name, folder in official.items()) if official else [("", tree.root)]:
        for method in tree.folders(top):
            for folder in tree.folders(method):
                if folder.name.lower() in (*DOMAINS, "frames"):
                    yield split, method.name, folder


def videos_in(tree: Tree, folder: Path) -> Iterator[Path]:
    """Video files, folders of frames, and the images that lie in `folder` itself or in its `frames`, at any depth."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        is_video = place != folder and place.name not in BESIDE_FRAMES and tree.holds_frames(place)
        if is_video:
            yield place
        yield from tree.files(place, VIDEOS if is_video else VIDEOS | IMAGES)
        waiting.extend(child for child in tree.folders(place) if child.name not in LAYERS)
