"""Redrawing: a reenactor's small answer laid over the face in the whole frame, with the frame's own detail.

Networks work on crops of a fixed size, footage is larger. So what a network says is split: where a pixel comes from
(its flow) is done with the frame's own pixels at full resolution, and what it has drawn beyond that is added, enlarged.
Where it has drawn much of its own, as between parted lips, the detail is left out: it belongs to something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from generation.faces.alignment import Square
from generation.faces.landmarks import READING_SIZE
from generation.reenactors import Reenactment
from generation.reenactors.reenactment import opacity

_BORDER = 0.06
"""Share of the crop along its edges over which the result fades out."""

_DRAWN = (0.05, 0.2)
"""Difference to the warped source, in [0, 1], from which on the source's detail counts less, and from which on none."""


@dataclass(frozen=True)
class Look:
    """A face as a reenactor sees it, looked at once for as many expressions as wanted.

    crop: uint8 (S, S, 3)
    """

    square: Square
    crop: np.ndarray
    source: Tensor
    motion: Tensor
    features: list[Tensor]


class Redrawer:
    """A reenactor, on crops of `size` pixels."""

    def __init__(self, reenactor: nn.Module, size: int) -> None:
        self.size = size
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._reenactor = reenactor.eval().to(self._device)

    @torch.no_grad()
    def look(
        self, frame: np.ndarray, square: Square, expression: np.ndarray, pose: np.ndarray, landmarks: np.ndarray
    ) -> Look:
        """frame: uint8 (H, W, 3); expression: (52,); pose: (6,); landmarks: (68, 2) of the square at `READING_SIZE`."""
        crop = square.crop(frame, self.size)
        source = self._tensor(crop).permute(2, 0, 1)[None].float() / 255
        motion = self._tensor(np.concatenate([expression, pose]))[None].float()
        points = self._tensor(landmarks * (self.size / READING_SIZE))[None].float()
        encode: Any = self._reenactor.encode
        return Look(square, crop, source, motion, encode(source, motion, points))

    @torch.no_grad()
    def draw(self, look: Look, expression: np.ndarray) -> Reenactment:
        """The face with another expression (52,), in the crop."""
        wanted = look.motion.clone()
        wanted[0, : len(expression)] = self._tensor(expression)
        decode: Any = self._reenactor.decode
        result: Reenactment = decode(look.source, look.features, look.motion, wanted)
        return result

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def lay_over(
    base: np.ndarray, frame: np.ndarray, look: Look, result: Reenactment
) -> tuple[np.ndarray, np.ndarray]:  # uint8 (H, W, 3), (H, W)
    """The frame with the redrawn face, and the mask of what was replaced, 0 to 255.

    base: the frame with what other faces have become in it; where the mask is 0 its pixels stay bit for bit
    frame: as it was, uint8 (H, W, 3), in which the pixels lie that the flow takes
    """
    size = len(look.crop)
    image = result.image[0].permute(1, 2, 0).float().cpu().numpy()
    flow = result.flow[0].permute(1, 2, 0).float().cpu().numpy()
    visible = opacity(result.mask)[0, 0].float().cpu().numpy() * _inner(size)
    out, mask = base.copy(), np.zeros(base.shape[:2], np.uint8)
    rows, columns = _box(look.square, size, visible, base.shape)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return out, mask
    matrix = look.square.matrix(size)
    x, y = np.meshgrid(*(np.arange(part.start, part.stop, dtype=np.float32) + 0.5 for part in (columns, rows)))
    crop_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - 0.5).astype(np.float32)
    crop_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - 0.5).astype(np.float32)

    def enlarged(values: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
        return np.asarray(cv2.remap(values, crop_x, crop_y, how, borderMode=cv2.BORDER_REPLICATE))

    alpha = enlarged(visible, cv2.INTER_LINEAR).clip(0, 1)
    moved = _warped(look.crop.astype(np.float32) / 255, flow)
    drawn = np.abs(cv2.GaussianBlur(image - moved, (0, 0), size / 64)).max(-1)
    own = 1 - ((drawn - _DRAWN[0]) / (_DRAWN[1] - _DRAWN[0])).clip(0, 1)
    shift = enlarged(flow) @ np.linalg.inv(matrix[:, :2]).T.astype(np.float32)
    source = cv2.remap(
        frame, x - 0.5 + shift[..., 0], y - 0.5 + shift[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    detail = source.astype(np.float32) / 255 - enlarged(moved)
    new = enlarged(image) + enlarged(own, cv2.INTER_LINEAR)[..., None] * detail
    old = base[rows, columns]
    mixed = old + alpha[..., None] * (255 * new.clip(0, 1) - old)
    out[rows, columns] = np.where(alpha[..., None] > 0, mixed.round().clip(0, 255).astype(np.uint8), old)
    mask[rows, columns] = np.ceil(255 * alpha).astype(np.uint8)
    return out, mask


def _inner(size: int) -> np.ndarray:  # (S, S) float32
    """1, falling to 0 along the edges of the crop."""
    ramp = ((np.minimum(np.arange(size), np.arange(size)[::-1])) / (_BORDER * size)).clip(0, 1).astype(np.float32)
    return np.outer(ramp, ramp)


def _warped(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """(S, S, 3) and pixels (S, S, 2): what the flow alone makes of the crop."""
    x, y = np.meshgrid(*(np.arange(len(image), dtype=np.float32),) * 2)
    return np.asarray(
        cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _box(square: Square, size: int, visible: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of the frame in which anything of the crop is visible."""
    lines, columns = np.nonzero(visible)
    if len(lines) == 0:
        return slice(0, 0), slice(0, 0)
    left, right, top, bottom = columns.min() - 1, columns.max() + 2, lines.min() - 1, lines.max() + 2
    corners = square.outside(np.array([(x, y) for x in (left, right) for y in (top, bottom)], float), size)
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    return slice(max(0, low[1]), min(shape[0], high[1])), slice(max(0, low[0]), min(shape[1], high[0]))
