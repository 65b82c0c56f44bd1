"""Train one reenactor and measure it on people it has never seen.

python scripts/train_generator.py                                            # warp, 64 px, synthetic faces
python scripts/train_generator.py reenactor=warp_128 data.size=128           # the same people at 128 px
python scripts/train_generator.py data=london generator.start=G0.safetensors # fine-tune on real photos
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detection.report import sample_grid
from generation.forge import draw_swaps
from generation.records import load, write_beside
from scripts.data import load_split_faces, prepare
from scripts.door import configure, entry
from scripts.red_team import GeneratorConfig, ReenactorConfig, RedTeam
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
