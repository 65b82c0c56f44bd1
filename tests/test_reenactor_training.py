"""How reenactors are trained: terms, average, resuming, validation, noise, compiling, real faces."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from generation.pairs import PairsData
from generation.records import Faces, UserError, row, write
from generation.reenactors import Reenactment, build_reenactor
from generation.reenactors.reenactment import Readout
from generation.training import LossWeights, ReenactorTrainer, averaged, noisy_landmarks
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import LoggerConfig, TrainerConfig, fit

SMALL = {"widths": [8, 16], "blocks": 1, "motion_width": 16, "atlas": 4, "atlas_size": 6}
QUICK = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig(name="none"))


def module_of(total_steps: int = 9, seed: int = 0, **options: object) -> ReenactorTrainer:
    weights = options.pop("weights", LossWeights())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_reenactor("warp", SMALL)
    return ReenactorTrainer(network, total_steps, 2e-3, weights, **options)  # type: ignore[arg-type]


def a_batch(faces: Faces) -> tuple[Tensor, ...]:
    return next(iter(PairsData(faces, batch=4, steps_per_epoch=1, seed=0).train_dataloader()))


@pytest.mark.parametrize(
    ("weights", "more"),
    [
        ({"ssim": 0.5}, {"ssim"}),
        ({"perceptual": 0.5}, {"perceptual"}),
        ({"eyes_mouth": 4.0}, set()),
        ({"adversarial": 0.1}, set()),
    ],
)
def test_terms_are_computed_where_they_have_a_weight(faces: Faces, weights: dict[str, float], more: set[str]) -> None:
    batch = a_batch(faces)
    plain, module = module_of(), module_of(weights=LossWeights(**weights))
    arguments = batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion
    before = plain.terms(batch, plain.network(*arguments))
    after = module.terms(batch, module.network(*arguments))
    assert after.keys() == before.keys() | more
    changed = {"reconstruction", "blended"} if "eyes_mouth" in weights else set()
    for name, value in before.items():
        assert (after[name].item() != value.item()) == (name in changed), name
    for name in more:
        assert 0 < after[name].item() < 1


def test_the_average_is_the_closed_form() -> None:
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = averaged(layer, 0.9)
    weights, rates = [], []
    for step in range(120):
        with torch.no_grad():
            layer[0].weight.copy_(torch.full((2, 2), float(np.sin(step))))
            layer[1].running_mean.fill_(step)
        average.update_parameters(layer)
        weights.append(float(np.sin(step)))
        rates.append(min(0.9, (1 + step) / (10 + step)) if step else 0.0)
    shares = [(1 - rate) * np.prod(rates[step + 1 :]) for step, rate in enumerate(rates)]
    assert sum(shares) == pytest.approx(1)
    assert average.module[0].weight.flatten().tolist() == pytest.approx([np.dot(shares, weights)] * 4, abs=1e-5)
    assert average.module[1].running_mean.tolist() == [119, 119]


WHOLE = LossWeights(ssim=0.1, perceptual=0.1, adversarial=0.05, eyes_mouth=2.0)


class StoppedError(Exception):
    pass


class Watched(ReenactorTrainer):
    """Notes what each step saw, and stops at one."""

    stop = -1

    def training_step(self, batch: object, index: int) -> Tensor:
        if self.global_step == self.stop:
            raise StoppedError
        assert self._adversary is not None
        before = {key: value.clone() for key, value in self._adversary.discriminator.state_dict().items()}
        found = super().training_step(batch, index)  # type: ignore[arg-type]
        after = self._adversary.discriminator.state_dict()
        moved = not all(torch.equal(value, after[key]) for key, value in before.items())
        assert moved == (self.global_step >= 6)
        return found


def everything(folder: Path) -> dict[str, Tensor]:
    """Every tensor of both checkpoints, whatever it belongs to."""
    found = {f"best {key}": value for key, value in load_file(folder / "best.safetensors").items()}

    def collect(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{name} {key}")
        elif isinstance(value, list | tuple):
            for key, item in enumerate(value):
                collect(item, f"{name} {key}")
        elif isinstance(value, Tensor):
            found[name] = value

    last = torch.load(folder / "last.ckpt", weights_only=True)
    for key in ("state_dict", "optimizer_states", "adversary"):
        collect(last[key], key)
    return found


@pytest.mark.parametrize("stop", [4, 8])
def test_a_stopped_run_with_average_and_adversary_ends_with_the_very_same_weights(
    faces: Faces, tmp_path: Path, stop: int
) -> None:
    def run(folder: Path, stop: int = -1) -> ReenactorTrainer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build_reenactor("warp", SMALL)
        module = Watched(network, 9, 2e-3, WHOLE, ema=0.9, landmark_noise=0.05)
        module.stop = stop
        data = PairsData(faces, batch=4, steps_per_epoch=3, seed=0, validation_pairs=4, augment=0.5)
        fit(module, data, folder, QUICK.with_steps(9, 3))
        return module

    module = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", stop)
    torch.randn(7)
    run(tmp_path / "stopped")
    one, other = everything(tmp_path / "whole"), everything(tmp_path / "stopped")
    assert one.keys() == other.keys() and any(key.startswith("adversary optimizer state") for key in one)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    averages = {key.removeprefix("state_dict _averaged.module."): value for key, value in one.items()}
    trained = {key.removeprefix("state_dict network."): value for key, value in one.items()}
    kept = load_file(tmp_path / "whole" / "best.safetensors")
    for key, value in module.network.state_dict().items():
        assert torch.equal(value, kept[key])
    key = "head.weight"
    assert torch.equal(averages[key], kept[key]) and not torch.equal(trained[key], kept[key])


def test_validation_is_of_the_average_and_without_the_adversary(faces: Faces) -> None:
    module = module_of(weights=WHOLE, ema=0.9)
    data = PairsData(faces, batch=4, steps_per_epoch=9, seed=0, validation_pairs=4)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=9, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    (batch,) = data.val_dataloader()
    average = module.average
    assert average is not None
    arguments = batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion
    with torch.no_grad():
        total = sum(float(term) for term in module.terms(batch, average.eval()(*arguments)).values())
        trained = sum(float(term) for term in module.terms(batch, module.network.eval()(*arguments)).values())
    assert float(trainer.callback_metrics["validation/score"]) == pytest.approx(-total, rel=1e-5)
    assert total != pytest.approx(trained, rel=1e-4)
    assert float(trainer.callback_metrics["train/adversarial"]) != 0


def test_the_noise_of_landmarks_is_as_large_as_asked_and_half_of_it_is_common(faces: Faces) -> None:
    landmarks = faces.landmarks[:1].expand(4000, -1, -1)
    eyes = float((landmarks[0, 36:42].mean(0) - landmarks[0, 42:48].mean(0)).norm())
    error = (noisy_landmarks(landmarks, 0.05, seed=3) - landmarks) / eyes
    assert float(error.std()) == pytest.approx(0.05, rel=0.03)
    assert float(error.mean(dim=1).std()) == pytest.approx(0.05 / 2**0.5, rel=0.05)
    assert torch.equal(noisy_landmarks(landmarks, 0.05, seed=3), noisy_landmarks(landmarks, 0.05, seed=3))
    assert not torch.equal(noisy_landmarks(landmarks, 0.05, seed=3), noisy_landmarks(landmarks, 0.05, seed=4))


class OneLayer(nn.Module):
    """The least that is a reenactor: compiling a real one takes a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Readout(3, 6)

    def forward(
        self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        made = self.head(source) + wanted_motion[:, 0, None, None, None]
        return Reenactment(made[:, :3].sigmoid(), made[:, 3:4].sigmoid(), made[:, 4:])


def test_compiled_training_is_the_same_training(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is missing")
    batch = a_batch(faces)
    network = OneLayer()
    plain, compiled = (ReenactorTrainer(network, 9, 1e-3, LossWeights(), compiled=flag) for flag in (False, True))
    assert compiled.state_dict().keys() == plain.state_dict().keys() == {"network.head.weight", "network.head.bias"}
    monkeypatch.setattr(ReenactorTrainer, "log_dict", lambda *given, **more: None)
    monkeypatch.setattr(ReenactorTrainer, "log", lambda *given, **more: None)
    found = []
    for module in (plain, compiled):
        network.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        assert network.head.weight.grad is not None
        found.append((loss.detach(), network.head.weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_the_red_team_trains_with_everything_on(faces: Faces, faces_folder: Path, tmp_path: Path) -> None:
    weights = LossWeights(ssim=0.1, perceptual=0.1, adversarial=0.05, eyes_mouth=2.0)
    config = GeneratorConfig(
        steps=3, steps_per_epoch=3, batch=4, precision="32-true", weights=weights, ema=0.9, real=faces_folder,
        augment=0.5, landmark_noise=0.03, judged=0,
    )  # fmt: skip
    made = []
    for name in ("one", "other"):
        with RedTeam(faces, ReenactorConfig("warp", SMALL), config, QUICK, 0) as red:
            made.append(load_file(red.train("G0", None, (), (), tmp_path / name / "G0")))
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())
    with RedTeam(faces, ReenactorConfig("warp", SMALL), replace(config, real=None), QUICK, 0) as red:
        other = load_file(red.train("G0", None, (), (), tmp_path / "synthetic" / "G0"))
    assert not all(torch.equal(value, other[key]) for key, value in made[0].items())


@pytest.mark.parametrize(("splits", "named"), [({"train"}, "none of them in validation"), ({"test"}, "in train")])
def test_real_faces_need_people_to_train_and_to_validate_on(
    faces: Faces, tmp_path: Path, splits: set[str], named: str
) -> None:
    rows = (
        row(
            faces.image[i].permute(1, 2, 0).numpy(), clip=str(faces.clip[i]), frame=int(faces.frame[i]),
            identity=str(faces.identity[i]), scene="", expression=faces.expression[i].numpy(),
            pose=faces.pose[i].numpy(), landmarks=faces.landmarks[i].numpy(), split=str(faces.split[i]), origin="",
            seed=0,
        )
        for i in range(len(faces))
        if faces.split[i] in splits
    )  # fmt: skip
    write(tmp_path / "real", rows)
    config = GeneratorConfig(steps=1, real=tmp_path / "real")
    with (
        RedTeam(faces, ReenactorConfig("warp", SMALL), config, QUICK, 0) as red,
        pytest.raises(UserError, match=rf"{tmp_path / 'real'}.*{named}"),
    ):
        red.train("G0", None, (), (), tmp_path / "G0")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ema": 1.0}, r"generator\.ema=1\.0: .*less than 1"),
        ({"real_share": 0.0}, r"generator\.real_share=0\.0: .*between|more than 0"),
        ({"augment": 1.5}, r"generator\.augment=1\.5"),
        ({"landmark_noise": -0.1}, r"generator\.landmark_noise=-0\.1"),
        ({"weights": LossWeights(ssim=-1.0)}, r"generator\.weights\.ssim=-1\.0"),
        ({"ema": float("nan")}, r"generator\.ema=nan"),
    ],
)
def test_values_that_are_not_allowed_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        GeneratorConfig(**options)  # type: ignore[arg-type]


def test_compiling_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"generator\.compile=true: .*no-such-compiler"):
        GeneratorConfig(compile=True)
