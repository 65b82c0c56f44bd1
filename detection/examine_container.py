"""What a file itself tells, apart from what its pixels show: container, metadata, editing software, compressions.

None of it says that a face is forged. Metadata are claims that anybody can write or remove; a second compression is
what every messenger does.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import scipy.fft
from PIL import ExifTags, Image, UnidentifiedImageError

_LUMA = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
        51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
        120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)  # fmt: skip
"""The luminance table of ITU-T T.81, annex K, by rows."""

EDITORS = (
    "photoshop", "lightroom", "gimp", "affinity", "snapseed", "facetune", "faceapp", "pixelmator", "premiere",
    "after effects", "final cut", "davinci", "capcut", "lavf", "handbrake", "stable diffusion", "midjourney", "dall",
    "comfyui", "automatic1111", "firefly", "canva", "picsart", "inshot", "vicious-cycle", "vicious cycle",
)  # fmt: skip
"""Software that edits, makes or recodes pictures, as it names itself."""

_TAGS = ("Software", "ProcessingSoftware", "HostComputer", "Make", "Model", "DateTime", "DateTimeOriginal", "Artist")
_TEXTS = (
    "Software",
    "software",
    "parameters",
    "prompt",
    "workflow",
    "Comment",
    "Description",
    "Creation Time",
    "Author",
)
_LONGEST = 200
_MOST_BLOCKS = 4096
_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
DOUBLE = 6.0
"""Strength of the comb in the histograms of a JPEG's coefficients from which a second compression is named: see
`double_compression`."""


def container(path: Path) -> dict[str, Any]:
    """Format, size, metadata, software that names itself (`software`), compressions, and all of it in sentences
    (`notes`). Never raises for a damaged file; what cannot be read is left out."""
    found: dict[str, Any] = {"bytes": path.stat().st_size, "format": "", "metadata": {}, "software": [], "notes": []}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as photo:
                _photo(photo, found)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        _video(path, found)
    texts = [str(value) for value in found["metadata"].values()]
    named = [text for text in texts if any(name in text.lower() for name in EDITORS)]
    found["software"] = sorted({text[:_LONGEST] for text in named})
    for text in found["software"]:
        found["notes"].append(f"names software that edits or recodes: {text}")
    return found


def _photo(photo: Image.Image, found: dict[str, Any]) -> None:
    found["format"] = photo.format or ""
    found["width"], found["height"] = photo.size
    metadata = found["metadata"]
    exif = photo.getexif()
    entries = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    for number, value in entries.items():
        name = ExifTags.TAGS.get(number, "")
        if name in _TAGS and str(value).strip():
            metadata[name] = str(value).strip("\0 ")[:_LONGEST]
    for name in _TEXTS:
        value = photo.info.get(name)
        if isinstance(value, str) and value.strip():
            metadata[name] = value.strip()[:_LONGEST]
    packet = photo.info.get("xmp") or photo.info.get("XML:com.adobe.xmp") or b""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
    for name in ("CreatorTool", "DigitalSourceType"):
        match = re.search(rf"{name}[=>\"' ]+([^\"'<>]+)", text)
        if match:
            metadata[f"XMP {name}"] = match.group(1).strip()[:_LONGEST]
    if "photoshop" in photo.info:
        metadata["Photoshop resource block"] = "Adobe Photoshop wrote a block of its own"
    found["notes"] += [] if metadata else ["carries no metadata of a camera or of software; most services remove them"]
    if photo.format in ("JPEG", "MPO"):
        _jpeg(photo, found)


def _jpeg(photo: Any, found: dict[str, Any]) -> None:
    quality, standard = _quality(photo)
    found["jpeg"] = {
        "quality": quality,
        "standard_tables": standard,
        "progressive": bool(photo.info.get("progressive")),
    }
    tables = "the standard's tables" if standard else "tables of its own"
    found["notes"].append(f"JPEG of about quality {quality}, {tables}")
    double = double_compression(photo)
    found["jpeg"]["double_compression"] = double
    if double["found"]:
        found["notes"].append(
            "was compressed as JPEG twice, with other tables: saved again after it was taken, as every messenger and "
            "every editor does"
        )


def _quality(photo: Any) -> tuple[int, bool]:
    """The quality of libjpeg (1 to 100) whose luminance table is nearest, and whether it is that very table."""
    table = np.array(photo.quantization[0])
    best = int(np.abs(np.log(table / _tables())).sum(1).argmin())
    return best + 1, bool((table == _tables()[best]).all())


@cache
def _tables() -> np.ndarray:  # (100, 64)
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: np.ndarray = np.clip((_LUMA * scale + 50) // 100, 1, 255)
    return tables


def jpeg_quality(path: Path) -> int | None:
    """The quality a JPEG was saved with, None for all other files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as photo:
                return _quality(photo)[0] if photo.format in ("JPEG", "MPO") else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def double_compression(photo: Any) -> dict[str, Any]:
    """Whether the coefficients of a JPEG were quantised before, on the same grid and with other steps.

    Quantising twice leaves a comb in the histogram of a coefficient (Popescu and Farid 2004, Information Hiding,
    LNCS 3200): bins that are too full and too empty in turn. strength: the largest peak, over the first coefficients,
    of the spectrum of what a smooth histogram does not explain, in deviations of chance; found: at least `DOUBLE`. What
    was saved again with larger steps leaves no comb and is not found.
    """
    table = np.array(photo.quantization[0]).reshape(8, 8)
    luma = np.asarray(photo.convert("YCbCr"))[..., 0].astype(np.float32) - 128
    high, wide = (side // 8 for side in luma.shape)
    if high * wide < 64:
        return {"found": False, "strength": 0.0}
    blocks = luma[: high * 8, : wide * 8].reshape(high, 8, wide, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    blocks = blocks[:: max(1, len(blocks) // _MOST_BLOCKS)]
    blocks = blocks[(blocks.max((1, 2)) < 126) & (blocks.min((1, 2)) > -127)]  # clipped ones obey no table
    coefficients = scipy.fft.dctn(blocks, axes=(1, 2), norm="ortho")
    strength = max((_comb(coefficients[:, i, j] / table[i, j]) for i, j in _FREQUENCIES), default=0.0)
    return {"found": bool(strength >= DOUBLE), "strength": round(strength, 1)}


def _comb(levels: np.ndarray) -> float:
    """Of quantised coefficients (N,), in steps: strength of the comb in their histogram, see `double_compression`."""
    reach = 24
    counts, _ = np.histogram(np.abs(np.round(levels)), np.arange(0.5, reach + 1.5))
    counts = counts.astype(np.float64)
    filled = int(np.flatnonzero(counts > 0)[-1]) + 1 if counts.any() else 0
    if filled < 8 or counts.sum() < 200:
        return 0.0
    counts = counts[:filled]
    smooth = np.exp(np.convolve(np.log(np.pad(counts, 2, mode="edge") + 1), np.ones(5) / 5, mode="valid"))
    residue = (counts - smooth) / np.sqrt(smooth + 1)
    window = np.hanning(filled + 2)[1:-1]
    spectrum = np.abs(np.fft.rfft(residue * window, 64)) / math.sqrt(float((window**2).sum()))
    return float(spectrum[8:].max())


def _video(path: Path, found: dict[str, Any]) -> None:
    try:
        with av.open(str(path), metadata_errors="ignore") as file:
            found["format"] = file.format.long_name
            found["metadata"] = {str(key): str(value)[:_LONGEST] for key, value in file.metadata.items()}
            for stream in file.streams.video[:1]:
                context = stream.codec_context
                found["width"], found["height"] = context.width, context.height
                found["metadata"] |= {f"video {key}": str(value)[:_LONGEST] for key, value in stream.metadata.items()}
                rate = float(stream.average_rate or 0)
                bits = stream.bit_rate or file.bit_rate or 0
                found["video"] = {"codec": context.name, "rate": round(rate, 3), "bits_per_second": int(bits)}
                each = bits / max(rate, 1e-9) / max(1, context.width * context.height)
                found["notes"].append(
                    f"{context.name}, {rate:.3g} frames/s, {bits / 1000:.0f} kbit/s: {each:.2f} bits a pixel"
                    if bits and rate
                    else f"{context.name}"
                )
            found["sound"] = bool(file.streams.audio)
    except (av.FFmpegError, OSError, ValueError) as error:
        found["notes"].append(f"the container cannot be read ({error})")
