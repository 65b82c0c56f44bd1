"""Forging: a reenactor and records of real faces -> labelled forgeries, each with its mask, source and driver.

The forgeries are written by shards; a run that was stopped goes on behind the last whole shard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generation import records
from generation.motion import Motion, swap
from generation.pairs import Pairs
from generation.records import Faces
from generation.reenactors.reenactment import blend, opacity

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Swaps:
    """Expression swaps, as rows of the real faces they are made of: (N,) each."""

    source: np.ndarray
    driver: np.ndarray
    target: np.ndarray


def draw_swaps(faces: Faces, count: int, seed: int) -> Swaps:
    """`count` swaps among `faces`; the same seed draws the same ones."""
    generator = np.random.default_rng([seed, 2])
    pairs = Pairs(faces)
    source, target = pairs.draw(count, generator)
    return Swaps(source, pairs.drivers(target, generator), target)


@torch.no_grad()
def reenact(reenactor: nn.Module, faces: Faces, swaps: Swaps, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Forge the swaps.

    Returns images (N, 3, H, W) and masks (N, 1, H, W), both uint8; where the mask is 0 the image is the source, bit
    for bit.
    """
    images, masks = [], []
    for start in range(0, len(swaps.source), batch):
        rows = slice(start, start + batch)
        source = faces.image[swaps.source[rows]].float() / 255
        own = Motion(faces.expression[swaps.source[rows]], faces.pose[swaps.source[rows]])
        other = Motion(faces.expression[swaps.driver[rows]], faces.pose[swaps.driver[rows]])
        landmarks = faces.landmarks[swaps.source[rows]]
        result = reenactor(source, own.vector(), landmarks, swap(own, other).vector())
        images.append((blend(source, result) * 255).round().to(torch.uint8))
        masks.append((opacity(result.mask) * 255).round().to(torch.uint8))
    return torch.cat(images), torch.cat(masks)


def forge(
    reenactor: nn.Module,
    faces: Faces,
    folder: Path,
    counts: Mapping[str, int],
    *,
    seed: int,
    method: str,
    round: int,
    made_by: Mapping[str, Any],
    progress: Progress | None = None,
    shard_rows: int = 512,
) -> None:
    """Write `counts[split]` forgeries of each split's own people to `folder`.

    `made_by` goes into the set's description (the checkpoint's hash, say); a folder that was begun with another one
    is written anew.
    """
    kind = {"method": method, "round": round, "seed": seed, "counts": dict(counts), "shard_rows": shard_rows, **made_by}
    if records.finished(folder, kind):
        return
    records.begin(folder, kind)
    total, done, shard = sum(counts.values()), 0, 0
    for split, count in counts.items():
        real = faces.where(split=split, label=0)
        swaps = draw_swaps(real, count, seed=seed * len(records.SPLITS) + records.SPLITS.index(split))
        for start in range(0, count, shard_rows):
            part = slice(start, start + shard_rows)
            if not records.shard_path(folder, shard).is_file():
                some = Swaps(swaps.source[part], swaps.driver[part], swaps.target[part])
                records.write_shard(folder, shard, _rows(reenactor, real, some, start, seed, method, round))
            shard += 1
            done += len(swaps.source[part])
            if progress:
                progress(done, total)
    records.finish(folder, shard, kind)


def _rows(
    reenactor: nn.Module, real: Faces, swaps: Swaps, first: int, seed: int, method: str, round: int
) -> list[dict[str, Any]]:
    images, masks = reenact(reenactor, real, swaps)

    def frame_id(row: int) -> tuple[str, int]:
        return str(real.clip[row]), int(real.frame[row])

    return [
        records.row(
            images[i].permute(1, 2, 0).numpy(),
            mask=masks[i, 0].numpy(),
            clip=f"{method}/{round}/{real.clip[source]}",
            frame=first + i,
            identity=str(real.identity[source]),
            scene=str(real.scene[source]),
            expression=real.expression[driver].numpy(),
            pose=real.pose[source].numpy(),
            landmarks=real.landmarks[target].numpy(),
            split=str(real.split[source]),
            origin=str(real.origin[source]),
            seed=seed,
            method=method,
            round=round,
            source=frame_id(source),
            driver=frame_id(driver),
        )
        for i, (source, driver, target) in enumerate(zip(swaps.source, swaps.driver, swaps.target, strict=True))
    ]
