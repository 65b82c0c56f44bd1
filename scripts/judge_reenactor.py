"""Judge a reenactor on test people: synthetic ones, photos, or footage.

python scripts/judge_reenactor.py checkpoint=G0.safetensors      # synthetic people, and synthetic clips
python scripts/judge_reenactor.py data=london data.size=128 # the target is the person's other photo
python scripts/judge_reenactor.py data=footage data.root=DIR origin.consent="..." origin.licence="..."
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import nn

from detection.pictures import sample_grid
from generation import metrics
from generation.faces.landmarks import FaceReader
from generation.forge import Swaps, draw_swaps, reenact
from generation.pairs import check_splits
from generation.records import Faces, UserError, load, write_beside
from generation.reenactors import load_reenactor, shipped
from scripts.clip_quality import NOTHING, ClipQuality, clip_quality, judge_clips, real_pairs
from scripts.data import apart_from_data, prepare
from scripts.door import configure, entry, say
from scripts.quality import told


@dataclass(frozen=True)
class JudgeReenactorConfig:
    """checkpoint: path or name of a shipped reenactor; count: swaps judged; shown: of these, on the contact sheet"""

    checkpoint: str = "warp_128"
    count: int = 300
    shown: int = 12
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("shown", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: must be at least {least}")


@entry("judge_reenactor")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(JudgeReenactorConfig, apart_from_data(config))
    checkpoint = shipped(settings.checkpoint)
    reenactor, made = load_reenactor(checkpoint)
    records = prepare(config.data, settings.workers)
    faces = load(records).where(split="test", label=0)
    check_splits(faces, str(records), ("test",))
    swaps = draw_swaps(faces, settings.count, settings.seed)
    images, _ = reenact(reenactor, faces, swaps)
    swapped = metrics.SwapImages(
        source=faces.image[swaps.source],
        result=images,
        target=faces.image[swaps.target],
        wanted=faces.expression[swaps.driver],
        source_landmarks=faces.landmarks[swaps.source],
        target_landmarks=faces.landmarks[swaps.target],
    )
    write_beside(folder / "contact_sheet.png", _sheet(faces, swapped, swaps, settings.shown))
    with metrics.Panel() as panel:
        for line in panel.absent:
            say(line)
        quality = panel.quality(swapped, settings.count)
        clips = NOTHING
        if panel.reader is not None:
            clips, strip = _clips(reenactor, faces, config.data.name, settings.seed, panel.reader)
            if clips.clips:
                write_beside(folder / "clip.png", strip)
    return {"quality": told(quality, clips), "checkpoint": checkpoint.name, "reenactor": made}


def _clips(
    reenactor: nn.Module, faces: Faces, data: str | None, seed: int, reader: FaceReader
) -> tuple[ClipQuality, bytes]:
    """Synthetic clips for synthetic people; else those of the test people that are in motion."""
    if data == "synthetic":
        return clip_quality(reenactor, faces.size, seed, reader)
    pairs = real_pairs(faces)
    if not pairs:
        say("jitter is not judged: nobody in the test split is in two clips that move")
        return NOTHING, b""
    return judge_clips(reenactor, pairs, reader)


def _sheet(faces: Faces, swapped: metrics.SwapImages, swaps: Swaps, count: int) -> bytes:
    chosen = np.linspace(0, len(swapped) - 1, min(count, len(swapped))).round().astype(int)
    images = {
        "source": swapped.source,
        "driver": faces.image[swaps.driver],
        "forgery": swapped.result,
        "target": swapped.target,
    }
    pictures: dict[str, Any] = {name: value[chosen].permute(0, 2, 3, 1).numpy() for name, value in images.items()}
    return sample_grid(**pictures)


if __name__ == "__main__":
    main()
