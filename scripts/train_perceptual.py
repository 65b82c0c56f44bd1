"""Train the network of the perceptual loss and measure it on people it has never seen.

python scripts/train_perceptual.py                                # as the shipped one: six minutes on 2 cores
python scripts/train_perceptual.py data.size=64 data.train=300    # on the faces that the cycle uses

The run folder gets `perceptual.safetensors`; `generation/weights` holds the shipped one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig

from generation.perceptual import PerceptualNetwork, load_perceptual, save_perceptual
from generation.perceptual_training import SIZES, PerceptualData, PerceptualTrainer, augmented, judge, resized, whole
from scripts.data import apart_from_data, load_split_faces, prepare
from scripts.door import configure, entry, say
from scripts.trainer import TrainerConfig, fit


@dataclass(frozen=True)
class TrainPerceptualConfig:
    """Everything but the faces."""

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    steps: int = 900
    steps_per_epoch: int = 100
    batch: int = 64
    learning_rate: float = 4e-3
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    seed: int = 0
    workers: int = 2


@entry("train_perceptual")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainPerceptualConfig, apart_from_data(config))
    faces = load_split_faces(prepare(config.data, settings.workers))
    data = PerceptualData(faces, settings.batch, settings.steps_per_epoch, settings.seed)
    torch.manual_seed(settings.seed)
    network = PerceptualNetwork()
    module = PerceptualTrainer(network, len(data.people), data.spread, settings.steps, settings.learning_rate)
    trainer = replace(settings.trainer, precision=settings.precision)
    fit(module, data, folder / "perceptual", trainer.with_steps(settings.steps, settings.steps_per_epoch))
    path = folder / "perceptual.safetensors"
    save_perceptual(path, network, {"steps": settings.steps, "seed": settings.seed, "people": len(data.people)})
    saved, test = load_perceptual(path), whole(faces.where(split="test"), 2)
    quality = {}
    for size in (size for size in SIZES if size <= faces.size):
        plain = resized(test, size)
        quality[f"{size} px"] = judge(saved, plain)
        quality[f"{size} px, augmented"] = judge(saved, augmented(plain, np.random.default_rng(settings.seed)))
    for name, found in quality.items():
        say(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in found.items()))
    return {"quality": quality, "checkpoint": path.name}


if __name__ == "__main__":
    main()
