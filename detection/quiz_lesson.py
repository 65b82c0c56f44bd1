"""What swapped expressions get wrong, measured: forgeries beside what the camera would have seen -> examples.

Which forgeries the lesson shows is not a matter of taste: of all that were tried it is the one whose error is largest
where the topic says, among those in which the face does there what the topic is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_EYES = (range(36, 42), range(42, 48))
_LIPS, _INNER = range(48, 60), range(60, 68)


@dataclass(frozen=True)
class Tried:
    """A forgery of a person, from one frame to the expression of another frame of the same person.

    source, forgery, truth: uint8 (H, W, 3); mask: uint8 (H, W), what was replaced; landmarks: (68, 2) pixels
    gaze: sum of the changes of all actions that turn the eyes
    """

    source: np.ndarray
    forgery: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    source_landmarks: np.ndarray
    truth_landmarks: np.ndarray
    gaze: float

    @property
    def error(self) -> np.ndarray:  # (H, W) grey levels
        return _distance(self.forgery, self.truth)

    @property
    def size(self) -> int:
        return len(self.mask)


class Chosen(NamedTuple):
    """Which forgery is the example, and the numbers that its text names."""

    place: int
    figures: dict[str, str]


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # uint8 (..., H, W, 3) -> float32 (..., H, W)
    return np.asarray(np.abs(a.astype(np.float32) - b).mean(-1))


def _polygon(points: np.ndarray, size: int, grown: float) -> Mask:
    """What a hull of points covers, grown by a share of the picture's side."""
    drawn = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(drawn, cv2.convexHull(points.round().astype(np.int32)), 1)
    width = 2 * max(1, round(grown * size)) + 1
    return np.asarray(cv2.dilate(drawn, np.ones((width, width), np.uint8)) > 0)


def _eyes(one: Tried) -> Mask:
    parts = [
        _polygon(
            np.concatenate([points[list(eye)] for points in (one.source_landmarks, one.truth_landmarks)]),
            one.size,
            0.01,
        )
        for eye in _EYES
    ]
    return parts[0] | parts[1]


def _inner_mouth(one: Tried) -> Mask:
    return _polygon(one.truth_landmarks[list(_INNER)], one.size, 0.005)


def _lips(one: Tried) -> Mask:
    both = [points[list(_LIPS)] for points in (one.source_landmarks, one.truth_landmarks)]
    return _polygon(np.concatenate(both), one.size, 0.02)


def openness(points: np.ndarray) -> tuple[float, float]:  # (68, 2)
    """Of mouth and eyes: height over width; of the two eyes the one that is less open."""

    def shape(top: Sequence[int], bottom: Sequence[int], left: int, right: int) -> float:
        height = float(np.linalg.norm(points[list(top)] - points[list(bottom)], axis=1).mean())
        return height / max(1e-6, float(np.linalg.norm(points[left] - points[right])))

    eyes = [shape((a + 1, a + 2), (a + 5, a + 4), a, a + 3) for a in (36, 42)]
    return shape((61, 62, 63), (67, 66, 65), 60, 64), min(eyes)


def _opens_mouth(one: Tried) -> bool:
    return openness(one.source_landmarks)[0] < 0.1 and openness(one.truth_landmarks)[0] > 0.2


def _closes_eyes(one: Tried) -> bool:
    before, after = (openness(points)[1] for points in (one.source_landmarks, one.truth_landmarks))
    return before > 0.2 and after < 0.45 * before


def _turns_eyes(one: Tried) -> bool:
    return one.gaze > 0.5 and min(openness(one.source_landmarks)[1], openness(one.truth_landmarks)[1]) > 0.18


def _any(one: Tried) -> bool:
    return bool(one.mask.any())


def _ratio(one: Tried, here: Mask) -> tuple[float, str]:
    """The error in a part of the face, and in words how many times that in the rest of what was replaced."""
    error, rest = one.error, (one.mask > 0) & ~here
    inside = float(error[here].mean()) if here.any() else 0.0
    outside = float(error[rest].mean()) if rest.any() else 0.0
    return inside, f"{inside / max(outside, 1e-6):.1f}"


def _boundary(one: Tried) -> Mask:
    """The seam: where old and new are mixed, and a little to both sides."""
    mixed = ((one.mask > 0) & (one.mask < 255)).astype(np.uint8)
    return np.asarray(mixed > 0)


def _detail(image: np.ndarray, here: Mask) -> float:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), max(1.0, len(grey) / 200))
    return float(fine[here].std())


def _skin(one: Tried) -> Mask:
    return (one.mask > 200) & ~_lips(one) & ~_eyes(one)


def _in_mouth(one: Tried) -> tuple[float, dict[str, str]]:
    value, times = _ratio(one, _inner_mouth(one))
    return value, {"times": times}


def _at_eyes(one: Tried) -> tuple[float, dict[str, str]]:
    value, times = _ratio(one, _eyes(one))
    return value, {"times": times}


def _at_boundary(one: Tried) -> tuple[float, dict[str, str]]:
    value, times = _ratio(one, _boundary(one))
    return value, {"times": times}


def _lost_detail(one: Tried) -> tuple[float, dict[str, str]]:
    skin = _skin(one)
    if np.count_nonzero(skin) < 100:
        return -1.0, {}
    left = _detail(one.forgery, skin) / max(_detail(one.truth, skin), 1e-6)
    return 1 - left, {"left": f"{left:.0%}".replace("%", " %")}


Measure = Callable[[Tried], tuple[float, dict[str, str]]]

STILL_TOPICS: dict[str, tuple[Callable[[Tried], bool], Measure]] = {
    "teeth": (_opens_mouth, _in_mouth),
    "blinks": (_closes_eyes, _at_eyes),
    "gaze": (_turns_eyes, _at_eyes),
    "skin": (_any, _lost_detail),
    "boundary": (_any, _at_boundary),
}
"""Topic -> which forgeries show it, and its measure: the larger the worse, with the numbers that the text names."""


def still_examples(tried: Sequence[Tried]) -> Iterator[tuple[str, Chosen]]:
    """For each topic the forgery with the largest error; topics that none shows are left out. No forgery is taken
    twice."""
    taken: set[int] = set()
    for topic, (shows, measure) in STILL_TOPICS.items():
        found = [(*measure(one), index) for index, one in enumerate(tried) if index not in taken and shows(one)]
        if found:
            _, figures, index = max(found, key=lambda item: item[0])
            taken.add(index)
            yield topic, Chosen(index, figures)


def left_error(one: Tried) -> float:
    """Error in what was replaced as a share of what leaving the picture alone would have had there."""
    here = one.mask > 0
    return float(one.error[here].mean() / max(float(_distance(one.source, one.truth)[here].mean()), 1e-6))


def best(tried: Sequence[Tried]) -> Chosen:
    """The forgery that keeps least of the error, of the half in which most had to change."""
    change = [float(_distance(one.source, one.truth).mean()) for one in tried]
    middle = float(np.median(change))
    index = min(
        (i for i, value in enumerate(change) if value >= middle and tried[i].mask.any()),
        key=lambda i: left_error(tried[i]),
    )
    return Chosen(index, {"error": _percent(left_error(tried[index]))})


def facts(tried: Sequence[Tried]) -> dict[str, str]:
    """candidates: how many were tried; unchanged: share of their pixels that were not touched; colour: median
    difference of the mean colour of changed skin, in steps of 255; error: of the best one."""
    colours = []
    for one in tried:
        skin = _skin(one)
        if skin.any():
            means = [image[skin].astype(np.float64).mean(0) for image in (one.forgery, one.truth)]
            colours.append(float(np.abs(means[0] - means[1]).mean()))
    return {
        "candidates": str(len(tried)),
        "unchanged": _percent(float(np.mean([(one.mask == 0).mean() for one in tried]))),
        "colour": f"{float(np.median(colours)) if colours else 0.0:.1f}",
        **best(tried).figures,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def trembling(source: np.ndarray, forgery: np.ndarray, mask: np.ndarray) -> float:
    """How much more a forged clip trembles than its source: mean second difference over time in the changed skin,
    where the eyes and mouth of an expression are not; uint8 (T, H, W, 3) both, mask (H, W) bool."""

    def second(frames: np.ndarray) -> float:
        light = frames.astype(np.float32).mean(-1)
        return float(np.abs(light[2:] - 2 * light[1:-1] + light[:-2])[:, mask].mean())

    return second(forgery) / max(second(source), 1e-6)
