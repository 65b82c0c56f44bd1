"""Tracking: faces found in a frame, cuts between shots, and one track for every appearance of a person.

YuNet (Wu, Peng and Yu 2023, https://doi.org/10.1007/s11633-023-1423-y) finds faces in a reduced frame, some times a
second. A face goes on a track where it lies where the track leads and looks like the person on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from generation.faces.media import Frame, Media
from generation.faces.weights import YUNET, weights_file
from generation.records import UserError

FINDING_SIZE = 384
"""Longer side of the reduced frame, pixels: YuNet finds faces of about 10 to 300."""

FINE_SIZE = 1536
"""The same for the small faces of a photo."""

LOOK_SECONDS = 0.16
"""How often faces are looked for, at least; the start of every shot is always looked at."""

LOST_SECONDS = 0.5
"""How long a face may be out of sight (a hand before it, a blurred frame) and still be on the same track."""

_SCORE, _OVERLAP = 0.7, 0.2
_VISIBLE = 0.8
"""Share of a face's box that lies in the frame; a face that has left it further has left."""

LIKENESS, SURE_LIKENESS = 0.35, 0.6
"""Least cosine between a face and the person on the track, where their boxes overlap and where they are only a face's
width apart, as after a quick movement. Within 41 clips it was never below .55."""


@dataclass(frozen=True)
class Sight:
    """One face in one frame.

    box: (4,) left, top, right, bottom, pixels of the frame
    points: (5, 2), see `generation.faces.alignment`
    """

    box: np.ndarray
    points: np.ndarray


class FaceFinder:
    """YuNet. Making one raises `UserError` where the model cannot be had or is damaged."""

    def __init__(self) -> None:
        model = weights_file(YUNET)
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (32, 32), _SCORE, 0.3)
        except cv2.error as error:
            raise UserError(f"{model}: not a face finder that OpenCV can open; replace it by {YUNET.url}") from error

    def find(self, frame: Frame) -> list[Sight]:
        """Faces that lie in the frame with at least `_VISIBLE` of their box and all five points."""
        return self._look(frame, FINDING_SIZE)

    def find_all(self, frame: Frame) -> list[Sight]:
        """The same with small faces too, for a photo, which is looked at once."""
        sights = self.find(frame)
        for sight in self._look(frame, FINE_SIZE) if max(frame.width, frame.height) > FINDING_SIZE else []:
            if all(_overlap(sight.box, other.box) < _OVERLAP for other in sights):
                sights.append(sight)
        return sights

    def _look(self, frame: Frame, longest: int) -> list[Sight]:
        image = frame.image(longest)
        height, width = image.shape[:2]
        factor = frame.width / width
        if min(height, width) < 16:
            return []
        self._network.setInputSize((width, height))
        _, found = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        sights = []
        for face in found if found is not None else []:
            left, top = face[:2]
            right, bottom = face[:2] + face[2:4]
            points = face[4:14].reshape(5, 2)
            seen = max(0, min(right, width) - max(left, 0)) * max(0, min(bottom, height) - max(top, 0))
            whole = face[2] * face[3]
            if seen >= _VISIBLE * whole > 0 and (points >= 0).all() and (points < (width, height)).all():
                sights.append(Sight(np.array([left, top, right, bottom]) * factor, (points + 0.5) * factor))
        return sights


class Cuts:
    """Whether a frame starts a new shot: its colours differ more from the last frame's than is usual there.

    The histogram has 8 x 8 x 8 colours in each quarter of the frame. Within 41 shots of talking people it changed by up
    to .22 from frame to frame; between two shots of different people before the same backdrop by .26 and more.
    """

    LEAST, TIMES = 0.24, 3.0
    """Share of the pixels that change their place in the histogram, and how many times the usual share that is."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual: deque[float] = deque(maxlen=8)

    def cut(self, image: np.ndarray) -> bool:  # uint8 (H, W, 3), reduced
        """Whether this frame starts a shot; the first one does."""
        small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) // 32
        quarter = np.indices((64, 64)) // 32
        place = np.tensordot((1024, 512), quarter, 1) + small @ np.array((64, 8, 1))
        histogram = np.bincount(place.ravel(), minlength=2048) / place.size
        change = 1.0 if self._last is None else float(np.abs(histogram - self._last).sum() / 2)
        self._last = histogram
        if change > self.LEAST and change > self.TIMES * (np.median(self._usual) if self._usual else 0.0):
            self._usual.clear()
            return True
        self._usual.append(change)
        return False


@dataclass
class Track:
    """One appearance of one person in one shot.

    frames, seconds, points, boxes: of every look that found the face: frame number, time, (5, 2) and (4,) pixels
    last: number of the last frame that belongs to the track
    """

    shot: int
    frames: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    last: int = -1
    _embeddings: np.ndarray | float = 0.0

    @property
    def first(self) -> int:
        return self.frames[0]

    @property
    def embedding(self) -> np.ndarray:  # (D,) of length 1
        """The mean over the looks."""
        return np.asarray(self._embeddings / np.linalg.norm(self._embeddings))

    def add(self, frame: int, seconds: float, sight: Sight, embedding: np.ndarray) -> None:
        self.frames.append(frame)
        self.seconds.append(seconds)
        self.points.append(sight.points)
        self.boxes.append(sight.box)
        self.last = frame
        self._embeddings = self._embeddings + embedding

    def box_at(self, seconds: float) -> np.ndarray:  # (4,)
        """Where the face would be now if it went on as between the last two looks."""
        if len(self.boxes) < 2:
            return self.boxes[-1]
        ahead = (seconds - self.seconds[-1]) / max(self.seconds[-1] - self.seconds[-2], 1e-6)
        return np.asarray(self.boxes[-1] + min(ahead, 2.0) * (self.boxes[-1] - self.boxes[-2]))

    def points_at(self, seconds: np.ndarray) -> np.ndarray:  # (N,) -> (N, 5, 2)
        """The points between the looks; after the last one they go on as between the last two."""
        times, known = np.array(self.seconds), np.stack(self.points).reshape(len(self.points), 10)
        if len(times) > 1 and seconds[-1] > times[-1]:
            speed = (known[-1] - known[-2]) / max(times[-1] - times[-2], 1e-6)
            known = np.vstack([known, known[-1] + speed * (seconds[-1] - times[-1])])
            times = np.append(times, seconds[-1])
        return np.stack([np.interp(seconds, times, column) for column in known.T], axis=1).reshape(-1, 5, 2)


class Tracker:
    """Puts the faces of one look after the other onto tracks; `tracks` are those that have ended, in order of start."""

    def __init__(self) -> None:
        self.shots = 0
        self._open: list[Track] = []
        self._ended: list[Track] = []
        self._looked = -1

    @property
    def tracks(self) -> list[Track]:
        return sorted(self._ended, key=lambda track: (track.first, track.boxes[0][0]))

    def track_of(self, sight: Sight) -> Track:
        """The track that a face of the last look was put on."""
        return next(track for track in self._open if track.boxes[-1] is sight.box)

    def look(self, frame: int, seconds: float, sights: list[Sight], embeddings: list[np.ndarray]) -> None:
        """What was found in a frame: every face with its embedding, (D,) of length 1."""
        gone = [track for track in self._open if seconds - track.seconds[-1] > LOST_SECONDS]
        self._ended += gone
        self._open = [track for track in self._open if track not in gone]
        gain = np.zeros((len(self._open), len(sights)))
        for row, track in enumerate(self._open):
            ahead, person = track.box_at(seconds), track.embedding
            for column, (sight, embedding) in enumerate(zip(sights, embeddings, strict=True)):
                overlap = max(_overlap(ahead, sight.box), _overlap(track.boxes[-1], sight.box))
                likeness = float(person @ embedding)
                step = np.abs(sight.box - track.boxes[-1]).max() / (sight.box[2:] - sight.box[:2]).max()
                least = LIKENESS if overlap >= _OVERLAP else SURE_LIKENESS if step < 1 else 1.0
                if likeness >= least:
                    gain[row, column] = overlap + likeness
        new = set(range(len(sights)))
        for row, column in zip(*linear_sum_assignment(-gain), strict=True):
            if gain[row, column] > 0:
                self._open[row].add(frame, seconds, sights[column], embeddings[column])
                new.discard(int(column))
        for column in sorted(new):
            track = Track(self.shots - 1)
            track.add(frame, seconds, sights[column], embeddings[column])
            self._open.append(track)
        self._looked = frame

    def cut(self, last: int) -> None:
        """The shot whose last frame is `last` has ended, or -1 where the first begins; every track ends with it."""
        for track in self._open:
            if track.last == self._looked:  # seen at the last look: the frames since are its own
                track.last = last
        self._ended += self._open
        self._open = []
        self.shots += 1


@dataclass(frozen=True)
class Found:
    """What going once through a photo or video finds.

    tracks: in order of start; seconds: (N,) of every frame; starts: numbers of the frames that begin a shot
    width, height: pixels of the frames
    """

    tracks: list[Track]
    seconds: np.ndarray
    starts: frozenset[int]
    width: int
    height: int


def find_tracks(
    media: Media,
    finder: FaceFinder,
    embed: Callable[[np.ndarray, np.ndarray], np.ndarray],
    progress: Callable[[int], None] | None = None,
) -> Found:
    """Faces and cuts of all frames. `embed` takes a frame and the points of a face, see `FaceEmbedder`; `progress` how
    many frames are done. Raises `MediaError`."""
    tracker, cuts, looked = Tracker(), Cuts(), -np.inf
    seconds: list[float] = []
    starts: list[int] = []
    for frame in media:
        small = frame.image(FINDING_SIZE)
        if cuts.cut(small):
            tracker.cut(frame.index - 1)
            starts.append(frame.index)
            looked = -np.inf
        if frame.seconds - looked >= LOOK_SECONDS - 1e-6:
            looked = frame.seconds
            sights = finder.find_all(frame) if media.still else finder.find(frame)
            image = frame.image() if sights else small
            embeddings = [embed(image, sight.points) for sight in sights]
            tracker.look(frame.index, frame.seconds, sights, embeddings)
        seconds.append(frame.seconds)
        if progress:
            progress(len(seconds))
    tracker.cut(len(seconds) - 1)
    return Found(tracker.tracks, np.asarray(seconds), frozenset(starts), frame.width, frame.height)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(sides.clip(0)))
    return shared / max(float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared, 1e-9)
