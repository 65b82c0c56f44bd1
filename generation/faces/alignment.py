"""Alignment: which square of a frame is cropped, and the crop.

Points are (x, y) in pixels with pixel centres at integer + 0.5. The five points of a face are the centre of the eye on
the image's left, that of the other eye, the tip of the nose, and the corners of the mouth from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional

from generation.faces.landmarks import Reading

EYE_DISTANCE = 0.24
"""Distance between the eye centres in a crop, as a share of its width."""

EYE_HEIGHT = 0.45
"""How far down the crop the eyes lie, as a share of its height."""


def face_crop(image: np.ndarray, eyes: np.ndarray, size: int) -> np.ndarray:  # -> uint8 (size, size, 3)
    """The square around a face with level eyes, `EYE_DISTANCE` apart and `EYE_HEIGHT` down.

    image: uint8 (H, W, 3); eyes: (2, 2) pixels, see `Reading`
    Every pixel is the mean over its area of the bicubic photo; what lies outside the photo repeats its edge.
    """
    across = (eyes[1] - eyes[0]) / EYE_DISTANCE
    down = np.array([-across[1], across[0]])
    samples = max(1, int(np.ceil(np.linalg.norm(across) / size)))
    steps = (np.arange(size * samples) + 0.5) / (size * samples)
    points = eyes.mean(0) + (steps[None, :, None] - 0.5) * across + (steps[:, None, None] - EYE_HEIGHT) * down
    grid = torch.from_numpy(2 * points / (image.shape[1], image.shape[0]) - 1).float()[None]
    photo = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
    fine = functional.grid_sample(photo, grid, mode="bicubic", padding_mode="border", align_corners=False)
    coarse = functional.avg_pool2d(fine, samples)
    return coarse[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Square:
    """A square of a frame, which a crop shows upright.

    x, y: its centre, pixels of the frame
    side: pixels of the frame
    angle: by how much its upper edge is turned clockwise as the viewer sees it, radians
    """

    x: float
    y: float
    side: float
    angle: float

    def matrix(self, size: int) -> np.ndarray:  # (2, 3)
        """Points of the frame -> points of a crop of `size` x `size` pixels."""
        factor = size / self.side
        turn = factor * np.array([(np.cos(self.angle), np.sin(self.angle)), (-np.sin(self.angle), np.cos(self.angle))])
        return np.column_stack([turn, size / 2 - turn @ (self.x, self.y)])

    def inside(self, points: np.ndarray, size: int) -> np.ndarray:  # (..., 2) -> (..., 2)
        """Points of the frame as points of the crop."""
        matrix = self.matrix(size)
        return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])

    def outside(self, points: np.ndarray, size: int) -> np.ndarray:  # (..., 2) -> (..., 2)
        """Points of the crop as points of the frame."""
        matrix = self.matrix(size)
        return np.asarray((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)

    def crop(self, image: np.ndarray, size: int) -> np.ndarray:  # uint8 (H, W[, 3]) -> uint8 (size, size[, 3])
        """What the square shows; every pixel is the mean over its area, what lies outside the frame repeats its edge.

        The same picture as `face_crop`'s to within rounding, several times faster.
        """
        return cropped(image, self.matrix(size), size)


def cropped(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The crop of `Square.crop` whose points `matrix` (2, 3) makes of those of the frame."""
    samples = max(1, int(np.ceil(1 / np.linalg.norm(matrix[:, 0]) - 1e-9)))
    fine_matrix = samples * matrix
    fine_matrix[:, 2] += fine_matrix[:, :2].sum(1) / 2 - 0.5  # OpenCV has pixel centres at integers
    fine = cv2.warpAffine(
        image, fine_matrix, (size * samples, size * samples), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return fine if samples == 1 else cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def moved(reading: Reading, old: Square, old_size: int, new: Square, new_size: int) -> Reading:
    """What was read in the crop of one square, in the crop of another square of the same frame."""

    def points(values: np.ndarray) -> np.ndarray:
        return new.inside(old.outside(values, old_size), new_size).astype(np.float32)

    eyes = points(reading.eyes)
    x, y = 2 * eyes.mean(0) / new_size - 1
    pitch, yaw, roll, _, _, scale = reading.pose
    roll = (roll + old.angle - new.angle + np.pi) % (2 * np.pi) - np.pi
    pose = np.array([pitch, yaw, roll, x, y, scale * old.side / new.side], np.float32)
    return replace(reading, pose=pose, landmarks=points(reading.landmarks), eyes=eyes)


POSITION_SECONDS, SIZE_SECONDS = 0.25, 0.8
"""Standard deviations of the Gaussians over time that smooth where a steady square lies, and its side and angle."""

_EYES_TO_MOUTH = 0.9
"""Eye distance over the distance from the eyes to the mouth on a frontal face; the larger of the two tells the size of
a face that is turned to the side or up."""


def steady_squares(points: np.ndarray, seconds: np.ndarray) -> list[Square]:
    """Squares that follow a face calmly, in the frame of coordinates of `face_crop`: `EYE_DISTANCE`, `EYE_HEIGHT`.

    points: (N, 5, 2) pixels; seconds: (N,) rising
    Trembling and nodding stay in the crop, as Motion; walking about and zooming are followed.
    """
    eyes, mouth = points[:, :2].mean(1), points[:, 3:].mean(1)
    across = points[:, 1] - points[:, 0]
    distance = np.maximum(np.linalg.norm(across, axis=1), _EYES_TO_MOUTH * np.linalg.norm(mouth - eyes, axis=1))
    angle = np.unwrap(np.arctan2(across[:, 1], across[:, 0]))
    x, y = (smoothed(values, seconds, POSITION_SECONDS) for values in eyes.T)
    side = np.exp(smoothed(np.log(distance), seconds, SIZE_SECONDS)) / EYE_DISTANCE
    angle = smoothed(angle, seconds, SIZE_SECONDS)
    below = (0.5 - EYE_HEIGHT) * side
    return [
        Square(*map(float, values))
        for values in zip(x - below * np.sin(angle), y + below * np.cos(angle), side, angle, strict=True)
    ]


def smoothed(values: np.ndarray, seconds: np.ndarray, deviation: float) -> np.ndarray:  # (N,), (N,) -> (N,)
    """Gaussian mean over time, whatever the frames' spacing; movement goes on beyond both ends as it was there.

    deviation: of the Gaussian, seconds
    """
    step = deviation / 8
    even = np.arange(seconds[0], seconds[-1] + step, step)
    padded = np.pad(np.interp(even, seconds, values), 32, mode="reflect", reflect_type="odd")
    return np.asarray(np.interp(seconds, even, gaussian_filter1d(padded, 8.0)[32:-32]))


_ARCFACE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""ArcFace's five points on 112 x 112 pixels."""

_BENCH_LANDMARKS = (37, 44, 30, 49, 55)
"""The landmarks that DeepfakeBench takes for the five points."""

BENCH_MARGIN = 1.3
"""How much wider than ArcFace's square the square of DeepfakeBench is."""


def arcface_points(size: int) -> np.ndarray:  # (5, 2)
    """Where ArcFace's square of `size` pixels has the five points."""
    return _ARCFACE * size / 112


def bench_square(landmarks: np.ndarray) -> Square:  # (68, 2) pixels
    """The square that DeepfakeBench crops (`preprocessing/preprocess.py`), from one frame's landmarks."""
    square = fitted_square(landmarks[list(_BENCH_LANDMARKS)], arcface_points(112), 112)
    return replace(square, side=square.side * BENCH_MARGIN)


def fitted_square(points: np.ndarray, wanted: Sequence[Sequence[float]] | np.ndarray, size: int) -> Square:
    """The square whose crop of `size` pixels has the points nearest (least squares) to where they are wanted.

    points, wanted: (N, 2); Umeyama 1991
    """
    goal = np.asarray(wanted)
    here, there = points - points.mean(0), goal - goal.mean(0)
    dot, cross = (here * there).sum(), (here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]).sum()
    factor, turn = np.hypot(dot, cross) / (here**2).sum(), np.arctan2(cross, dot)
    square = Square(0.0, 0.0, float(size / factor), float(-turn))
    x, y = points.mean(0) - square.outside(goal.mean(0), size)
    return replace(square, x=float(x), y=float(y))
