"""A user's own videos as items: cut, encoded alike whether real or forged, with their sound; forged ones are marked."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from detection.quiz import Item, Media
from generation.editing.editing import digest
from generation.editing.following import Follower
from generation.faces.footage import OriginConfig
from generation.faces.media import VIDEOS, MediaError
from generation.faces.media import Media as File
from generation.provenance import Statement, mark_image, sign
from generation.records import UserError
from scripts.console import say
from scripts.quiz_media import RATE, heat, read_marks, still, video_frame, video_stream

LONGEST = 480
"""Pixels of the longer side that a video is made smaller to."""

_SOUND_RATE = 48_000
_FOLDERS = {"given_real": ("real",), "given_forged": ("forged", "fake")}
_SOURCES = "source"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Given:
    """A video of the user's. source: what a forged one was made of, None where nobody says"""

    kind: str
    path: Path
    source: Path | None = None


def given_videos(folder: Path, most: int) -> list[Given]:
    """As many real as forged ones, at most `most` of each, a multiple of three, in the order of their names. What a
    forged one was made of may lie under the same name in `source/`.

    Raises `UserError` for a missing folder, or fewer than three of one kind.
    """
    if not folder.is_dir():
        raise UserError(f"videos={folder}: no such folder; it holds real/ and forged/ with videos")
    found = {
        kind: sorted(
            path
            for name in names
            for path in (folder / name).glob("*")
            if path.suffix.lower() in VIDEOS and not path.name.startswith(".")
        )
        for kind, names in _FOLDERS.items()
    }
    count = min(most, *map(len, found.values())) // 3 * 3
    if count == 0:
        there = ", ".join(f"{len(paths)} in {_FOLDERS[kind][0]}/" for kind, paths in found.items())
        raise UserError(
            f"videos={folder}: one real and one forged video is needed for each of the three blocks, so three in real/ "
            f"and three in forged/; there are {there}, and there is room for {most} of each"
        )
    left = [path.name for paths in found.values() for path in paths[count:]]
    if left:
        say(f"videos: {count} real and {count} forged ones are used; left out: {', '.join(left)}")
    return [
        Given(kind, path, _source_of(folder, path) if kind == "given_forged" else None)
        for kind, paths in found.items()
        for path in paths[:count]
    ]


def _source_of(folder: Path, forged: Path) -> Path | None:
    return next(iter(sorted((folder / _SOURCES).glob(f"{glob.escape(forged.stem)}.*"))), None)


def make_given(video: Given, seconds: float, origin: OriginConfig, score: Callable[[Path], float | None]) -> Item:
    """The item of a video. score: path of the shown file -> the detector's probability that it is forged

    What its marks were when it was given is told, not what this laboratory added.
    """
    statement = None
    if video.kind == "given_forged":
        statement = Statement(
            reenactor=_UNKNOWN, checkpoint="", parents=(digest(video.path),), consent=origin.consent or "",
            licence=origin.licence or "", synthetic=False, edit={"for": "quiz"},
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / "video.mp4"
        try:
            sound = transcode(video.path, shown, seconds, statement)
            marks = read_marks(video.path)
        except (MediaError, av.FFmpegError) as error:
            raise UserError(f"{video.path}: {error}; take it out of the folder") from error
        told = {}
        if video.source is not None:
            told = _compared(video.source, video.path, seconds, statement)
            transcode(video.source, Path(folder) / "source.mp4", seconds, None)
            told["source"] = Media((Path(folder) / "source.mp4").read_bytes(), "video/mp4")
        return Item(
            f"{video.path.name} {digest(video.path)}",
            video.kind,
            False,
            Media(shown.read_bytes(), "video/mp4", sound),
            marks,
            video.path.stem,
            origin.statement(),
            detector=score(shown),
            **told,
        )


def _compared(source: Path, forged: Path, seconds: float, statement: Statement | None) -> dict[str, Any]:
    """Both at the moment of the greatest change, and the change. Raises `UserError` where they do not fit."""
    greatest, pair = -1.0, None
    try:
        for before, after in zip(File(source), File(forged), strict=False):
            if after.seconds >= seconds:
                break
            frames = _reduced(before.image()), _reduced(after.image())
            if frames[0].shape != frames[1].shape:
                raise UserError(f"{source}: its frames have another size than those of {forged}, which is made of it")
            change = float(np.abs(frames[0].astype(np.float32) - frames[1]).mean())
            if change > greatest:
                greatest, pair = change, frames
    except (MediaError, av.FFmpegError) as error:
        raise UserError(f"{source}: {error}; take it out of the folder") from error
    if pair is None:
        raise UserError(f"{source}: holds no frame; take it out of the folder")
    return {"before": still(pair[0])[0], "after": still(pair[1], statement)[0], "change": heat(*pair)}


def transcode(path: Path, out: Path, seconds: float, statement: Statement | None) -> bool:
    """The first so many seconds as H.264 and AAC in MP4; whether it has sound. Marked where there is a statement."""
    with ExitStack() as stack:
        container: Any = stack.enter_context(av.open(str(out), "w", options={"movflags": "+faststart"}))
        heard: Any = stack.enter_context(av.open(str(path), metadata_errors="ignore"))
        stream: Any = None
        audio = heard.streams.audio[0] if heard.streams.audio else None
        sounding = container.add_stream("aac", rate=_SOUND_RATE, layout="stereo") if audio else None
        last = -1
        for frame in File(path):
            if frame.seconds >= seconds:
                break
            image = _reduced(frame.image())
            if stream is None:
                stream = video_stream(container, image.shape[1], image.shape[0], Fraction(RATE))
                stream.codec_context.time_base = Fraction(1, 1000)
            picture = video_frame(image if statement is None else mark_image(image))
            last = max(last + 1, round(1000 * frame.seconds))
            picture.pts, picture.time_base = last, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        if sounding is not None:
            _sound(heard, audio, container, sounding, seconds)
        container.mux(stream.encode(None))
    if statement is not None:
        sign(out, statement)
    return audio is not None


def _reduced(image: np.ndarray) -> np.ndarray:
    factor = LONGEST / max(image.shape[:2])
    if factor >= 1:
        return image
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _sound(heard: Any, audio: Any, container: Any, sounding: Any, seconds: float) -> None:
    """Sound up to `seconds` after the first picture; it keeps its distance to the pictures."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_SOUND_RATE)
    pictures = heard.streams.video[0]
    start = float((pictures.start_time or 0) * pictures.time_base)
    for frame in heard.decode(audio):
        time = (frame.time or 0.0) - start
        if time >= seconds:
            break
        if time < 0:
            continue
        for part in resampler.resample(frame):
            part.pts = round(time * _SOUND_RATE) if part.pts is None else part.pts - round(start * _SOUND_RATE)
            container.mux(sounding.encode(part))
    container.mux(sounding.encode(None))


class FaceScore:
    """Context manager: the detector's probability of the largest face in a video, None where none is found, or the
    networks that find faces cannot be had."""

    def __init__(self, advise: Callable[[np.ndarray], float], size: int, every: int = 5) -> None:
        self._advise, self._size, self._every = advise, size, every
        self._stack = ExitStack()
        self._follower: Follower | None = None

    def __enter__(self) -> FaceScore:
        try:
            self._follower = self._stack.enter_context(Follower())
        except UserError as error:
            say(f"the detector will say nothing of the videos: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, path: Path) -> float | None:
        if self._follower is None:
            return None
        media = File(path)
        try:
            people = self._follower.follow(media).people
        except UserError as error:
            say(f"the detector will say nothing of the videos: {error}")
            self._follower = None
            return None
        if not people:
            return None
        person = max(people, key=lambda one: one.side)
        crops = [
            person.square(frame.index).crop(frame.image(), self._size)
            for frame in media
            if frame.index % self._every == 0 and person.read[frame.index]
        ]
        return self._advise(np.stack(crops)) if crops else None
