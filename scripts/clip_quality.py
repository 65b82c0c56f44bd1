"""How steadily a reenactor changes a moving face: clips forged frame by frame and read by MediaPipe.

Synthetic clips have an exact target for every frame. Clips of real people have none: there the expressions of one clip
go onto another of the same person, and the result is compared with the clips that it is made of.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from detection.pictures import LABEL
from generation import metrics
from generation.faces.landmarks import READING_SIZE, FaceReader
from generation.faces.people import sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.faces.trajectories import KINDS, trajectory
from generation.metrics.panel import MEDIAPIPE
from generation.motion import Motion, swap
from generation.records import Faces
from generation.reenactors.reenactment import blend

FRAMES = 40
"""Of every synthetic clip, 25 a second."""

PEOPLE = range(1_000_000, 1_000_004)
"""Numbers of the people in the synthetic clips, beyond those of any set."""

SHORTEST = 8
"""Frames that a real clip has at least."""

_EVERY, _TILE, _BAND = 5, 96, 16


@dataclass(frozen=True)
class ClipPair:
    """A source clip, frame by frame, and the expressions that it shall wear.

    source: Tensor            # (F, 3, S, S) uint8
    motion: Motion            # of the source, expression (F, 52) and pose (F, 6)
    landmarks: Tensor         # (F, 68, 2) pixels of the source
    wanted: Tensor            # (F, 52)
    other: Tensor             # (F, 3, S, S) uint8: the exact target, or of real people the driving clip
    truth: Tensor | None      # (F, 68, 2) pixels of the exact target; real clips have none
    """

    source: Tensor
    motion: Motion
    landmarks: Tensor
    wanted: Tensor
    other: Tensor
    truth: Tensor | None


@dataclass(frozen=True)
class ClipQuality:
    """Figures of forged clips, each the mean over clips; see `metrics.jitter` and `metrics.aed`.

    jitter: of the landmarks read off the forgery against the true ones of the exact target; None for real clips
    jitter_target: the same read off the exact target, what a perfect reenactor would have: the judge's own trembling
    jitter_copy: the same read off the source, what copying it would have
    jitter_own, jitter_own_source: second difference of the landmarks read off forgery and source themselves, movement
        and all
    clip_aed, clip_aed_copy: AED of forgery and of source against the target, or of real clips the driving one
    clips, frames: how many
    clip_unread: frames in which MediaPipe finds no face, by "source", "result" and "target"
    """

    jitter: float | None
    jitter_target: float | None
    jitter_copy: float | None
    jitter_own: float | None
    jitter_own_source: float | None
    clip_aed: float | None
    clip_aed_copy: float | None
    clips: int
    frames: int
    clip_unread: dict[str, int]


NOTHING = ClipQuality(None, None, None, None, None, None, None, 0, 0, {})
"""What is known of clips that nobody has judged."""

JUDGES = {
    "jitter": f"{MEDIAPIPE}, its points for the 68 landmarks: mean |second difference over time| of reading - "
    "truth, per coordinate, over the distance of the outer eye corners",
    "jitter_own": f"{MEDIAPIPE}: the same of the readings themselves, movement and all",
    "clip_aed": f"{MEDIAPIPE}: AED of every frame of the clips",
}
"""Who judges what and how it is normalised, as `Panel.judges` tells it of the other numbers."""


def synthetic_pairs(size: int, seed: int, people: Sequence[int] = PEOPLE) -> list[ClipPair]:
    """One clip of each of the people, and the same person in the same scene and poses with expressions of another kind.

    The same seed gives the same clips.
    """
    renderer = Renderer(size)
    pairs = []
    for place, number in enumerate(people):
        person, scene = sample_person(seed, number), sample_scene(seed, number, 0)
        own = trajectory(FRAMES, (seed, number), KINDS[(place + 1) % len(KINDS)], scene.pose)
        other = trajectory(FRAMES, (seed, number, 1), KINDS[place % len(KINDS)], scene.pose)
        source = renderer.render(person, scene, own.expression, own.pose)
        target = renderer.render(person, scene, other.expression, own.pose)
        pairs.append(
            ClipPair(
                source=torch.from_numpy(source.image).permute(0, 3, 1, 2),
                motion=Motion(torch.from_numpy(source.expression), torch.from_numpy(source.pose)),
                landmarks=torch.from_numpy(source.landmarks),
                wanted=torch.from_numpy(target.expression),
                other=torch.from_numpy(target.image).permute(0, 3, 1, 2),
                truth=torch.from_numpy(target.landmarks),
            )
        )
    return pairs


def real_pairs(faces: Faces, shortest: int = SHORTEST) -> list[ClipPair]:
    """Clips of the same person two by two: each takes the expressions of the person's next one, frame by frame.

    Only clips in motion count: at least `shortest` frames, in poses of their own. The longer one of two is cut.
    """
    pairs = []
    for identity in np.unique(faces.identity):
        own = np.flatnonzero(faces.identity == identity)
        clips = [_in_order(faces, own[faces.clip[own] == clip]) for clip in np.unique(faces.clip[own])]
        clips = [rows for rows in clips if len(rows) >= shortest and bool(faces.pose[rows].std(0).max() > 0)]
        for index, rows in enumerate(clips if len(clips) > 1 else []):
            driver = clips[(index + 1) % len(clips)]
            length = min(len(rows), len(driver))
            pairs.append(_pair(faces, rows[:length], driver[:length]))
    return pairs


def _in_order(faces: Faces, rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows[np.argsort(faces.frame[rows], kind="stable")])


def _pair(faces: Faces, rows: np.ndarray, driver: np.ndarray) -> ClipPair:
    return ClipPair(
        source=faces.image[rows],
        motion=Motion(faces.expression[rows], faces.pose[rows]),
        landmarks=faces.landmarks[rows],
        wanted=faces.expression[driver],
        other=faces.image[driver],
        truth=None,
    )


@torch.no_grad()
def forge_clip(reenactor: nn.Module, pair: ClipPair) -> Tensor:  # (F, 3, S, S) uint8
    """Every frame of the source by itself, as a video is reenacted."""
    frames = []
    for index in range(len(pair.source)):
        one = slice(index, index + 1)
        source, own = pair.source[one] / 255, Motion(pair.motion.expression[one], pair.motion.pose[one])
        wanted = swap(own, replace(own, expression=pair.wanted[one]))
        result = reenactor(source, own.vector(), pair.landmarks[one], wanted.vector())
        frames.append((blend(source, result) * 255).round().to(torch.uint8))
    return torch.cat(frames)


def judge_clips(reenactor: nn.Module, pairs: Sequence[ClipPair], reader: FaceReader) -> tuple[ClipQuality, bytes]:
    """Forge the clips and judge them: the figures, and a picture (PNG) of the first clip."""
    figures: list[dict[str, float | None]] = []
    unread = dict.fromkeys(("source", "result", "target"), 0)
    picture = b""
    for pair in pairs:
        images = {"source": pair.source, "result": forge_clip(reenactor, pair), "target": pair.other}
        picture = picture or strip(**images, last="driver" if pair.truth is None else "target")
        read = {name: metrics.read_faces(value, reader) for name, value in images.items()}
        for name, reading in read.items():
            unread[name] += int((~reading.found).sum())
        source, result, target = read.values()
        all_read = source.found & result.found & target.found
        truth = None if pair.truth is None else pair.truth * (READING_SIZE / pair.source.shape[-1])

        def against_truth(reading: metrics.Readings, truth: Tensor | None = truth) -> float | None:
            return None if truth is None else metrics.jitter(reading.landmarks, truth)

        figures.append(
            {
                "jitter": against_truth(result),
                "jitter_target": against_truth(target),
                "jitter_copy": against_truth(source),
                "jitter_own": metrics.jitter(result.landmarks),
                "jitter_own_source": metrics.jitter(source.landmarks),
                "clip_aed": metrics.mean(metrics.aed(result.expression, target.expression)[all_read]),
                "clip_aed_copy": metrics.mean(metrics.aed(source.expression, target.expression)[all_read]),
            }
        )
    means: dict[str, Any] = {}
    for name in figures[0]:
        means[name] = metrics.mean(torch.tensor([torch.nan if f[name] is None else f[name] for f in figures]))
    frames = sum(len(pair.source) for pair in pairs)
    return ClipQuality(**means, clips=len(pairs), frames=frames, clip_unread=unread), picture


def clip_quality(reenactor: nn.Module, size: int, seed: int, reader: FaceReader) -> tuple[ClipQuality, bytes]:
    """Quality on synthetic clips of `size` pixels, and a strip of one of them (PNG)."""
    return judge_clips(reenactor, synthetic_pairs(size, seed), reader)


def strip(source: Tensor, result: Tensor, target: Tensor, last: str = "target") -> bytes:
    """Every fifth frame of a clip as PNG: source, result (with a band that says "AI GENERATED") and target below each
    other.

    source, result, target: (F, 3, S, S) uint8; `last` names the last row
    """
    rows = {"source": source, "forgery": result, last: target}
    tile, count = max(_TILE, source.shape[-1]), len(range(0, len(source), _EVERY))
    canvas = Image.new("RGB", (count * tile, len(rows) * (tile + _BAND)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for place, (name, images) in enumerate(rows.items()):
        top = place * (tile + _BAND)
        forged = name == "forgery"
        draw.rectangle((0, top, canvas.width, top + _BAND - 1), fill=(190, 30, 30) if forged else "white")
        text, ink = (f"{name}: {LABEL}", "white") if forged else (name, "black")
        draw.text((4, top + _BAND / 2), text, ink, font, anchor="lm")
        for column, image in enumerate(images[::_EVERY]):
            face = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((tile, tile), Image.Resampling.BICUBIC)
            canvas.paste(face, (column * tile, top + _BAND))
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
