"""A small quiz of tiny faces, made by the real parts: eight items a block, clips and a video with sound among them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from detection.detectors import build_detector, save_detector
from detection.quiz import Item, Media, Quiz, read_strings
from generation.faces.footage import OriginConfig
from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.records import Faces, load
from scripts.quiz_detector import Advisor
from scripts.quiz_items import Forger, Plan, make, pixels, plan_clips, plan_stills
from scripts.quiz_lesson import clip_lesson, still_lesson
from scripts.quiz_videos import given_videos, make_given

MOVING = FacesConfig(size=64, seed=8, train=1, validation=1, test=2, motion="clips", frames=8)
ORIGIN = OriginConfig("signed release", "CC BY 4.0, Jane Doe")
BLOCK = 8


def untrained(folder: Path) -> Advisor:
    """A detector that knows nothing: what it says is drawn by its seed."""
    return Advisor([save_detector(folder / "untrained", build_detector("frequency", {}, 3), "frequency", {}, {})])


def small_quiz(faces: Faces, folder: Path) -> tuple[Quiz, list[Plan]]:
    """folder: an empty one for what is made on the way. Returns the plans of all items but the videos too."""
    forger, advise = Forger("warp_64"), untrained(folder)
    render_records(MOVING, folder / "moving")
    talking = load(folder / "moving")
    plans = plan_clips(talking, 3, MOVING.frames, seed=1)
    plans += [plan for plan in plan_stills(faces, 3, seed=1) if plan.kind in ("compressed", "reenacted")]
    items = [
        make(plan, forger, number, lambda media, n=number: said(advise, media, n)) for number, plan in enumerate(plans)
    ]
    for number in range(6):
        kind = ("real", "fake")[number % 2]
        frames = np.stack([pixels(talking, row) for row in range(8 * (number // 2), 8 * (number // 2) + 8)])
        write_video(folder / "videos" / kind / f"{number} ü.mp4", frames, tone=300 + 50 * number)
    items += [make_given(one, 0.3, ORIGIN, lambda path: None) for one in given_videos(folder / "videos", 3)]
    lesson, facts = still_lesson(faces, forger, 1, lambda done, total: None, most=16)
    lesson += clip_lesson(plan_clips(talking, 1, MOVING.frames, 2, ("swapped",)), forger, 1)
    origins = (ORIGIN.statement(),)
    return Quiz(tuple(items), tuple(lesson), facts, read_strings(), "untrained", 1, "unknown", origins), plans


def said(advise: Advisor, media: Media, number: int) -> float:
    """The detector's probability, turned round on every third item: it must be wrong on some and right on others."""
    told = advise.of(media)
    return 1 - told if number % 3 == 0 else told


def write_video(path: Path, frames: np.ndarray, tone: float, rate: int = 25) -> None:
    """uint8 (T, H, W, 3), with a tone of so many hertz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        sound: Any = out.add_stream("aac", rate=48_000, layout="mono")
        for image in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode(None))
        count = 48_000 * len(frames) // rate
        wave = (0.3 * np.sin(2 * np.pi * tone * np.arange(count) / 48_000)).astype(np.float32)
        for start in range(0, count, 1024):
            part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))


def by_kind(items: Sequence[Item]) -> dict[str, int]:
    names, counts = np.unique([item.kind for item in items], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
