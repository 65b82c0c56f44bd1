"""DeepfakeBench: frames, landmarks and masks, and the JSON files by which its loader finds them.

Yan et al., DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection, NeurIPS 2023.

    NAME/original_sequences/youtube/<compression>/{frames,landmarks}/012/000.{png,npy}
    NAME/manipulated_sequences/<method>/<compression>/{frames,landmarks,masks}/<method>-012_013/000.{png,npy,png}
    preprocessing/dataset_json/NAME.json, NAME_<method>.json, NAME_<compression>.json
    deepfakebench.yaml                           # what its configuration files need, its label_dict first

{NAME: {label: {train | val | test: {video: {label, frames, masks}}}}}, paths from the root. Only sets that are called
FaceForensics++ and its parts have another level there for compressions, so here each compression that the plan knows
has a list of its own, as each method has with all reals. Frames are the very pixels of the set, in the folder of the
clip's own compression; nothing is encoded again.

A video's folder is named with its method, as the benchmark's video-level AUROC takes folders of one name for one video.
Its loader finds masks and landmarks by putting `masks` and `landmarks` for `frames` anywhere in the path. Masks are
opacities from 0 to 255, where its own preprocessing makes 0 or 255 of them. Landmarks are 81, as it (and self-blending
on it) expects: ours are the first 68; see `clips.with_forehead` for the 13 others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from generation.dataset.layouts.clips import Clip, File, landmarks, mask, numbered, picture
from generation.dataset.layouts.faceforensics import SPLIT_FILES
from generation.records import UserError

_YAML = """\
# For DeepfakeBench: add label_dict to the one in training/config/train_config.yaml and in test_config.yaml, and set
# there rgb_dir (this folder), dataset_json_folder (preprocessing/dataset_json in it), and one of the sets.
label_dict:
{labels}
sets: [{sets}]
resolution: {size}  # landmarks are in pixels of it
frame_num: {{train: {frames}, test: {frames}}}
"""


def files(clip: Clip, name: str) -> Iterator[File]:
    place, video = _place(clip, name), known_as(clip)
    for number in range(clip.frames):
        yield File(f"{place}/frames/{video}/{number:03d}.png", picture(number))
        yield File(f"{place}/landmarks/{video}/{number:03d}.npy", landmarks(number))
        if clip.label:
            yield File(f"{place}/masks/{video}/{number:03d}.png", mask(number))


def known_as(clip: Clip) -> str:
    return f"{clip.method}-{clip.short}" if clip.label else clip.short


def lists(clips: Sequence[Clip], name: str) -> Iterator[tuple[str, bytes]]:
    """The JSON files. Raises `UserError` for more clips than can be named, and names that its loader cannot read."""
    numbered(clips)
    called = _plain(name)
    methods = list(dict.fromkeys(clip.method for clip in clips if clip.label))
    for word in (called, *methods):
        if "frames" in word:
            raise UserError(
                f"export=deepfakebench: its loader replaces the word frames in every path, so {word} cannot be a name "
                "there; use another layout, or make the set with another name"
            )
    levels = list(dict.fromkeys(clip.compression for clip in clips))
    chosen = {called: list(clips)}
    chosen |= {f"{called}_{method}": [clip for clip in clips if clip.method in ("", method)] for method in methods}
    if len(levels) > 1:
        chosen |= {f"{called}_{level}": [clip for clip in clips if clip.compression == level] for level in levels}
    for title, those in chosen.items():
        content = json.dumps({title: _listed(those, name)}, indent=1)
        yield f"preprocessing/dataset_json/{title}.json", content.encode()
    labels = {_label(clip, name): clip.label for clip in clips}
    yield (
        "deepfakebench.yaml",
        _YAML.format(
            labels="\n".join(f"  {label}: {value}" for label, value in labels.items()),
            sets=", ".join(chosen), size=clips[0].size, frames=clips[0].frames,
        ).encode(),
    )  # fmt: skip


def _listed(clips: Sequence[Clip], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for clip in clips:
        label, place = _label(clip, name), _place(clip, name)
        paths = {
            layer: [f"{place}/{layer}/{known_as(clip)}/{number:03d}.png" for number in range(clip.frames)]
            for layer in ("frames", "masks")[: 1 + clip.label]
        }
        splits = found.setdefault(label, {split: {} for split in SPLIT_FILES.values()})
        splits[SPLIT_FILES[clip.split]][known_as(clip)] = {"label": label, **paths}
    return found


def _label(clip: Clip, name: str) -> str:
    return f"{clip.method}_Fake" if clip.label else f"{_plain(name)}_Real"


def _place(clip: Clip, name: str) -> str:
    kind = f"manipulated_sequences/{clip.method}" if clip.label else "original_sequences/youtube"
    return f"{_plain(name)}/{kind}/{clip.compression}"


def _plain(name: str) -> str:
    """A name that may be that of a folder."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
