"""Weights of the networks that find and read faces: from local media, from the cache, or downloaded once."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from generation import records
from generation.records import UserError


class Weights(NamedTuple):
    """One file: what it is, its folder under `weights` in `VICIOUS_CYCLE_SHARED`, its address and its known content."""

    what: str
    folder: str
    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


LANDMARKER = Weights(
    "the face landmarker",
    "mediapipe",
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
)
"""MediaPipe's Face Landmarker, Apache-2.0, 3.7 MB."""

YUNET = Weights(
    "the face finder",
    "yunet",
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2026may.onnx",
    "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
)
"""YuNet of the OpenCV Zoo (Wu, Peng and Yu 2023), MIT, 0.2 MB."""


def weights_file(weights: Weights) -> Path:
    """Where the file lies: in `VICIOUS_CYCLE_SHARED`, in the cache, or else downloaded into the cache.

    Raises `UserError` that names the file, its address and where to put it by hand.
    """
    shared, cache = records.shared_folder(), records.cache_folder() / weights.name
    places = [cache] if shared is None else [shared / "weights" / weights.folder / weights.name, cache]
    for place in places:
        if place.is_file():
            return place
    try:
        with urllib.request.urlopen(weights.url, timeout=30) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"{cache}: {weights.what} is not there and could not be downloaded ({error}); "
            f"fetch {weights.url} by hand and put it there"
        ) from error
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise UserError(
            f"{weights.url}: what was downloaded is not the known file (its sha256 differs); "
            f"fetch it by hand and put it at {cache}"
        )
    records.write_beside(cache, content)
    return cache
