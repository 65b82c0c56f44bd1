"""What the marks are worth: how the watermark does beside others, what signing costs, and what flipped bits go unseen.

The others are those of the package `invisible-watermark` (0.2.0; dwtDct of Stable Diffusion, RivaGAN, arXiv
1909.01285). It brings another OpenCV than ours, so it is no dependency: it is measured where it can be imported.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import scipy.stats
import torch
from PIL import Image

from detection.degradations import degraded
from generation.metrics.pixels import ssim, ssim_map
from generation.provenance import FOUND, Statement, mark_image, read_watermark, sign
from generation.provenance.manifest import read
from generation.records import shared_folder

Figure = tuple[str, float, str, dict[str, Any]]
Clip = np.ndarray  # uint8 (T, H, W, 3)
BITS = 32
_MATCHES = int(scipy.stats.binom.isf(FOUND, BITS, 0.5)) + 1
"""Bits of 32 that must be right, for a method without a p-value, to be found at `FOUND`."""


def _through(*chain: tuple[str, int]) -> Callable[[Clip], Clip]:
    def act(clip: Clip) -> Clip:
        done = degraded(torch.from_numpy(clip.copy()).permute(0, 3, 1, 2)[None].float() / 255, chain, 0)[0]
        return np.asarray((done * 255).round().to(torch.uint8).permute(0, 2, 3, 1))

    return act


def _jpeg(quality: int) -> Callable[[Clip], Clip]:
    def act(clip: Clip) -> Clip:
        files = [io.BytesIO() for _ in clip]
        for frame, file in zip(clip, files, strict=True):
            Image.fromarray(frame).save(file, "JPEG", quality=quality)
        return np.stack([np.asarray(Image.open(file)) for file in files])

    return act


def _crop(clip: Clip) -> Clip:
    """To nine tenths of height and width, off the centre."""
    high, wide = clip.shape[1:3]
    top, left = high // 12, wide // 40
    return clip[:, top : top + round(0.9 * high), left : left + round(0.9 * wide)]


DEGRADATIONS: dict[str, Callable[[Clip], Clip]] = {
    "none": lambda clip: clip,
    "jpeg_90": _jpeg(90),
    "jpeg_70": _jpeg(70),
    "jpeg_50": _jpeg(50),
    "resize_75": _through(("resize", 2)),
    "resize_50": _through(("resize", 4)),
    "crop_10": _crop,
    "blur": _through(("blur", 4)),
    "noise": _through(("noise", 4)),
    "h264_23": _through(("h264", 2)),
    "h264_40": _through(("h264", 5)),
    "screenshot": _through(("screenshot", 3), ("jpeg", 2)),
}
"""Resized ones come back to their size; blur has sigma 1, noise a deviation of .035."""

Read = Callable[[Clip], tuple[bool, np.ndarray | None]]
"""Clip -> (found at `FOUND`, bits where they could be read)."""


def _ours(bits: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Read]:
    said = int.from_bytes(np.packbits(bits).tobytes(), "big")

    def look(clip: Clip) -> tuple[bool, np.ndarray | None]:
        found = read_watermark(clip)
        text = None if found.payload is None else found.payload.to_bytes(4, "big")
        return found.p < FOUND, None if text is None else np.unpackbits(np.frombuffer(text, np.uint8))

    return lambda frame: mark_image(frame, said), look


def _theirs(method: str, bits: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Read]:
    imwatermark = import_module("imwatermark")
    encoder, decoder = imwatermark.WatermarkEncoder(), imwatermark.WatermarkDecoder("bits", BITS)
    encoder.set_watermark("bits", bits.tolist())
    if method == "rivaGan":
        encoder.loadModel()
        decoder.loadModel()

    def mark(frame: np.ndarray) -> np.ndarray:
        return np.asarray(encoder.encode(np.ascontiguousarray(frame[..., ::-1]), method)[..., ::-1])

    def look(clip: Clip) -> tuple[bool, np.ndarray | None]:
        try:
            frames = [decoder.decode(np.ascontiguousarray(frame[..., ::-1]), method) for frame in clip]
        except RuntimeError:  # a frame of less than 256 x 256 pixels
            return False, None
        read = (np.mean(np.asarray(frames, float), axis=0) > 0.5).astype(np.uint8)
        return int((read == bits).sum()) >= _MATCHES, read

    return mark, look


def faces(size: int, renders: Sequence[np.ndarray], photos: int, clips: int) -> tuple[list[Clip], list[Clip]]:
    """Stills, rendered ones and, where the shared data are there, photos, all `size` pixels; and real clips of 8."""
    stills = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)[None] for frame in renders]
    shared, videos = shared_folder(), []
    if shared is not None:
        paths = sorted((shared / "data" / "london").glob("*.jpg"))
        for path in paths[:: max(1, len(paths) // photos)][:photos]:
            photo = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
            stills.append(np.asarray(photo)[None])
        paths = [path for name in ("talking", "expressive") for path in sorted((shared / "data" / name).glob("*.mp4"))]
        videos = [_clip(path, size) for path in paths[:: max(1, len(paths) // clips)][:clips]]
    return stills, videos


def _clip(path: Path, size: int) -> Clip:
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            side = min(image.shape[:2])
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            frames.append(cv2.resize(image[top : top + side, left : left + side], (size, size)))
            if len(frames) == 8:
                break
    return np.stack(frames)


def watermarks(renders: Sequence[np.ndarray], photos: int = 100, clips: int = 40) -> Iterator[Figure]:
    """Detection rates at `FOUND` after each degradation; H.264 on clips, everything else on stills."""
    bits = np.random.default_rng(0).integers(0, 2, BITS).astype(np.uint8)
    methods: dict[str, tuple[int, Callable[..., Any]]] = {"ours_128": (128, _ours), "ours": (256, _ours)}
    if find_spec("imwatermark"):
        methods |= {name: (256, lambda bits, name=name: _theirs(name, bits)) for name in ("dwtDct", "rivaGan")}
    for name, (size, make) in methods.items():
        stills, videos = faces(size, renders, photos, clips)
        mark, look = make(bits)
        start = time.process_time()
        marked = [mark(clip[0])[None] for clip in stills]
        spent = 1000 * (time.process_time() - start) / len(stills)
        noise = [cv2.PSNR(clip[0], done[0]) for clip, done in zip(stills, marked, strict=True)]
        alike = [_ssim(clip[0], done[0]) for clip, done in zip(stills, marked, strict=True)]
        about = {"size": size, "least": round(min(noise), 2), "ssim": round(float(np.mean(alike)), 4)}
        yield f"watermark_psnr_{name}", float(np.mean(noise)), "dB", {**about, "cpu_ms": round(spent, 2)}
        filmed = [np.stack([mark(frame) for frame in clip]) for clip in videos]
        for degradation, act in DEGRADATIONS.items():
            taken = filmed if degradation.startswith("h264") and filmed else marked
            found, read = zip(*(look(act(clip)) for clip in taken), strict=True)
            matches = [0.5 if got is None else float((got == bits).mean()) for got in read]
            about = {"size": size, "clips": len(taken), "frames": len(taken[0])}
            about |= {"bit_accuracy": round(float(np.mean(matches)), 4), "whole": float(np.mean(np.equal(matches, 1)))}
            yield f"watermark_{name}_{degradation}", float(np.mean(found)), "detected", about


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Of the brightness, as it is mostly given."""
    grey = [torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[None, None] / 255 for image in (one, other)]
    return float(ssim(ssim_map(*grey)))


STATEMENT = Statement(
    "warp", "ab" * 32, ("cd" * 32, "ef" * 32), "signed release", "CC BY 4.0", False, 3, 2, {"strength": 0.5}, payload=7
)


def signatures(face: np.ndarray, flips: int = 1000) -> Iterator[Figure]:
    """Signing a still; and how many of `flips` random one-bit flips in signed files are reported."""
    with tempfile.TemporaryDirectory() as folder:
        taken, added, spent = [], [], []
        for number in range(30):
            path = Path(folder, f"{number}.png")
            Image.fromarray(face).save(path)
            before, start, used = path.stat().st_size, time.perf_counter(), time.process_time()
            sign(path, STATEMENT)
            taken.append(1000 * (time.perf_counter() - start))
            spent.append(1000 * (time.process_time() - used))
            added.append(path.stat().st_size - before)
        yield (
            "c2pa_sign_png",
            float(np.median(taken[1:])),
            "ms",
            {"size": len(face), "cpu_ms": round(float(np.median(spent)), 2)},
        )
        yield "c2pa_overhead", float(np.max(added)), "bytes", {}
        draws, unseen = np.random.default_rng(0), 0
        files = [Path(folder, f"0{ending}") for ending in (".png", ".jpg", ".mp4")]
        Image.fromarray(face).save(files[1], quality=95)
        _film(files[2], face)
        for path in files[1:]:
            sign(path, STATEMENT)
        whole = {path: path.read_bytes() for path in files}
        assert all(read(path)[0] == "trusted" for path in files)
        for number in range(flips):
            path = files[number % 3]
            damaged = bytearray(whole[path])
            damaged[draws.integers(len(damaged))] ^= 1 << int(draws.integers(8))
            path.write_bytes(damaged)
            unseen += read(path)[0] != "tampered"
        yield "c2pa_flips_reported", float(flips - unseen), "flips", {"of": flips, "files": "PNG, JPEG, MP4"}


def _film(path: Path, face: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = *face.shape[:2], "yuv420p"
        for frame in [*(av.VideoFrame.from_ndarray(face, format="rgb24") for _ in range(6)), None]:
            container.mux(stream.encode(frame))
