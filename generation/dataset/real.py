"""The real clips of a controlled data set: synthetic people as the plan sets them, or footage as it was ingested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from generation.dataset.design import PlanConfig
from generation.dataset.plan import PEOPLE_SEED, Take
from generation.faces.people import ORIGIN, Person, Scene, sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.faces.trajectories import FRAME_RATE, trajectory
from generation.motion import EXPRESSION_SIZE
from generation.records import INFO, UserError, decode
from generation.reenactors.rig import moved_landmarks

Row = Mapping[str, Any]
"""One of the plan, see `plan.make_plan`."""

_STARTS, _LATEST_START = 12, 6 * FRAME_RATE
"""A clip begins where its face is busiest, of so many moments up to a latest frame."""

_YOUNGEST, _OLDEST = 0.66, 0.92  # on Anny's axis of age, as `people.sample_person` draws it


@dataclass(frozen=True, eq=False)
class RealClip:
    """image: uint8 (T, H, W, 3); expression: (T, 52); pose: (T, 6); landmarks: (T, 68, 2) pixels"""

    image: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    landmarks: np.ndarray

    @property
    def motion(self) -> np.ndarray:  # (T, 58) float32
        return np.concatenate([self.expression, self.pose], axis=1).astype(np.float32)


class Synthetic:
    """Clips of people who do not exist. The same person in the same scene does the same whatever the factors are."""

    def __init__(self, config: PlanConfig) -> None:
        self.config, self.renderer = config, Renderer(config.size)

    def clip(self, row: Row) -> RealClip:
        person, scene = self._shown(row)
        frames = self.config.frames
        key = (PEOPLE_SEED + self.config.seed, int(row["person"]), int(row["scene"]))
        starts = np.random.default_rng([*key, 5]).integers(_LATEST_START, size=_STARTS).tolist()
        course = trajectory(max(starts) + frames, key, row["motion"], scene.pose)
        start = max(starts, key=lambda start: float(course.expression[start : start + frames].sum()))
        part = slice(start, start + frames)
        made = self.renderer.render(person, scene, course.expression[part], course.pose[part])
        return RealClip(made.image, course.expression[part], made.pose, made.landmarks)

    def landmarks(self, row: Row, clip: RealClip, wanted: np.ndarray) -> np.ndarray:  # (T, 52) -> (T, 68, 2)
        """Where the clip's landmarks would lie with the wanted expressions: exact."""
        return self.renderer.landmarks(*self._shown(row), wanted, clip.pose)

    def _shown(self, row: Row) -> tuple[Person, Scene]:
        seed = PEOPLE_SEED + self.config.seed
        person = _person(seed, int(row["person"]))
        scene = sample_scene(seed, int(row["person"]), int(row["scene"]))
        if not np.isnan(row["skin"]):
            person = replace(person, melanin=float(row["skin"]))
        if not np.isnan(row["age"]):
            person = _aged(person, float(row["age"]))
        if not np.isnan(row["yaw"]):
            scene = replace(scene, pose=(scene.pose[0], float(np.radians(row["yaw"])), *scene.pose[2:]))
        if not np.isnan(row["light"]):
            scene = replace(scene, key=_turned(scene.key, float(np.radians(row["light"]))))
        return person, scene


@lru_cache(maxsize=2)
def _person(seed: int, index: int) -> Person:
    return sample_person(seed, index)


def _aged(person: Person, age: float) -> Person:
    """The person at another age, from 0, the youngest adult, to 1, the oldest; lines and bags come with it."""
    before = (person.phenotype["age"] - _YOUNGEST) / (_OLDEST - _YOUNGEST)
    return replace(
        person,
        phenotype={**person.phenotype, "age": _YOUNGEST + age * (_OLDEST - _YOUNGEST)},
        wrinkles=0.65 * age,
        bags=max(0.0, person.bags + 0.5 * (age - before)),
    )


def _turned(key: Sequence[float], azimuth: float) -> tuple[float, float, float]:
    """A direction of the same height at an azimuth in radians, 0 from the camera, positive from the image's right."""
    level = float(np.hypot(key[0], key[2]))
    return level * float(np.sin(azimuth)), key[1], -level * float(np.cos(azimuth))


class Footage:
    """Clips of finished records: the first frames of each, in the order of their numbers."""

    def __init__(self, config: PlanConfig) -> None:
        assert config.footage is not None
        self.config, self.folder = config, config.footage

    def clip(self, row: Row) -> RealClip:
        found = _frames(self.folder, row["take"])[: self.config.frames]
        where = f"{self.folder}, clip {row['take']}"
        image = np.stack([decode(item["image"]["bytes"], where) for item in found])
        expression, pose, landmarks = (
            np.asarray([item[name] for item in found], np.float32) for name in ("expression", "pose", "landmarks")
        )
        return RealClip(image, expression, pose, landmarks)

    def landmarks(self, row: Row, clip: RealClip, wanted: np.ndarray) -> np.ndarray:  # (T, 52) -> (T, 68, 2)
        """Where the clip's landmarks would lie with the wanted expressions, by `reenactors.rig`."""
        given, pose, marks = (
            torch.from_numpy(part.astype(np.float32)) for part in (clip.motion, clip.pose, clip.landmarks)
        )
        asked = torch.cat([torch.from_numpy(wanted.astype(np.float32)), pose], dim=1)
        return moved_landmarks(marks, given, asked, self.config.size).numpy()


@lru_cache(maxsize=4)
def _frames(folder: Path, clip: str) -> list[dict[str, Any]]:
    """The rows of a clip, by number."""
    for path in sorted(folder.glob("shard-*.parquet")):
        rows = pq.read_table(path, filters=[("clip", "=", clip)]).to_pylist()
        if rows:
            return sorted(rows, key=lambda row: row["frame"])
    raise UserError(f"{folder}: the clip {clip} is gone since the plan was made; make the plan again")


def takes_of(config: PlanConfig) -> list[Take]:
    """The real clips of the footage that are long enough and whose every frame was read.

    Raises `UserError` for a folder without finished records, another size, and clips without consent and licence.
    """
    folder = config.footage
    if folder is None:
        return []
    if not (folder / INFO).is_file():
        raise UserError(f"dataset.footage={folder}: no {INFO}, so these are no finished records; ingest writes some")
    names = json.loads((folder / INFO).read_bytes())["shards"]
    columns = ["clip", "frame", "identity", "split", "label", "origin", "expression"]
    table = pa.concat_tables([pq.read_table(folder / name, columns=columns) for name in names]).to_pandas()
    table = table[table["label"] == 0]
    unstated = sorted({str(row.clip) for row in table.itertuples() if not _agreed(str(row.origin))})
    if unstated:
        raise UserError(
            f"{folder}: no consent and licence for {', '.join(unstated[:5])}"
            + (f" and {len(unstated) - 5} more" if len(unstated) > 5 else "")
            + "; ingest them again with origin.consent and origin.licence"
        )
    first = pq.read_table(folder / names[0], columns=["image"]).slice(0, 1).to_pylist()[0]
    size = decode(first["image"]["bytes"], f"{folder}/{names[0]}").shape[0]
    if size != config.size:
        raise UserError(
            f"dataset.size={config.size}: the faces in {folder} have {size} pixels; set dataset.size={size}"
        )
    found = []
    for clip, rows in table.groupby("clip", sort=True):
        read = np.isfinite(np.stack(rows["expression"].to_list())).all() if len(rows) >= config.frames else False
        if read and np.stack(rows["expression"].to_list()).shape[1] == EXPRESSION_SIZE:
            one = rows.iloc[0]
            found.append(Take(str(clip), str(one["identity"]), str(one["split"]), str(one["origin"])))
    return found


def _agreed(origin: str) -> bool:
    """Whether the statement of a row names a licence and the consent, as `footage.OriginConfig` writes them."""
    licence, _, consent = origin.partition("; consent: ")
    return origin == ORIGIN or bool(licence.strip() and consent.strip())
