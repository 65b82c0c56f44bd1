"""The shape of a person's face: small changes of Anny's head that give it the proportions of a person.

Anny's average face, seen by MediaPipe, has a longer nose, a lower mouth and higher brows than people on photographs,
and its local changes, drawn alone, move everything but the outline. So proportions are drawn first, as adults have
them, and the changes are those nearest to a random draw that give the face these proportions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from generation.faces.head import Head

_SPREAD = {
    "ear": 0.36, "eye": 0.39, "eyebrows": 0.42, "nose": 0.44, "mouth": 0.35, "cheek": 0.53, "chin": 0.39,
    "forehead": 0.48, "head": 0.31, "neck": 0.17,
    "head-scale": 0.49, "eye-bag": 0.28, "eyebrows-trans-up": 0.63, "mouth-trans-up": 0.56, "nose-trans-up": 0.56,
    "nose-septumangle": 0.21, "nose-base": 0.21, "nose-nostrils-angle": 0.21, "nose-point": 0.28, "nose-greek": 0.28,
    "nose-compression": 0.21,
}  # fmt: skip
"""Standard deviation of Anny's local changes by how their names begin; its range is [-1, 1]."""

_REACH = 0.9
"""How far a local change goes at most: beyond it, several at once make a caricature."""

_FIXED = (
    "head-age-incr",
    "head-angle-out",
    "head-trans-forward",
    "head-trans-up",
    "head-trans-out",
    "nose-trans-out",
    "mouth-trans-out",
    "neck-trans-out",
    "neck-trans-up",
    "neck-trans-forward",
)
"""Local changes that age twice, or that only move things."""

_PROPORTIONS = (
    "eye width", "eye opening", "between the eyes", "brows", "inner brows", "nose length", "nose width", "mouth width",
    "mouth height", "upper lip", "lower lip", "chin height", "face width", "jaw width", "cheek width", "chin width",
)  # fmt: skip
"""Distances as shares of that between the eyes; heights are measured from the eyes."""

_ANNY = np.array(
    [0.455, 0.148, 0.547, 0.460, 0.423, 0.828, 0.539, 0.834, 1.182, 0.101, 0.149, 1.892, 2.304, 1.952, 2.098, 0.960]
)
"""Mean over Anny's phenotypes."""

_PEOPLE = np.array(
    [0.465, 0.155, 0.535, 0.405, 0.385, 0.740, 0.515, 0.816, 1.086, 0.096, 0.125, 1.830, 2.341, 2.001, 2.141, 0.986]
)
"""Mean over the neutral photographs of the Face Research Lab London Set (DeBruine and Jones 2017, 102 adults), as
MediaPipe sees them, less what it sees differently from the landmarks of the mesh."""

_DEVIATION = np.array(
    [0.018, 0.015, 0.018, 0.042, 0.044, 0.052, 0.035, 0.052, 0.064, 0.027, 0.036, 0.099, 0.107, 0.131, 0.125, 0.062]
)
"""Standard deviation over the same people."""

_MODES = np.array(
    [
        [8, -1, -9, -11, -5, 22, 11, 24, 35, -4, -9, 83, 93, 120, 115, 53],
        [3, 2, -2, 24, 23, 10, 20, 29, 28, 21, 30, 28, -24, -20, -24, -4],
        [13, 12, -13, 2, -5, 24, -14, -12, 18, -8, -2, 3, -10, -33, -24, -21],
        [2, -2, -2, -31, -36, 5, 16, -3, 4, 6, 12, 2, -28, -14, -19, 0],
        [-8, -3, 8, 1, -1, 36, -4, -15, 40, -5, 1, 25, 1, -15, -6, -11],
        [0, -2, 0, 3, -2, 10, 11, 24, -3, -10, -8, -16, -10, -8, -10, -11],
    ]
) / 1000  # fmt: skip
"""Their principal components, of unit variance: how these proportions go together."""

_WORLD = 1.15
"""How much more faces vary along these than those photographs': they are of one city. A choice, not measured."""

_KEPT = 0.7
"""Share of what sex, age, weight and ancestry do to Anny's proportions that comes on top."""

_TOLERANCE = 0.4
"""How well the proportions are met, in standard deviations."""


def proportions(landmarks: np.ndarray) -> np.ndarray:  # (..., 68, 2 or more) -> (..., 16)
    """`_PROPORTIONS` of faces seen from the front; x to the right, y down, in any unit."""
    x, y = landmarks[..., 0], landmarks[..., 1]

    def height(*points: int) -> np.ndarray:
        return np.asarray(y[..., list(points)].mean(-1))

    def across(left: int, right: int) -> np.ndarray:
        return np.asarray(x[..., right] - x[..., left])

    eyes = height(36, 39, 42, 45)
    apart = x[..., [42, 45]].mean(-1) - x[..., [36, 39]].mean(-1)
    distances = (
        (across(36, 39) + across(42, 45)) / 2,
        height(40, 41, 46, 47) - height(37, 38, 43, 44),
        across(39, 42),
        eyes - height(18, 19, 20, 23, 24, 25),
        eyes - height(21, 22),
        height(33) - eyes,
        across(31, 35),
        across(48, 54),
        height(62, 66) - eyes,
        height(62) - height(51),
        height(57) - height(66),
        height(8) - eyes,
        across(0, 16),
        across(4, 12),
        across(2, 14),
        across(6, 10),
    )
    return np.asarray(np.stack(distances, axis=-1) / np.asarray(apart)[..., None])


def sample_local(rng: np.random.Generator, head: Head, phenotype: Mapping[str, float]) -> dict[str, float]:
    """Anny's local changes of one person, in [-1, 1], nearly the same on both sides of the face."""
    names = [str(name) for name in head.local]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name[2:] if name[:2] in ("l-", "r-") else name, []).append(index)
    free = [group for group in groups if group not in _FIXED]
    spread = np.array(
        [_SPREAD[max((start for start in _SPREAD if group.startswith(start)), key=len)] for group in free]
    )
    spread_of_side = rng.normal(0, 0.12, len(names))
    draw = np.clip(rng.normal(0, spread), -_REACH, _REACH)
    target = _PEOPLE + _WORLD * rng.normal(0, 1, len(_MODES)) @ _MODES
    change = _fitted(head, phenotype, [groups[group] for group in free], spread, draw, target)
    local = dict.fromkeys(names, 0.0)
    for group, size, value in zip(free, spread, change, strict=True):
        for index in groups[group]:
            uneven = size * spread_of_side[index] if len(groups[group]) > 1 else 0.0
            local[names[index]] = float(np.clip(value + uneven, -1, 1))
    return local


def _fitted(
    head: Head,
    phenotype: Mapping[str, float],
    groups: Sequence[Sequence[int]],
    spread: np.ndarray,
    draw: np.ndarray,
    target: np.ndarray,
) -> np.ndarray:  # (G,)
    """Changes of G groups of shapes: the most probable ones, given the proportions and a draw (Gauss-Newton)."""
    marks = head.landmarks
    first = len(head.variations)
    pairs = head.shapes[first:, marks].reshape(len(head.local), 2, len(marks), 3)
    more, less = (np.stack([pairs[list(group), side].sum(0) for group in groups]) for side in (0, 1))
    average = head.coefficients(phenotype, {})[:first]
    plain = head.template[marks] + np.einsum("s,svc->vc", average, head.shapes[:first, marks])
    own = proportions(plain)
    reach = 2.3 * _WORLD * _DEVIATION
    wanted = np.clip(target + _KEPT * (own - _ANNY), _PEOPLE - reach, _PEOPLE + reach)

    def place(change: np.ndarray) -> np.ndarray:  # (..., G) -> (..., 68, 3)
        moved = np.einsum("...g,gvc->...vc", np.maximum(change, 0), more)
        return np.asarray(plain + moved + np.einsum("...g,gvc->...vc", np.maximum(-change, 0), less))

    change, step = draw, 0.2 * np.eye(len(groups))
    for _ in range(3):
        slope = (proportions(place(change + step)) - proportions(place(change - step))).T / 0.4
        slope = slope / (_TOLERANCE * _DEVIATION)[:, None] * spread
        missing = (wanted - proportions(place(change))) / (_TOLERANCE * _DEVIATION)
        missing = missing + slope @ ((change - draw) / spread)
        weights = np.linalg.solve(slope @ slope.T + np.eye(len(missing)), missing)
        change = np.clip(draw + spread * (slope.T @ weights), -_REACH, _REACH)
    return change
