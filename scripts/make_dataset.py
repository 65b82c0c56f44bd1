"""Make a controlled data set: planned first, then made, marked, described; the same bytes whoever makes it.

python scripts/make_dataset.py dataset=robustness_small workers=2           # 2,000 clips; dataset.clips=60 for fewer
python scripts/make_dataset.py dataset=fairness_grid plan_only=true         # rows, bytes and time, nothing is made
python scripts/make_dataset.py dataset=robustness_small dataset.source=footage dataset.footage=RECORDS   # of ingest
RANK=0 WORLD_SIZE=4 python scripts/make_dataset.py out=DIR ...              # one of four that fill one folder
python scripts/make_dataset.py -m hydra/launcher=submitit_slurm rank=0,1,2,3 world=4 out=DIR   # as a SLURM array
python scripts/make_dataset.py out=DIR ray=auto                             # shards by whoever is free in a Ray cluster
python scripts/make_dataset.py export=deepfakebench from=DIR to=DIR         # or faceforensics, folders
python scripts/make_dataset.py verify=DIR_OR_FILE                           # exit code 1 if anything was tampered with
python scripts/make_dataset.py keys=new                                     # a new key that signs; keys=FILE: another

Interrupted, the same command with the same hydra.run.dir (or out=DIR) goes on; shards that are whole are not made
again, and damaged ones are named and made again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from detection.degradations import DEGRADATIONS, degraded
from generation.dataset.checking import State, check
from generation.dataset.design import PlanConfig
from generation.dataset.features import PLAN
from generation.dataset.folder import begin, complete, held, is_finished, size_of
from generation.dataset.layouts import export_layout
from generation.dataset.making import checkpoint_hashes, kind_of, make_shard, make_shards
from generation.dataset.plan import make_plan
from generation.dataset.real import takes_of
from generation.provenance.keys import new_key, use_key
from generation.records import UserError
from scripts.door import Tampered, configure, entry, progress, say
from scripts.on_ray import on_ray


@dataclass(frozen=True)
class MakeConfig:
    """See `conf/make_dataset.yaml`."""

    dataset: PlanConfig
    workers: int = 2
    rank: int = 0
    world: int = 1
    ray: str | None = None
    out: Path | None = None
    plan_only: bool = False
    export: str | None = None
    source: Path | None = None
    to: Path | None = None
    verify: Path | None = None
    keys: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers={self.workers}: must be at least 1")
        if self.ray is not None and self.world > 1:
            raise UserError(f"ray={self.ray} and world={self.world}: Ray shares out the shards itself; leave world out")
        if not 0 <= self.rank < self.world:
            raise UserError(f"rank={self.rank}, world={self.world}: ranks are counted from 0 to world - 1")
        if (self.export is None) != (self.source is None) or (self.export is None) != (self.to is None):
            raise UserError("export=LAYOUT, from=DIR and to=DIR belong together: give all three")


@entry("make_dataset", named=("dataset.reenactors",))
def main(config: DictConfig, folder: Path) -> Mapping[str, Any]:
    """Make, export or verify a data set."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain["source"] = plain.pop("from")
    plain["dataset"]["seed"] = plain["dataset"].get("seed", plain["seed"])
    settings = configure(MakeConfig, plain)
    if settings.keys == "new":
        return made_key()
    if settings.keys is not None:
        use_key(Path(settings.keys))
    if settings.verify is not None:
        return verified(settings.verify)
    if settings.export is not None:
        assert settings.source is not None and settings.to is not None
        with progress(settings.export) as bar:
            counts = export_layout(settings.export, settings.source, settings.to, bar, settings.workers)
        return {"export": settings.export, "from": str(settings.source), "to": str(settings.to), **counts}
    return planned(settings, folder) if settings.plan_only else made(settings, settings.out or folder / "dataset")


def made_key() -> dict[str, Any]:
    path, old = new_key()
    if old is not None:
        say(f"{old}: the key until now; what it signed stays valid, and is trusted with keys={old}")
    return {"key": str(path), "before": None if old is None else str(old)}


def made(settings: MakeConfig, out: Path) -> dict[str, Any]:
    """Make this rank's shards, and finish the set where they were the last."""
    config, start = settings.dataset, time.perf_counter()
    hashes = checkpoint_hashes(config)
    plan = make_plan(config, DEGRADATIONS, takes_of(config))
    kind = kind_of(config, hashes, plan)
    spread = None if settings.ray is None else partial(on_ray, address=settings.ray, workers=settings.workers)
    making, new = 0.0, 0
    with held(out, settings.rank, settings.world):
        if begin(out, plan, kind, say):
            with progress(config.name) as bar:
                new = make_shards(
                    out, plan, config, hashes, degraded, workers=settings.workers, rank=settings.rank,
                    world=settings.world, progress=bar, say=say, spread=spread,
                )  # fmt: skip
            making = time.perf_counter() - start
            complete(out, plan, kind, config)
    if not is_finished(out):
        say(f"rank {settings.rank} of {settings.world} is done; the last one finishes {out}")
    frames = len(plan) * config.frames
    return {
        "dataset": str(out),
        "rows": frames,
        "clips": len(plan),
        "frames": frames,
        "bytes": size_of(out),
        "frames_per_second": new / making if new else None,
        "seconds": {"made": making, "finished": time.perf_counter() - start - making},
    }


def verified(path: Path) -> dict[str, Any]:
    """One line a file, and how many are in which state."""
    counts = dict.fromkeys(get_args(State), 0)
    for finding in check(path):
        counts[finding.state] += 1
        say(f"{finding.path}: {finding.state}, {finding.told}")
    say(", ".join(f"{count} {state}" for state, count in counts.items()))
    return Tampered(counts) if counts["tampered"] else counts


def planned(settings: MakeConfig, run: Path) -> dict[str, Any]:
    """The plan as a table and in numbers; bytes and time are those of one of its pairs, made in a folder that is thrown
    away."""
    config = settings.dataset
    hashes = checkpoint_hashes(config)
    plan = make_plan(config, DEGRADATIONS, takes_of(config))
    plan.to_parquet(run / PLAN, index=False)
    for name, counts in _counts(plan, config).items():
        say(f"{name}: " + ", ".join(f"{level} {count}" for level, count in counts.items()))
    pairs = plan["pair"].drop_duplicates()
    with tempfile.TemporaryDirectory() as folder:
        taken = []
        for shard, pair in enumerate([pairs.iloc[0], pairs.iloc[len(pairs) // 2]]):  # the first one warms up
            sample = plan[plan["pair"] == pair].assign(shard=shard)
            sample.to_parquet(Path(folder) / PLAN, index=False)
            start = time.perf_counter()
            make_shard(Path(folder), shard, config, hashes, degraded)
            taken.append((time.perf_counter() - start, (Path(folder) / f"shard-{shard:05d}.parquet").stat().st_size))
    share = len(plan) / config.clips_a_pair
    seconds, size = share * taken[1][0] / settings.workers / settings.world, share * taken[1][1]
    say(
        f"{len(plan)} clips, {len(plan) * config.frames} frames: about {size / 2**20:.0f} MiB and "
        f"{seconds / 60:.1f} minutes"
    )
    return {
        "clips": len(plan),
        "frames": len(plan) * config.frames,
        "estimate": {"bytes": size, "seconds": seconds, "workers": settings.workers, "world": settings.world},
        "counts": _counts(plan, config),
    }


def _counts(plan: pd.DataFrame, config: PlanConfig) -> dict[str, dict[str, int]]:
    """How many clips have each level, of everything that has several."""
    names = ("split", "method", "motion", "skin", "age", "yaw", "light", "strength", "region", "degradation")
    found = {}
    for name in (*names, "compression"):
        counts = plan[name].replace("", "real").value_counts(dropna=True).sort_index()
        if len(counts) > 1:
            found[name] = {str(level): int(count) for level, count in counts.items()}
    return found


if __name__ == "__main__":
    main()
