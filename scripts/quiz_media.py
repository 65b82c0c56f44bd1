"""Encoding what the quiz shows: real and forged frames through the same encoders; what is forged is marked.

A watermark goes into every forged frame and a signed manifest into every file that shows one; both are read back from
the finished file.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import matplotlib
import numpy as np
from PIL import Image

from detection.quiz import Marks, Media
from generation.faces.people import ORIGIN
from generation.provenance import Statement, mark_image, sign, verify
from generation.records import encode_png

RATE = 25
"""Frames a second of clips."""

_QUALITY = 92
_CRF = "20"
_FULL_CHANGE = 0.3
"""Change of a pixel, as a share of white, that the heat map shows at its brightest."""


@contextmanager
def _file(ending: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / f"media{ending}"


def still(image: np.ndarray, statement: Statement | None = None) -> tuple[Media, Marks]:
    """JPEG of a frame, uint8 (H, W, 3); marked where a `statement` says how it was forged."""
    with _file(".jpg") as path:
        Image.fromarray(image if statement is None else mark_image(image)).save(
            path, quality=_QUALITY, subsampling=0, optimize=True
        )
        if statement is not None:
            sign(path, statement)
        return Media(path.read_bytes(), "image/jpeg"), read_marks(path)


def clip(frames: np.ndarray, statement: Statement | None = None) -> tuple[Media, Marks]:
    """H.264 in MP4 of frames, uint8 (T, H, W, 3), without sound."""
    with _file(".mp4") as path:
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
            stream = video_stream(out, frames.shape[2], frames.shape[1], Fraction(RATE))
            for image in frames:
                out.mux(stream.encode(video_frame(image if statement is None else mark_image(image))))
            out.mux(stream.encode(None))
        if statement is not None:
            sign(path, statement)
        return Media(path.read_bytes(), "video/mp4"), read_marks(path)


def video_stream(container: Any, width: int, height: int, rate: Fraction) -> Any:
    """An H.264 stream of even sides, whose bytes do not depend on how many threads there are."""
    stream = container.add_stream("libx264", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
    stream.options = {"crf": _CRF, "preset": "medium"}
    stream.codec_context.thread_count = 1
    return stream


def video_frame(image: np.ndarray) -> Any:
    """uint8 (H, W, 3); an odd side loses its last line."""
    height, width = (side - side % 2 for side in image.shape[:2])
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")


def read_marks(path: Path) -> Marks:
    verdict = verify(path)
    return Marks(verdict.state, verdict.signed_by, verdict.watermark_p, verdict.found)


def decoded(media: Media, every: int = 4) -> np.ndarray:  # uint8 (T, H, W, 3)
    """What is seen: the picture, or every so many frames of the video."""
    if not media.moving:
        return np.asarray(Image.open(io.BytesIO(media.content)).convert("RGB"))[None]
    file: Any
    with av.open(io.BytesIO(media.content)) as file:
        frames = [frame for index, frame in enumerate(file.decode(video=0)) if index % every == 0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def heat(before: np.ndarray, after: np.ndarray) -> Media:
    """How much each pixel was changed, as a transparent picture to be laid over the frame; uint8 (H, W, 3) both."""
    change = np.abs(after.astype(np.float32) - before).max(-1) / 255
    change = cv2.GaussianBlur(change, (0, 0), max(0.6, len(change) / 160))
    level = (change / _FULL_CHANGE).clip(0, 1) ** 0.7
    coloured = matplotlib.colormaps["inferno"](0.25 + 0.75 * level)
    coloured[..., 3] = (level * 1.6).clip(0, 1)
    buffer = io.BytesIO()
    Image.fromarray((coloured * 255).round().astype(np.uint8)).save(buffer, "WEBP", quality=60, method=4)
    return Media(buffer.getvalue(), "image/webp")


def thumbnail(image: np.ndarray, side: int = 128) -> Media:
    """uint8 (H, W, 3), unforged."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return still(np.asarray(small))[0]


def statement_of(
    family: str, checkpoint: str, parents: Sequence[np.ndarray], origin: str, seed: int, round: int | None, edit: Any
) -> Statement:
    """What the manifest of a forgery made of these frames says; their hashes are those of the records."""
    return Statement(
        reenactor=family,
        checkpoint=checkpoint,
        parents=tuple(hashlib.sha256(encode_png(image)).hexdigest() for image in parents),
        consent=origin,
        licence=origin,
        synthetic=origin == ORIGIN,
        seed=seed,
        round=round,
        edit=edit,
    )
