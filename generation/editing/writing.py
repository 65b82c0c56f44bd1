"""Writing: photos and videos to disk, watermarked frame by frame and signed before they have their name.

There is no other way out: nothing here writes a picture without both marks. A mask, which shows nobody and whose values
count, is signed alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import Colorspace, ColorTrc
from PIL import Image

from generation.faces.media import LISTED_RATE
from generation.provenance import Statement, mark_image, sign
from generation.records import UserError

PHOTO_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
VIDEO_ENDINGS = (".mp4", ".m4v", ".mov")
"""What can be written: it carries a signature."""

_TIME_BASE = Fraction(1, 90_000)
_COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus")
"""Sound that fits into the containers of `VIDEO_ENDINGS` as it is; other sound becomes AAC, of two channels at most."""

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name only when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent / f".{path.name}.{os.getpid()}"
    folder.mkdir(exist_ok=True)
    try:
        yield folder / path.name
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_photo(path: Path, image: np.ndarray, statement: Statement) -> None:
    """image: uint8 (H, W, 3), or (H, W) for a mask. Raises `UserError` for an ending that is none of
    `PHOTO_ENDINGS`."""
    check_ending(path, PHOTO_ENDINGS, "a photo")
    options: dict[str, Any] = {
        ".png": {"compress_level": 4},
        ".webp": {"lossless": image.ndim == 2, "quality": 95},
    }.get(path.suffix.lower(), {"quality": 95, "subsampling": 0})
    with complete(path) as unfinished:
        Image.fromarray(mark_image(image, statement.payload or 0) if image.ndim == 3 else image).save(
            unfinished, **options
        )
        sign(unfinished, statement)


def check_ending(path: Path, endings: tuple[str, ...], what: str) -> None:
    """Raises `UserError` where the path ends in something else."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: the result is {what}; end its name in one of {', '.join(endings)}")


class VideoWriter:
    """Context manager: H.264 frame by frame, with true times and the sound and colours of another video.

    On a clean exit the file is signed and there, otherwise there is none. Frames and sound go through; nothing is kept.
    width, height: pixels; `like`: the video whose sound, frame rate and colour matrix are taken, None for none
    """

    def __init__(self, path: Path, statement: Statement, width: int, height: int, like: Path | None) -> None:
        check_ending(path, VIDEO_ENDINGS, "a video")
        self._path, self._statement, self._size, self._like = path, statement, (width, height), like

    def __enter__(self) -> Self:
        self._finishing = complete(self._path)
        self._unfinished = self._finishing.__enter__()
        try:
            self._container: Any = av.open(str(self._unfinished), "w", options={"movflags": "+faststart"})
            self._source: Any = None if self._like is None else av.open(str(self._like), metadata_errors="ignore")
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _begin(self) -> None:
        pictures = self._source.streams.video[0] if self._source and self._source.streams.video else None
        rate = (pictures and pictures.average_rate) or Fraction(LISTED_RATE)
        self._base = (pictures and pictures.time_base) or _TIME_BASE
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = self._size
        even = all(side % 2 == 0 for side in self._size)
        self._stream.pix_fmt = "yuv420p" if even else "yuv444p"
        self._stream.options = {"crf": "16", "preset": "veryfast"}
        context = self._stream.codec_context
        context.time_base, context.thread_count = self._base, 1
        given = pictures.codec_context if pictures else None
        if given is None or given.color_trc in _HDR:
            self._matrix = int(Colorspace.ITU709)
            tags = (1, 1, 1)
        else:
            self._matrix = given.colorspace
            tags = (given.colorspace, given.color_primaries, given.color_trc)
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = 1
        self._last: int | None = None
        self._sound = _Sound(self._source, self._container) if self._source and self._source.streams.audio else None
        self._start = self._sound.video_start if self._sound else 0.0

    def write(self, image: np.ndarray, seconds: float) -> None:
        """image: uint8 (H, W, 3), or (H, W) for a mask; `seconds` after the first frame, rising."""
        colour = image.ndim == 3
        marked = mark_image(image, self._statement.payload or 0) if colour else np.repeat(image[..., None], 3, axis=-1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(marked), format="rgb24")
        frame: Any = picture.reformat(format=self._stream.pix_fmt, dst_colorspace=self._matrix, threads=1)
        frame.pts, frame.time_base = round((seconds + self._start) / float(self._base)), self._base
        if self._last is not None:
            frame.pts = max(frame.pts, self._last + 1)
        self._last = frame.pts
        self._container.mux(self._stream.encode(frame))
        if self._sound is not None:
            self._sound.until(seconds + self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._container.mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.until(float("inf"))
            for container in (getattr(self, "_container", None), getattr(self, "_source", None)):
                if container is not None:
                    container.close()
            if error is None:
                sign(self._unfinished, self._statement)
        except BaseException as fault:
            if not self._finishing.__exit__(type(fault), fault, fault.__traceback__):
                raise
        else:
            self._finishing.__exit__(kind, error, trace)


class _Sound:
    """The sound of one video into another as it is, or as AAC where it does not fit, a little ahead of the pictures.

    video_start: seconds from where the source's streams begin to where its pictures do
    """

    def __init__(self, source: Any, container: Any) -> None:
        starts = {stream: float((stream.start_time or 0) * stream.time_base) for stream in _heard(source)}
        self._zero = min(starts.values())
        self.video_start = starts[source.streams.video[0]] - self._zero
        self._container = container
        self._streams: dict[int, tuple[Any, bool]] = {}
        for stream in source.streams.audio:
            copied = stream.codec_context.name in _COPIED
            if copied:
                new = container.add_stream_from_template(stream)
            else:
                layout = "mono" if stream.codec_context.channels == 1 else "stereo"
                new = container.add_stream("aac", rate=stream.codec_context.sample_rate, layout=layout)
            self._streams[stream.index] = new, copied
        self._packets = source.demux(*source.streams.audio)
        self._next: Any = next(self._packets, None)

    def until(self, seconds: float) -> None:
        """Everything that sounds up to this time, and half a second more."""
        while self._next is not None:
            packet = self._next
            if packet.dts is not None and float(packet.dts * packet.time_base) - self._zero > seconds + 0.5:
                return
            self._put(packet)
            self._next = next(self._packets, None)
        if seconds == float("inf"):
            for new, copied in self._streams.values():
                if not copied:
                    self._container.mux(new.encode())

    def _put(self, packet: Any) -> None:
        new, copied = self._streams[packet.stream.index]
        shift = round(self._zero / packet.time_base)
        if not copied:
            for sound in packet.decode():
                if sound.pts is not None:
                    sound.pts -= round(self._zero / sound.time_base)
                self._container.mux(new.encode(sound))
        elif packet.dts is not None:
            packet.dts -= shift
            packet.pts -= shift
            packet.stream = new
            self._container.mux(packet)


def _heard(source: Any) -> list[Any]:
    return [source.streams.video[0], *source.streams.audio]
