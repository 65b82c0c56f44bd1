"""The window round a face that `warp` works in: the rest of a frame is not looked at and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generation.motion import EXPRESSION_SIZE

BELOW = 0.8
"""A window's centre lies so many eye distances below the middle of the eyes: between brows raised and a jaw open."""


@dataclass(frozen=True)
class Window:
    """Where the windows of a batch lie in frames of `size` x `size` pixels.

    corner: Tensor  # (B, 2) whole pixels (x, y), upper left
    side: int       # pixels, of a square that lies in the frame
    """

    corner: Tensor
    side: int
    size: int

    @classmethod
    def round_face(cls, motion: Tensor, side: int, size: int) -> Window:  # motion: (B, 58)
        """Windows of `side` pixels round the faces of these poses, moved inwards where they would leave the frame."""
        roll, x, y, scale = motion[:, EXPRESSION_SIZE + 2 :].float().unbind(1)
        centre = torch.stack([x - BELOW * scale * roll.sin(), y + BELOW * scale * roll.cos()], dim=1)
        corner = ((centre + 1) * (size / 2) - side / 2).round().clamp(0, size - side)
        return cls(corner.long(), side, size)

    @property
    def share(self) -> float:
        """Of the frame's side."""
        return self.side / self.size

    @property
    def centre(self) -> Tensor:  # (B, 2)
        """In crop units: the frame's edges are -1 and 1."""
        return (2 * self.corner + self.side) / self.size - 1

    def points(self, points: Tensor) -> Tensor:  # (B, N, 2) -> (B, N, 2)
        """Points in crop units as the window has them, whose own edges are -1 and 1."""
        return (points - self.centre[:, None]) / self.share

    def motion(self, motion: Tensor) -> Tensor:  # (B, 58) -> (B, 58)
        """The motion with its pose as the window has it."""
        expression, angles, place, scale = torch.split(motion, [EXPRESSION_SIZE, 3, 2, 1], dim=1)
        return torch.cat([expression, angles, (place - self.centre) / self.share, scale / self.share], dim=1)

    def cut(self, image: Tensor) -> Tensor:  # (B, C, size, size) -> (B, C, side, side)
        part = image.flatten(2).gather(2, self._pixels(image.shape[1]))
        return part.reshape(*image.shape[:2], self.side, self.side)

    def paste(self, part: Tensor, image: Tensor) -> Tensor:  # (B, C, side, side), (B, C, size, size) -> the latter
        """The image with this part in the window."""
        pasted = image.flatten(2).scatter(2, self._pixels(part.shape[1]), part.flatten(2))
        return pasted.reshape_as(image)

    def _pixels(self, channels: int) -> Tensor:  # (B, channels, side * side)
        along = torch.arange(self.side, device=self.corner.device)
        x, y = (self.corner[:, axis, None] + along for axis in (0, 1))
        place = (y[:, :, None] * self.size + x[:, None]).flatten(1)
        return place[:, None].expand(-1, channels, -1)
