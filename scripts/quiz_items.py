"""Which faces the quiz shows, and what is made of them: records -> items.

Every item shows another person as long as there are enough of them. What an item shows, real or forged, is drawn from
the same expressions, and half of both is compressed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from detection.degradations import degraded
from detection.quiz import Item
from generation.editing.redrawing import Redrawer, lay_over
from generation.faces.alignment import Square
from generation.faces.landmarks import READING_SIZE
from generation.provenance import Statement
from generation.records import Faces, UserError
from generation.reenactors import load_reenactor
from scripts.quiz_media import clip, heat, statement_of, still, thumbnail
from scripts.reenact_plan import checkpoint

KINDS = ("real", "compressed", "swapped", "reenacted")

_VISIBLE = 0.5
"""Sum of the changes of all actions from which on another expression is plain to see."""


class Forgery(NamedTuple):
    """image: uint8 (H, W, 3); mask: uint8 (H, W), what was replaced, 0 to 255"""

    image: np.ndarray
    mask: np.ndarray


class Forger:
    """A reenactor that changes expressions in frames of any size, at their full resolution."""

    def __init__(self, name: str) -> None:
        path = checkpoint(name)
        network, about = load_reenactor(path)
        self.family, meta = str(about["name"]), about["meta"]
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.round: int | None = meta.get("round")
        self._redrawer = Redrawer(network, int(meta.get("size", 64)))

    def forge(self, faces: Faces, row: int, expression: np.ndarray) -> Forgery:
        """The face of a row with another expression (52,)."""
        frame, side = pixels(faces, row), faces.size
        square = Square(side / 2, side / 2, side, 0.0)
        landmarks = faces.landmarks[row].numpy() * (READING_SIZE / side)
        own = faces.expression[row].numpy(), faces.pose[row].numpy()
        look = self._redrawer.look(frame, square, *own, landmarks)
        return Forgery(*lay_over(frame, frame, look, self._redrawer.draw(look, expression)))

    def statement(self, parents: Sequence[np.ndarray], origin: str, seed: int) -> Statement:
        edit = {"mode": "replace", "strength": 1.0, "for": "quiz"}
        return statement_of(self.family, self.sha256, parents, origin, seed, self.round, edit)


def pixels(faces: Faces, row: int) -> np.ndarray:  # uint8 (H, W, 3)
    return np.ascontiguousarray(faces.image[row].permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Plan:
    """rows: the frames that are shown or forged, one for a still; expressions: (T, 52) what a forgery shall wear
    driver: a row that shows it, None for real items"""

    kind: str
    compressed: bool
    faces: Faces
    rows: np.ndarray
    expressions: np.ndarray | None
    driver: int | None


def clips_of(faces: Faces, shortest: int) -> list[np.ndarray]:
    """The rows of every clip in motion, in order: heads in poses of their own, or consecutive frames that differ
    little."""
    found = []
    for name in np.unique(faces.clip):
        rows = np.flatnonzero(faces.clip == name)
        rows = rows[np.argsort(faces.frame[rows], kind="stable")]
        if len(rows) >= shortest and bool((faces.pose[rows].std(0) > 0).any()):
            found.append(rows[:shortest])
    return found


def plan_stills(faces: Faces, count: int, seed: int) -> list[Plan]:
    """`count` stills of each kind. Raises `UserError` where nobody is shown with two expressions, or only one
    person."""
    if count == 0:
        return []
    rng = np.random.default_rng([seed, 21])
    people = _in_turn(np.unique(faces.identity), count * len(KINDS), rng)
    plans = []
    for kind, identity, compressed in _cast(people, count):
        own = np.flatnonzero(faces.identity == identity)
        row, driver = int(rng.choice(own)), None
        if kind == "swapped":
            driver = _driver(faces, row, np.flatnonzero(faces.identity != identity), rng)
        elif kind == "reenacted":
            row, driver = _own_pair(faces, own, rng)
        expressions = None if driver is None else faces.expression[driver].numpy()[None]
        plans.append(Plan(kind, compressed, faces, np.array([row]), expressions, driver))
    return plans


def plan_clips(faces: Faces, count: int, frames: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Plan]:
    """`count` clips of each kind. A reenacted clip wears its own expressions in reversed order.

    Raises `UserError` where there are clips of one person only.
    """
    if count == 0:
        return []
    rng = np.random.default_rng([seed, 22])
    clips = {str(faces.identity[rows[0]]): rows for rows in clips_of(faces, frames)}
    if len(clips) < 2:
        raise UserError(
            f"moving={count // 3}: these records hold no clips in motion of at least {frames} frames of two people; "
            "give moving=0, or fewer frames"
        )
    people = _in_turn(np.array(sorted(clips)), count * len(kinds), rng)
    plans = []
    for kind, identity, compressed in _cast(people, count, kinds):
        rows, driver, expressions = clips[identity], None, None
        if kind == "swapped":
            other = clips[str(rng.choice([name for name in clips if name != identity]))]
            driver, expressions = int(other[len(other) // 2]), faces.expression[other].numpy()
        elif kind == "reenacted":
            driver, expressions = int(rows[len(rows) // 2]), faces.expression[rows[::-1].copy()].numpy()
        plans.append(Plan(kind, compressed, faces, rows, expressions, driver))
    return plans


def _in_turn(people: np.ndarray, count: int, rng: np.random.Generator) -> list[str]:
    if len(people) < 2:
        raise UserError("these records show one person; at least two are needed")
    rounds = [rng.permutation(people) for _ in range(-(-count // len(people)))]
    return [str(name) for name in np.concatenate(rounds)[:count]]


def _cast(people: Sequence[str], count: int, kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, str, bool]]:
    """Kind, person and compression of each; every second forgery is compressed."""
    for place, identity in enumerate(people):
        kind = kinds[place // count]
        yield kind, identity, kind == "compressed" or (kind != "real" and place % 2 == 0)


def _change(faces: Faces, row: int, others: np.ndarray) -> np.ndarray:
    return np.asarray((faces.expression[others] - faces.expression[row]).abs().sum(1).numpy())


def _driver(faces: Faces, row: int, others: np.ndarray, rng: np.random.Generator) -> int:
    """One of the others whose expression is plainly another, or else the most different one."""
    change = _change(faces, row, others)
    visible = others[change >= _VISIBLE]
    return int(rng.choice(visible)) if len(visible) else int(others[change.argmax()])


def _own_pair(faces: Faces, own: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Two frames of a person, of one clip where there is one with two."""
    together = [rows for rows in (own[faces.clip[own] == name] for name in np.unique(faces.clip[own])) if len(rows) > 1]
    rows = together[int(rng.integers(len(together)))] if together else own
    if len(rows) < 2:
        raise UserError(
            f"{faces.identity[own[0]]} is shown in one frame only; two expressions of each person are needed"
        )
    row = int(rng.choice(rows))
    return row, _driver(faces, row, rows[rows != row], rng)


def compress(frames: np.ndarray, seed: int) -> np.ndarray:  # uint8 (T, H, W, 3) -> the same
    """What a messenger makes of a picture, or a low bit rate of a clip: plain to see."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
    chain = [("h264", 4)] if len(frames) > 1 else [("messenger", 3)]
    made = (degraded(images, chain, seed)[0] * 255).round().to(torch.uint8)
    return np.ascontiguousarray(made.permute(0, 2, 3, 1).numpy())


def make(plan: Plan, forger: Forger, seed: int, score: Callable[[Any], float | None]) -> Item:
    """The item of a plan. score: media -> the detector's probability that it is forged"""
    source = np.stack([pixels(plan.faces, row) for row in plan.rows])
    origin, identity = str(plan.faces.origin[plan.rows[0]]), str(plan.faces.identity[plan.rows[0]])
    made: np.ndarray = source
    statement: Statement | None = None
    told: dict[str, Any] = {}
    if plan.expressions is not None and plan.driver is not None:
        worn = zip(plan.rows, plan.expressions, strict=True)
        made = np.stack([forger.forge(plan.faces, int(row), expression).image for row, expression in worn])
        driver = pixels(plan.faces, plan.driver)
        statement = forger.statement([source[0], driver], origin, seed)
        told |= {"driver": thumbnail(driver), "made_by": forger.family, "round": forger.round}
    before, after = (compress(frames, seed) if plan.compressed else frames for frames in (source, made))
    shown, marks = still(after[0], statement) if len(after) == 1 else clip(after, statement)
    if plan.kind != "real":
        compared = source if plan.kind == "compressed" else before
        moment = int(np.abs(after.astype(np.float32) - compared).mean((1, 2, 3)).argmax())
        told["before"] = still(compared[moment])[0]
        if shown.moving:
            told |= {"after": still(after[moment], statement)[0], "source": clip(compared)[0]}
        if statement is not None:
            told["change"] = heat(source[moment], made[moment])
        else:
            told["change"] = heat(compared[moment], after[moment])
    first = plan.rows[0]
    key = f"{seed} {plan.faces.clip[first]} {plan.faces.frame[first]} {len(plan.rows)} {plan.driver}"
    return Item(key, plan.kind, plan.compressed, shown, marks, identity, origin, detector=score(shown), **told)
