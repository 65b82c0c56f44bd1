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
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from omegaconf import DictConfig

from generation.editing.drivers import Driver, csv_driver, media_driver, slider_driver
from generation.editing.editing import Source, chosen, digest, edited, open_source, synthetic_source
from generation.editing.following import Follower, Person
from generation.editing.redrawing import Redrawer
from generation.editing.writing import PHOTO_ENDINGS, VIDEO_ENDINGS, VideoWriter, check_ending, write_photo
from generation.faces.media import Media, MediaError
from generation.faces.people import ORIGIN
from generation.motion import write_expressions
from generation.provenance import Statement, verify
from generation.records import UserError, write_beside
from generation.reenactors import load_reenactor
from scripts.door import Incomplete, configure, entry, progress, say
from scripts.expression_sheet import expression_sheet
from scripts.reenact_plan import SYNTHETIC, ReenactConfig, checkpoint, ending_for, jobs

T = TypeVar("T")

DEFAULT_SIZE = 64
"""Pixels of the crops of a reenactor whose .json does not give its `size`."""

_NO_FILE_OF_OURS = "is there already and no result of this very command; delete it or choose another name"


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, eq=False)
class Plan:
    """One file: `path` is the source, None for a synthetic one."""

    path: Path | None
    out: Path
    mask: Path | None
    video: bool
    statement: Statement
    finished: bool


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
        self.jobs, self.single = jobs(settings), not Path(settings.source).is_dir()
        self.real = settings.source != SYNTHETIC
        if self.real:
            settings.origin.statement()
        path = checkpoint(settings.reenactor)
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

        def tried(work: Callable[[], T], path: Path | None) -> T | None:
            try:
                return work()
            except (UserError, MediaError, av.FFmpegError, cv2.error, OSError) as error:
                if self.single or (isinstance(error, OSError) and error.errno in _NO_ROOM):
                    raise
                say(f"left out: {error}")
                failed.append({"source": str(path), "reason": str(error)})
                return None

        plans = [tried(partial(self._plan, path, out, moving), path) for path, out in self.jobs]
        left = [plan for plan in plans if plan is not None and not plan.finished]
        if left and not self.settings.expression_sheet:
            _ = self.driver
        for plan in plans:
            if plan is not None:
                which = f"{plans.index(plan) + 1} of {len(plans)}"
                told = tried(partial(self._known if plan.finished else self._make, plan, which), plan.path)
                files += [] if told is None else [told]
        results = {
            "files": files,
            "failed": failed,
            "frames": sum(item.get("frames", 0) for item in files),
            "skipped": sum(bool(item.get("skipped")) for item in files),
            "reenactor": {"family": self.family, "size": self.redrawer.size, "sha256": self.checkpoint},
        }
        if self.settings.driver is not None and left:
            results["driver"] = {"moments": len(self.driver.seconds), "held": self.driver.held}
            if self.driver.held:
                say(f"{self.settings.driver}: {self.driver.held} frames without a face; the last expression was held")
        if not self.single:
            say(f"{len(files)} of {len(plans)} files are done, {results['skipped']} of them before this run")
        return Incomplete(results) if failed else results

    def _driver_moves(self) -> bool:
        driver = self.settings.driver
        if self.settings.expression_sheet:
            return False
        if driver is None or driver.suffix.lower() == ".csv":
            return self.driver.moving
        return not _named(driver, Media).still

    def _plan(self, path: Path | None, out: Path, moving: bool) -> Plan:
        settings = self.settings
        video = path is not None and not _named(path, Media).still
        if settings.expression_sheet and video:
            raise UserError(f"{path}: expression_sheet=true needs a photo, or source=synthetic")
        video = video or moving
        if not self.single:
            out = ending_for(out, video)
        check_ending(out, VIDEO_ENDINGS if video else PHOTO_ENDINGS, "a video" if video else "a photo")
        mask = out.with_name(f"{out.stem}.mask{'.mp4' if video else '.png'}") if settings.mask else None
        statement = self._statement(path)
        finished = _finished(out, statement) and (mask is None or mask.is_file())
        return Plan(path, out, mask, video, statement, finished)

    def _known(self, plan: Plan, which: str) -> dict[str, Any]:
        """Of a result that is there already."""
        say(f"{plan.out}: is there already")
        told = {"source": str(plan.path or self.settings.source), "out": str(plan.out), "skipped": True}
        return {**told, "sha256": digest(plan.out), "verdict": _verdict(plan.out)}

    def _make(self, plan: Plan, which: str) -> dict[str, Any]:
        settings, start = self.settings, perf_counter()
        with progress(f"{which}: finding faces") as bar:
            source = self._source(plan.path, bar)
        people = chosen(source, settings.face, settings.smallest)
        counts: dict[str, Any] = {"frames": 1}
        if settings.expression_sheet:
            write_photo(plan.out, expression_sheet(source, people[0], self.redrawer, self.family), plan.statement)
        else:
            with progress(f"{which}: drawing") as bar:
                counts = {"frames": self._write(source, people, plan, bar), **_left_alone(source, people)}
        say(f"{plan.out}: {counts['frames']} frame{'s' * (counts['frames'] != 1)}" + _words(counts, source))
        return {
            "source": str(plan.path or settings.source),
            "out": str(plan.out),
            **counts,
            "faces": len(people),
            "faces_found": len(source.followed.people),
            "damage": source.followed.damage,
            "source_sha256": source.sha256,
            "sha256": digest(plan.out),
            "verdict": _verdict(plan.out),
            **({} if plan.mask is None else {"mask": str(plan.mask), "mask_sha256": digest(plan.mask)}),
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

    def _write(self, source: Source, people: list[Person], plan: Plan, bar: Callable[[int, int], None]) -> int:
        """Frames that were written."""
        frames = edited(source, people, self.driver, self.settings.edit, self.redrawer)
        if not plan.video:
            (frame,) = frames
            write_photo(plan.out, frame.image, plan.statement)
            if plan.mask is not None:
                write_photo(plan.mask, frame.mask, plan.statement)
            return 1
        like = source.media.path if source.media is not None and source.photo is None else None
        size = source.followed.width, source.followed.height
        total = len(self.driver.seconds) if source.photo is not None else len(source.followed.seconds)
        done = 0
        with ExitStack() as writers:
            pictures = writers.enter_context(VideoWriter(plan.out, plan.statement, *size, like))
            masks = plan.mask and writers.enter_context(VideoWriter(plan.mask, plan.statement, *size, None))
            for frame in frames:
                pictures.write(frame.image, frame.seconds)
                if masks:
                    masks.write(frame.mask, frame.seconds)
                done += 1
                bar(done, total)
        return done


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
