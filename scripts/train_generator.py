"""Train one reenactor and measure it on people it has never seen.

python scripts/train_generator.py                                            # warp, 64 px, synthetic faces
python scripts/train_generator.py data.size=128 generator.start=warp_64      # at 128 px, from the shipped one
python scripts/train_generator.py data=london generator.start=G0.safetensors # fine-tune on real photos
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detection.pictures import sample_grid
from generation.records import load, write_beside
from generation.reenactors import load_reenactor
from scripts.data import apart_from_data, load_split_faces, prepare
from scripts.door import configure, entry
from scripts.quality import judged_quality
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import TrainerConfig


@dataclass(frozen=True)
class TrainGeneratorConfig:
    """Everything but the faces; `forgeries` test swaps are forged and measured."""

    reenactor: ReenactorConfig = field(default_factory=ReenactorConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    forgeries: int = 1000
    seed: int = 0
    workers: int = 2


@entry("train_generator")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainGeneratorConfig, apart_from_data(config))
    faces = load_split_faces(prepare(config.data, settings.workers))
    with RedTeam(faces, settings.reenactor, settings.generator, settings.trainer, settings.seed) as red:
        checkpoint = red.train("G0", None, (), (), folder / "reenactors" / "G0")
        red.forge(checkpoint, "G0", 0, {"test": settings.forgeries}, settings.seed * 1000, folder / "forgeries")
        forged = load(folder / "forgeries")
        swapped = red.swapped(forged)
        pictures: dict[str, Any] = {**red.pictures(forged, 8)}
    write_beside(folder / "grid.png", sample_grid(**pictures))
    reenactor = load_reenactor(checkpoint)[0]
    quality = judged_quality(reenactor, swapped, settings.generator.judged, settings.seed, folder / "clip.png")
    return {"quality": quality, "checkpoint": checkpoint.name}


if __name__ == "__main__":
    main()
