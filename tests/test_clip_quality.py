"""Jitter and expression of whole clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from generation import metrics
from generation.faces.landmarks import FaceReader
from generation.motion import Motion
from generation.records import Faces
from generation.reenactors import Reenactment
from scripts import clip_quality


class Idle(torch.nn.Module):
    """A reenactor that copies the source."""

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        assert landmarks.shape == (len(source), 68, 2) and (own[:, 52:] == wanted[:, 52:]).all()
        return Reenactment(source, source[:, :1] * 0, source[:, :2] * 0)


class Blank(Idle):
    """A reenactor that paints all faces grey."""

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        return Reenactment(source * 0 + 0.5, source[:, :1] * 0 + 1, source[:, :2] * 0)


class Oracle(Idle):
    """A reenactor that knows the exact target of every frame, and may shake it a little from side to side."""

    def __init__(self, pair: clip_quality.ClipPair, shake: int = 0) -> None:
        super().__init__()
        self.answers = iter([image.roll(shake * (index % 2), -1) for index, image in enumerate(pair.other / 255)])

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        return Reenactment(next(self.answers)[None], source[:, :1] * 0 + 1, source[:, :2] * 0)


@pytest.fixture(scope="module")
def clip() -> clip_quality.ClipPair:
    (pair,) = clip_quality.synthetic_pairs(64, seed=3, people=(1_000_000,))
    return pair


def test_a_synthetic_clip_has_an_exact_target(clip: clip_quality.ClipPair) -> None:
    assert clip.source.shape == clip.other.shape == (clip_quality.FRAMES, 3, 64, 64)
    assert clip.truth is not None and clip.truth.shape == clip.landmarks.shape
    assert bool((clip.motion.pose.std(0)[:3] > 0).all()), "the head moves"
    assert float((clip.motion.expression - clip.wanted).abs().max()) > 0.2
    still = (clip.source == clip.other).all(1).float().mean()
    assert 0.5 < float(still) < 1, "everything but the expression is the same"


def test_jitter_of_four_reenactors(clip: clip_quality.ClipPair, reader: FaceReader) -> None:
    perfect, picture = clip_quality.judge_clips(Oracle(clip), [clip], reader)
    assert perfect.jitter == perfect.jitter_target and perfect.clip_aed == 0
    assert perfect.jitter is not None and 0 < perfect.jitter < 0.02
    idle, _ = clip_quality.judge_clips(Idle(), [clip], reader)
    assert idle.jitter == idle.jitter_copy and idle.clip_aed == idle.clip_aed_copy
    assert idle.jitter_own == idle.jitter_own_source
    shaken, _ = clip_quality.judge_clips(Oracle(clip, shake=2), [clip], reader)
    eyes = float(metrics.interocular(clip.truth).mean())  # type: ignore[arg-type]
    assert shaken.jitter == pytest.approx(2 * 2 / eyes / 2, rel=0.2), "+-4 px across, nothing down"
    broken, _ = clip_quality.judge_clips(Blank(), [clip], reader)
    assert broken.jitter is None and broken.jitter_own is None and broken.clip_aed is None
    assert broken.clip_unread == {"source": 0, "result": clip_quality.FRAMES, "target": 0}
    assert (broken.clips, broken.frames) == (1, clip_quality.FRAMES)
    assert picture.startswith(b"\x89PNG")


def test_jitter_of_the_panel_is_that_of_the_formula(clip: clip_quality.ClipPair, reader: FaceReader) -> None:
    found, _ = clip_quality.judge_clips(Idle(), [clip], reader)
    read = metrics.read_faces(clip.source, reader).landmarks.double() / 4  # pixels at 64 px
    assert clip.truth is not None
    error = (read - clip.truth).numpy()
    unit = np.linalg.norm(clip.truth[:, 45] - clip.truth[:, 36], axis=1).mean()
    second = np.abs(error[2:] - 2 * error[1:-1] + error[:-2]).mean() / unit
    assert found.jitter == pytest.approx(second, rel=1e-4)


def test_real_clips_of_one_person_drive_each_other(faces: Faces) -> None:
    """Twelve frames of one person as two clips in motion, of another as one, and a third one who does not move."""
    chosen = np.arange(24)
    some = faces.select(chosen)
    person = np.repeat(["a", "b", "c"], [13, 6, 5])
    clips = np.repeat(["a1", "a2", "b1", "c1"], [5, 8, 6, 5])
    pose = some.pose.clone()
    pose[:, 1] = torch.arange(24) / 50
    frames = np.concatenate([np.arange(5)[::-1], np.arange(8), np.arange(6), np.arange(5)])
    some = replace(some, identity=person, clip=clips, frame=frames, pose=pose)
    assert clip_quality.real_pairs(some, shortest=6) == []
    first, second = clip_quality.real_pairs(some, shortest=5)
    order = [4, 3, 2, 1, 0]
    assert (first.source == some.image[order]).all() and (first.other == some.image[5:10]).all()
    assert (first.wanted == some.expression[5:10]).all() and (first.motion.pose == pose[order]).all()
    assert (second.source == some.image[5:10]).all() and (second.other == some.image[order]).all()
    assert first.truth is None
    still = replace(some, pose=pose * 0)
    assert clip_quality.real_pairs(still, shortest=5) == []


def test_forging_a_clip_keeps_the_pose_and_takes_the_expression(clip: clip_quality.ClipPair) -> None:
    asked: list[Motion] = []

    class Noting(Idle):
        def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
            asked.append(Motion.from_vector(wanted[0]))
            return super().forward(source, own, landmarks, wanted)

    forged = clip_quality.forge_clip(Noting(), clip)
    assert (forged == clip.source).all()
    assert (torch.stack([motion.pose for motion in asked]) == clip.motion.pose).all()
    assert (torch.stack([motion.expression for motion in asked]) == clip.wanted).all()
