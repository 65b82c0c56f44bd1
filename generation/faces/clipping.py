"""Clipping: one photo or video -> clips, each one person in one shot, as aligned rows with Motion and landmarks.

The file is gone through twice: once to find and track faces in reduced frames, once to crop, read and write them. No
more than one frame, and a few rows of every clip, are held at a time.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from generation import records
from generation.faces.alignment import EYE_DISTANCE, Square, bench_square, moved, steady_squares
from generation.faces.identities import FaceEmbedder
from generation.faces.landmarks import READING_SIZE, FanReader, Reading
from generation.faces.media import Frame, Media, MediaError
from generation.faces.networks import FaceNetworks
from generation.faces.tracking import Track, find_tracks
from generation.records import UserError

STRIP_FRAMES, STRIP_SIZE = 8, 96
"""Pictures of a clip on the contact sheet, and their pixels."""

_ROWS = 32
"""Rows of one clip that are held before they are written."""


class Item(Protocol):
    """One photo or video of a set, or the frames of one.

    path: a photo, a video, or a folder of frames; frames: their files in order, if they are listed
    name: unique in the set, with / between its parts
    label: 0 real, 1 forged; method: what forged it, "" for real ones
    identity, split: as the set gives them, "" where it does not
    mask: photo, video or folder of the forged region, frame for frame; None where there is none
    """

    @property
    def path(self) -> Path: ...
    @property
    def frames(self) -> tuple[Path, ...] | None: ...
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def mask(self) -> Path | None: ...


@dataclass(frozen=True)
class ClipConfig:
    """How clips are made of a file.

    size: pixels of the square crops
    alignment: `steady`, one calm path of squares per clip, for reenactment; `deepfakebench`, every frame for itself by
        five landmarks, as DeepfakeBench does it (its size is 256)
    landmarks: `mediapipe`, or `face_alignment` for FAN; Motion is MediaPipe's in both
    frames: of every clip, evenly spaced over it; None is all
    shortest: frames that a clip of a video has at least
    smallest: pixels that the square around a face has in the file at least
    """

    size: int = 64
    alignment: Literal["steady", "deepfakebench"] = "steady"
    landmarks: Literal["mediapipe", "face_alignment"] = "mediapipe"
    frames: int | None = None
    shortest: int = 8
    smallest: int = 64

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("frames", 1), ("shortest", 1), ("smallest", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"data.{name}={value}: must be at least {least}")


@dataclass(eq=False)
class _Plan:
    """What becomes of one track. squares, chosen: of every frame, from the track's first on."""

    name: str
    path: Path
    track: Track
    points: np.ndarray  # (N, 5, 2)
    squares: list[Square]
    chosen: frozenset[int]  # numbers of frames
    shown: frozenset[int]  # those of them on the contact sheet

    def __post_init__(self) -> None:
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self.strip: list[np.ndarray] = []
        self.times: list[tuple[int, float]] = []

    def add(self, row: dict[str, Any], picture: np.ndarray, frame: Frame) -> None:
        self.times.append((frame.index, round(frame.seconds, 4)))
        if frame.index in self.shown:
            self.strip.append(cv2.resize(picture, (STRIP_SIZE, STRIP_SIZE), interpolation=cv2.INTER_AREA))
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._write()

    def _write(self) -> None:
        schema = records.row_features().arrow_schema
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._write()
        if self._writer is not None:
            self._writer.close()
        if self.strip:
            sheet = np.zeros((STRIP_SIZE, STRIP_SIZE * STRIP_FRAMES, 3), np.uint8)
            strip = np.concatenate(self.strip, axis=1)
            sheet[:, : strip.shape[1]] = strip
            records.write_beside(self.path.with_suffix(".png"), records.encode_png(sheet))


class Clipper(FaceNetworks):
    """Context manager that holds the networks of one process.

    Making or entering one raises `UserError` where a network cannot be had.
    """

    def __init__(self, config: ClipConfig) -> None:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        super().__init__()
        self._config = config
        self._embedder = FaceEmbedder()  # every file needs it
        self._fan = FanReader() if config.landmarks == "face_alignment" else None

    @property
    def networks(self) -> dict[str, str]:
        """What reads faces here: the identity network's file and content."""
        return {"identity": self._embedder.name, "identity_sha256": self._embedder.sha256}

    def clips(self, item: Item, origin: str, seed: int, folder: Path) -> dict[str, Any]:
        """Write the clips of a file as `NNN.parquet` into the folder, each with a strip of pictures, `NNN.png`.

        Rows have neither identity nor split unless the item has. Returns what was found, and in words what was dropped
        and why: a file that cannot be read is told like a face that is too small.
        """
        entry: dict[str, Any] = {"file": item.name, "kind": "", "frames": 0, "seconds": 0.0, "clips": [], "dropped": []}
        try:
            media = Media(item.path, item.frames)
            entry["kind"] = "photo" if media.still else "video"
            tracks, seconds = self._tracks(media, entry)
            if media.damage:
                entry["dropped"].append(media.damage)
            if not tracks:
                entry["dropped"].append(f"no face found in {_frames(len(seconds))}")
            plans = self._plans(tracks, seconds, item, media.still, folder, entry)
            if plans:
                self._write(plans, media, item, origin, seed)
                self._tell(plans, media.still, entry)
        except (MediaError, av.FFmpegError, cv2.error, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise  # nothing is wrong with the file
            entry["dropped"].append(str(error))
        return entry

    def _tracks(self, media: Media, entry: dict[str, Any]) -> tuple[list[Track], np.ndarray]:
        """The tracks, and the time of every frame."""
        found = find_tracks(media, self._finder, self._embedder.embed)
        entry["width"], entry["height"] = found.width, found.height
        entry["frames"], entry["seconds"] = len(found.seconds), round(found.seconds[-1], 3)
        return found.tracks, found.seconds

    def _plans(
        self, tracks: list[Track], seconds: np.ndarray, item: Item, still: bool, folder: Path, entry: dict[str, Any]
    ) -> list[_Plan]:
        plans: list[_Plan] = []
        for track in tracks:
            frames = np.arange(track.first, track.last + 1)
            where = _place(track, still)
            if not still and len(frames) < self._config.shortest:
                entry["dropped"].append(
                    f"{where}: seen in {_frames(len(frames))}, data.shortest={self._config.shortest}"
                )
                continue
            points = track.points_at(seconds[frames])
            squares = steady_squares(points, seconds[frames])
            side = float(np.median([square.side for square in squares]))
            if side < self._config.smallest:
                entry["dropped"].append(f"{where}: {side:.0f} pixels, data.smallest={self._config.smallest}")
                continue
            chosen = frames[_even(len(frames), self._config.frames or len(frames))]
            shown = chosen[_even(len(chosen), STRIP_FRAMES)]
            wanted = frozenset(chosen.tolist()), frozenset(shown.tolist())
            number = len(plans)
            name, path = f"{item.name}#{number}", folder / f"{number:03d}.parquet"
            plans.append(_Plan(name, path, track, points, squares, *wanted))
        return _of_one_person(plans, still, entry) if item.identity else plans

    def _write(self, plans: list[_Plan], media: Media, item: Item, origin: str, seed: int) -> None:
        masks = iter(Media(item.mask)) if item.mask is not None else None
        for frame in media:
            wanted = [plan for plan in plans if frame.index in plan.chosen]
            region = next(masks, None) if masks is not None else None
            if not wanted:
                continue
            image = frame.image()
            forged = None if region is None else region.pixels(frame.width, frame.height)[..., 0]
            for plan in wanted:
                index = frame.index - plan.track.first
                read = self._read(image, plan.squares[index], plan.points[index])
                if read is None:
                    continue
                reading, square = read
                picture = square.crop(image, self._config.size)
                mask = None
                if forged is not None:
                    mask = np.where(square.crop(forged, self._config.size) > 127, 255, 0).astype(np.uint8)
                row = records.row(
                    picture,
                    clip=plan.name,
                    frame=frame.index,
                    identity=item.identity,
                    scene=f"{item.name}#shot{plan.track.shot}",
                    expression=reading.expression,
                    pose=reading.pose,
                    landmarks=reading.landmarks,
                    split=item.split,
                    origin=origin,
                    seed=seed,
                    mask=mask,
                    method=(item.method or "forged") if item.label else "",
                )
                plan.add(row, picture, frame)
        for plan in plans:
            plan.close()

    def _read(self, image: np.ndarray, square: Square, points: np.ndarray) -> tuple[Reading, Square] | None:
        """What is read in the square that is to be cropped, and that square; None where the face is not read there."""
        size = self._config.size
        crop = square.crop(image, READING_SIZE)
        reading = self._reader.read(crop)
        if reading is None:
            return None
        eyes = square.inside(points[:2], READING_SIZE).mean(0)
        if np.linalg.norm(reading.eyes.mean(0) - eyes) > EYE_DISTANCE * READING_SIZE / 2:
            return None  # another face
        if self._fan is not None:
            landmarks = self._fan.read(crop, reading.eyes)
            if landmarks is None:
                return None
            reading = replace(reading, landmarks=landmarks)
        wanted = square
        if self._config.alignment == "deepfakebench":
            wanted = bench_square(square.outside(reading.landmarks, READING_SIZE))
        return moved(reading, square, READING_SIZE, wanted, size), wanted

    def _tell(self, plans: list[_Plan], still: bool, entry: dict[str, Any]) -> None:
        for plan in plans:
            read, wanted = len(plan.times), len(plan.chosen)
            if read < (1 if still else min(self._config.shortest, wanted)):
                entry["dropped"].append(
                    f"{_place(plan.track, still)}: landmarks are read in {read} of {_frames(wanted)}"
                )
                plan.path.unlink(missing_ok=True)
                continue
            entry["clips"].append(
                {
                    "clip": plan.name,
                    "part": plan.path.stem,
                    "shot": plan.track.shot,
                    "first": plan.times[0][0],
                    "last": plan.times[-1][0],
                    "start": plan.times[0][1],
                    "end": plan.times[-1][1],
                    "frames": read,
                    "unread": wanted - read,
                    "side": round(float(np.median([square.side for square in plan.squares]))),
                    "times": plan.times,
                    "embedding": plan.track.embedding.round(6).tolist(),
                }
            )


def _of_one_person(plans: list[_Plan], still: bool, entry: dict[str, Any]) -> list[_Plan]:
    """Of each shot the face that fills most of it: where a set says whose file it is, the others are bystanders."""
    kept: dict[int, _Plan] = {}
    for plan in sorted(plans, key=lambda plan: -sum(square.side**2 for square in plan.squares)):
        if kept.setdefault(plan.track.shot, plan) is not plan:
            entry["dropped"].append(f"{_place(plan.track, still)}: not the person whose file it is")
    return [plan for plan in plans if plan in kept.values()]


def _even(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` of the indices below `count`, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int))


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _place(track: Track, still: bool) -> str:
    left, top, right, bottom = track.boxes[0].round().astype(int)
    where = f"face at ({(left + right) // 2}, {(top + bottom) // 2})"
    return where if still else f"{where} in frames {track.first} to {track.last}"
