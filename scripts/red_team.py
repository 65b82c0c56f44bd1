"""The red side of the cycle, composed: training, forging and judging reenactors on one set of faces."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from generation import metrics
from generation.faces.landmarks import FaceReader, landmarker_file
from generation.forge import Swaps, forge
from generation.losses import Critic, evasion
from generation.pairs import PairsData, check_splits
from generation.records import Faces, UserError, load
from generation.reenactors import build_reenactor, load_reenactor, save_reenactor, shipped
from generation.search import Oracle, SearchOptions, evade
from generation.training import LossWeights, ReenactorTrainer
from scripts.console import progress, say
from scripts.trainer import TrainerConfig, check_compiler, fit


@dataclass(frozen=True)
class ReenactorConfig:
    name: str = "warp"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorConfig:
    """How reenactors are trained. `start`: a checkpoint to fine-tune instead of training from scratch, its path or the
    name of a shipped one. `real`: a folder of finished records of which the share `real_share` of every batch is drawn.
    `augment` is explained at `PairsData`; `ema`, `compile` and `landmark_noise` at `ReenactorTrainer`."""

    steps: int = 3200
    steps_per_epoch: int = 250
    batch: int = 32
    learning_rate: float = 2e-3
    fine_tune_steps: int = 300
    fine_tune_learning_rate: float = 5e-4
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    start: str | None = None
    weights: LossWeights = field(default_factory=LossWeights)
    search: SearchOptions = field(default_factory=SearchOptions)
    judged: int = 120
    ema: float = 0.0
    compile: bool = False
    real: Path | None = None
    real_share: float = 0.5
    augment: float = 0.0
    landmark_noise: float = 0.0

    def __post_init__(self) -> None:
        for key, allowed, what in (
            ("ema", 0 <= self.ema < 1, "0 (no average) or more, and less than 1"),
            ("real_share", 0 < self.real_share < 1, "more than 0 and less than 1"),
            ("augment", 0 <= self.augment <= 1, "between 0 and 1"),
            ("landmark_noise", self.landmark_noise >= 0, "0 or more"),
        ):
            if not allowed:
                raise UserError(f"generator.{key}={getattr(self, key)}: must be {what}")
        for name, weight in asdict(self.weights).items():
            if not weight >= 0:
                raise UserError(f"generator.weights.{name}={weight}: must be 0 or more")
        if self.compile:
            check_compiler("generator.compile")
        if self.judged < 0:
            raise UserError(f"generator.judged={self.judged}: must be 0 (no expression is judged) or more")


class RedTeam:
    """`detection.arms_race.Red` on real faces in memory; a context manager, for the judge that it may open."""

    def __init__(
        self,
        faces: Faces,
        reenactor: ReenactorConfig,
        config: GeneratorConfig,
        trainer: TrainerConfig,
        seed: int,
    ) -> None:
        self.faces, self.reenactor, self.config, self.trainer, self.seed = faces, reenactor, config, trainer, seed
        self._test = faces.where(split="test")
        self._read: dict[int, Tensor] = {}
        self._open = ExitStack()

    def train(
        self, name: str, start: Path | None, critics: Sequence[Critic], weights: Sequence[float], folder: Path
    ) -> Path:
        config = self.config
        if start is None and config.start is not None:
            start = shipped(config.start)
        first = start is None
        steps = config.steps if first else config.fine_tune_steps
        network = self._fresh() if start is None else load_reenactor(start)[0].train()
        epoch = min(config.steps_per_epoch, steps)
        module = ReenactorTrainer(
            network,
            total_steps=steps,
            learning_rate=config.learning_rate if first else config.fine_tune_learning_rate,
            weights=config.weights,
            evasion=evasion(critics, weights) if critics else None,
            ema=config.ema,
            compiled=config.compile,
            landmark_noise=config.landmark_noise,
        )
        seed = self._seed(name)
        data = PairsData(
            self.faces,
            config.batch,
            epoch,
            seed,
            real=self._real,
            real_share=config.real_share,
            augment=config.augment,
        )
        if next(network.parameters(), None) is not None:  # a family without any has nothing to learn
            fit(module, data, folder, replace(self.trainer, precision=config.precision).with_steps(steps, epoch))
        path = folder.parent / f"{name}.safetensors"
        meta = {"steps": steps, "seed": seed, "start": start and start.name, "size": self._size}
        save_reenactor(path, network, self._name(start), meta)
        return path

    def search(self, name: str, start: Path, oracle: Oracle, folder: Path) -> Path:
        network, config = load_reenactor(start)
        seed, path = self._seed(name), folder.parent / f"{name}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        with progress(name, self.trainer.progress) as bar:
            evade(network, oracle, self.faces, self.config.search, seed, folder / "search.safetensors", bar)
        meta = {"queries": oracle.asked, "seed": seed, "start": start.name, "size": self._size}
        save_reenactor(path, network, config["name"], meta)
        return path

    def _seed(self, name: str) -> int:
        return self.seed * 100_003 + zlib.crc32(name.encode()) % 100_003

    @property
    def _size(self) -> int:
        return int(self.faces.image.shape[-1])

    @cached_property
    def _real(self) -> Faces | None:
        if self.config.real is None:
            return None
        faces = load(self.config.real).where(label=0)
        check_splits(faces, str(self.config.real), needed=("train", "validation"))
        return faces

    def _fresh(self) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return build_reenactor(self.reenactor.name, self.reenactor.options)

    def _name(self, start: Path | None) -> str:
        return self.reenactor.name if start is None else str(load_reenactor(start)[1]["name"])

    def forge(
        self, checkpoint: Path, name: str, round: int, counts: Mapping[str, int], seed: int, folder: Path
    ) -> None:
        reenactor, config = load_reenactor(checkpoint)
        made_by = {"name": name, "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
        with progress(f"forge {folder.name}", self.trainer.progress) as bar:
            forge(
                reenactor,
                self.faces,
                folder,
                counts,
                seed=seed,
                method=config["name"],
                round=round,
                made_by=made_by,
                progress=bar,
            )

    def _swaps(self, forged: Faces) -> Swaps:
        """Which real rows the forgeries were made of, found by their ids."""
        rows = {(clip, frame): i for i, (clip, frame) in enumerate(zip(self._test.clip, self._test.frame, strict=True))}
        source = [rows[key] for key in zip(forged.source_clip, forged.source_frame, strict=True)]
        driver = [rows[key] for key in zip(forged.driver_clip, forged.driver_frame, strict=True)]
        target = [
            rows[clip, frame]
            for clip, frame in zip(forged.source_clip, self._test.frame[np.asarray(driver)], strict=True)
        ]
        return Swaps(np.asarray(source), np.asarray(driver), np.asarray(target))

    def __enter__(self) -> RedTeam:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @cached_property
    def _reader(self) -> FaceReader | None:
        """The expression judge, or None (and a line that says why) where its model cannot be had."""
        try:
            return self._open.enter_context(FaceReader(landmarker_file()))
        except UserError as error:
            say(f"expressions are not judged: {error}")
            return None

    def quality(self, forged: Faces, expression: bool = True) -> dict[str, Any]:
        """What the cycle asks of every reenactor: errors of the pixels, and expressions by MediaPipe alone."""
        swaps, images = self._swaps(forged), self.swapped(forged)
        visible = images.visible()
        found = {"swaps": len(forged), "visible": int(visible.sum()), **metrics.pixel_quality(images)}
        if not (expression and self.config.judged) or self._reader is None:
            return found
        judged = slice(0, self.config.judged)
        error = metrics.expression_quality(
            self._readings(swaps.source[judged]),
            metrics.read_faces(forged.image[judged], self._reader).expression,
            self._readings(swaps.target[judged]),
            self._test.expression[swaps.driver[judged]],
            visible[judged],
        )
        return found | asdict(error)

    def swapped(self, forged: Faces) -> metrics.SwapImages:
        """Forgeries of test faces with their sources and exact targets."""
        swaps = self._swaps(forged)
        return metrics.SwapImages(
            source=self._test.image[swaps.source],
            result=forged.image,
            target=self._test.image[swaps.target],
            wanted=self._test.expression[swaps.driver],
            source_landmarks=self._test.landmarks[swaps.source],
            target_landmarks=self._test.landmarks[swaps.target],
        )

    def _readings(self, rows: np.ndarray) -> Tensor:  # (N,) -> (N, 52)
        """The judge's readings of real test frames; each frame is read once."""
        assert self._reader is not None
        for row in rows:
            if row not in self._read:
                self._read[row] = metrics.read_faces(self._test.image[row][None], self._reader).expression[0]
        return torch.stack([self._read[row] for row in rows])

    def pictures(self, forged: Faces, count: int) -> dict[str, np.ndarray]:
        swaps = self._swaps(forged)
        chosen = np.linspace(0, len(forged) - 1, count).round().astype(int)
        images = {
            "source": self._test.image[swaps.source[chosen]],
            "driver": self._test.image[swaps.driver[chosen]],
            "forgery": forged.image[chosen],
            "target": self._test.image[swaps.target[chosen]],
        }
        return {name: value.permute(0, 2, 3, 1).numpy() for name, value in images.items()}
