"""Pictures of rendered sets: who is in them, how they move, what is known about them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from generation.faces.layers import read_layers
from generation.faces.surface import Flow, warp
from generation.faces.trajectories import FRAME_RATE
from generation.records import Faces

ROWS, COLUMNS = 12, 16
"""People and expressions on the contact sheet, at most."""

MOVING = 8
"""Clips in the moving picture, at most."""

_REGION_COLOURS = np.array(
    [(28, 28, 34), (226, 178, 150), (110, 62, 30), (70, 150, 240), (214, 60, 90), (250, 250, 245), (120, 16, 40),
     (92, 74, 56), (70, 140, 90)], np.uint8,
)  # fmt: skip
"""In the order of `truth.REGIONS`."""

_HIDDEN = (255, 0, 255)


def _images(faces: Faces, clip: str) -> np.ndarray:  # (N, H, W, 3) uint8
    return np.asarray(faces.image[np.flatnonzero(faces.clip == clip)].permute(0, 2, 3, 1).numpy())


def _tiled(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def contact_sheet(faces: Faces, clips: Sequence[str]) -> np.ndarray:  # uint8 (rows * H, columns * W, 3)
    """The first clips: their first expressions, or moments evenly spread where the clip is one of motion."""
    rows = []
    for clip in clips[:ROWS]:
        images = _images(faces, clip)
        moving = len(np.unique(faces.pose[np.flatnonzero(faces.clip == clip)], axis=0)) > 1
        last = len(images) - 1 if moving else min(len(images), COLUMNS) - 1
        rows.append(list(images[np.linspace(0, last, min(len(images), COLUMNS)).round().astype(int)]))
    return _tiled(rows)


def moving_sheet(faces: Faces, clips: Sequence[str]) -> bytes:
    """An endless GIF of the first clips side by side, four in a row, at their own speed."""
    shown = [_images(faces, clip) for clip in clips[:MOVING]]
    across = min(len(shown), 4)
    empty = np.zeros_like(shown[0])
    shown += [empty] * (-len(shown) % across)
    sheets = [
        _tiled([[clip[frame] for clip in shown[start : start + across]] for start in range(0, len(shown), across)])
        for frame in range(min(len(clip) for clip in shown))
    ]
    pictures = [Image.fromarray(sheet).quantize(128) for sheet in sheets]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 // FRAME_RATE, loop=0
    )
    return buffer.getvalue()


def truth_sheet(faces: Faces, clips: Sequence[str], folder: Path) -> np.ndarray:  # uint8
    """A row for a frame of each of the first clips: the picture, then its layers.

    Flow is shown as the frame that it leads to, brought back by it; what is hidden there is magenta.
    """
    rows = []
    for number, clip in enumerate(clips[:ROWS]):
        images, layers = _images(faces, clip), read_layers(folder, clip)
        frame = (3 * number + 2) % len(images)
        row = [images[frame]]
        if "mask" in layers:
            row.append(_grey(layers["mask"][frame]))
        if "regions" in layers:
            row.append(_REGION_COLOURS[layers["regions"][frame]])
        if "depth" in layers:
            depth = layers["depth"][frame]
            near, far = np.quantile(depth[depth > 0], [0.01, 0.99]) if depth.any() else (0.0, 1.0)
            row.append(_grey(np.where(depth > 0, 255 - 200 * np.clip((depth - near) / (far - near), 0, 1), 0)))
        if "flow" in layers:
            to = int(layers["flow_to"][frame])
            flow = Flow(layers["flow"][frame], layers["flow_visible"][frame])
            row += [images[to], _coloured(flow.pixels)]
            row.append(np.where(flow.visible[..., None], warp(images[to], flow).round(), _HIDDEN).astype(np.uint8))
        if "landmarks_visible" in layers:
            marks = faces.landmarks[np.flatnonzero(faces.clip == clip)[frame]].numpy()
            row.append(_dotted(images[frame], marks, layers["landmarks_visible"][frame]))
        rows.append(row)
    return _tiled(rows)


def _grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane.astype(np.uint8)[..., None], 3, axis=-1)


def _coloured(pixels: np.ndarray) -> np.ndarray:  # (H, W, 2) -> (H, W, 3) uint8
    """Flow as colours: the hue is the direction, the strength the length in parts of the longest."""
    length = np.linalg.norm(pixels, axis=-1)
    hue = (np.arctan2(pixels[..., 1], pixels[..., 0]) / (2 * np.pi) * 255) % 255
    strength = 255 * length / max(float(length.max()), 1.0)
    planes = np.stack([hue, np.full_like(hue, 255), strength], axis=-1).astype(np.uint8)
    return np.asarray(Image.fromarray(planes, "HSV").convert("RGB"))


def _dotted(image: np.ndarray, marks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Landmarks as points: green where they are seen, magenta where they are hidden."""
    image = image.copy()
    column, line = marks.astype(int).clip(0, len(image) - 1).T
    image[line, column] = np.where(seen[:, None], (0, 255, 0), _HIDDEN)
    return image
