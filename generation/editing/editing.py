"""Editing: a source, the people in it and what they shall express -> new frames, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generation.editing.drivers import Driver, EditConfig
from generation.editing.following import MOST_YAW, Followed, Follower, Person
from generation.editing.redrawing import Look, Redrawer, lay_over
from generation.faces.landmarks import READING_SIZE
from generation.faces.media import Media, read_photo
from generation.faces.people import sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.motion import EXPRESSION_SIZE, POSE
from generation.records import UserError

SYNTHETIC_SIZE = 512
"""Pixels of a synthetic source."""


@dataclass(frozen=True, eq=False)
class Source:
    """What is edited.

    media: a photo or video, None where it was rendered; photo: its pixels, uint8 (H, W, 3), None for a video
    sha256: of the file, "" where it was rendered
    """

    name: str
    followed: Followed
    media: Media | None
    photo: np.ndarray | None
    sha256: str


@dataclass(frozen=True)
class Edited:
    """A new frame: its time, uint8 (H, W, 3), and the mask of what was replaced, uint8 (H, W)."""

    seconds: float
    image: np.ndarray
    mask: np.ndarray


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def synthetic_source(seed: int) -> Source:
    """A person who does not exist, person `seed`, calm, with the exact truth: nothing needs to be read off them."""
    person, scene = sample_person(seed, seed), sample_scene(seed, seed, 0)
    frames = Renderer(SYNTHETIC_SIZE, 4).render(person, scene, np.zeros((1, EXPRESSION_SIZE), np.float32))
    side = float(SYNTHETIC_SIZE)
    square = np.array([(side / 2, side / 2, side, 0)], np.float32)
    landmarks = frames.landmarks * (READING_SIZE / SYNTHETIC_SIZE)
    nobody = np.zeros((1, EXPRESSION_SIZE), np.float32)
    pose = np.asarray(frames.pose, np.float32).reshape(1, len(POSE))
    who = Person(0, side / 2, side / 2, square, nobody, pose, landmarks, np.ones(1, np.float32))
    followed = Followed(np.zeros(1), SYNTHETIC_SIZE, SYNTHETIC_SIZE, (who,))
    return Source(person.name, followed, None, frames.image[0], "")


def chosen(source: Source, face: int | str, smallest: int) -> list[Person]:
    """Who is edited: number `face` from left to right, or `all` that can be.

    smallest: pixels that the square around a face has at least
    Raises `UserError` where nobody is there, the face is too small, or, in a photo, turned too far to the side.
    """
    people = source.followed.people
    if not people:
        raise UserError(f"{source.name}: no face found; a face must be seen from the front and unobstructed")
    if face == "all":
        able = [person for person in people if not _objection(source, person, smallest)]
        if not able:
            raise UserError(f"{source.name}: {_objection(source, people[0], smallest)}")
        return able
    if not isinstance(face, int) or not 0 <= face < len(people):
        places = ", ".join(f"{i} at ({person.x:.0f}, {person.y:.0f})" for i, person in enumerate(people))
        raise UserError(f"{source.name}: face={face} is not there; from left to right there are {places}; or face=all")
    objection = _objection(source, people[face], smallest)
    if objection:
        raise UserError(f"{source.name}: {objection}")
    return [people[face]]


def _objection(source: Source, person: Person, smallest: int) -> str:
    where = f"the face at ({person.x:.0f}, {person.y:.0f})"
    if person.side < smallest:
        return f"{where}: the square around it has {person.side:.0f} pixels, smallest={smallest}; take a larger picture"
    if not person.weight.any():
        yaw = float(np.nanmean(np.abs(person.pose[:, POSE.index("yaw")])))
        return f"{where} is turned {yaw:.2f} rad to the side; at most {MOST_YAW} can be edited"
    return ""


def edited(
    source: Source, people: Sequence[Person], driver: Driver, config: EditConfig, redrawer: Redrawer
) -> Iterator[Edited]:
    """The new frames. A photo has as many as the driver has moments; a video keeps its own, the driver is resampled in
    time and held at its last expression. Frames in which a face is not read, or turned too far, keep that face."""
    if source.photo is not None:
        yield from _of_photo(source.photo, people, driver, config, redrawer)
        return
    assert source.media is not None
    moments = driver.at(source.followed.seconds)
    wanted = [driver.wanted(person.expression, moments, config) for person in people]
    for frame in source.media:
        image = frame.image()
        new, mask = image, np.zeros(image.shape[:2], np.uint8)
        for person, expressions in zip(people, wanted, strict=True):
            weight = person.weight[frame.index]
            if weight == 0:
                continue
            own = person.expression[frame.index]
            look = _look(redrawer, image, person, frame.index)
            result = redrawer.draw(look, own + weight * (expressions[frame.index] - own))
            new, one = lay_over(new, image, look, result)
            mask = np.maximum(mask, one)
        yield Edited(frame.seconds, new, mask)


def _of_photo(
    photo: np.ndarray, people: Sequence[Person], driver: Driver, config: EditConfig, redrawer: Redrawer
) -> Iterator[Edited]:
    looks = [_look(redrawer, photo, person, 0) for person in people]
    for seconds, moment in zip(driver.seconds, driver.expression, strict=True):
        new, mask = photo, np.zeros(photo.shape[:2], np.uint8)
        for person, look in zip(people, looks, strict=True):
            wanted = driver.wanted(person.expression[0], moment, config)
            new, one = lay_over(new, photo, look, redrawer.draw(look, wanted))
            mask = np.maximum(mask, one)
        yield Edited(float(seconds), new, mask)


def _look(redrawer: Redrawer, frame: np.ndarray, person: Person, index: int) -> Look:
    return redrawer.look(
        frame, person.square(index), person.expression[index], person.pose[index], person.landmarks[index]
    )


def open_source(path: Path, follower: Follower, progress: Callable[[int, int], None] | None = None) -> Source:
    """A photo or video with everybody in it. Raises `MediaError` where there is no picture."""
    media = Media(path)
    followed = follower.follow(media, progress)
    return Source(str(path), followed, media, read_photo(path) if media.still else None, digest(path))
