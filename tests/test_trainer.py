"""Training: what is kept, resuming bit for bit after any kind of stop, NaN, loggers."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from generation.records import UserError
from scripts import trainer
from scripts.trainer import LoggerConfig, TrainerConfig, arithmetic, fit

STEPS, EPOCH = 22, 4  # five whole epochs and half a sixth
QUICK = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig(name="none"))


class StoppedError(Exception):
    """Not a mistake of the user's, and nothing that the trainer knows."""


class Module(pl.LightningModule):
    """All that a resumed run must bring back: dropout, running statistics, optimiser state, a schedule."""

    def __init__(
        self, stop_at: tuple[str, int] | None = None, kind: str = "raise", scores: list[float] | None = None
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            layers = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
            self.network = nn.Sequential(*layers)
        self.stop_at, self.kind, self.scores = stop_at, kind, scores
        self.seen: list[float] = []

    def _maybe_stop(self, where: str, number: int) -> float:
        if self.stop_at != (where, number):
            return 1.0
        if self.kind == "raise":
            raise StoppedError
        if self.kind == "interrupt":
            raise KeyboardInterrupt
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return float(self.kind)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        factor = self._maybe_stop("step", self.global_step)
        self.seen.append(float(batch.sum()))
        loss = (self.network(batch).squeeze(1) - batch.sum(1)).square().mean() * factor
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        error = (self.network(batch).squeeze(1) - batch.sum(1)).abs().mean()
        score = self.scores[self.current_epoch] if self.scores else -error
        self.log("validation/score", score, batch_size=len(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        self._maybe_stop("save", self.global_step)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        schedule = LambdaLR(optimizer, lambda step: 0.9**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Unscored(Module):
    validation_step = None  # type: ignore[assignment]


def batch_of(step: int) -> Tensor:
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(100 + step))


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Tensor]:
        first = self.trainer.current_epoch * EPOCH
        return DataLoader([batch_of(first + i) for i in range(EPOCH)], batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([batch_of(10_000 + i) for i in range(2)], batch_size=None)  # type: ignore[arg-type]


def train(folder: Path, module: Module | None = None, config: TrainerConfig = QUICK) -> Module:
    module = module or Module()
    fit(module, Data(), folder, config.with_steps(STEPS, EPOCH))
    return module


def _killed(folder: Path, where: str, number: int) -> None:
    train(folder, Module((where, number), "kill"))


def everything(folder: Path) -> dict[str, Tensor]:
    """All tensors of both checkpoints."""
    last = torch.load(folder / "last.ckpt", weights_only=True)
    found = {f"best {key}": value for key, value in load_file(folder / "best.safetensors").items()}
    found |= {f"last {key}": value for key, value in last["state_dict"].items()}
    for index, state in last["optimizer_states"][0]["state"].items():
        found |= {f"optimizer {index} {key}": torch.as_tensor(value) for key, value in state.items()}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    return folder


def same(a: Path, b: Path) -> bool:
    one, other = everything(a), everything(b)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("able", "chosen"), [(False, "32-true"), (True, "bf16-mixed")])
def test_bfloat16_is_chosen_where_the_processor_multiplies_it(
    able: bool, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_multiplies_bfloat16", lambda: able)
    assert arithmetic(replace(QUICK, precision="auto")) == chosen
    assert arithmetic(QUICK) == "32-true" and arithmetic(replace(QUICK, precision="16-mixed")) == "16-mixed"
    for name, precision in (("auto", "auto"), ("stated", chosen)):
        train(tmp_path / name, config=replace(QUICK, precision=precision))
    assert same(tmp_path / "auto", tmp_path / "stated")


@pytest.mark.parametrize(
    ("where", "number"), [("step", 0), ("step", 4), ("step", 11), ("step", 21), ("save", 8), ("save", 22)]
)
def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(
    undisturbed: Path, tmp_path: Path, where: str, number: int
) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, Module((where, number)))
    assert not (tmp_path / "done.json").exists()
    torch.randn(7)  # the global generator is somewhere else by now
    resumed = train(tmp_path)
    whole_epochs = (number - 1 if where == "save" else number) // EPOCH
    assert resumed.seen == pytest.approx([float(batch_of(step).sum()) for step in range(whole_epochs * EPOCH, STEPS)])
    assert same(undisturbed, tmp_path)


@pytest.mark.parametrize("best", [0, 1, 5])
def test_a_stopped_run_keeps_the_best_of_all_its_epochs(tmp_path: Path, best: int) -> None:
    scores = [0.9 if epoch == best else 0.5 for epoch in range(6)]
    train(tmp_path / "undisturbed", Module(scores=scores))
    for stop in [("step", 9), ("save", 16)]:
        with pytest.raises(StoppedError):
            train(tmp_path / "stopped", Module(stop, scores=scores))
    train(tmp_path / "stopped", Module(scores=scores))
    assert same(tmp_path / "undisturbed", tmp_path / "stopped")


@pytest.mark.parametrize(("where", "number"), [("step", 14), ("save", 12)])
def test_sigkill(undisturbed: Path, tmp_path: Path, where: str, number: int) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path, where, number))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "done.json").exists()
    train(tmp_path)
    assert same(undisturbed, tmp_path)


def test_ctrl_c_stays_ctrl_c(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Module(("step", 6), "interrupt"))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore:.*no `validation_step`")
@pytest.mark.parametrize("scores", [[0.1, 0.5, 0.3, float("nan"), 0.4, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None])
def test_the_best_epoch_is_loaded(tmp_path: Path, scores: list[float] | None) -> None:
    kept: list[dict[str, Tensor]] = []

    class Watched(Module):
        def on_train_epoch_start(self) -> None:
            kept.append({key: value.clone() for key, value in self.network.state_dict().items()})

        def on_train_end(self) -> None:
            self.on_train_epoch_start()

    module = Watched(scores=scores) if scores else type("WatchedUnscored", (Watched, Unscored), {})()
    train(tmp_path, module)
    finite = [-1.0 if value != value else value for value in scores or []]
    best = kept[finite.index(max(finite)) + 1] if scores else kept[-1]
    assert len(kept) == 7
    assert not module.network.training
    for key, value in module.network.state_dict().items():
        assert torch.equal(value, best[key]), key
    done = json.loads((tmp_path / "done.json").read_bytes())
    assert done["score"] == (pytest.approx(max(finite)) if scores else None)


def test_a_finished_training_is_only_loaded(undisturbed: Path) -> None:
    module = Module(("step", 0))
    path = fit(module, Data(), undisturbed, QUICK.with_steps(STEPS, EPOCH))
    assert module.seen == []
    for key, value in load_file(path).items():
        assert torch.equal(module.network.state_dict()[key], value)


def test_global_generator_is_left_alone_and_does_not_matter(undisturbed: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    train(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(undisturbed, tmp_path)


@pytest.mark.parametrize("factor", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, factor: str) -> None:
    with pytest.raises(UserError, match=r"stopped at step 9: the loss is (nan|inf); .*last\.ckpt"):
        train(tmp_path, Module(("step", 9), factor))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8
    assert all(bool(torch.isfinite(value).all()) for value in last["state_dict"].values())


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Spoiled(Module):
        def on_train_batch_end(self, outputs: object, batch: Tensor, index: int) -> None:
            if self.global_step == 8:
                self.network[0].weight.data[0, 0] = float("nan")

    with pytest.raises(UserError, match="step 8: the weights are no longer finite"):
        train(tmp_path, Spoiled())
    for value in everything(tmp_path).values():
        assert bool(torch.isfinite(value).all())


def test_a_loss_that_is_nan_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 0: the loss is nan; no epoch was whole yet"):
        train(tmp_path, Module(("step", 0), "nan"))


def test_no_space_left_is_an_os_error_and_leaves_the_last_checkpoint(tmp_path: Path, undisturbed: Path) -> None:
    class Full(Module):
        def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
            if self.global_step == 12:
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, Full())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.ckpt"]


@pytest.mark.parametrize("name", ["csv", "tensorboard", "wandb"])
def test_loggers_write_in_the_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != "csv":
        pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tmp_path, config=TrainerConfig(accelerator="cpu", logger=LoggerConfig(name=name)))  # type: ignore[arg-type]
    if name == "wandb":
        import wandb

        wandb.teardown()  # its process writes on after the run is finished
    pattern = {
        "csv": "logs/version_0/metrics.csv",
        "tensorboard": "logs/version_0/events.out.*",
        "wandb": "wandb/offline-run-*/run-*.wandb",
    }
    (written,) = tmp_path.glob(pattern[name])
    assert written.stat().st_size > 200
    if name == "csv":
        header, *rows = written.read_text().splitlines()
        assert "validation/score" in header
        assert len([row for row in rows if row.split(",")[header.split(",").index("validation/score")]]) == 6


def test_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with caplog.at_level(logging.INFO):
            train(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_an_accelerator_that_is_not_there(tmp_path: Path) -> None:
    missing = "gpu" if not torch.cuda.is_available() and not torch.backends.mps.is_available() else "mps"
    if missing == "mps" and torch.backends.mps.is_available():
        pytest.skip("every accelerator is here")
    with pytest.raises(UserError, match=f"trainer.accelerator={missing}: "):
        train(tmp_path, config=TrainerConfig(accelerator=missing))  # type: ignore[arg-type]
