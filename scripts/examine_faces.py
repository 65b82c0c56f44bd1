"""Faces of a photo or video for an examination: found by YuNet, tracked, read by MediaPipe; people told apart.

A file is gone through once. Of a video every `every`-th frame is looked at; of a very long one only frames that are
whole by themselves are decoded. Nothing is kept of a frame but its crops, which are handed on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from detection.examine_looks import Look, Seen
from generation.faces.alignment import EYE_DISTANCE, moved, steady_squares
from generation.faces.identities import link
from generation.faces.landmarks import READING_SIZE
from generation.faces.media import LISTED_RATE, Frame, Media, MediaError
from generation.faces.networks import FaceNetworks
from generation.faces.tracking import FINDING_SIZE, LOOK_SECONDS, Cuts, Sight, Tracker
from generation.records import UserError

LONG_SECONDS = 600.0
"""A video that is longer is not decoded whole unless `every` says so."""


class Length(NamedTuple):
    """frames and seconds as the container states them, 0 where it does not."""

    frames: int
    seconds: float


def stated_length(path: Path) -> Length:
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                return Length(0, 0.0)
            stream = container.streams.video[0]
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            seconds = seconds or (container.duration or 0) / av.time_base
            frames = stream.frames or round(seconds * float(stream.average_rate or LISTED_RATE))
            return Length(frames, seconds)
    except (av.FFmpegError, OSError):
        return Length(0, 0.0)


class FaceSource(FaceNetworks):
    """Context manager that holds the networks; see `detection.examine_looks.Finder`.

    every: each so many-th frame of a video is looked at, None: chosen so that at most `most` are
    progress: (frames done, frames in all)
    """

    def __init__(
        self, every: int | None = None, most: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> None:
        if every is not None and every < 1:
            raise UserError(f"every={every}: must be 1 (every frame) or more")
        self.every, self.most, self.progress = every, most, progress
        super().__init__()

    def looks(self, path: Path, size: int, seen: Seen) -> Iterator[Look]:
        try:
            yield from self._looks(path, size, seen)
        except (MediaError, av.FFmpegError, OSError) as error:
            raise UserError(f"{path}: {error}") from error

    def _looks(self, path: Path, size: int, seen: Seen) -> Iterator[Look]:
        length = Length(0, 0.0)
        media = Media(path)
        if not media.still:
            length = stated_length(path)
            if self.every is None and length.seconds > LONG_SECONDS:
                media = Media(path, keyframes=True)
        yield from self._photo(media, size, seen) if media.still else self._video(media, length, size, seen)
        seen.damage = media.damage

    def _photo(self, media: Media, size: int, seen: Seen) -> Iterator[Look]:
        (frame,) = media
        seen.kind, seen.width, seen.height, seen.frames, seen.looked = "photo", frame.width, frame.height, 1, 1
        sights = sorted(self._finder.find_all(frame), key=lambda sight: float(sight.box[0]))
        seen.person = {number: number for number in range(len(sights))}
        image = frame.image()
        for number, sight in enumerate(sights):
            yield self._look(image, sight, number, number, frame, size)

    def _video(self, media: Media, length: Length, size: int, seen: Seen) -> Iterator[Look]:
        step, seen.sampling = self._sampling(length)
        seen.kind = "video"
        tracker, cuts, number = Tracker(), Cuts(), 0
        place: dict[int, int] = {}  # of a box, by its address: which look it is of
        tracks: dict[int, int] = {}
        after, count = 0.0, 0
        for frame in media:
            count += 1
            here = frame.seconds if length.seconds > LONG_SECONDS and self.every is None else float(frame.index)
            if self.progress:
                self.progress(frame.index + 1, max(length.frames, frame.index + 1))
            seen.width, seen.height, seen.seconds = frame.width, frame.height, frame.seconds
            if here < after - 1e-6:
                continue
            after = here + step
            if cuts.cut(frame.image(FINDING_SIZE)):
                tracker.cut(frame.index - 1)
            sights = self._finder.find(frame)
            image = frame.image() if sights else np.empty(0)
            embeddings = [self._embedder.embed(image, sight.points) for sight in sights]
            tracker.look(frame.index, seen.looked * LOOK_SECONDS, sights, embeddings)  # far apart, and yet one track
            seen.looked += 1
            for sight in sights:
                place[id(sight.box)] = number
                track = tracks.setdefault(id(tracker.track_of(sight)), len(tracks))
                yield self._look(image, sight, number, track, frame, size)
                number += 1
        tracker.cut(seen.looked - 1)
        if not media.keyframes and count < 0.98 * length.frames - 1 and not media.damage:
            media.damage = f"only {count} of {length.frames} frames are there: the file is truncated"
        seen.frames = max(length.frames, count)
        numbers = link([track.embedding for track in tracker.tracks])
        seen.person = {
            place[id(box)]: person for track, person in zip(tracker.tracks, numbers, strict=True) for box in track.boxes
        }

    def _sampling(self, length: Length) -> tuple[float, str]:
        """How far apart looks are, in frames (in seconds where only whole frames are decoded), and that in words."""
        if self.every is not None:
            return self.every, "" if self.every == 1 else f"one frame in {self.every} was looked at, as asked"
        if length.seconds > LONG_SECONDS:
            apart = length.seconds / self.most
            return apart, (
                f"{length.seconds / 60:.0f} minutes are long: single frames about {apart:.0f} s apart were looked at; "
                "every=N looks at each Nth frame"
            )
        step = max(1, math.ceil(length.frames / self.most))
        return (
            step,
            "" if step == 1 else f"one frame in {step} of {length.frames} was looked at; every=1 looks at all",
        )

    def _look(self, image: np.ndarray, sight: Sight, number: int, track: int, frame: Frame, size: int) -> Look:
        (square,) = steady_squares(sight.points[None], np.zeros(1))
        pose, landmarks = (math.nan, math.nan), np.full((68, 2), np.nan, np.float32)
        reading = self._reader.read(square.crop(image, READING_SIZE))
        if reading is not None:
            away = np.linalg.norm(reading.eyes.mean(0) - square.inside(sight.points[:2], READING_SIZE).mean(0))
            if away <= EYE_DISTANCE * READING_SIZE / 2:  # else it is another face
                reading = moved(reading, square, READING_SIZE, square, size)
                pose, landmarks = (float(reading.pose[0]), float(reading.pose[1])), reading.landmarks
        crop, matrix = square.crop(image, size), square.matrix(size)
        return Look(number, track, frame.index, frame.seconds, sight.box, square.side, pose, crop, matrix, landmarks)


@cache
def face_finder(every: int | None, most: int = 100) -> FaceSource:
    """What a worker process finds faces with, until it ends."""
    return FaceSource(every, most).__enter__()
