"""What the training recipe adds: SSIM, regions, perceptual loss, discriminator, average, compiling, noise."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from kornia.filters import gaussian_blur2d
from safetensors.torch import load_file
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from generation import metrics
from generation.adversarial import AdversarialLoss, PatchDiscriminator, takes_part
from generation.losses import eyes_mouth_region, ssim
from generation.motion import ACTIONS
from generation.pairs import PairsData
from generation.perceptual import PerceptualLoss, PerceptualNetwork, load_perceptual, shipped_weights
from generation.perceptual_training import PerceptualData, PerceptualTrainer, augmented, judge, moved, sample_of, whole
from generation.records import Faces, UserError, row, write
from generation.reenactors import Reenactment, build_reenactor
from generation.reenactors.reenactment import Readout
from generation.training import LossWeights, ReenactorTrainer, averaged, noisy_landmarks
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import LoggerConfig, TrainerConfig, fit

SMALL = {"widths": [8, 16], "blocks": 1, "motion_width": 16, "atlas": 4, "atlas_size": 6}
QUICK = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig(name="none"))


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Smooth and rough at once."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, size, size, generator=generator)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) + 0.2 * noise) / 1.2


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_ssim_is_that_of_scikit_image_and_of_the_metrics(size: tuple[int, int]) -> None:
    target = pictures(3, 64)[..., : size[0], : size[1]].contiguous()
    result = (target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    reference = [
        structural_similarity(
            one.double().numpy(), other.double().numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False, full=True,
        )[1][:, 5:-5, 5:-5].mean()
        for one, other in zip(result, target, strict=True)
    ]  # fmt: skip
    found = ssim(result, target)
    assert float(found) == pytest.approx(1 - np.mean(reference), abs=1e-5)
    similarity = metrics.ssim(metrics.ssim_map(result, target)).mean()
    assert float(found) == pytest.approx(1 - float(similarity), abs=1e-5)
    assert float(ssim(target, target)) == pytest.approx(0, abs=1e-6)


def test_ssim_does_not_suffer_from_bfloat16_and_its_gradient_mends_the_picture() -> None:
    target = pictures(2, 32)
    result = gaussian_blur2d(target, 5, (1.0, 1.0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ssim(result, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(ssim(result.detach(), target)), abs=1e-6)
    assert result.grad is not None
    with torch.no_grad():
        assert ssim(result - result.grad, target) < loss


def test_the_region_of_eyes_and_mouth(faces: Faces) -> None:
    landmarks = faces.landmarks[[0, 40]]
    region = eyes_mouth_region(landmarks, (64, 64))
    assert region.shape == (2, 1, 64, 64) and region.dtype == torch.bool
    for index in range(2):
        eyes = np.linalg.norm(landmarks[index, 36:42].mean(0) - landmarks[index, 42:48].mean(0))
        for y in range(64):
            for x in range(64):
                inside = False
                for part in (slice(36, 42), slice(42, 48), slice(48, 68)):
                    points = landmarks[index, part].numpy()
                    low, high = points.min(0), points.max(0)
                    radius = (high - low) / 2 + 0.2 * eyes
                    inside |= (((np.array([x + 0.5, y + 0.5]) - (low + high) / 2) / radius) ** 2).sum() < 1
                assert bool(region[index, 0, y, x]) == inside
    assert 0.05 < region.float().mean() < 0.35


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


def test_the_perceptual_loss_grows_with_blur_and_with_a_moved_mouth(faces: Faces) -> None:
    loss = PerceptualLoss(load_perceptual())
    target = faces.image[:8].float() / 255
    assert float(loss(target, target)) == 0
    blurred = [float(loss(gaussian_blur2d(target, 9, (sigma, sigma)), target)) for sigma in (0.5, 1.0, 2.0)]
    assert 0 < blurred[0] < blurred[1] < blurred[2]
    moved = []
    for shift in (1, 3):
        result = target.clone()
        for index, landmarks in enumerate(faces.landmarks[:8]):
            low, high = landmarks[48:].amin(0).int().tolist(), landmarks[48:].amax(0).int().tolist()
            mouth = target[index, :, low[1] : high[1], low[0] : high[0]]
            result[index, :, low[1] + shift : high[1] + shift, low[0] : high[0]] = mouth
        moved.append(float(loss(result, target)))
    assert 0 < moved[0] < moved[1]


def test_the_perceptual_loss_follows_its_formula_and_leaves_its_network_alone(faces: Faces) -> None:
    network = load_perceptual()
    loss = PerceptualLoss(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    target = faces.image[:3].float() / 255
    result = faces.image[3:6].float() / 255
    shares = []
    with torch.no_grad():
        for one, other in zip(network.features(result), network.features(target), strict=True):
            assert bool((one >= 0).all())
            for a, b in zip(one.numpy(), other.numpy(), strict=True):
                shares.append(np.abs(a - b).sum() / b.sum())
    leaf = result.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    assert float(value.detach()) == pytest.approx(np.mean(shares), rel=1e-5)
    assert leaf.grad is not None and bool((leaf.grad != 0).any())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_shipped_network_reads_faces_it_has_never_seen(faces: Faces) -> None:
    network, sample = load_perceptual(), whole(faces, 1)
    found = judge(network, augmented(sample, np.random.default_rng(0)))
    centre = sample.landmarks.mean(dim=0, keepdim=True)
    eyes = (sample.landmarks[:, 36:42].mean(1) - sample.landmarks[:, 42:48].mean(1)).norm(dim=1)
    mean_shape = ((sample.landmarks - centre).abs() / eyes[:, None, None]).mean()
    assert found["landmark_error"] < 0.08 and judge(network, sample)["landmark_error"] < 0.5 * float(mean_shape)
    assert found["identity_auroc"] > 0.75
    assert found["expression_correlation"] > 0.05
    assert shipped_weights().stat().st_size < 1_500_000


def test_augmented_truth_lies_where_the_face_lies(faces: Faces) -> None:
    """A dot painted on the picture before is found at the landmark afterwards."""
    sample = sample_of(faces, np.arange(16), torch.zeros(16, dtype=torch.int64))
    x = torch.arange(64) + 0.5
    nose = sample.landmarks[:, 30]
    spot = torch.exp(-((x - nose[:, :1]).square()[:, None, :] + (x - nose[:, 1:]).square()[:, :, None]) / 8)
    after = moved(sample._replace(image=spot[:, None].expand(-1, 3, -1, -1)), np.random.default_rng(0))
    weight = after.image[:, 0] / after.image[:, 0].sum((1, 2), keepdim=True)
    centre = torch.stack([(weight.sum(1) * x).sum(1), (weight.sum(2) * x).sum(1)], dim=1)
    assert torch.allclose(centre, after.landmarks[:, 30], atol=0.5)
    assert float((after.landmarks[:, 30] - nose).norm(dim=1).mean()) > 3


def test_the_network_learns_from_scratch_and_the_same_bytes_each_time(faces: Faces, tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> tuple[PerceptualNetwork, float]:
        data = PerceptualData(faces, batch=12, steps_per_epoch=20, seed=0)
        torch.manual_seed(0)
        network = PerceptualNetwork()
        module = PerceptualTrainer(network, len(data.people), data.spread, steps, 4e-3)
        before = judge(network, whole(faces.where(split="validation"), 1))["landmark_error"]
        fit(module, data, folder, QUICK.with_steps(steps, 20))
        return network, before

    first, before = run(tmp_path / "first", 40)
    again, _ = run(tmp_path / "again", 40)
    assert judge(first, whole(faces.where(split="validation"), 1))["landmark_error"] < 0.6 * before
    other = again.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in first.state_dict().items())


def test_faces_too_small_or_too_few_to_learn_from(faces: Faces) -> None:
    with pytest.raises(UserError, match=r"data\.size=32: must be at least 64"):
        PerceptualData(replace(faces, image=faces.image[..., ::2, ::2]), 8, 1, 0)
    with pytest.raises(UserError, match=r"batch=500: there are only 36 frames"):
        PerceptualData(faces, 500, 1, 0)


def lost(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(("damage", "named"), [(lost, "no such file"), (cut, "does not hold the network")])
def test_weights_that_cannot_be_had_are_named(damage: object, named: str, tmp_path: Path) -> None:
    path = shutil.copy(shipped_weights(), tmp_path)
    damage(Path(path))  # type: ignore[operator]
    with pytest.raises(UserError, match=rf"perceptual\.safetensors: {named}") as caught:
        load_perceptual(Path(path))
    assert "\n" not in str(caught.value)


def test_a_patch_is_eighteen_pixels() -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    hidden, odds = PatchDiscriminator()(image)
    assert odds.shape == (1, 1, 16, 16) and len(hidden) == 2
    odds[0, 0, 8, 8].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [18, 18]


def test_the_adversary_trains_itself_alone_and_learns_to_tell() -> None:
    loss = AdversarialLoss()
    before = {key: value.clone() for key, value in loss.discriminator.state_dict().items()}
    real = pictures(8, 32)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    kept = [parameter.clone() for parameter in layer.parameters()]
    for _ in range(60):
        forgery = gaussian_blur2d(real, 5, (1.5, 1.5))
        loss(forgery, real)
    state = loss.discriminator.state_dict()
    assert not all(torch.equal(value, before[key]) for key, value in state.items())
    with torch.no_grad():
        assert float(loss.discriminator(real)[1].mean()) > float(loss.discriminator(forgery)[1].mean()) + 0.2
    value = loss(torch.sigmoid(layer(forgery)), real)
    assert all(parameter.grad is None or not bool(parameter.grad.any()) for parameter in layer.parameters())
    value.backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in layer.parameters())
    assert all(torch.equal(parameter, other) for parameter, other in zip(layer.parameters(), kept, strict=True))


def test_the_adversarial_value_follows_its_formula() -> None:
    loss = AdversarialLoss()
    real, forgery = pictures(4, 32), pictures(4, 32, seed=1)
    found = float(loss(forgery, real))
    with torch.no_grad():
        loss.discriminator.eval()
        (*hidden,), odds = loss.discriminator(forgery)
        (*wanted,), _ = loss.discriminator(real)
    matching = [float((one - other).abs().mean()) for one, other in zip(hidden, wanted, strict=True)]
    assert found == pytest.approx(10 * np.mean(matching) - float(odds.mean()), rel=1e-4)


def test_the_same_seed_gives_the_same_adversary_whatever_the_global_generator() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = AdversarialLoss().discriminator.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    other = AdversarialLoss().discriminator.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("total", "first"), [(9, 6), (300, 200), (1, 1), (10, 7)])
def test_the_adversary_takes_part_in_the_last_third(total: int, first: int) -> None:
    assert [step for step in range(total) if takes_part(step, total)] == list(range(first, total))


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


def test_the_52_names_are_what_the_network_reads() -> None:
    assert load_perceptual().expression[-1].out_features == len(ACTIONS)
