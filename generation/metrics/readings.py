"""What MediaPipe reads off many pictures, and FAN's landmarks of them, as the metrics take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from generation.faces.landmarks import READING_SIZE, FaceReader, FanReader
from generation.motion import EXPRESSION_SIZE, POSE


@dataclass(frozen=True)
class Readings:
    """N pictures as MediaPipe's Face Landmarker reads them; rows of NaN where it finds no face.

    expression: Tensor  # (N, 52) in [0, 1], `tongueOut` always 0
    pose: Tensor        # (N, 6), see `generation.motion`
    landmarks: Tensor   # (N, 68, 2) pixels of the picture brought to 256 px, whatever its own size
    """

    expression: Tensor
    pose: Tensor
    landmarks: Tensor

    @property
    def found(self) -> Tensor:  # (N,) bool
        return ~self.expression.isnan().any(1)

    def select(self, rows: Tensor | Sequence[int]) -> Readings:
        index = torch.as_tensor(rows)
        return Readings(self.expression[index], self.pose[index], self.landmarks[index])

    @staticmethod
    def concatenate(parts: Sequence[Readings]) -> Readings:
        return Readings(
            torch.cat([part.expression for part in parts]),
            torch.cat([part.pose for part in parts]),
            torch.cat([part.landmarks for part in parts]),
        )


def read_faces(images: Tensor, reader: FaceReader) -> Readings:  # (N, 3, H, W) uint8, square
    """Read every picture; those below 256 px are enlarged first (bicubic)."""
    expression = torch.full((len(images), EXPRESSION_SIZE), torch.nan)
    pose = torch.full((len(images), len(POSE)), torch.nan)
    landmarks = torch.full((len(images), 68, 2), torch.nan)
    for index in range(len(images)):
        picture = _picture(images[index])
        reading = reader.read(picture)
        if reading is not None:
            expression[index] = torch.from_numpy(reading.expression)
            pose[index] = torch.from_numpy(reading.pose)
            landmarks[index] = torch.from_numpy(reading.landmarks) * (READING_SIZE / len(picture))
    return Readings(expression, pose, landmarks)


def fan_landmarks(images: Tensor, readings: Readings, fan: FanReader) -> Tensor:  # -> (N, 68, 2)
    """FAN's landmarks of pictures (N, 3, H, W) uint8 in the coordinates of `Readings`, NaN where it finds no face
    around the eyes that MediaPipe has read, or MediaPipe none."""
    landmarks = torch.full((len(images), 68, 2), torch.nan)
    for index in torch.nonzero(readings.found)[:, 0].tolist():
        picture = _picture(images[index])
        factor = READING_SIZE / len(picture)
        eyes = readings.landmarks[index, [[36, 39], [42, 45]]].mean(1) / factor
        points = fan.read(picture, eyes.numpy())
        if points is not None:
            landmarks[index] = torch.from_numpy(points) * factor
    return landmarks


def _picture(image: Tensor) -> np.ndarray:  # uint8 (3, H, W) -> uint8 (H', W', 3), H' >= 256
    image = image.cpu()
    if min(image.shape[1:]) < READING_SIZE:
        enlarged = functional.interpolate(image[None].float(), size=READING_SIZE, mode="bicubic")
        image = enlarged[0].round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
