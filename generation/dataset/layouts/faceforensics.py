"""FaceForensics++: videos at its three compressions, masks, and its split files.

Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019.

    original_sequences/youtube/{raw,c23,c40}/videos/012.mp4          # youtube: what its readers look for
    manipulated_sequences/<method>/{raw,c23,c40}/videos/012_013.mp4  # the face of 012, the expression of 013
    manipulated_sequences/<method>/masks/videos/012_013.mp4
    splits/{train,val,test}.json                                     # [["012", "013"], ...]

Which compressions: a clip that the plan left raw is there at all three, as in FaceForensics++: raw, which are exactly
the pixels of the set (H.264 without loss), c23 and c40 encoded by x264 from them. A clip that the plan itself sent
through c23 or c40 is there in that folder alone, without loss: a second time through the encoder would be another
degradation. A pair is treated alike, real or forged. At c40 the watermark is lost, the signature stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from generation.dataset.layouts.clips import Clip, File, mask_video, numbered, video

SPLIT_FILES = {"train": "train", "validation": "val", "test": "test"}


def files(clip: Clip, name: str) -> Iterator[File]:
    place = f"manipulated_sequences/{clip.method}" if clip.label else "original_sequences/youtube"
    for level in ("raw", "c23", "c40") if clip.compression == "raw" else (clip.compression,):
        encoding = level if level != clip.compression else "raw"
        yield File(f"{place}/{level}/videos/{clip.short}.mp4", video(encoding))
    if clip.label:
        yield File(f"{place}/masks/videos/{clip.short}.mp4", mask_video)


def known_as(clip: Clip) -> str:
    return f"{clip.method or 'youtube'}/{clip.short}"


def lists(clips: Sequence[Clip], name: str) -> Iterator[tuple[str, bytes]]:
    """The split files. Raises `UserError` for more clips than can be named."""
    numbered(clips)
    for split, file in SPLIT_FILES.items():
        pairs = dict.fromkeys(clip.pair for clip in clips if clip.split == split)
        yield f"splits/{file}.json", json.dumps([list(pair) for pair in pairs]).encode()
