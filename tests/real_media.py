"""Real media and networks that tests need, and videos made of them."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest


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
