"""Real media and networks that tests need, and videos made of them."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from generation.faces.media import Frame, Media


def shared(name: str) -> Path:
    """A file or folder in `VICIOUS_CYCLE_SHARED`; the test that asks is skipped where it is missing."""
    folder = os.environ.get("VICIOUS_CYCLE_SHARED")
    if folder is None:
        pytest.skip(f"VICIOUS_CYCLE_SHARED is not set; this test needs {name} in it")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def film(path: Path, images: list[np.ndarray], rate: int = 25) -> Path:
    """An H.264 file of RGB images (H, W, 3), all of one size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "14", "preset": "ultrafast"}
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def first_frames(path: Path, source: Path, frames: int) -> Path:
    """The first frames of a video, encoded again, with its sound, copied."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        pictures: Any = new.add_stream("libx264", rate=old.streams.video[0].average_rate)
        pictures.width, pictures.height = old.streams.video[0].width, old.streams.video[0].height
        pictures.pix_fmt, pictures.options = "yuv420p", {"crf": "14", "preset": "ultrafast"}
        sounds = {stream.index: new.add_stream_from_template(stream) for stream in old.streams.audio}
        for index, frame in enumerate(itertools.islice(old.decode(video=0), frames)):
            frame.pts, frame.time_base, frame.pict_type = index, 1 / old.streams.video[0].average_rate, 0
            new.mux(pictures.encode(frame))
        new.mux(pictures.encode())
        old.seek(0)
        for packet in old.demux(*old.streams.audio) if sounds else ():
            if packet.dts is not None and packet.pts * packet.time_base < frames / old.streams.video[0].average_rate:
                packet.stream = sounds[packet.stream.index]
                new.mux(packet)
    return path


def read_back(path: Path) -> tuple[list[Frame], list[np.ndarray]]:
    frames = list(Media(path))
    return frames, [frame.image() for frame in frames]


def sound_of(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.dts is not None]


def photos(step: int, size: int | None = None) -> list[np.ndarray]:
    """Every `step`-th photo of the London Set, 512 px or reduced."""
    found = [Image.open(path).convert("RGB") for path in sorted(shared("data/london").glob("*.jpg"))[::step]]
    assert found
    return [np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS) if size else photo) for photo in found]
