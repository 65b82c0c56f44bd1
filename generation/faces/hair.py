"""Hair: shells of strands over the scalp, and a curtain of long hair, as extra vertices that hang on the head's own.

Shells (Lengyel et al. 2001, "Real-time fur over arbitrary surfaces"): copies of the scalp at growing distance, cut by a
texture of strand lengths (`paint.py`), so that hair has an outline of tips instead of a smooth one.
"""

from __future__ import annotations

import numpy as np

from generation.faces.attachment import SKULL, Attachment, together
from generation.faces.hairstyles import Hair
from generation.faces.head import AXIS, CURTAIN, HAIR, SKIN, Head, azimuth_to_u, height_to_v

_LINE_AZIMUTH = np.radians([0, 18, 32, 44, 54, 61, 67, 78, 84, 92, 104, 116, 130, 150, 180])
_LINE_HEIGHT = np.array([-75, -74, -67, -54, -38, -18, 12, 14, -22, -36, -32, 25, 52, 66, 70]) / 1000
"""The hairline of the template: azimuth from the middle of the face, height in metres (down) from the eyes."""


def hairline(azimuth: np.ndarray, hair: Hair) -> np.ndarray:
    """Height of the hairline in metres; hair grows where the height is less."""
    away = np.abs(azimuth)
    line = np.interp(away, _LINE_AZIMUTH, _LINE_HEIGHT)
    corner = np.exp(-(((away - np.radians(36)) / np.radians(13)) ** 2))
    line = line - (hair.line + 0.024 * hair.recession * corner) * (away < np.radians(60))
    from_part = np.abs(azimuth - hair.part)
    draped = line
    if hair.drape:
        draped = np.maximum(
            line, line + hair.drape * _smooth(0.05, 0.95, from_part) - 0.010 * _smooth(0.3, 0.0, from_part)
        )
    return np.asarray(np.where(away < np.radians(62), draped, line))


def _smooth(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def hair_mesh(head: Head, vertices: np.ndarray, normals: np.ndarray, hair: Hair, layers: int = 5) -> Attachment:
    """The hair on a head with neutral `vertices` (V, 3) and unit `normals` (V, 3)."""
    parts = []
    if hair.style != "bald":
        parts.append(_shells(head, normals, hair, layers))
    if hair.length > 0:
        parts += [_curtain(head, vertices, hair, side) for side in (-1, 1)]
    return together(parts)


def _shells(head: Head, normals: np.ndarray, hair: Hair, layers: int) -> Attachment:
    azimuth = np.arctan2(head.template[:, 0], -(head.template[:, 2] - AXIS))
    height = head.template[:, 1]
    inside = hairline(azimuth, hair) - height
    grows = (head.part == SKIN) & (inside > -0.008) & (head.ears < 0.3)
    faces = head.faces[grows[head.faces].all(1)]
    used = np.unique(faces)
    place = np.full(len(grows), -1)
    place[used] = np.arange(len(used))
    azimuth, height, inside, normal = azimuth[used], height[used], inside[used], normals[used]

    front = np.cos(np.clip(azimuth, -np.pi / 2, np.pi / 2)) ** 2 * (np.abs(azimuth) < np.pi / 2)
    up = _smooth(-0.010, -0.085, height)
    thickness = hair.side + (hair.top - hair.side) * up
    hanging = np.clip(hair.fringe / 0.015, 0, 1)
    thickness = thickness * (0.06 + 0.2 * hanging + (0.94 - 0.2 * hanging) * _smooth(-0.002, 0.034, inside))
    rise = np.stack([np.zeros_like(up), -0.45 * up, np.zeros_like(up)], axis=1)
    direction = normal + rise
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    near_line = front * (1 - _smooth(0.010, 0.075, inside))
    comb = np.zeros((len(used), 3))
    comb[:, 1] = hair.fringe * near_line
    comb[:, 2] = -0.45 * abs(hair.fringe) * near_line
    comb[:, 0] = hair.sweep * up * front
    if hair.fringe < 0:
        comb[:, 2] = 0.3 * hair.fringe * near_line
    share = (np.arange(layers) + 1) / layers
    offset = [direction * thickness[:, None] * part + comb * part**1.5 for part in share]
    count = len(used)
    own = place[faces]
    return Attachment(
        anchor=np.tile(used, layers),
        offset=np.concatenate(offset),
        faces=np.concatenate([own + layer * count for layer in range(layers)]),
        kind=np.full(layers * len(faces), HAIR),
        uv=np.tile(head.uv[used], (layers, 1)),
        layer=np.repeat(share, count),
    )


def _curtain(head: Head, vertices: np.ndarray, hair: Hair, side: int, columns: int = 26, lines: int = 16) -> Attachment:
    """Half of the long hair, from beside the face to the middle of the back."""
    skull = (head.part == SKIN) & (head.ears < 0.2) & (np.abs(head.template[:, 1] + 0.03) < 0.02)
    width = np.abs(vertices[skull, 0]).max() + hair.side
    back = vertices[skull, 2].max() + hair.side
    azimuth = np.linspace(hair.opening, np.pi, columns)
    height = np.linspace(-0.075, hair.length, lines)
    a, y = np.meshgrid(azimuth, height)
    centre = 0.09
    fall = np.clip(y + 0.03, 0, None)
    crown = 1 - 0.30 * _smooth(-0.02, -0.09, y)
    outward = 1 + 0.9 * fall * (0.4 + 0.6 * hair.wave) - 1.6 * np.clip(y - 0.09, 0, None)
    wave = 1 + 0.035 * hair.wave * np.sin(55 * y + 5 * a) + 0.03 * hair.curl * np.sin(110 * y + 23 * a)
    radius = crown * outward * wave
    x = side * width * np.sin(a) * radius
    z = centre - np.cos(a) * (back - centre) * radius
    near_front = np.exp(-(((a - hair.opening) / 0.25) ** 2))
    z -= 0.012 * near_front * _smooth(-0.02, 0.06, y)
    x -= side * 0.010 * near_front * _smooth(0.02, 0.10, y)
    position = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    anchor = int(np.argmin(np.linalg.norm(head.template - SKULL, axis=1)))
    index = np.arange(lines * columns).reshape(lines, columns)
    square = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1).reshape(-1, 4)
    faces = np.concatenate([square[:, [0, 1, 2]], square[:, [0, 2, 3]]])
    if side > 0:
        faces = faces[:, ::-1]
    uv = np.stack([azimuth_to_u(side * a), np.clip(height_to_v(y), 0, 1)], axis=-1).reshape(-1, 2)
    return Attachment(
        anchor=np.full(len(position), anchor),
        offset=position - vertices[anchor],
        faces=faces,
        kind=np.full(len(faces), CURTAIN),
        uv=uv,
        layer=np.full(len(position), 0.5),
    )
