"""How far a face is from those that a verdict was calibrated on: where it is too far, there is no verdict.

Two questions: is anything that can be named (resolution, sharpness, grain, light, colour, pose) beyond what the
calibration set shows, and do the detectors' own features lie further from it than its own faces do (Mahalanobis
distance in the set's principal components; Lee et al. 2018, arXiv 1807.03888, without classes)?
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.calibration import POOLED, people_folds
from generation.records import UserError

Floats = NDArray[np.float64]

DESCRIPTORS = ("resolution", "sharpness", "grain", "brightness", "contrast", "colour", "pitch", "yaw")
WORDS = {
    "resolution": "pixels of the face",
    "sharpness": "sharpness",
    "grain": "grain",
    "brightness": "brightness",
    "contrast": "contrast",
    "colour": "colourfulness",
    "pitch": "head turned up or down",
    "yaw": "head turned to the side",
}

_EDGE = 0.002
"""Share of calibration faces beyond either end of the range of a descriptor, and twice that beyond the distance."""

_WITNESSES = 3
"""People of a condition that must be seen with no more pixels than a face for it to count as usual."""

_COMPONENTS = 16


def descriptors(crop: np.ndarray, side: float, pose: tuple[float, float]) -> Floats:  # uint8 (S, S, 3) -> (8,)
    """`DESCRIPTORS` of one face.

    resolution: side of the face's square in the file over that of the crop, at most 1; sharpness: log deviation of the
    Laplacian; grain: log of the noise (Immerkaer 1996, by the median, so that edges do not count); brightness,
    contrast: mean and deviation of grey, 0 to 1; colour: mean difference of the strongest and the weakest colour;
    pitch, yaw: radians, without their sign
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    twice = cv2.filter2D(grey, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    grain = float(np.median(np.abs(twice[1:-1, 1:-1]))) / (0.6745 * 6)
    return np.array(
        [
            min(1.0, side / len(crop)),
            math.log(float(laplacian.std()) + 1e-4),
            math.log(grain + 2e-4),
            float(grey.mean()),
            float(grey.std()),
            float((crop.max(-1).astype(int) - crop.min(-1)).mean()) / 255,
            abs(pose[0]),
            abs(pose[1]),
        ]
    )


@dataclass(frozen=True, eq=False)
class Familiarity:
    """ranges: condition -> (2, 8) lowest and highest of `DESCRIPTORS` in the calibration set; `POOLED` for conditions
    that it does not know; mean (F,), axes (D, F): a face's features less the mean, on the axes, have variance 1 there;
    limit: largest distance that counts as near."""

    ranges: Mapping[str, Floats]
    mean: Floats
    axes: Floats
    limit: float

    def distance(self, features: Floats) -> Floats:  # (N, F) -> (N,)
        """Root mean square on the axes: about 1 in the calibration set."""
        if not len(self.axes):
            return np.zeros(len(features))
        return np.asarray(np.sqrt((((features - self.mean) @ self.axes.T) ** 2).mean(1)))

    def strange(self, described: Floats, distance: float, condition: str = POOLED, size: int = 1) -> list[str]:  # (8,)
        """In words, why a face is too far from the calibration set; [] where it is not. size: pixels of the crop, of
        which the resolution is a share."""
        found = []
        if np.isnan(described).any():
            found.append("the face could not be read, so its pose is unknown")
        usual = self.ranges.get(condition, self.ranges[POOLED])
        for name, value, low, high in zip(DESCRIPTORS, described, *usual, strict=True):
            if value < low or value > high:
                unit = size if name == "resolution" else 1
                told, least, most = _told(value * unit, low * unit, high * unit, 2 if unit == 1 else 0)
                found.append(f"{WORDS[name]}: {told}, the calibration set has {least} to {most}")
        if distance > self.limit:
            found.append(
                f"unlike the faces of the calibration set: distance {distance:.2f} in the detectors' features, at most "
                f"{self.limit:.2f} there"
            )
        return found

    def plain(self) -> dict[str, Any]:
        return {
            "descriptors": {
                condition: {
                    name: [round(float(end), 4) for end in ends]
                    for name, *ends in zip(DESCRIPTORS, *usual, strict=True)
                }
                for condition, usual in self.ranges.items()
            },
            "mean": np.round(self.mean, 4).tolist(),
            "axes": [[float(f"{value:.4g}") for value in axis] for axis in self.axes],
            "limit": round(self.limit, 4),
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Familiarity:
        ranges = {
            condition: np.array([usual[name] for name in DESCRIPTORS]).T
            for condition, usual in plain["descriptors"].items()
        }
        mean, axes = np.array(plain["mean"]), np.array(plain["axes"]).reshape(-1, len(plain["mean"]))
        return Familiarity(ranges, mean, axes, float(plain["limit"]))


def _told(value: float, low: float, high: float, digits: int) -> tuple[str, ...]:
    """With so many digits after the point, or more where it takes them to see that a value is beyond an end."""
    passed = low if value < low else high
    needed = next((n for n in (digits, digits + 1) if f"{value:.{n}f}" != f"{passed:.{n}f}"), digits + 2)
    return tuple(f"{number:.{needed}f}" for number in (value, low, high))


def familiarity(
    described: Floats,
    features: Floats,
    identities: NDArray[np.str_],
    conditions: NDArray[np.str_],
    seed: int = 0,
) -> Familiarity:
    """What is usual among calibration faces: (N, 8), (N, F), (N,), (N,). The limit of the distance is that of people
    whom the axes were not made of."""
    whole = ~np.isnan(described).any(1)
    if not whole.any():
        raise UserError("calibration: no face of the set could be read")
    ranges = {POOLED: _range(described[whole], identities[whole])}
    for name in np.unique(conditions[whole]):
        here = whole & (conditions == name)
        ranges[str(name)] = _range(described[here], identities[here])
    if not features.shape[1]:
        return Familiarity(ranges, np.zeros(0), np.zeros((0, 0)), math.inf)
    distances = np.empty(len(features))
    for here in people_folds(identities, 5, seed):
        mean, axes = _axes(features[~here])
        distances[here] = Familiarity(ranges, mean, axes, math.inf).distance(features[here])
    mean, axes = _axes(features)
    return Familiarity(ranges, mean, axes, float(np.quantile(distances, 1 - 2 * _EDGE)))


def _range(described: Floats, identities: NDArray[np.str_]) -> Floats:  # (N, 8), (N,) -> (2, 8)
    """Nearly all of them and a margin; as to the resolution, what `_WITNESSES` people show."""
    low, high = np.quantile(described, [_EDGE, 1 - _EDGE], axis=0)
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    resolution = DESCRIPTORS.index("resolution")
    least = np.sort([described[identities == person, resolution].min() for person in np.unique(identities)])
    low[resolution] = least[:_WITNESSES][-1] - 1e-6
    return np.stack([low, high])


def _axes(features: Floats) -> tuple[Floats, Floats]:
    mean = features.mean(0)
    _, spread, axes = np.linalg.svd((features - mean) / math.sqrt(len(features)), full_matrices=False)
    count = min(_COMPONENTS, int((spread > 1e-6 * max(spread[0], 1e-12)).sum()))
    return mean, axes[:count] / spread[:count, None]
