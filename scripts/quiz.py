"""A page on which people learn how well they tell forged faces from real ones, and how far to trust themselves.

python scripts/quiz.py                                    # synthetic people, some minutes the first time
python scripts/quiz.py data=DIR moving=0                  # any records; their split `test` is used
python scripts/quiz.py videos=DIR origin.consent="..." origin.licence="..."     # and videos in DIR/real and DIR/forged
python scripts/quiz.py detector=FILE.safetensors strings=FILE.json              # another adviser, another language
python scripts/quiz.py analyse=DIR                        # results that people downloaded, pooled

`quiz.html` is one file that opens from disk and sends nothing anywhere; `items.json` says what each item is. Exit code
3 says that some files to be analysed were refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from detection.metrics import auroc
from detection.quiz import Example, Item, Quiz, choose_advised, read_strings, write_quiz
from detection.quiz_analysis import analyse, read_results
from detection.quiz_measures import figures
from generation.faces.footage import OriginConfig
from generation.faces.people import ORIGIN, FacesConfig
from generation.records import Faces, UserError, load
from scripts.data import SOURCES, prepare, records_folder
from scripts.door import Incomplete, configure, entry, progress, say
from scripts.quiz_detector import SIZE, Advisor, Verdicts, advisor
from scripts.quiz_items import KINDS, Forger, Plan, make, plan_clips, plan_stills
from scripts.quiz_lesson import clip_lesson, still_lesson
from scripts.quiz_videos import FaceScore, Given, given_videos, make_given
from scripts.summary import commit

LESSON_PEOPLE, LESSON_EXPRESSIONS, LESSON_CLIPS = 6, 28, 3
"""Of the default's lesson: people and expressions of each in stills, and clips that are tried."""


@dataclass(frozen=True)
class QuizConfig:
    """Everything but the faces of `data`; see conf/quiz.yaml."""

    analyse: Path | None = None
    resamples: int = 2000
    items: int = 16
    moving: int = 1
    frames: int = 40
    seed: int = 0
    workers: int = 2
    split: str = "test"
    reenactor: str = "warp_128"
    adviser: Path | None = None
    strings: Path | None = None
    videos: Path | None = None
    video_seconds: float = 6.0
    origin: OriginConfig = field(default_factory=OriginConfig)

    def __post_init__(self) -> None:
        if self.items < len(KINDS) or self.items % len(KINDS):
            raise UserError(f"items={self.items}: must be a multiple of {len(KINDS)}, as many of each kind")
        if not 0 <= self.moving <= self.each:
            raise UserError(f"moving={self.moving}: must be 0 to {self.each}, the items of one kind in a block")
        if self.frames < 8:
            raise UserError(f"frames={self.frames}: must be at least 8")
        if self.resamples < 1:
            raise UserError(f"resamples={self.resamples}: must be at least 1")
        if not self.video_seconds > 0:
            raise UserError(f"video_seconds={self.video_seconds}: must be more than 0")

    @property
    def each(self) -> int:
        """Items of one kind in a block."""
        return self.items // len(KINDS)


@entry("quiz", paths={"data": "data.records", "detector": "adviser"})
def main(config: DictConfig, folder: Path) -> Mapping[str, Any]:
    """Make a page, or pool the results of one."""
    settings = configure(QuizConfig, OmegaConf.masked_copy(config, [str(key) for key in config if key != "data"]))
    if settings.analyse is not None:
        return pooled(settings)
    strings = read_strings(settings.strings)
    videos: list[Given] = []
    if settings.videos is not None:
        settings.origin.statement()
        videos = given_videos(settings.videos, 3 * (settings.each - settings.moving))
    forger = Forger(settings.reenactor)
    cast = casting(config.data, settings, videos)
    advise = advisor(settings.adviser, settings.reenactor, settings.workers)
    with progress("lesson") as bar:
        lesson, facts = still_lesson(cast.lesson, forger, settings.seed, bar)
    lesson += clip_lesson(cast.lesson_clips, forger, settings.seed)
    items = made(cast.plans, forger, advise, settings, videos)
    origins = tuple(dict.fromkeys(item.origin for item in items if item.origin != ORIGIN))
    quiz = Quiz(
        tuple(items), tuple(lesson), facts, strings, advise.name, settings.seed, commit()[:12], origins
    )  # fmt: skip
    write_quiz(folder, quiz)
    say(f"open {folder / 'quiz.html'} in a browser")
    return described(quiz, folder, settings)


def pooled(settings: QuizConfig) -> Mapping[str, Any]:
    """The results in a folder, pooled; `Incomplete` where files were refused."""
    assert settings.analyse is not None
    results, refused = read_results(settings.analyse)
    found = analyse(results, settings.resamples, settings.seed) | {"refused": refused}
    for line in refused:
        say(f"refused: {line}")
    for block, measured in found["blocks"].items():
        value = measured["accuracy"]
        if value is not None:
            interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
            say(f"{block}: right on {value['value']:.3f}{interval}, {value['people']} people")
    return Incomplete(found) if refused else found


@dataclass(frozen=True)
class Casting:
    """Whom the quiz shows, and whom the lesson."""

    plans: list[Plan]
    lesson: Faces
    lesson_clips: list[Plan]


def casting(data: DictConfig, settings: QuizConfig, videos: Sequence[Given]) -> Casting:
    """Draw items and the lesson's material from the faces. Of synthetic people clips and the lesson's stills are sets
    of their own, whose seeds lie one and two above `data.seed`."""
    stills, moving = 3 * (settings.each - settings.moving), 3 * settings.moving
    instead = len(videos) // 2
    if data.get("records") is None and data.name == "synthetic":
        plain = {str(key): value for key, value in dict(data).items() if key not in ("records", "name")}
        config: FacesConfig = configure(FacesConfig, plain, "data")
        people = len(KINDS) * moving + LESSON_CLIPS
        faces = _rendered(config, settings)
        taught = _rendered(
            replace(config, seed=config.seed + 2, test=LESSON_PEOPLE, expressions=LESSON_EXPRESSIONS), settings
        )
        talking = faces
        if moving:
            clips = replace(config, seed=config.seed + 1, test=people, motion="clips", frames=settings.frames)
            talking = _rendered(clips, settings)
        extra = np.unique(talking.identity)[-LESSON_CLIPS:] if moving else np.empty(0, talking.identity.dtype)
        in_lesson = np.isin(talking.identity, extra)
    else:
        faces = load(prepare(data, settings.workers), settings.split).where(label=0)
        if len(faces) == 0:
            raise UserError(f"split={settings.split}: holds forged rows only; real ones are needed, to be forged here")
        people_there = np.unique(faces.identity)
        extra = people_there[-max(2, len(people_there) // 5) :] if len(people_there) >= 8 else people_there
        in_lesson = np.isin(faces.identity, extra)
        taught = faces.select(in_lesson)
        talking = faces
        if len(people_there) >= 8:
            faces = faces.select(~in_lesson)
    outside = ~in_lesson if not in_lesson.all() else in_lesson
    plans = plan_stills(faces, stills, settings.seed)
    for kind in ("real", "swapped"):
        own = [plan for plan in plans if plan.kind == kind]
        plans = [plan for plan in plans if plan.kind != kind] + own[: len(own) - instead]
    plans += plan_clips(talking.select(outside), moving, settings.frames, settings.seed)
    tried = LESSON_CLIPS if moving else 0
    in_motion = plan_clips(talking.select(in_lesson), tried, settings.frames, settings.seed, ("swapped",))
    return Casting(plans, taught, in_motion)


def _rendered(config: FacesConfig, settings: QuizConfig) -> Faces:
    folder = records_folder("synthetic", config)
    with progress("synthetic faces") as bar:
        SOURCES["synthetic"].make(config, folder, settings.workers, bar)
    return load(folder, settings.split)


def made(
    plans: Sequence[Plan], forger: Forger, advise: Advisor | Verdicts, settings: QuizConfig, videos: Sequence[Given]
) -> list[Item]:
    """All items, what is drawn and what was given."""
    items = []
    total = len(plans) + len(videos)
    with progress("items") as bar, ExitStack() as stack:
        if isinstance(advise, Verdicts):
            stack.enter_context(advise)
        for number, plan in enumerate(plans):
            items.append(make(plan, forger, settings.seed * 1000 + number, advise.of))
            bar(len(items), total)
        if videos:
            score = advise.of_file if isinstance(advise, Verdicts) else stack.enter_context(FaceScore(advise, SIZE))
            for video in videos:
                items.append(make_given(video, settings.video_seconds, settings.origin, score))
                bar(len(items), total)
    return items


def described(quiz: Quiz, folder: Path, settings: QuizConfig) -> dict[str, Any]:
    """For `summary.json`: what the page holds, and how the detector does on it."""
    judged = [item for item in quiz.items if item.detector is not None]
    truth, odds = [item.forged for item in judged], [item.detector or 0.0 for item in judged]
    measured: dict[str, Any] = {}
    if len(set(truth)) == 2:
        measured = {"auroc": auroc(truth, odds), **figures(truth, odds)._asdict()}
    if len(judged) < len(quiz.items):
        say(f"the detector says nothing of {len(quiz.items) - len(judged)} of {len(quiz.items)} items")
    advised = [quiz.items[place] for place in choose_advised(quiz.items, settings.items, settings.seed)]
    wrong = [item for item in advised if item.detector is not None and (item.detector > 0.5) != item.forged]
    if not wrong:
        say("the detector is right on everything that it advises on: the page cannot show automation bias")
    lesson: Sequence[Example] = quiz.lesson
    return {
        "page": "quiz.html",
        "bytes": (folder / "quiz.html").stat().st_size,
        "items": {kind: sum(item.kind == kind for item in quiz.items) for kind in sorted({i.kind for i in quiz.items})},
        "moving": sum(item.shown.moving for item in quiz.items),
        "people": len({item.identity for item in quiz.items}),
        "detector": {
            "name": quiz.detector,
            "judged": len(judged),
            **measured,
            "wrong_advice": len(wrong),
            "advised": len(advised),
        },
        "marks": {
            "forged_found": sum(
                item.marks.found and item.marks.state != "absent" for item in quiz.items if item.forged
            ),
            "real_found": sum(
                item.marks.found or item.marks.state != "absent" for item in quiz.items if not item.forged
            ),
        },
        "lesson": {example.topic: dict(example.figures) for example in lesson} | {"facts": dict(quiz.facts)},
    }


if __name__ == "__main__":
    main()
