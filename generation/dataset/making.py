"""Making a planned set: shard after shard, each from its rows of the plan alone.

Shard i is made by worker i mod world, by any number of processes on any number of machines that see one folder, and
its bytes are the same whoever makes it. A shard is written beside and renamed, then its hash; what is there with its
hash is not made again, so a run may be stopped at any moment, and started again with other workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from generation import records
from generation.dataset.design import COMPRESSIONS, PlanConfig, degradations_of
from generation.dataset.features import FEATURES, PLAN
from generation.dataset.real import Footage, RealClip, Row, Synthetic
from generation.dataset.sums import note_hash, undamaged
from generation.editing.drivers import Driver, EditConfig
from generation.faces.head import load_head
from generation.faces.render import VERSION as RENDERED
from generation.motion import EXPRESSION_SIZE
from generation.provenance import mark_image
from generation.records import UserError
from generation.reenactors import REENACTORS, build_reenactor, load_reenactor, shipped
from generation.reenactors.reenactment import blend, opacity
from generation.workers import each

Degrade = Callable[[Tensor, Sequence[tuple[str, int]], int], Tensor]
"""`detection.degradations.degraded`: (clip (T, 3, H, W) in [0, 1], names with severities, seed) -> the same."""

Progress = Callable[[int, int], None]

Spread = Callable[[Callable[..., "Made"], Sequence[tuple[Any, ...]]], Iterator[tuple[int, "Made | None"]]]
"""(work, jobs) -> (index of the job, `work(*job)`) as the jobs end, None for one whose process died; see
`workers.each`."""

VERSION = 1
"""To be raised with every change of what is made of a plan."""


@dataclass(frozen=True)
class Made:
    """A shard that was made, or was there."""

    index: int
    frames: int


def checkpoint_hashes(config: PlanConfig) -> dict[str, str]:
    """Method -> sha256 of its weights, "" for a family without any. Raises `UserError` for a checkpoint that is missing
    or of another size."""
    found = {}
    for method, maker in config.reenactors.items():
        _reenactor(method, maker.checkpoint, config.size)
        path = None if maker.checkpoint is None else shipped(maker.checkpoint)
        found[method] = "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@cache
def _reenactor(method: str, checkpoint: str | None, size: int) -> nn.Module:
    key = f"dataset.reenactors.{method}.checkpoint"
    if checkpoint is None:
        if method not in REENACTORS or next(build_reenactor(method).parameters(), None) is not None:
            raise UserError(
                f"{key}: must be given, as only families without weights need none; train_generator writes one"
            )
        return build_reenactor(method).eval()
    try:
        network, about = load_reenactor(shipped(checkpoint))
    except UserError as error:
        raise UserError(f"{key}={checkpoint}: {error}") from error
    trained = about["meta"].get("size", size)
    if trained != size:
        raise UserError(f"{key}={checkpoint}: was trained at {trained} pixels, dataset.size={size}")
    return network


def kind_of(config: PlanConfig, hashes: Mapping[str, str], plan: pd.DataFrame) -> dict[str, Any]:
    """What made the set, as `dataset_info.json` tells it: of files and folders the names, not where they lay."""
    asked = json.loads(json.dumps(asdict(config), default=lambda path: path.name))
    for maker in asked["reenactors"].values():
        maker["checkpoint"] = maker["checkpoint"] and Path(maker["checkpoint"]).name
    planned = hashlib.sha256(plan.to_json(orient="split").encode()).hexdigest()
    return {"version": VERSION, "rendered": RENDERED, "checkpoints": dict(hashes), "plan": planned, **asked}


class Studio:
    """Makes clips of one plan in one process, on one thread, so that every bit is the same everywhere."""

    def __init__(self, config: PlanConfig, hashes: Mapping[str, str], degrade: Degrade) -> None:
        self.config, self.hashes, self.degrade = config, hashes, degrade
        self.synthetic = Synthetic(config) if config.source != "footage" else None
        self.footage = Footage(config) if config.footage is not None else None

    def shard(self, plan: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """The frames of some rows of the plan: whole pairs."""
        for _, pair in plan.groupby("pair", sort=False):
            rows: list[dict[str, Any]] = pair.to_dict("records")  # type: ignore[assignment]
            yield from self._pair(rows)

    def _pair(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        real = {row["clip"]: row for row in rows if not row["label"]}
        clips = {name: self._source(row).clip(row) for name, row in real.items()}
        images: dict[str, list[str]] = {}
        for name, row in real.items():
            clip = clips[name]
            frames = self._finished(row, row, torch.from_numpy(clip.image).permute(0, 3, 1, 2))
            made = list(self._frames(row, frames, clip, clip.expression, clip.landmarks))
            images[name] = [frame["sha256"] for frame in made]
            yield from made
        for method in self.config.reenactors:
            forged = [row for row in rows if row["method"] == method]
            wanted = [self._wanted(row, clips[row["source"]], clips[row["driver"]]) for row in forged]
            drawn = self._forge(method, [clips[row["source"]] for row in forged], wanted)
            for row, expression, (image, mask, flow) in zip(forged, wanted, drawn, strict=True):
                own = real[row["source"]]
                clip = clips[row["source"]]
                landmarks = self._source(own).landmarks(own, clip, expression)
                frames = self._finished(row, own, image)
                parents = [list(pair) for pair in zip(images[row["source"]], images[row["driver"]], strict=True)]
                yield from self._frames(row, frames, clip, expression, landmarks, mask, flow, parents)

    def _source(self, row: Row) -> Synthetic | Footage:
        source = self.footage if row["take"] else self.synthetic
        assert source is not None
        return source

    def _wanted(self, row: Row, own: RealClip, other: RealClip) -> np.ndarray:  # (T, 52)
        regions = EditConfig().regions if row["region"] == "all" else tuple(row["region"].split("+"))
        edit = EditConfig("replace", float(np.float64(row["strength"]).round(6)), regions)
        everything = np.ones(EXPRESSION_SIZE, bool)
        driver = Driver(np.arange(len(other.image)), other.expression, np.zeros(EXPRESSION_SIZE), everything)
        return driver.wanted(own.expression, other.expression, edit).astype(np.float32)

    @torch.no_grad()
    def _forge(
        self, method: str, sources: Sequence[RealClip], wanted: Sequence[np.ndarray]
    ) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
        """uint8 (T, 3, H, W), mask uint8 (T, H, W) and flow float16 (T, H, W, 2) of every clip."""
        network = _reenactor(method, self.config.reenactors[method].checkpoint, self.config.size)
        for clip, expression in zip(sources, wanted, strict=True):
            source = torch.from_numpy(clip.image).permute(0, 3, 1, 2).float() / 255
            given = torch.from_numpy(clip.motion)
            asked = torch.cat([torch.from_numpy(expression), given[:, EXPRESSION_SIZE:]], dim=1)
            result = network(source, given, torch.from_numpy(clip.landmarks).float(), asked)
            image = (blend(source, result) * 255).round().to(torch.uint8)
            mask = (opacity(result.mask) * 255).round().to(torch.uint8)[:, 0].numpy()
            yield image, mask, result.flow.permute(0, 2, 3, 1).half().numpy()

    def _finished(self, row: Row, real: Row, image: Tensor) -> np.ndarray:  # uint8 (T, 3, H, W) -> (T, H, W, 3)
        """Degraded as its real clip is, with the same draws, and marked."""
        chain = [*degradations_of(row["degradation"]), *COMPRESSIONS[row["compression"]]]
        if chain:
            done = self.degrade(image[None].float() / 255, chain, int(real["seed"]))[0]
            image = (done * 255).round().to(torch.uint8)
        return np.stack(
            [mark_image(frame, payload_of(row)) for frame in image.permute(0, 2, 3, 1).contiguous().numpy()]
        )

    def _frames(
        self,
        row: Row,
        image: np.ndarray,
        clip: RealClip,
        expression: np.ndarray,
        landmarks: np.ndarray,
        mask: np.ndarray | None = None,
        flow: np.ndarray | None = None,
        parents: Sequence[list[str]] = (),
    ) -> Iterator[dict[str, Any]]:
        forged = mask is not None
        wanted = np.concatenate([expression, clip.pose], axis=1)
        factors = {name: _or_none(row[name]) for name in ("strength", "skin", "age", "yaw", "light")}
        for frame in range(len(image)):
            yield {
                **records.row(
                    image[frame],
                    mask=None if mask is None else mask[frame],
                    clip=row["clip"],
                    frame=frame,
                    identity=row["identity"],
                    scene=row["take"] or str(row["scene"]),
                    expression=expression[frame],
                    pose=clip.pose[frame],
                    landmarks=landmarks[frame],
                    split=row["split"],
                    origin=row["origin"],
                    seed=int(row["seed"]),
                    method=row["method"],
                    round=int(row["round"]),
                    source=(row["source"], frame) if forged else None,
                    driver=(row["driver"], frame) if forged else None,
                ),
                "row": int(row["row"]),
                "pair": row["pair"],
                "given": clip.motion[frame],
                "changed": 0.0 if mask is None else float(mask[frame].mean()) / 255,
                "wanted": wanted[frame].astype(np.float32) if forged else None,
                **factors,
                "region": row["region"],
                "motion": row["motion"],
                "degradations": [
                    {"name": name, "severity": severity} for name, severity in degradations_of(row["degradation"])
                ],
                "compression": row["compression"],
                "checkpoint": self.hashes[row["method"]] if forged else "",
                "parents": parents[frame] if forged else [],
                "payload": payload_of(row),
                "flow": flow[frame].tobytes() if flow is not None and self.config.flow else None,
            }


def _or_none(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def payload_of(row: Row) -> int:
    """What the watermark of a clip says: 32 bits of the seed of its row, by which the row is found again."""
    return int(row["seed"]) >> 31


def make_shard(folder: Path, index: int, config: PlanConfig, hashes: Mapping[str, str], degrade: Degrade) -> Made:
    """Make shard `index` of the plan that lies in the folder, in this process."""
    plan = pd.read_parquet(folder / PLAN)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        studio = _studio(_Key(config, tuple(hashes.items()), degrade))
        rows = list(studio.shard(plan[plan["shard"] == index]))
    finally:
        torch.set_num_threads(threads)
    path = records.write_shard(folder, index, rows, FEATURES)
    note_hash(path)
    return Made(index, len(rows))


class _Key:
    """A `Studio`'s settings, hashable, so that a process keeps its renderer and networks."""

    def __init__(self, config: PlanConfig, hashes: tuple[tuple[str, str], ...], degrade: Degrade) -> None:
        self.config, self.hashes, self.degrade = config, hashes, degrade
        self._id = (repr(config), hashes, degrade.__qualname__)

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._id == other._id


@cache
def _studio(key: _Key) -> Studio:
    return Studio(key.config, dict(key.hashes), key.degrade)


def make_shards(
    folder: Path,
    plan: pd.DataFrame,
    config: PlanConfig,
    hashes: Mapping[str, str],
    degrade: Degrade,
    *,
    workers: int = 1,
    rank: int = 0,
    world: int = 1,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
    spread: Spread | None = None,
) -> int:
    """Make all shards that fall to this rank and are not there undamaged; `progress` takes (frames done, of all).

    Damaged ones are named by `say` and made again. `spread` hands the work to others than `workers` processes here.
    Returns how many frames were made. Raises what making raises.
    """
    mine = [index for index in range(int(plan["shard"].max()) + 1) if index % world == rank]
    left = [index for index in mine if not undamaged(records.shard_path(folder, index), say)]
    frames = (plan.groupby("shard").size() * config.frames).to_dict()
    total = sum(frames[index] for index in mine)
    done = total - sum(frames[index] for index in left)
    if config.source != "footage" and left:
        load_head()
    jobs = [(folder, index, config, hashes, degrade) for index in left]
    for index, made in (spread or _spread(workers))(make_shard, jobs):
        if made is None:
            raise RuntimeError(f"a process that made shard {left[index]} was killed; the same command goes on")
        done += made.frames
        if progress:
            progress(done, total)
    return sum(frames[index] for index in left)


def _spread(workers: int) -> Spread:
    def here(work: Callable[..., Made], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Made]]:
        yield from ((index, work(*job)) for index, job in enumerate(jobs))

    return here if workers == 1 else partial(each, workers=workers, preload=__name__)
