"""Following: who is in a photo or video, where each face lies in every frame, and what MediaPipe reads off it.

A video is gone through twice, once to find and track faces, once to read them. Of a frame only numbers are kept, less
than a kilobyte for each face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from generation.faces.alignment import EYE_DISTANCE, Square, smoothed, steady_squares
from generation.faces.identities import link
from generation.faces.landmarks import READING_SIZE, Reading
from generation.faces.media import Media
from generation.faces.networks import FaceNetworks
from generation.faces.tracking import Found, Track, find_tracks
from generation.motion import EXPRESSION_SIZE, POSE

READING_SECONDS = 0.035
"""Standard deviation of the Gaussian over time that calms what is read: a blink of 0.1 s stays a blink."""

FADE_SECONDS = 0.12
"""How long an edit takes to fade in and out where a face is lost or turned away in the middle of a shot."""

MOST_YAW = 0.6
"""Radians by which a face may be turned to the side and still be edited."""


@dataclass(eq=False)
class Person:
    """One person over all N frames. Rows are NaN where the face is not there or could not be read.

    first, x, y: the frame where the face is first found, and where in it
    squares: np.ndarray      # (N, 4) x, y, side, angle of the `Square` that is edited; also where it could not be read
    expression: np.ndarray   # (N, 52)
    pose: np.ndarray         # (N, 6) in that square
    landmarks: np.ndarray    # (N, 68, 2) pixels of that square at `READING_SIZE`
    weight: np.ndarray       # (N,) in [0, 1], how much of an edit may show: 0 where nothing was read
    """

    first: int
    x: float
    y: float
    squares: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    landmarks: np.ndarray
    weight: np.ndarray

    @classmethod
    def nowhere(cls, frames: int, first: int, x: float, y: float) -> Person:
        def empty(*shape: int) -> np.ndarray:
            return np.full((frames, *shape), np.nan, np.float32)

        landmarks, weight = empty(68, 2), np.zeros(frames, np.float32)
        return cls(first, x, y, empty(4), empty(EXPRESSION_SIZE), empty(len(POSE)), landmarks, weight)

    @property
    def read(self) -> np.ndarray:  # (N,) bool
        return np.asarray(~np.isnan(self.expression[:, 0]))

    @property
    def side(self) -> float:
        """Median side of the squares, pixels of the frame."""
        return float(np.nanmedian(self.squares[:, 2]))

    def square(self, frame: int) -> Square:
        return Square(*map(float, self.squares[frame]))


@dataclass(frozen=True)
class Followed:
    """What was seen in a photo or video.

    seconds: np.ndarray  # (N,) time of every frame
    people: from left to right, as each was first seen
    damage: what of the file could not be decoded, in words
    """

    seconds: np.ndarray
    width: int
    height: int
    people: tuple[Person, ...]
    damage: str = ""


class Follower(FaceNetworks):
    """Context manager that holds the networks. Making or entering one, or following a video, raises `UserError` where
    a network cannot be had."""

    def follow(self, media: Media, progress: Callable[[int, int], None] | None = None) -> Followed:
        """Everybody in all frames. `progress` takes (frames done, frames in all) of the second pass.

        Raises `MediaError` where there is no picture to be had.
        """
        embed = _nobody if media.still else self._embedder.embed
        found = find_tracks(media, self._finder, embed)
        damage = media.damage
        people = _people(found, media.still)
        squares = {id(track): _squares(track, found.seconds) for _, tracks in people for track in tracks}
        for frame in media:
            image: np.ndarray | None = None
            for person, tracks in people:
                track = next((track for track in tracks if track.first <= frame.index <= track.last), None)
                if track is None:
                    continue
                square, eyes = squares[id(track)][frame.index - track.first]
                image = frame.image() if image is None else image
                person.squares[frame.index] = (square.x, square.y, square.side, square.angle)
                reading = self._read(image, square, eyes)
                if reading is not None:
                    person.expression[frame.index] = reading.expression
                    person.pose[frame.index] = reading.pose
                    person.landmarks[frame.index] = reading.landmarks
            if progress:
                progress(frame.index + 1, len(found.seconds))
        for person, tracks in people:
            for track in tracks:
                _calm(person, track, found)
        return Followed(
            found.seconds, found.width, found.height, tuple(person for person, _ in people if person.read.any()), damage
        )

    def _read(self, image: np.ndarray, square: Square, eyes: np.ndarray) -> Reading | None:
        """None where the face is not read, or another one is. eyes: (2,) their midpoint, pixels of the frame"""
        reading = self._reader.read(square.crop(image, READING_SIZE))
        if reading is None:
            return None
        away = np.linalg.norm(reading.eyes.mean(0) - square.inside(eyes, READING_SIZE))
        return reading if away <= EYE_DISTANCE * READING_SIZE / 2 else None


def _nobody(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.ones(1)


def _people(found: Found, still: bool) -> list[tuple[Person, list[Track]]]:
    """Tracks of one person are put together; two that are seen at the same time are two people."""
    tracks = found.tracks
    numbers = range(len(tracks)) if still else link([track.embedding for track in tracks])
    groups: list[tuple[int, list[Track]]] = []
    for number, track in zip(numbers, tracks, strict=True):
        for other, group in groups:
            if other == number and all(track.first > one.last or track.last < one.first for one in group):
                group.append(track)
                break
        else:
            groups.append((number, [track]))
    people = []
    for _, group in groups:
        left, top, right, bottom = group[0].boxes[0]
        middle = float(left + right) / 2, float(top + bottom) / 2
        people.append((Person.nowhere(len(found.seconds), group[0].first, *middle), group))
    return sorted(people, key=lambda item: (item[0].x, item[0].first))


def _squares(track: Track, seconds: np.ndarray) -> list[tuple[Square, np.ndarray]]:
    """Of every frame of a track: the square, and the midpoint of the eyes."""
    times = seconds[track.first : track.last + 1]
    points = track.points_at(times)
    return list(zip(steady_squares(points, times), points[:, :2].mean(1), strict=True))


def _calm(person: Person, track: Track, found: Found) -> None:
    """Smooth what was read on one track, and weigh its frames."""
    rows = np.arange(track.first, track.last + 1)
    seconds, read = found.seconds[rows], person.read[rows]
    if not read.any():
        return
    if len(rows) > 1:
        for values in (person.expression, person.pose, person.landmarks):
            columns = values[rows].reshape(len(rows), -1)
            for column in columns.T:
                column[read] = smoothed(np.interp(seconds, seconds[read], column[read]), seconds, READING_SECONDS)[read]
            values[rows] = columns.reshape(values[rows].shape)
        np.clip(person.expression[rows], 0, 1, out=person.expression[rows[0] : rows[-1] + 1])
    good = read & ~(np.abs(person.pose[rows, POSE.index("yaw")]) > MOST_YAW)
    person.weight[rows] = _weights(
        good, seconds, track.first in found.starts, track.last + 1 in found.starts | {len(found.seconds)}
    )


def _weights(good: np.ndarray, seconds: np.ndarray, whole_start: bool, whole_end: bool) -> np.ndarray:  # (N,)
    """1 in the midst of good frames, falling to 0 towards others; towards a cut nothing fades."""
    bad = seconds[~good]
    step = FADE_SECONDS / 4
    bad = np.concatenate([[] if whole_start else [seconds[0] - step], bad, [] if whole_end else [seconds[-1] + step]])
    if len(bad) == 0:
        return np.ones(len(seconds))
    after = np.searchsorted(bad, seconds)
    ahead = np.where(after < len(bad), bad[np.minimum(after, len(bad) - 1)] - seconds, np.inf)
    behind = np.where(after > 0, seconds - bad[np.maximum(after - 1, 0)], np.inf)
    return np.where(good, np.minimum(np.minimum(ahead, behind) / FADE_SECONDS, 1.0), 0.0)
