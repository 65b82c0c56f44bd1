"""Another expression for the faces of a photo or video, never another identity; the result is always marked.

python scripts/reenact.py source=a.jpg driver=b.mp4 out=c.mp4 origin.consent="signed release" origin.licence="CC BY 4.0"
python scripts/reenact.py source=a.mp4 expression.jawOpen=0.8 out=c.mp4 ...     # sliders; the other actions stay
python scripts/reenact.py source=a.mp4 driver=capture.csv mode=add regions=mouth out=c.mp4 ...
python scripts/reenact.py source=a.jpg expression_sheet=true out=sheet.png ...  # twelve expressions
python scripts/reenact.py source=synthetic seed=3 expression.mouthSmileLeft=1 out=c.png   # a person who does not exist
python scripts/reenact.py source=FOLDER driver=b.jpg out=FOLDER ...             # finished files are left alone

The source's resolution, times and sound are kept. A driver that is shorter than the source is held at its last
expression; of a photo a moving driver makes a silent video. Every frame is watermarked and every file signed
(`generation.provenance`). Exit code 3 says that some files of a folder could not be edited.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar

import av
import cv2
import numpy as np
from omegaconf import DictConfig

from generation.editing.drivers import Driver, EditConfig, Region, csv_driver, media_driver, slider_driver
from generation.editing.editing import Source, chosen, digest, edited, open_source, synthetic_source
from generation.editing.following import Follower, Person
from generation.editing.redrawing import Redrawer
from generation.editing.writing import PHOTO_ENDINGS, VIDEO_ENDINGS, VideoWriter, check_ending, write_photo
from generation.faces.footage import OriginConfig, files_in
from generation.faces.media import Media, MediaError
from generation.faces.people import ORIGIN
from generation.motion import write_expressions
from generation.provenance import Statement, verify
from generation.records import UserError, write_beside
from generation.reenactors import load_reenactor, shipped
from scripts.door import Incomplete, configure, entry, progress, say
from scripts.expression_sheet import expression_sheet

T = TypeVar("T")

SYNTHETIC = "synthetic"
"""The source that needs no file."""

DEFAULT_SIZE = 64
"""Pixels of the crops of a reenactor whose .json does not give its `size`."""

_NO_FILE_OF_OURS = "is there already and no result of this very command; delete it or choose another name"


@dataclass(frozen=True)
class ReenactConfig:
    """See `conf/reenact.yaml`."""

    source: str
    out: Path
    driver: Path | None = None
    expression: dict[str, float | None] = field(default_factory=dict)
    expression_sheet: bool = False
    mode: Literal["replace", "add"] = "replace"
    strength: float = 1.0
    regions: tuple[Region, ...] = ("eyes", "brows", "mouth")
    face: Any = 0
    mask: bool = False
    smallest: int = 64
    reenactor: str = "warp_64"
    origin: OriginConfig = field(default_factory=OriginConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        given = [bool(self.driver), bool(self.sliders), self.expression_sheet]
        if sum(given) != 1:
            raise UserError("give exactly one of driver=PATH, sliders (expression.jawOpen=0.8), expression_sheet=true")
        if self.face != "all" and (not isinstance(self.face, int) or isinstance(self.face, bool) or self.face < 0):
            raise UserError(f"face={self.face}: must be a number, 0 for the leftmost face, or all")
        if self.smallest < 1:
            raise UserError(f"smallest={self.smallest}: must be at least 1")
        _ = self.edit

    @property
    def edit(self) -> EditConfig:
        return EditConfig(self.mode, self.strength, self.regions)

    @property
    def sliders(self) -> dict[str, float]:
        return {name: value for name, value in self.expression.items() if value is not None}


@entry("reenact")
def main(config: DictConfig, folder: Path) -> Mapping[str, Any]:
    """Edit one file, or all of a folder."""
    if isinstance(config.regions, str):
        config.regions = [config.regions]
    settings = configure(ReenactConfig, config)
    with Editor(settings, folder) as editor:
        return editor.run()


class Editor:
    """One run of the command: the driver and the networks are opened once for all sources."""

    def __init__(self, settings: ReenactConfig, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self._open = ExitStack()
        self.jobs = _jobs(settings)
        self.real = settings.source != SYNTHETIC
        if self.real:
            settings.origin.statement()
        path = _checkpoint(settings.reenactor)
        network, about = load_reenactor(path)
        self.family, self.checkpoint = str(about["name"]), digest(path)
        self.redrawer = Redrawer(network, int(about["meta"].get("size", DEFAULT_SIZE)))

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @cached_property
    def follower(self) -> Follower:
        return self._open.enter_context(Follower())

    @cached_property
    def driver(self) -> Driver:
        settings = self.settings
        if settings.driver is None:
            return slider_driver(settings.sliders)
        if settings.driver.suffix.lower() == ".csv":
            return csv_driver(settings.driver, settings.mode)
        with progress("reading the driver") as bar:
            driver = _named(settings.driver, lambda path: media_driver(path, self.follower, settings.mode, bar))
        write_beside(self.folder / "driver.csv", write_expressions(driver.seconds, driver.expression).encode())
        return driver

    def run(self) -> Mapping[str, Any]:
        """Every job; of several, one that fails stops none of the others."""
        files: list[dict[str, Any]] = []
        failed: list[dict[str, str]] = []
        moving = self._driver_moves()
        for number, (path, out) in enumerate(self.jobs):
            try:
                files.append(self._job(path, out, moving, f"{number + 1} of {len(self.jobs)}"))
            except (UserError, MediaError, av.FFmpegError, cv2.error, OSError) as error:
                no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
                if self.out_of_one or no_room:
                    raise
                say(f"left out: {error}")
                failed.append({"source": str(path), "reason": str(error)})
        results = {
            "files": files,
            "failed": failed,
            "frames": sum(item.get("frames", 0) for item in files),
            "skipped": sum(bool(item.get("skipped")) for item in files),
            "reenactor": {"family": self.family, "size": self.redrawer.size, "sha256": self.checkpoint},
        }
        if self.settings.driver is not None and "driver" in self.__dict__:
            results["driver"] = {"moments": len(self.driver.seconds), "held": self.driver.held}
            if self.driver.held:
                say(f"{self.settings.driver}: {self.driver.held} frames without a face; the last expression was held")
        if len(self.jobs) > 1:
            say(f"{len(files)} of {len(self.jobs)} files are done, {results['skipped']} of them before this run")
        return Incomplete(results) if failed else results

    @property
    def out_of_one(self) -> bool:
        return not Path(self.settings.source).is_dir()

    def _driver_moves(self) -> bool:
        driver = self.settings.driver
        if driver is None or driver.suffix.lower() == ".csv":
            return not self.settings.expression_sheet and self.driver.moving
        return not _named(driver, Media).still

    def _job(self, path: Path | None, out: Path, moving: bool, which: str) -> dict[str, Any]:
        settings, start = self.settings, perf_counter()
        video = path is not None and not _named(path, Media).still
        if settings.expression_sheet and video:
            raise UserError(f"{path}: expression_sheet=true needs a photo, or source=synthetic")
        video = video or moving
        out = _ending_for(out, video) if not self.out_of_one else out
        check_ending(out, VIDEO_ENDINGS if video else PHOTO_ENDINGS, "a video" if video else "a photo")
        mask = out.with_name(f"{out.stem}.mask{'.mp4' if video else '.png'}") if settings.mask else None
        statement = self._statement(path)
        told = {"source": settings.source if path is None else str(path), "out": str(out)}
        if _finished(out, statement) and (mask is None or mask.is_file()):
            say(f"{out}: is there already")
            return {**told, "skipped": True, "sha256": digest(out), "verdict": _verdict(out)}
        with progress(f"{which}: finding faces") as bar:
            source = self._source(path, bar)
        people = chosen(source, settings.face, settings.smallest)
        if settings.expression_sheet:
            write_photo(out, expression_sheet(source, people[0], self.redrawer, self.family), statement)
            counts: dict[str, Any] = {"frames": 1}
        else:
            with progress(f"{which}: drawing") as bar:
                frames = self._write(source, people, out, mask, statement, video, bar)
            counts = {"frames": frames, **_left_alone(source, people)}
        say(f"{out}: {counts['frames']} frame{'s' * (counts['frames'] != 1)}" + _words(counts, source))
        return {
            **told,
            **counts,
            "faces": len(people),
            "faces_found": len(source.followed.people),
            "damage": source.followed.damage,
            "source_sha256": source.sha256,
            "sha256": digest(out),
            "verdict": _verdict(out),
            **({} if mask is None else {"mask": str(mask), "mask_sha256": digest(mask)}),
            "seconds": round(perf_counter() - start, 3),
        }

    def _source(self, path: Path | None, bar: Callable[[int, int], None]) -> Source:
        if path is None:
            return synthetic_source(self.settings.seed)
        return _named(path, lambda path: open_source(path, self.follower, bar))

    def _statement(self, path: Path | None) -> Statement:
        settings = self.settings
        asked = {**asdict(settings.edit), "face": settings.face, "size": self.redrawer.size}
        asked["regions"] = list(settings.regions)
        if settings.expression_sheet:
            asked = {"expression_sheet": True, "face": settings.face, "size": self.redrawer.size}
        elif settings.driver is None:
            asked["expression"] = settings.sliders
        parents = [item for item in (path, settings.driver) if item is not None]
        return Statement(
            reenactor=self.family,
            checkpoint=self.checkpoint,
            parents=tuple(digest(item) for item in parents),
            consent=(settings.origin.consent or "") if self.real else ORIGIN,
            licence=(settings.origin.licence or "") if self.real else ORIGIN,
            synthetic=not self.real,
            seed=None if self.real else settings.seed,
            edit=asked,
        )

    def _write(
        self,
        source: Source,
        people: list[Person],
        out: Path,
        mask: Path | None,
        statement: Statement,
        video: bool,
        bar: Callable[[int, int], None],
    ) -> int:
        """Frames that were written."""
        frames = edited(source, people, self.driver, self.settings.edit, self.redrawer)
        if not video:
            (frame,) = frames
            write_photo(out, frame.image, statement)
            if mask is not None:
                write_photo(mask, frame.mask, statement)
            return 1
        like = source.media.path if source.media is not None and source.photo is None else None
        size = source.followed.width, source.followed.height
        total = len(self.driver.seconds) if source.photo is not None else len(source.followed.seconds)
        done = 0
        with ExitStack() as writers:
            pictures = writers.enter_context(VideoWriter(out, statement, *size, like))
            masks = mask and writers.enter_context(VideoWriter(mask, statement, *size, None))
            for frame in frames:
                pictures.write(frame.image, frame.seconds)
                if masks:
                    masks.write(frame.mask, frame.seconds)
                done += 1
                bar(done, total)
        return done


def _jobs(settings: ReenactConfig) -> list[tuple[Path | None, Path]]:
    """Sources and where their results go. Raises `UserError` for what cannot be meant."""
    source, driver, out = Path(settings.source), settings.driver, settings.out
    if driver is not None and not driver.exists():
        raise UserError(f"driver={driver}: no such file")
    if settings.source == SYNTHETIC:
        return [(None, _writable(out))]
    if not source.exists():
        raise UserError(f"source={source}: no such file or folder; or source=synthetic for a person who does not exist")
    if driver is not None and source.samefile(driver):
        raise UserError(f"driver={driver}: is the source itself, which wears this expression already; give another")
    if source.is_dir():
        if out.exists() and not out.is_dir():
            raise UserError(f"out={out}: the source is a folder, so this must be one too")
        if out.resolve().is_relative_to(source.resolve()):
            raise UserError(f"out={out}: lies in the source, and would be edited itself the next time")
        files, _ = files_in(str(source))
        out.mkdir(parents=True, exist_ok=True)
        return [(file.path, _writable(out / file.name)) for file in files]
    for path, name in ((source, "source"), (driver, "driver")):
        if path is not None and out.exists() and out.samefile(path):
            raise UserError(f"out={out}: is the {name}, which would be lost; choose another name")
    return [(source, _writable(out))]


def _writable(out: Path) -> Path:
    if out.is_dir():
        raise UserError(f"out={out}: is a folder; name the file that is to be written")
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"out={out}: {folder} is no folder that can be written; choose another place")
    return out


def _ending_for(out: Path, video: bool) -> Path:
    """Of a folder's file: its own name, and an ending that can be signed."""
    endings = VIDEO_ENDINGS if video else PHOTO_ENDINGS
    return out if out.suffix.lower() in endings else out.with_name(out.name + endings[0])


def _checkpoint(name: str) -> Path:
    path = shipped(name)
    if path.is_file() and path.suffix != ".safetensors":
        raise UserError(f"reenactor={name}: only .safetensors are read, for other checkpoints can carry code; export it")
    return path


def _finished(out: Path, statement: Statement) -> bool:
    """Whether the very same was made before. Raises `UserError` for a file of any other origin."""
    if not out.exists():
        return False
    verdict = verify(out)
    made = dict(asdict(statement), parents=list(statement.parents))
    if verdict.state not in ("trusted", "valid") or verdict.statement != made:
        raise UserError(f"{out}: {_NO_FILE_OF_OURS}")
    return True


def _verdict(out: Path) -> dict[str, Any]:
    verdict = verify(out)
    return {"state": verdict.state, "watermark": verdict.found, "watermark_p": verdict.watermark_p}


def _left_alone(source: Source, people: list[Person]) -> dict[str, int]:
    """Frames that show the source's own face: it was not found or read there, or is turned too far."""
    read = np.any([person.read for person in people], axis=0)
    weight = np.max([person.weight for person in people], axis=0)
    return {"unread": int((~read).sum()), "turned": int((read & (weight == 0)).sum())}


def _words(counts: Mapping[str, Any], source: Source) -> str:
    parts = [(counts.get("unread"), "without a face that can be read"), (counts.get("turned"), "turned too far")]
    told = [f"{count} {what}" for count, what in parts if count]
    found = len(source.followed.people)
    return (f"; left as they were: {', '.join(told)}" if told else "") + (f"; {found} faces found" if found > 1 else "")


def _named(path: Path, work: Callable[[Path], T]) -> T:
    """What `work` makes of a file; a file that cannot be read is named."""
    try:
        return work(path)
    except (MediaError, av.FFmpegError) as error:
        raise UserError(f"{path}: {error}") from error


if __name__ == "__main__":
    main()
