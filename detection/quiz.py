"""The page that trains and calibrates people: items -> one HTML file that opens from disk and sends nothing anywhere.

Three blocks of items: before a lesson, after it, and with the detector's advice shown first. Which items of the first
two come before the lesson is drawn anew by the page for every person, alike for all kinds, so that their difference is
the lesson's and not the items'. The advised ones are chosen here, for the detector must be wrong on some of them.
What an item is lies in the file too, but neither names nor order nor length tell it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from detection.pages import page
from detection.pictures import LABEL
from detection.quiz_analysis import FORGED, SCHEMA, VERSION
from detection.quiz_measures import PUBLISHED, right
from generation.records import UserError, write_beside

MOST_BYTES = 15_000_000
"""Of the page."""

TOPICS = ("teeth", "blinks", "gaze", "skin", "boundary", "timing", "good")
"""Of the lesson, in order."""

_WRONG = 0.25
"""Share of the advised items on which the detector should be wrong."""


@dataclass(frozen=True)
class Media:
    """An encoded picture, or a video with or without `sound`. type: its MIME type"""

    content: bytes
    type: str
    sound: bool = False

    @property
    def moving(self) -> bool:
        return self.type.startswith("video/")


@dataclass(frozen=True)
class Marks:
    """The two marks as they were read back from a file: the state of its C2PA manifest ("trusted", "valid", "tampered",
    "absent"), who signed it, the p-value of "there is no watermark", and whether that counts as found."""

    state: str
    signed_by: str | None
    watermark_p: float
    found: bool


@dataclass(frozen=True)
class Item:
    """One question. What it shows first, and what is told afterwards.

    key: what it was made of, in words; kind: one of `FORGED`; compressed: so that it can be seen
    detector: the probability in [0, 1] that the shown media is forged, None where it finds no
        face or does not judge such files
    before, after: stills to wipe between, of a video at the moment of its greatest change; None where nothing changed
    source: of a video, the one to wipe between while both play, frame by frame what it was before
    change: a transparent picture of how much each pixel was changed, to be laid over `before`
    driver: a small picture of where a forged expression is from
    made_by, round: the reenactor, and the round of the cycle it comes from
    origin: licence and consent statement of the face
    """

    key: str
    kind: str
    compressed: bool
    shown: Media
    marks: Marks
    identity: str
    origin: str
    detector: float | None = None
    before: Media | None = None
    after: Media | None = None
    source: Media | None = None
    change: Media | None = None
    driver: Media | None = None
    made_by: str = ""
    round: int | None = None

    @property
    def forged(self) -> bool:
        return FORGED[self.kind]

    @property
    def id(self) -> str:
        """Says nothing but which item it is."""
        return hashlib.sha256(f"{self.kind} {self.key}".encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Example:
    """An example in the lesson: stills, or for "timing" videos, of source and forgery, and what the camera would have
    seen (None where nobody knows). figures: numbers, in words, that its text names"""

    topic: str
    before: Media
    after: Media
    truth: Media | None
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Quiz:
    """All that the page holds. items: of all three blocks, as many in each; facts: numbers, in words, that the lesson
    names; detector: what it is called"""

    items: tuple[Item, ...]
    lesson: tuple[Example, ...]
    facts: Mapping[str, str]
    strings: Mapping[str, Any]
    detector: str
    seed: int
    commit: str
    origins: tuple[str, ...]


def read_strings(path: Path | None = None) -> dict[str, Any]:
    """The page's words: English, or a translation of it, a JSON file with the same keys.

    Raises `UserError` that names a missing or unknown key, or a {placeholder} that a translation lost.
    """
    english: dict[str, Any] = json.loads((resources.files("detection") / "templates" / "quiz_en.json").read_bytes())
    if path is None:
        return english
    try:
        given = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"strings={path}: cannot be read as JSON ({error})") from error
    wanted, found = _flat(english), _flat(given)
    for key in [*wanted, *found]:
        if key not in found:
            raise UserError(f"strings={path}: the key {key} is missing; in English it is {wanted[key]!r}")
        if key not in wanted:
            raise UserError(f"strings={path}: there is no key {key}; detection/templates/quiz_en.json has all of them")
        if _placeholders(wanted[key]) != _placeholders(found[key]):
            raise UserError(f"strings={path}: {key} must name {sorted(_placeholders(wanted[key]))} as English does")
    return dict(given)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix: str(value)}
    return {
        name: text for key, item in value.items() for name, text in _flat(item, f"{prefix}.{key}".strip(".")).items()
    }


def _placeholders(text: str) -> set[str]:
    return {part.partition("}")[0] for part in text.split("{")[1:]}


def choose_advised(items: Sequence[Item], count: int, seed: int) -> list[int]:
    """Which items get advice, as their places: `count` of them, of each kind its share, and about a quarter such that
    the detector is wrong, as evenly over kinds as there are any. Items it says nothing of come last."""
    generator = np.random.default_rng([seed, 5])
    kinds = sorted({item.kind for item in items})
    chosen: dict[str, list[int]] = {}
    spare: dict[str, tuple[list[int], list[int]]] = {}
    for kind in kinds:
        places = [int(place) for place in generator.permutation([i for i, it in enumerate(items) if it.kind == kind])]
        share = round(len(places) * count / len(items))
        wrong = [place for place in places if _wrong(items[place])]
        correct = [place for place in places if place not in wrong and items[place].detector is not None]
        silent = [place for place in places if items[place].detector is None]
        first = wrong[: max(0, min(len(wrong), round(_WRONG * share)))]
        rest = [*correct, *wrong[len(first) :], *silent]
        chosen[kind] = first + rest[: share - len(first)]
        spare[kind] = [place for place in wrong if place not in chosen[kind]], correct
    while sum(_wrong(items[place]) for places in chosen.values() for place in places) < round(_WRONG * count):
        able = [kind for kind in kinds if spare[kind][0] and set(chosen[kind]) & set(spare[kind][1])]
        if not able:
            break
        kind = max(able, key=lambda kind: len(spare[kind][0]))
        chosen[kind].remove(next(place for place in reversed(chosen[kind]) if place in spare[kind][1]))
        chosen[kind].append(spare[kind][0].pop(0))
    return sorted(place for places in chosen.values() for place in places)


def _wrong(item: Item) -> bool:
    return item.detector is not None and float(right([item.forged], [item.detector])[0]) == 0


def _padded(contents: Mapping[str, Media]) -> dict[str, str]:
    """Base64 of each, stills and videos filled up with spaces to the length of the longest of their kind."""
    texts = {name: base64.b64encode(media.content).decode() for name, media in contents.items()}
    longest = {
        moving: max((len(texts[name]) for name, media in contents.items() if media.moving == moving), default=0)
        for moving in (False, True)
    }
    return {name: text.ljust(longest[contents[name].moving]) for name, text in texts.items()}


def _address(media: Media | None) -> str | None:
    return None if media is None else f"data:{media.type};base64,{base64.b64encode(media.content).decode()}"


def _told(item: Item) -> dict[str, Any]:
    """What the page tells of an item once it is answered."""
    return {
        "kind": item.kind,
        "forged": item.forged,
        "compressed": item.compressed,
        "detector": item.detector,
        "marks": asdict(item.marks),
        "before": _address(item.before),
        "after": _address(item.after),
        "source": _address(item.source),
        "change": _address(item.change),
        "driver": _address(item.driver),
        "made_by": item.made_by,
        "round": item.round,
    }


def page_data(quiz: Quiz) -> dict[str, Any]:
    """What the page's script is given. Raises `UserError` for items that are no three equal blocks."""
    count, odd = divmod(len(quiz.items), 3)
    if odd or count == 0 or {item.forged for item in quiz.items} != {False, True}:
        raise UserError(f"{len(quiz.items)} items: three blocks of as many are needed, real and forged")
    named = {item.id: item for item in quiz.items}
    if len(named) < len(quiz.items):
        raise UserError("two items are the same; take records with more people or expressions")
    advised = sorted(quiz.items[place].id for place in choose_advised(quiz.items, count, quiz.seed))
    ids = sorted(named)
    shown = _padded({name: named[name].shown for name in ids})
    told = json.dumps({name: _told(named[name]) for name in ids})
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "quiz": hashlib.sha256(" ".join(ids).encode()).hexdigest()[:12],
        "label": LABEL,
        "detector": quiz.detector,
        "items": [
            {
                "id": name,
                "type": named[name].shown.type,
                "sound": named[name].shown.sound,
                "data": shown[name],
            }
            for name in ids
        ],
        "advised": advised,
        "told": base64.b64encode(told.encode()).decode(),
        "published": PUBLISHED,
        "strings": quiz.strings,
    }


def render(quiz: Quiz) -> str:
    """The page. It may run its own script alone, of which its content security policy holds the hash."""
    data = json.dumps(page_data(quiz), ensure_ascii=False).replace("<", "\\u003c")
    script = page("quiz.js.j2")
    by_topic = {topic: [one for one in quiz.lesson if one.topic == topic] for topic in TOPICS}
    return page(
        "quiz.html.j2",
        filters={"address": _address, "fill": lambda text, **values: text.format_map(values)},
        t=quiz.strings,
        data=Markup(data),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        lesson=by_topic,
        facts=quiz.facts,
        label=LABEL,
        block=len(quiz.items) // 3,
        minutes=max(1, round(len(quiz.items) * 15 / 60 + 5)),
        origins=quiz.origins,
        commit=quiz.commit,
        seed=quiz.seed,
    )


def write_quiz(folder: Path, quiz: Quiz) -> None:
    """Write `quiz.html`, and `items.json`, the key of what each item is.

    Raises `UserError` for a page of more than `MOST_BYTES`, before anything is written.
    """
    text = render(quiz).encode()
    if len(text) > MOST_BYTES:
        raise UserError(
            f"the page would have {len(text) / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} are sensible; take fewer or "
            "smaller items (items, moving, frames, data.size) or shorter videos (video_seconds)"
        )
    key = {
        item.id: {
            "kind": item.kind,
            "forged": item.forged,
            "compressed": item.compressed,
            "moving": item.shown.moving,
            "identity": item.identity,
            "detector": item.detector,
            "marks": asdict(item.marks),
            "made_by": item.made_by,
            "round": item.round,
        }
        for item in sorted(quiz.items, key=lambda item: item.id)
    }
    write_beside(folder / "items.json", json.dumps(key, indent=1).encode())
    write_beside(folder / "quiz.html", text)
