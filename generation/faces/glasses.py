"""Glasses: frames of wire or plastic without reflections in the lenses, as extra vertices that move with the skull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generation.faces.attachment import SKULL, Attachment
from generation.faces.head import GLASSES, Head

_CORNERS = 4
"""Of the cross-section of a frame."""


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses; lengths in metres.

    width, height: of a lens; roundness: exponent of the lens's outline, 2 is an ellipse and 5 nearly a rectangle
    thickness: of the rims; colour: linear RGB
    """

    width: float
    height: float
    roundness: float
    thickness: float
    colour: tuple[float, float, float]


_COLOURS = {
    "black": (0.012, 0.012, 0.013),
    "tortoise": (0.055, 0.022, 0.008),
    "steel": (0.22, 0.22, 0.23),
    "gold": (0.36, 0.24, 0.09),
    "red": (0.13, 0.010, 0.014),
    "blue": (0.012, 0.022, 0.075),
}


def sample_glasses(rng: np.random.Generator, chance: float) -> Glasses | None:
    """Glasses for some; metal is thin."""
    if rng.random() > chance:
        return None
    kind = str(rng.choice(list(_COLOURS), p=[0.40, 0.18, 0.16, 0.12, 0.06, 0.08]))
    low, high = (0.0012, 0.0017) if kind in ("steel", "gold") else (0.0020, 0.0042)
    width = rng.uniform(0.044, 0.051)
    return Glasses(
        width=float(width),
        height=float(width * rng.uniform(0.66, 0.94)),
        roundness=float(rng.uniform(2.0, 4.0)),
        thickness=float(rng.uniform(low, high)),
        colour=_COLOURS[kind],
    )


def glasses_mesh(head: Head, vertices: np.ndarray, glasses: Glasses) -> Attachment:
    """Glasses on a head with neutral `vertices` (V, 3): they rest in front of the brows and the bridge of the nose."""
    eyes = vertices[head.eyes].mean(1)
    front = vertices[head.landmarks[[18, 19, 24, 25, 27]], 2].min() - glasses.thickness - 0.001
    half = 0.5 * np.array([glasses.width, glasses.height])
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    outline = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = np.sign(outline) * np.abs(outline) ** (2 / glasses.roundness) * half
    tubes = []
    for eye, side in zip(eyes, (-1, 1), strict=True):
        x, y = eye[0] + side * 0.0015 + outline[:, 0], eye[1] + 0.0025 + outline[:, 1]
        tubes.append(_tube(np.stack([x, y, front + 0.05 * outline[:, 1]], axis=1), glasses.thickness, closed=True))
        hinge = np.array([eye[0] + side * (0.0015 + half[0]), eye[1] - 0.2 * half[1], front])
        ear = vertices[(head.ears > 0.5) & (np.sign(head.template[:, 0]) == side)]
        hook = np.array([side * (np.abs(ear[:, 0]).min() + 0.002), ear[:, 1].min() + 0.008, ear[:, 2].mean()])
        hinge_out = hinge + np.array([side * max(0.3 * (side * hook[0] - side * hinge[0]), 0.002), 0, 0.004])
        tubes.append(_tube(np.stack([hinge, hinge_out, hook]), glasses.thickness, closed=False))
    inner = [eye[0] + side * (0.0015 - half[0]) for eye, side in zip(eyes, (-1, 1), strict=True)]
    across = np.linspace(inner[0], inner[1], 7)
    bow = 1 - (2 * (across - across.mean()) / np.ptp(across)) ** 2
    bridge = np.stack([across, eyes[:, 1].mean() - 0.15 * half[1] - 0.003 * bow, front - 0.002 * bow], axis=1)
    tubes.append(_tube(bridge, glasses.thickness, closed=False))
    starts = np.cumsum([0] + [len(points) for points, _ in tubes])
    position = np.concatenate([points for points, _ in tubes])
    faces = np.concatenate([corners + start for (_, corners), start in zip(tubes, starts[:-1], strict=True)])
    anchor = int(np.argmin(np.linalg.norm(head.template - SKULL, axis=1)))
    return Attachment(
        anchor=np.full(len(position), anchor, np.int32),
        offset=(position - vertices[anchor]).astype(np.float32),
        faces=faces.astype(np.int32),
        kind=np.full(len(faces), GLASSES, np.int32),
        uv=np.zeros((len(position), 2), np.float32),
        layer=np.zeros(len(position), np.float32),
    )


def _tube(path: np.ndarray, thickness: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:  # (n, 3), (t, 3)
    """A rod along a path (P, 3): its vertices, and its triangles, clockwise seen from outside."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    depth = np.abs(ahead[:, 2:]) > 0.8
    side = np.cross(ahead, np.where(depth, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])))
    side = side / np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(side, ahead)
    turn = 2 * np.pi * (np.arange(_CORNERS) + 0.5) / _CORNERS
    around = np.cos(turn)[:, None] * side[:, None] + np.sin(turn)[:, None] * other[:, None]
    points = (path[:, None] + 0.5 * thickness * np.sqrt(2) * around).reshape(-1, 3)
    index = np.arange(len(points)).reshape(-1, _CORNERS)
    follow = np.roll(index, -1, 0) if closed else index[1:]
    first = index if closed else index[:-1]
    a, b = first, np.roll(first, -1, 1)
    c, d = np.roll(follow, -1, 1), follow
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return points, faces
