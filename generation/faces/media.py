"""Media: photos and videos of any kind -> upright RGB frames with true times, one after the other.

Pillow decodes photos and animations (GIF, WebP, APNG, AVIF), PyAV (FFmpeg) everything else. Nothing holds more than one
frame, so a long video needs no more memory than a short one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorTrc, Interpolation
from PIL import Image, ImageOps

PHOTOS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".avif", ".jp2",
)  # fmt: skip
VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".vob",
    ".wmv", ".asf", ".flv", ".ogv", ".3gp", ".mxf", ".y4m", ".mjpeg", ".h264", ".hevc",
)  # fmt: skip
"""Endings by which a folder's media are known; what a file really holds decides how it is read."""

MOST_PIXELS = 50_000_000
"""Of one decoded frame: 150 MB as RGB."""

LONGEST_PHOTO = 4096
"""Pixels to which a larger JPEG may shrink while it is decoded."""

LISTED_RATE = 25.0
"""Frames a second of frames that were extracted to files, which carry no times."""

_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "AVIF", "JPEG2000")
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_STILL_SECONDS = 0.1
"""Of a frame of an animation that gives no duration."""


class MediaError(ValueError):
    """Why a file cannot be used, in a few words; who catches it names the file."""


@dataclass(frozen=True)
class Frame:
    """One upright frame, decoded to RGB when it is asked for.

    index: 0 for the first frame that could be decoded
    seconds: since that one, never falling
    width, height: pixels
    """

    index: int
    seconds: float
    width: int
    height: int
    pixels: Callable[[int, int], np.ndarray]

    def image(self, longest: int | None = None) -> np.ndarray:  # uint8 (H, W, 3)
        """The frame, or where its longer side has more than `longest` pixels, a reduced one."""
        factor = 1.0 if longest is None else min(1.0, longest / max(self.width, self.height))
        return self.pixels(max(1, round(self.width * factor)), max(1, round(self.height * factor)))


class Media:
    """One photo or video (or a folder or list of its frames as files), to be gone through as often as wanted.

    keyframes: of a video only the frames that are whole by themselves are decoded, some seconds apart
    still: whether it is a single photo, and no video of one frame
    damage: after it was gone through, what could not be decoded of it in words, "" for a sound file

    Making one, or going through it, raises `MediaError` where there is no picture to be had at all.
    """

    def __init__(self, path: Path, frames: Sequence[Path] | None = None, keyframes: bool = False) -> None:
        if frames is None and path.is_dir():
            frames = sorted((item for item in path.iterdir() if item.suffix.lower() in PHOTOS), key=_natural)
        self.path, self.damage = path, ""
        self._listed, self.keyframes = frames, keyframes
        self._animated = False
        self.still = False
        if frames is None:
            if path.stat().st_size == 0:
                raise MediaError("empty: it has no byte")
            with _pillow(path) as photo:
                self._animated = photo is not None and photo.format in _ANIMATED and _count(photo) > 1
                self.still = photo is not None and not self._animated
        elif not frames:
            raise MediaError("a folder without a picture")

    def __iter__(self) -> Iterator[Frame]:
        if self._listed is not None:
            return self._files(self._listed)
        if self.still:
            return iter([_photo_frame(read_photo(self.path), 0, 0.0)])
        return self._animation() if self._animated else self._video()

    def _files(self, paths: Sequence[Path]) -> Iterator[Frame]:
        bad: list[str] = []
        for index, path in enumerate(paths):
            try:
                image = read_photo(path)
            except (MediaError, OSError) as error:
                bad.append(f"{path.name}: {error}")
                continue
            yield _photo_frame(image, index, index / LISTED_RATE)
        if len(bad) == len(paths):
            raise MediaError(f"none of {len(paths)} pictures can be read; {bad[0]}")
        self.damage = f"{len(bad)} of {len(paths)} pictures cannot be read; {bad[0]}" if bad else ""

    def _animation(self) -> Iterator[Frame]:
        self.damage = ""
        with _pillow(self.path) as photo:
            assert photo is not None
            _bound(photo.width, photo.height)
            seconds = 0.0
            for index in range(_count(photo)):
                try:
                    photo.seek(index)
                    image = _rgb(photo)
                except Exception as error:  # Pillow's readers raise whatever they stumble over
                    if index == 0:
                        raise MediaError(f"damaged or truncated ({error})") from error
                    self.damage = f"nothing can be decoded after frame {index - 1} ({error})"
                    return
                yield _photo_frame(image, index, seconds)
                seconds += photo.info.get("duration", 0) / 1000 or _STILL_SECONDS

    def _video(self) -> Iterator[Frame]:
        self.damage = ""
        bad, index, last = 0, 0, -1.0
        error: BaseException | None = None
        try:
            with av.open(str(self.path), metadata_errors="ignore") as container:
                stream = _picture_stream(container)
                stream.codec_context.thread_count = 1
                if self.keyframes:
                    stream.codec_context.skip_frame = "NONKEY"
                _bound(stream.codec_context.width, stream.codec_context.height)
                step = 1 / float(stream.average_rate or LISTED_RATE)
                start: float | None = None
                for packet in container.demux(stream):
                    try:
                        decoded = packet.decode()
                    except av.FFmpegError as fault:
                        bad, error = bad + 1, fault
                        continue
                    for picture in decoded:
                        _bound(picture.width, picture.height)
                        time = picture.time
                        start = (time or 0.0) if start is None else start
                        last = last + step if time is None or time - start <= last else time - start
                        yield _video_frame(picture, stream.sample_aspect_ratio, index, max(0.0, last))
                        index += 1
        except (av.FFmpegError, OSError) as fault:
            bad, error = bad + 1, fault
        if index == 0:
            why = f" ({_said(error)})" if error is not None else ""
            raise MediaError(f"no frame can be decoded: damaged, or no photo or video{why}")
        if bad:
            self.damage = (
                f"{bad} damaged {'part' if bad == 1 else 'parts'} left out ({_said(error)}); {index} frames read"
            )


def read_photo(path: Path) -> np.ndarray:  # uint8 (H, W, 3)
    """One upright photo in RGB: EXIF's rotation is done, transparency lies on white, 16 bits become 8.

    A JPEG of more than `LONGEST_PHOTO` pixels a side is reduced while it is decoded. Raises `MediaError`.
    """
    with _pillow(path) as photo:
        if photo is None:
            raise MediaError("no photo in a format that can be read")
        photo.draft("RGB", (LONGEST_PHOTO, LONGEST_PHOTO))
        _bound(photo.width, photo.height)
        try:
            return _rgb(photo)
        except Exception as error:  # Pillow's readers raise whatever they stumble over
            raise MediaError(f"damaged or truncated ({error})") from error


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image | None]:
    """The file as Pillow opens it, None where it is none of the formats that are read with Pillow."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            photo = Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
        except Image.DecompressionBombError as error:
            raise MediaError(f"too many pixels; at most {MOST_PIXELS / 1e6:.0f} million are read") from error
        except Exception:  # Pillow's readers raise whatever they stumble over
            photo = None
        try:
            yield photo
        finally:
            if photo is not None:
                photo.close()


def _count(photo: Image.Image) -> int:
    try:
        return int(getattr(photo, "n_frames", 1))
    except Exception:  # Pillow's readers raise whatever they stumble over
        return 1


def _rgb(photo: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(photo)
    if upright.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(upright).astype(np.int64) / 257
        return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, -1)
    if upright.mode == "F":
        raise ValueError("floating-point pixels of unknown range")
    if upright.has_transparency_data:
        colours = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return np.asarray(upright.convert("RGB"))


def _bound(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise MediaError(
            f"{width} x {height} pixels are too many; at most {MOST_PIXELS / 1e6:.0f} million are read: make it smaller"
        )


def _natural(path: Path) -> list[tuple[int, str]]:
    """So that frame 10 comes after frame 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def _photo_frame(image: np.ndarray, index: int, seconds: float) -> Frame:
    def pixels(width: int, height: int) -> np.ndarray:
        if (height, width) == image.shape[:2]:
            return image
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    return Frame(index, seconds, image.shape[1], image.shape[0], pixels)


def _picture_stream(container: Any) -> Any:
    """The first video that is no cover of a sound file."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise MediaError("no picture in it, only sound" if container.streams.audio else "no picture in it")


def _video_frame(picture: Any, aspect: Fraction | None, index: int, seconds: float) -> Frame:
    """aspect: width of a stored pixel over its height."""
    width, height = round(picture.width * float(aspect or 1)), picture.height
    turns = round(picture.rotation / 90) % 4

    def pixels(wide: int, high: int) -> np.ndarray:
        stored = (high, wide) if turns % 2 else (wide, high)
        reduced = stored[0] < picture.width
        rgb: np.ndarray = picture.to_ndarray(
            width=stored[0],
            height=stored[1],
            format="rgb24",
            interpolation=Interpolation.AREA if reduced else Interpolation.BICUBIC,
            threads=1,
        )
        if picture.color_trc in _TO_ORDINARY:
            rgb = cv2.LUT(rgb, _TO_ORDINARY[picture.color_trc])
        return np.ascontiguousarray(np.rot90(rgb, turns))

    upright = (height, width) if turns % 2 else (width, height)
    return Frame(index, seconds, *upright, pixels)


def _said(error: BaseException | None) -> str:
    return getattr(error, "strerror", None) or str(error)


def _ordinary(light: np.ndarray) -> np.ndarray:  # (256,) -> uint8 (256,)
    """8-bit values of light, 1 being white paper: as it is up to .75, brighter light rolled off."""
    rolled = np.where(light < 0.75, light, 0.75 + 0.25 * (1 - np.exp(-(light - 0.75) / 0.25)))
    return np.round(255 * rolled ** (1 / 2.2)).astype(np.uint8)


def _perceptual_quantizer(signal: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 PQ, over 203 cd/m2."""
    root = signal ** (32 / 2523)
    light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    return np.asarray(10_000 / 203 * light)


def _hybrid_log_gamma(signal: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 HLG, over the light of a signal of .75."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(light / ((np.exp((0.75 - c) / a) + b) / 12))


_SIGNAL = np.arange(256) / 255
_TO_ORDINARY = {
    int(ColorTrc.SMPTE2084): _ordinary(_perceptual_quantizer(_SIGNAL)),
    int(ColorTrc.ARIB_STD_B67): _ordinary(_hybrid_log_gamma(_SIGNAL)),
}
"""From the 8-bit signal of high dynamic range to that of an ordinary picture; colours keep BT.2020's primaries."""
