"""Drivers: whose expression is taken, from a photo, video, CSV or sliders, and what it makes of the source's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from generation.editing.following import Follower, Person
from generation.faces.media import Media
from generation.motion import ACTIONS, EXPRESSION_SIZE, expression_of, read_expressions
from generation.records import UserError

Region = Literal["eyes", "brows", "mouth"]
REGIONS: tuple[str, ...] = get_args(Region)


def region_of(action: str) -> str:
    """The region an action moves. Cheeks, jaw, nose and tongue go with the mouth."""
    return "eyes" if action.startswith("eye") else "brows" if action.startswith("brow") else "mouth"


_CALM_SHARE = 0.1
"""Share of a clip's frames, the calmest ones, whose mean is the driver's neutral."""

_MOVING = np.array([not action.startswith("eyeLook") for action in ACTIONS])
"""Actions that tell how calm a face is: a glance is none of them."""


@dataclass(frozen=True)
class EditConfig:
    """What the driver's expression does to the source's own.

    mode: `replace`, the driver's expression instead of the source's; `add`, the source's own and what the driver's
        differs from the driver's neutral
    strength: 0 leaves the source as it is, 1 is the driver's expression, up to 1.5 exaggerates
    regions: of the face that change
    """

    mode: Literal["replace", "add"] = "replace"
    strength: float = 1.0
    regions: tuple[Region, ...] = ("eyes", "brows", "mouth")

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1.5:
            raise UserError(f"strength={self.strength}: must lie between 0, the source as it is, and 1.5")
        if not self.regions:
            raise UserError(f"regions=[]: name at least one of {', '.join(REGIONS)}")


@dataclass(frozen=True, eq=False)
class Driver:
    """Expressions over time.

    seconds: np.ndarray     # (N,)
    expression: np.ndarray  # (N, 52) in [0, 1]
    neutral: np.ndarray     # (52,) the driver's calm face
    named: np.ndarray       # (52,) bool, the actions it says anything about
    held: frames without a face, which have the expression of the last one that has
    moving: whether it is a video or a CSV of several rows, and no photo or sliders
    """

    seconds: np.ndarray
    expression: np.ndarray
    neutral: np.ndarray
    named: np.ndarray
    held: int = 0
    moving: bool = True

    def at(self, seconds: np.ndarray) -> np.ndarray:  # (M,) -> (M, 52)
        """The expressions at other times; after the last one it is held."""
        return np.stack([np.interp(seconds, self.seconds, column) for column in self.expression.T], axis=1)

    def wanted(self, own: np.ndarray, moments: np.ndarray, config: EditConfig) -> np.ndarray:  # (M, 52) each
        """What the source shall express: `own` is what it expresses, `moments` are the driver's expressions."""
        difference = moments - (own if config.mode == "replace" else self.neutral)
        chosen = self.named & [region_of(action) in config.regions for action in ACTIONS]
        return np.clip(own + config.strength * np.where(chosen, difference, 0), 0, 1)


def slider_driver(actions: Mapping[str, float]) -> Driver:
    """One expression; actions without a name keep the source's own reading. Raises `UserError`."""
    for name, value in actions.items():
        if not 0 <= value <= 1:
            raise UserError(f"expression.{name}={value}: must lie between 0 and 1; divide percent by 100")
    named = np.array([action in actions for action in ACTIONS])
    expression = expression_of(dict(actions)).numpy()[None]
    return Driver(np.zeros(1), expression, np.zeros(EXPRESSION_SIZE), named, moving=False)


def expression_driver(expression: np.ndarray) -> Driver:  # (52,)
    """One expression, in which every action counts."""
    neutral = np.zeros(EXPRESSION_SIZE)
    return Driver(np.zeros(1), expression[None], neutral, np.ones(EXPRESSION_SIZE, bool), moving=False)


def csv_driver(path: Path, mode: str) -> Driver:
    """Expressions as a face capture has written them, see `read_expressions`. Raises `UserError`."""
    try:
        seconds, expression = read_expressions(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return _measured(path, seconds, expression, len(seconds) > 1, mode)


def media_driver(
    path: Path, follower: Follower, mode: str, progress: Callable[[int, int], None] | None = None
) -> Driver:
    """The face that fills most of a photo or video. Raises `UserError` where there is none, `MediaError` where there
    is no picture."""
    media = Media(path)
    followed = follower.follow(media, progress)
    if not followed.people:
        raise UserError(f"{path}: no face found in the driver; it must show one, 64 pixels across or more")
    person = max(followed.people, key=_filled)
    return _measured(path, followed.seconds, person.expression.copy(), not media.still, mode)


def _filled(person: Person) -> float:
    return float(np.sum(person.squares[person.read, 2] ** 2))


def _measured(path: Path, seconds: np.ndarray, expression: np.ndarray, moving: bool, mode: str) -> Driver:
    known = ~np.isnan(expression[:, 0])
    if mode == "add" and known.sum() < 2:
        raise UserError(
            f"{path}: mode=add needs a driver that moves, in whose frames a calm face can be found; use mode=replace"
        )
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
    last[: known.argmax()] = known.argmax()
    return Driver(
        seconds,
        expression[last],
        neutral_of(expression[known]),
        np.ones(EXPRESSION_SIZE, bool),
        held=int((~known).sum()),
        moving=moving,
    )


def neutral_of(expression: np.ndarray) -> np.ndarray:  # (N, 52) -> (52,)
    """The calm face in a clip: the mean of the tenth of its frames in which the actions but glances add up to least."""
    activity = expression[:, _MOVING].sum(1)
    calm = np.argsort(activity, kind="stable")[: max(1, round(_CALM_SHARE * len(activity)))]
    return np.asarray(expression[calm].mean(0))
