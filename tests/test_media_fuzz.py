"""Fuzz: real photos and videos with bytes changed, taken out or put twice give frames, or one line that says why not.

VICIOUS_CYCLE_FUZZ=2000 tries that many changes of every file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_media import encode

from generation.faces.media import Media, MediaError

LONGEST = timedelta(seconds=20)
"""No changed file takes longer to be read: its size is a few kilobytes."""

FUZZ = settings(
    max_examples=int(os.environ.get("VICIOUS_CYCLE_FUZZ", "50")),
    deadline=LONGEST,
    database=None,
    derandomize="VICIOUS_CYCLE_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ROUGH = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3)).astype(np.uint8)
PHOTO = Image.fromarray(ROUGH[0])
REST = [Image.fromarray(image) for image in ROUGH[1:]]
EXIF = Image.Exif()
EXIF[274] = 6


def video(name: str, codec: str, pixels: str, options: dict[str, str] | None = None) -> Callable[[Path], Path]:
    return lambda folder: encode(folder / name, list(ROUGH), codec, pixels, options=options)


def photo(name: str, **options: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        PHOTO.save(folder / name, **options)
        return folder / name

    return make


FILES: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": video("a.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
    "h265.mkv": video("a.mkv", "libx265", "yuv420p10le"),
    "vp9.webm": video("a.webm", "libvpx-vp9", "yuv420p"),
    "mjpeg.avi": video("a.avi", "mjpeg", "yuvj420p"),
    "exif.jpg": photo("a.jpg", exif=EXIF),
    "photo.png": photo("a.png"),
    "photo.tiff": photo("a.tiff", compression="tiff_lzw"),
    "moving.gif": photo("a.gif", save_all=True, append_images=REST),
    "moving.webp": photo("b.webp", save_all=True, append_images=REST),
}

CHANGES = st.lists(
    st.tuples(st.sampled_from(["write", "cut", "twice"]), st.floats(0, 1), st.binary(min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Half of the places are among the first 200 bytes, where a file says what it is."""
    for kind, place, new in changes:
        start = int((2 * place - 1) * len(content)) if place > 0.5 else int(2 * place * min(200, len(content)))
        end = start + len(new) ** (1 if kind == "write" else 3)
        middle = {"write": new, "cut": b"", "twice": 2 * content[start:end]}[kind]
        content = content[:start] + middle + content[end:]
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: make(folder) for name, make in FILES.items()}


@pytest.mark.parametrize("name", FILES)
@given(changes=CHANGES)
@FUZZ
def test_any_change(whole: dict[str, Path], tmp_path: Path, name: str, changes: list[tuple[str, float, bytes]]) -> None:
    path = tmp_path / name
    path.write_bytes(changed(whole[name].read_bytes(), changes))
    try:
        for frame in Media(path):
            image = frame.image(32)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and max(image.shape) <= 32
    except MediaError as error:
        assert str(error) and "\n" not in str(error)


@given(content=st.binary(max_size=400))
@FUZZ
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError):
        list(Media(path))
