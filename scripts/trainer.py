"""Training any of our Lightning modules: logger, progress, checkpoints, guard against NaN, resuming bit for bit.

In the folder of a training: `last.ckpt` (everything, for resuming), `best.safetensors` (the network, chosen on
validation), `done.json`, and the logger's files, a version for each start.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import platform
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from generation.records import UserError, write_beside
from scripts.console import Bar, progress

Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]

LAST, BEST, DONE = "last.ckpt", "best.safetensors", "done.json"
SCORE = "validation/score"

QUIET_LOGGERS = ("pytorch_lightning.utilities.rank_zero",)
QUIET_WARNINGS = (
    r".*does not have many workers which may be a bottleneck",
    r".*GPU available but not used",
    r".*isinstance\(treespec, LeafSpec\)",
)
"""What Lightning says on every start, and one deprecation in it."""


def check_compiler(key: str) -> None:
    """Raises `UserError`, in which `key` asks for it, where `torch.compile` would find no compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UserError(f"{key}=true: needs the compiler {compiler}, which is not there; install it")


@dataclass(frozen=True)
class LoggerConfig:
    """Where the curves go. `project` and `offline` are for wandb."""

    name: Literal["csv", "wandb", "tensorboard", "none"] = "csv"
    project: str = "vicious-cycle"
    offline: bool = False


@dataclass(frozen=True)
class TrainerConfig:
    """How the trainer works; `with_steps` says for how long.

    `precision`: of the arithmetic; `auto` is `bf16-mixed` where the device has instructions for bfloat16, and `32-true`
    elsewhere, where it would take several times as long. `gradient_clip` is the largest norm of the gradient, None for
    no limit.
    """

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    precision: Precision = "32-true"
    gradient_clip: float | None = 1.0
    progress: bool = True
    logger: LoggerConfig = field(default_factory=LoggerConfig)

    def with_steps(self, steps: int, steps_per_epoch: int) -> Training:
        return Training(self, steps, steps_per_epoch)


@dataclass(frozen=True)
class Training:
    """`steps` optimiser steps in all; after every `steps_per_epoch`, and at the end, a validation and a checkpoint."""

    config: TrainerConfig
    steps: int
    steps_per_epoch: int


def fit(module: pl.LightningModule, data: pl.LightningDataModule, folder: Path, training: Training) -> Path:
    """Train `module` and leave its best weights in `module.network`, in eval mode; the path of those weights.

    The best are those with the highest `validation/score` at the end of an epoch; where the module logs none, the last.
    Where `module.average` is a network (an average of the weights), its weights are the ones that are kept.
    What `folder` holds of the same training is taken up: after a stop it goes on from the last whole epoch and ends
    with the very weights of an undisturbed run, provided that `data` draws its batches by step number; a finished
    training is only loaded. What the network draws from torch's global generators (dropout) is seeded by epoch, and
    those generators are left as they were found.

    Raises `UserError` when the loss or the weights are no longer finite (the last whole epoch's checkpoint stays),
    when a logger's package is missing, or when there is no such accelerator.
    """
    network = module.network
    assert isinstance(network, nn.Module)
    folder.mkdir(parents=True, exist_ok=True)
    best = folder / BEST
    if not (folder / DONE).is_file():
        with _quiet(), torch.random.fork_rng(), progress(folder.name, training.config.progress) as bar:
            epochs = _Epochs(folder, getattr(module, "average", None) or network, training, bar)
            _fit(module, data, folder, training, epochs)
        gc.collect()  # trainer, module and data refer to one another, and data hold thousands of faces
        write_beside(folder / DONE, json.dumps({"steps": training.steps, "score": epochs.shown_score}).encode())
    load_model(network, best)
    network.eval()
    return best


def _fit(
    module: pl.LightningModule, data: pl.LightningDataModule, folder: Path, training: Training, epochs: _Epochs
) -> None:
    config = training.config
    logger = _logger(config.logger, folder)
    try:
        trainer = pl.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=arithmetic(config),
            gradient_clip_val=config.gradient_clip,
            max_steps=training.steps,
            max_epochs=-1,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=min(50, training.steps_per_epoch),
            logger=logger or False,
            callbacks=[epochs],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except MisconfigurationException as error:
        raise UserError(f"trainer.accelerator={config.accelerator}: {error}") from error
    last = folder / LAST
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:
        if epochs.interrupted:  # Lightning turns Ctrl-C into exit code 1 and leaves the signal ignored
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from None
        raise
    finally:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


class _Epochs(pl.Callback):
    """Seeds each epoch, guards each step, and leaves the checkpoints of each whole epoch."""

    def __init__(self, folder: Path, network: nn.Module, training: Training, bar: Bar) -> None:
        self.folder, self.network, self.training, self.bar = folder, network, training, bar
        self.best_score = -math.inf
        self.whole_epochs = 0
        self.interrupted = False

    @property
    def shown_score(self) -> float | None:
        return self.best_score if math.isfinite(self.best_score) else None

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "whole_epochs": self.whole_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.whole_epochs = state_dict["best_score"], state_dict["whole_epochs"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(trainer.current_epoch)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            self._stop(trainer, f"the loss is {float(loss.detach())}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        score = f", best score {self.best_score:.4f}" if self.shown_score is not None else ""
        self.bar(step, self.training.steps, f"loss {float(outputs['loss']):.4f}{score}")
        if step >= self.training.steps:
            trainer.should_stop = True  # so that an unfinished last epoch ends with a validation too

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch < self.whole_epochs:  # on resuming, Lightning ends the last whole epoch once more
            return
        self.whole_epochs = trainer.current_epoch + 1
        if not all(bool(torch.isfinite(value).all()) for value in self.network.state_dict().values()):
            self._stop(trainer, "the weights are no longer finite")
        score = trainer.callback_metrics.get(SCORE)
        if score is None or float(score) > self.best_score or not (self.folder / BEST).is_file():
            with _beside(self.folder / BEST) as path:
                save_model(self.network, str(path))
        if score is not None:
            self.best_score = max(self.best_score, float(score))
        with _beside(self.folder / LAST) as path:
            # what Lightning calls weights_only here is leaving out the optimiser, which resuming needs
            trainer.save_checkpoint(path, weights_only=False)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def _stop(self, trainer: pl.Trainer, what: str) -> None:
        last = self.folder / LAST
        kept = f"the checkpoint of the last whole epoch stays in {last}" if last.is_file() else "no epoch was whole yet"
        raise UserError(
            f"{self.folder.name}: training stopped at step {trainer.global_step}: {what}; {kept}; "
            "try a lower learning rate or trainer.gradient_clip in another folder"
        )


def arithmetic(config: TrainerConfig) -> Literal["32-true", "16-mixed", "bf16-mixed"]:
    """The precision of a training on this machine; see `TrainerConfig`."""
    if config.precision != "auto":
        return config.precision
    if config.accelerator != "cpu" and torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    elif config.accelerator != "cpu" and torch.backends.mps.is_available():
        able = False
    else:
        able = _multiplies_bfloat16()
    return "bf16-mixed" if able else "32-true"


def _multiplies_bfloat16() -> bool:
    """Or does this processor imitate it: oneDNN does so from AVX-512 on."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` once it is whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _logger(config: LoggerConfig, folder: Path) -> Logger | None:
    try:
        if config.name == "csv":
            return CSVLogger(folder, name="logs")
        if config.name == "tensorboard":
            return TensorBoardLogger(folder, name="logs")
        if config.name == "wandb":
            return _wandb(config, folder)
    except ModuleNotFoundError as error:
        raise UserError(
            f"logger={config.name}: not installed; pip install 'vicious-cycle[{config.name}]', or take logger=csv"
        ) from error
    return None


def _wandb(config: LoggerConfig, folder: Path) -> WandbLogger:
    import wandb

    settings = wandb.Settings(silent=True)
    if config.offline:
        settings.mode = "offline"
    try:
        run = wandb.init(project=config.project, name=folder.name, dir=folder, settings=settings)
    except wandb.Error as error:
        raise UserError(f"logger=wandb: {error}; run `wandb login`, or take trainer.logger.offline=true") from error
    return WandbLogger(experiment=run, save_dir=folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what tells nobody anything, by name."""
    loggers = [logging.getLogger(name) for name in QUIET_LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in QUIET_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
