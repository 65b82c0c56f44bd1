"""Faces in motion: how a face speaks, feels, blinks, looks and holds its head over a clip.

A trajectory is laid out in continuous time, in layers, and then sampled at 25 frames a second:

    speech      words of visemes, three to seven syllables a second, with pauses between phrases
    emotion     one of six at one of three strengths: onset, apex with a little life in it, offset
    blinks      9 to 30 a minute; the lid falls in about 0.1 s and rises in about 0.2 s
    gaze        fixations on the camera or beside it, saccades of 20 to 80 ms, eyes that stay put when the head moves
    head        sway about the neck and a little drift that never rests, nods on stressed syllables

Each movement from one state to the next has minimum jerk (Flash and Hogan, 1985): at rest at both ends, as smooth as a
movement can be. A layer gives way to the one above it where a face cannot do both, so every frame is free of conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from generation.faces.expressions import SIX_EMOTIONS, SPEECH, STRENGTHS, settled, yielding
from generation.faces.renderer import rotation
from generation.motion import ACTIONS, EXPRESSION_SIZE

FRAME_RATE = 25
"""Frames a second."""

Kind = Literal["speech", "emotion", "emotional speech", "listening"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What a face may do in a clip: talk, show emotions, talk while it shows them, or only blink, look and sway."""

_NECK = np.array([0.0, 0.12, 0.10])
_EYE_DISTANCE = 0.0625
"""Metres in the frame of the head: where it turns on the neck, from the eyes' midpoint; between the eye centres."""

_EYE_TURN = {"Out": 21.6, "In": 20.8, "Up": 10.9, "Down": 16.5}
"""Degrees that an eye of Anny's head turns by each action at 1."""

_MOUTH = [index for index, name in enumerate(ACTIONS) if name.startswith(("mouth", "jaw"))]
"""Actions that speech needs: an emotion keeps half of them while its face talks."""

_DRIFT = np.radians(0.25)
_DRIFT_RATES = np.array([0.21, 0.47, 1.1])
"""Size of the head's drift in radians, and the frequencies in Hz that it is made of."""

_SWAY = np.radians([1.8, 3.0, 1.3])
"""Standard deviation of the head's pitch, yaw and roll about the pose of its scene."""


@dataclass(frozen=True)
class Trajectory:
    """F frames at `FRAME_RATE`.

    expression: (F, 52) float32 in [0, 1]; pose: (F, 6) float32, see `generation.motion`
    """

    expression: np.ndarray
    pose: np.ndarray


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    """How much of a movement is done after a `share` of its time: 0 at 0 and 1 at 1, at rest at both."""
    t = np.clip(share, 0, 1)
    return np.asarray(t**3 * (10 - 15 * t + 6 * t**2))


def trajectory(
    frames: int,
    seed: int | Sequence[int],
    kind: Kind,
    pose: Sequence[float] = (0.0, 0.0, 0.0, 0.0, -0.1, 0.47),
    head_seed: int | Sequence[int] | None = None,
) -> Trajectory:
    """A clip's motion, the same for the same seeds; a longer one begins as the shorter one does.

    `pose` (6,) is what the head moves about; `head_seed` draws its sway (default: `seed`), so that people may say the
    same and hold their heads in their own ways. Raises `ValueError` for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of trajectory; there are {', '.join(KINDS)}")
    time = np.arange(frames) / FRAME_RATE
    speaking, feeling, blinking, looking = (_generator(seed, layer) for layer in range(4))
    speech, emotion = np.zeros((frames, EXPRESSION_SIZE)), np.zeros((frames, EXPRESSION_SIZE))
    nods: list[tuple[float, float]] = []
    if "speech" in kind:
        speech, nods = _speech(time, speaking)
    if "emotion" in kind:
        emotion = _emotions(time, feeling)
    if kind == "emotional speech":
        emotion[:, _MOUTH] *= 0.5
    away = _sway(time, _generator(seed if head_seed is None else head_seed, 4), nods)
    gaze = _gaze(time, looking, away)
    layers = (_blinks(time, blinking), speech, gaze, emotion)
    total = layers[0]
    for layer in layers[1:]:
        total = np.maximum(total, yielding(layer, total))
    return Trajectory(total.astype(np.float32), _poses(np.asarray(pose, float), away).astype(np.float32))


def _generator(seed: int | Sequence[int], layer: int) -> np.random.Generator:
    return np.random.default_rng([*np.atleast_1d(seed), 7, layer])


def _blend(time: np.ndarray, moments: list[float], states: list[np.ndarray], lengths: list[float]) -> np.ndarray:
    """States (C,) one after the other: the movement to `states[i]` starts at `moments[i]` and takes `lengths[i]`.

    A movement may start before the last has ended: it then takes over from wherever that one is.
    """
    value = np.broadcast_to(states[0], (len(time), len(states[0]))).astype(float)
    for moment, state, length in zip(moments[1:], states[1:], lengths[1:], strict=True):
        share = minimum_jerk((time - moment) / length)[:, None]
        value = value * (1 - share) + state * share
    return value


def _speech(time: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Visemes of phrases, (F, 52); and nods on stressed syllables: when, and how far in radians."""
    rest, names = np.zeros(EXPRESSION_SIZE), list(SPEECH)
    vowels = [name for name in names if name in ("aa", "eh", "ih", "oh", "ou")]
    consonants = [name for name in names if name not in vowels]
    moments, states, lengths = [0.0], [rest], [0.1]
    nods: list[tuple[float, float]] = []
    now, effort = float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.75, 1.15))
    while len(time) and now < time[-1]:
        for _ in range(int(rng.integers(4, 16))):  # the syllables of a phrase
            stressed = rng.random() < 0.3
            syllable = [str(rng.choice(consonants)), str(rng.choice(vowels))]
            syllable += [str(rng.choice(consonants))] if rng.random() < 0.3 else []
            for name in syllable:
                strength = effort * rng.uniform(0.7, 1.0) * (1.2 if stressed and name in vowels else 1.0)
                length = rng.uniform(0.09, 0.15) if name in vowels else rng.uniform(0.06, 0.10)
                moments.append(now)
                states.append(settled(SPEECH[name], strength))
                lengths.append(1.5 * length)
                if stressed and name in vowels:
                    nods.append((now, np.radians(rng.uniform(0.3, 1.6))))
                now += length * (1.25 if stressed else 1.0)
        moments.append(now)
        states.append(rest)
        lengths.append(0.25)
        now += float(rng.gamma(3, 0.18)) + 0.2
    return _blend(time, moments, states, lengths), nods


def _emotions(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # (F, 52)
    """Emotions come, stay and go; from some the face goes straight to another."""
    rest = np.zeros(EXPRESSION_SIZE)
    moments, states, lengths = [0.0], [rest], [0.1]
    now = float(rng.uniform(0.1, 0.8))
    while len(time) and now < time[-1]:
        name, strength = str(rng.choice(list(SIX_EMOTIONS))), float(rng.choice(list(STRENGTHS.values())))
        onset = rng.uniform(0.25, 0.6) if name in ("surprise", "fear") else rng.uniform(0.4, 1.0)
        moments.append(now)
        states.append(settled(SIX_EMOTIONS[name], strength))
        lengths.append(onset)
        now += onset
        for _ in range(int(rng.integers(1, 4))):
            stay = rng.uniform(0.4, 0.8)
            moments.append(now)
            states.append(settled(SIX_EMOTIONS[name], strength * rng.uniform(0.85, 1.1)))
            lengths.append(stay)
            now += stay
        if rng.random() < 0.7:
            offset = rng.uniform(0.5, 1.2)
            moments.append(now)
            states.append(rest)
            lengths.append(offset)
            now += offset + rng.uniform(0.2, 1.2)
    return _blend(time, moments, states, lengths)


def _blinks(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # (F, 52)
    """Both lids fall, stay shut for a moment and rise more slowly; now and then twice in a row, or not all the way."""
    lids = np.zeros((len(time), EXPRESSION_SIZE))
    sides = [ACTIONS.index("eyeBlinkLeft"), ACTIONS.index("eyeBlinkRight")]
    pause = rng.uniform(1.4, 4.4)
    now = float(rng.uniform(0.2, pause))
    while len(time) and now < time[-1]:
        fall, shut, rise = rng.uniform(0.08, 0.12), rng.uniform(0.04, 0.07), rng.uniform(0.16, 0.26)
        depth = rng.uniform(0.6, 0.85) if rng.random() < 0.1 else rng.uniform(0.95, 1.0)
        course = minimum_jerk((time - now) / fall) - minimum_jerk((time - now - fall - shut) / rise)
        for side in sides:
            lids[:, side] = np.maximum(lids[:, side], course * depth * rng.uniform(0.97, 1.0))
        again = rng.random() < 0.08
        now += fall + shut + rise + (rng.uniform(0.08, 0.2) if again else 0.5 + rng.gamma(2.5, pause / 2.5))
    return lids


def _gaze(time: np.ndarray, rng: np.random.Generator, head: np.ndarray) -> np.ndarray:  # (F, 52)
    """Where the eyes look, in the head's frame, as actions; `head` (F, 3) is its turn away from its scene's pose."""
    moments, places, lengths = [0.0], [np.zeros(2)], [0.05]  # degrees to the viewer's right, up
    now = float(rng.gamma(2, 0.5))
    while len(time) and now < time[-1]:
        glance = rng.random() < 0.4
        wide = rng.normal(0, [9.0, 4.0]) if glance else rng.normal(0, [1.2, 0.8])
        place = np.clip(wide, [-17, -9], [17, 7])
        moments.append(now)
        lengths.append(0.021 + 0.0022 * float(np.linalg.norm(place - places[-1])))
        places.append(place)
        now += lengths[-1] + float(0.15 + (rng.gamma(2, 0.25) if glance else rng.gamma(2, 0.7)))
    right, up = (_blend(time, moments, places, lengths) - np.degrees(head[:, [1, 0]])).T
    actions = np.zeros((len(time), EXPRESSION_SIZE))
    for name, amount in (("OutLeft", right), ("InRight", right), ("InLeft", -right), ("OutRight", -right)):
        turn = _EYE_TURN["Out" if name.startswith("Out") else "In"]
        actions[:, ACTIONS.index(f"eyeLook{name}")] = np.clip(amount / turn, 0, 0.9)
    for side in ("Left", "Right"):
        actions[:, ACTIONS.index(f"eyeLookUp{side}")] = np.clip(up / _EYE_TURN["Up"], 0, 0.9)
        actions[:, ACTIONS.index(f"eyeLookDown{side}")] = np.clip(-up / _EYE_TURN["Down"], 0, 0.9)
    return actions


def _sway(time: np.ndarray, rng: np.random.Generator, nods: list[tuple[float, float]]) -> np.ndarray:
    """Turn of the head (pitch, yaw, roll) away from its scene's pose, (F, 3) in radians."""
    phases = rng.uniform(0, 1, (len(_DRIFT_RATES), 3))
    waves = np.sin(2 * np.pi * (time[:, None, None] * _DRIFT_RATES[:, None] + phases))
    drift = (waves * (_DRIFT / (1 + _DRIFT_RATES))[:, None]).sum(1)
    moments, states, lengths = [0.0], [rng.normal(0, 0.5, 3) * _SWAY], [0.1]
    now = float(rng.uniform(0, 0.8))
    while len(time) and now < time[-1]:
        length = float(rng.uniform(0.5, 1.6))
        moments.append(now)
        states.append(np.clip(rng.normal(0, 1, 3), -2, 2) * _SWAY)
        lengths.append(length)
        now += length + float(rng.exponential(0.3))
    away: np.ndarray = _blend(time, moments, states, lengths) + drift
    for moment, size in nods:
        away[:, 0] -= size * (minimum_jerk((time - moment) / 0.2) - minimum_jerk((time - moment - 0.2) / 0.4))
    return away


def _poses(pose: np.ndarray, away: np.ndarray) -> np.ndarray:  # (6,), (F, 3) -> (F, 6)
    """Poses of a head that turns on its neck: the neck stays where it is in the scene's `pose`, the eyes move."""
    angles = pose[:3] + away
    neck = rotation(*pose[:3]) @ _NECK
    moved = np.array([neck - rotation(*turn) @ _NECK for turn in angles]).reshape(-1, 3) / _EYE_DISTANCE
    scale = np.full((len(away), 1), pose[5])
    return np.concatenate([angles, pose[3:5] + moved[:, :2] * scale, scale], axis=1)
