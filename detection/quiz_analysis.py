"""Results of many people, as the quiz page lets them be downloaded, pooled with intervals by person."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.quiz_measures import PUBLISHED, bootstrap_mean, calibration_curve, figures, right
from generation.records import UserError

SCHEMA, VERSION = "vicious-cycle/quiz-result", 1

BLOCKS = ("before", "after", "advice")
"""Before the lesson, after it, and with the detector's advice shown first."""

FORGED = {
    "real": False, "compressed": False, "swapped": True, "reenacted": True, "given_real": False, "given_forged": True,
}  # fmt: skip
"""Kinds of items, and whether they are forged: a swapped expression is somebody else's, a reenacted one the person's
own from another moment; the given ones are videos of the user."""

_MEASURES = ("accuracy", "d_prime", "criterion", "brier")


@dataclass(frozen=True)
class Answer:
    """answer, detector: probability in [0, 1] that the item is forged, as the person and as the detector gave it; None
    where the detector could not."""

    block: str
    item: str
    kind: str
    forged: bool
    answer: float
    detector: float | None
    seconds: float


@dataclass(frozen=True)
class Result:
    """One person's answers on one page. `quiz` names the page's items, `person` is a random name."""

    quiz: str
    person: str
    answers: tuple[Answer, ...]

    def of(self, block: str) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if answer.block == block)


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """All results in a folder (`*.json`), and one line for each file that is none.

    Raises `UserError` for a folder that is missing or holds no result at all.
    """
    if not folder.is_dir():
        raise UserError(f"analyse={folder}: no such folder; it holds the .json files that the quiz page downloads")
    results: list[Result] = []
    refused = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = read_result(path)
            if any(result.person == other.person for other in results):
                raise UserError(f"{path}: the answers of this person are in another file already; delete one")
            results.append(result)
        except UserError as error:
            refused.append(str(error))
    if not results:
        reason = f"; {refused[0]}" if refused else ""
        raise UserError(f"analyse={folder}: holds no result of a quiz{reason}")
    return sorted(results, key=lambda result: result.person), refused


def read_result(path: Path) -> Result:
    """Raises `UserError` that names the file and what is wrong with it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UserError(f"{path}: no result of a quiz, whose schema is {SCHEMA}")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: version {content.get('version')} of the schema; this program reads {VERSION}")
    if content.get("consent") is not True:
        raise UserError(f"{path}: the person did not agree to the use of the answers")
    rows, quiz, person = (content.get(key) for key in ("answers", "quiz", "person"))
    if not isinstance(rows, list) or not isinstance(quiz, str) or not isinstance(person, str) or not person:
        raise UserError(f"{path}: answers (a list), quiz and person (names) must be there")
    result = Result(quiz, person, tuple(_answer(row, f"{path}, answer {number}") for number, row in enumerate(rows, 1)))
    if len({answer.item for answer in result.answers}) < len(result.answers):
        raise UserError(f"{path}: an item is answered twice")
    for block in BLOCKS:
        answers = result.of(block)
        if answers and len({answer.forged for answer in answers}) < 2:
            raise UserError(f"{path}: block {block} has real or forged items only; both are needed")
    if not result.answers:
        raise UserError(f"{path}: holds no answer")
    return result


def _answer(row: Any, where: str) -> Answer:
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be an object")
    tests: dict[str, tuple[Callable[[Any], bool], str]] = {
        "block": (lambda value: value in BLOCKS, f"one of {', '.join(BLOCKS)}"),
        "item": (lambda value: isinstance(value, str) and value != "", "a name"),
        "kind": (lambda value: isinstance(value, str) and value in FORGED, f"one of {', '.join(FORGED)}"),
        "answer": (lambda value: _within(value, 100), "a number from 0 to 100"),
        "detector": (lambda value: value is None or _within(value, 1), "a number from 0 to 1, or null"),
        "seconds": (lambda value: _within(value, float("inf")), "a number, 0 or more"),
    }
    for key, (test, allowed) in tests.items():
        if key not in row or not test(row[key]):
            raise UserError(f"{where}: {key}={row.get(key)!r} must be {allowed}")
    if row.get("forged") is not FORGED[row["kind"]]:
        raise UserError(f"{where}: forged={row.get('forged')!r} does not fit kind={row['kind']}")
    return Answer(
        row["block"], row["item"], row["kind"], row["forged"], row["answer"] / 100, row["detector"], row["seconds"]
    )


def _within(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def analyse(results: Sequence[Result], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Means over people with 95 % bootstrap intervals by person ({"value", "low", "high", "people"}; an interval needs
    two people).

    blocks: the measures of `quiz_measures.figures` in each block; detector: the same of the detector on the same items
    lesson: after minus before, of those who answered both
    advice: accuracy where the detector was right and where it was wrong, without advice (after the lesson), the share
        of wrong advice that was followed, and what wrong advice costs: accuracy without advice minus with wrong advice,
        each on the items that it is measured on; `reliance` is the accuracy under right minus under wrong advice
    kinds: accuracy by kind of item; seconds: median time of an answer; calibration: of all answers together
    """

    def pooled(values: Sequence[float | None]) -> dict[str, Any] | None:
        numbers = [value for value in values if value is not None]
        if not numbers:
            return None
        low, high = bootstrap_mean(numbers, resamples, seed) or (None, None)
        return {"value": float(np.mean(numbers)), "low": low, "high": high, "people": len(numbers)}

    def over(measure: Callable[[Result], float | None]) -> dict[str, Any] | None:
        return pooled([measure(result) for result in results])

    def of_kind(block: str, kind: str) -> dict[str, Any] | None:
        return over(lambda result: _accuracy([answer for answer in result.of(block) if answer.kind == kind]))

    def in_seconds(block: str) -> dict[str, Any] | None:
        return over(lambda result: _median(result.of(block)))

    people = {block: [_measured(result, block) for result in results] for block in BLOCKS}
    machine = {block: [_measured(result, block, detector=True) for result in results] for block in BLOCKS}

    def each_block(measured: Mapping[str, list[dict[str, float] | None]]) -> dict[str, Any]:
        return {
            block: {key: pooled([None if one is None else one[key] for one in measured[block]]) for key in _MEASURES}
            for block in BLOCKS
        }

    both = [(a, b) for a, b in zip(people["before"], people["after"], strict=True) if a is not None and b is not None]
    return {
        "people": len(results),
        "quizzes": sorted({result.quiz for result in results}),
        "answers": sum(len(result.answers) for result in results),
        "blocks": each_block(people),
        "detector": each_block(machine),
        "lesson": {key: pooled([after[key] - before[key] for before, after in both]) for key in _MEASURES},
        "advice": {
            "right_advice": over(lambda result: _advised(result, True)),
            "wrong_advice": over(lambda result: _advised(result, False)),
            "without_advice": pooled([None if one is None else one["accuracy"] for one in people["after"]]),
            "reliance": over(lambda result: _difference(_advised(result, True), _advised(result, False))),
            "cost_of_wrong_advice": over(
                lambda result: _difference(_accuracy(result.of("after")), _advised(result, False))
            ),
            "followed_wrong": over(_followed_wrong),
        },
        "kinds": {
            kind: {block: of_kind(block, kind) for block in BLOCKS}
            for kind in FORGED
            if any(answer.kind == kind for result in results for answer in result.answers)
        },
        "seconds": {block: in_seconds(block) for block in BLOCKS},
        "calibration": {
            block: calibration_curve(
                [answer.forged for result in results for answer in result.of(block)],
                [answer.answer for result in results for answer in result.of(block)],
            )
            for block in BLOCKS
        },
        "published": {name: dict(zip(("value", "low", "high"), band, strict=True)) for name, band in PUBLISHED.items()},
    }


def _measured(result: Result, block: str, detector: bool = False) -> dict[str, float] | None:
    """None where the block was not answered, or the detector's answers are all real or all forged items."""
    pairs = [
        (answer.forged, answer.detector if detector else answer.answer)
        for answer in result.of(block)
        if not detector or answer.detector is not None
    ]
    if len({forged for forged, _ in pairs}) < 2:
        return None
    truth, answers = zip(*pairs, strict=True)
    return figures(truth, answers)._asdict()


def _accuracy(answers: Sequence[Answer]) -> float | None:
    if not answers:
        return None
    return float(right([a.forged for a in answers], [a.answer for a in answers]).mean())


def _of_advice(result: Result, correct: bool) -> list[Answer]:
    """Answers under advice that was right, or wrong; advice of one half is neither."""
    return [
        answer
        for answer in result.of("advice")
        if answer.detector is not None and float(right([answer.forged], [answer.detector])[0]) == float(correct)
    ]


def _advised(result: Result, correct: bool) -> float | None:
    return _accuracy(_of_advice(result, correct))


def _followed_wrong(result: Result) -> float | None:
    """Of two answers there are, who follows wrong advice is wrong."""
    return _difference(1.0, _advised(result, False))


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _median(answers: Sequence[Answer]) -> float | None:
    return float(np.median([answer.seconds for answer in answers])) if answers else None
