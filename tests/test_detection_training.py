"""Batches, training, scoring and the script, on records of a few invented people.

A face here is a smooth colour field with grain of its own; its forgery is the same picture with one patch blurred.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunHere
from scipy import ndimage
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from test_detectors import OPTIONS
from torch import Tensor, nn

from detection.data import Batch, DetectorData
from detection.degradations import Degrade
from detection.detectors import DETECTORS, build_detector, load_detector
from detection.detectors.localizer import Located
from detection.training import DetectorTrainer, choose_threshold, learning_rate_factor, score
from generation.records import Faces, UserError, load, row, write
from scripts.train_detector import main
from scripts.trainer import TrainerConfig, fit

SIZE = 48
PEOPLE = {"train": 10, "validation": 3, "test": 4}
FRAMES = 8
TRAINER = TrainerConfig(accelerator="cpu", progress=False)


def _row(image: np.ndarray, person: str, frame: int, split: str, **more: Any) -> dict[str, Any]:
    return row(
        image,
        clip=more.pop("clip", f"{person}/0"),
        frame=frame,
        identity=person,
        scene="0",
        expression=np.zeros(52),
        pose=np.zeros(6),
        landmarks=np.zeros((68, 2)),
        split=split,
        origin="invented",
        seed=0,
        **more,
    )


def _rows(method: str, split_people: dict[str, int], frames: int = FRAMES) -> Iterator[dict[str, Any]]:
    """Real rows for the method "", otherwise their forgeries."""
    for split, count in split_people.items():
        for number, frame in product(range(count), range(frames)):
            person = f"{split}{number}"
            generator = np.random.default_rng([len(split), number, frame])
            field = ndimage.zoom(generator.uniform(40, 215, (6, 6, 3)), (SIZE / 6, SIZE / 6, 1), order=3)
            face = (field + generator.normal(size=field.shape) * 6).clip(0, 255).round().astype(np.uint8)
            if not method:
                yield _row(face, person, frame, split)
                continue
            top, left = generator.integers(4, SIZE - 24, 2)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[top : top + 20, left : left + 20] = 255
            soft = ndimage.gaussian_filter(face.astype(float), (0.8, 0.8, 0)).round().astype(np.uint8)
            forged = np.where(mask[..., None] > 0, soft, face)
            source = (f"{person}/0", frame)
            clip = f"{method}/{person}"
            yield _row(forged, person, frame, split, clip=clip, mask=mask, method=method, round=0, source=source)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("detection")
    write(base / "real", _rows("", PEOPLE))
    write(base / "G0", _rows("G0", PEOPLE))
    write(base / "G1", _rows("G1", {"train": 4}, frames=3))
    return {name: base / name for name in ("real", "G0", "G1")}


@pytest.fixture(scope="session")
def real(folders: dict[str, Path]) -> Faces:
    return load(folders["real"])


@pytest.fixture(scope="session")
def forged(folders: dict[str, Path]) -> list[Faces]:
    return [load(folders["G0"]), load(folders["G1"])]


def _data(real: Faces, forged: list[Faces], weights: list[float] | None = None, **settings: Any) -> DetectorData:
    return DetectorData(real, forged, weights, **({"batch": 32, "steps_per_epoch": 10, "seed": 5} | settings))


def _rows_drawn(data: DetectorData, steps: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = [data.drawing.rows(np.random.default_rng(step)) for step in range(steps)]
    real, pool, forged = (np.concatenate(part) for part in zip(*parts, strict=True))
    return real, pool, forged


def test_a_batch_is_half_real_and_holds_images_as_written(real: Faces, forged: list[Faces]) -> None:
    batch = _data(real, forged).drawing(3)
    assert batch.image.shape == (32, 3, SIZE, SIZE) and batch.image.dtype == torch.float32
    assert batch.label.tolist() == [0] * 16 + [1] * 16
    known = {
        (label, (image.flip(-1) if mirrored else image).numpy().tobytes())
        for label, sets in ((0, [real]), (1, forged))
        for faces in sets
        for image in faces.where("train").image
        for mirrored in (False, True)
    }
    pixels = (batch.image * 255).round().to(torch.uint8)
    assert all((int(label), image.numpy().tobytes()) in known for image, label in zip(pixels, batch.label, strict=True))


def test_forgeries_are_drawn_by_weight_then_by_person(real: Faces, forged: list[Faces]) -> None:
    """G1 has 4 people of 3 frames, G0 has 10 of 8: what counts are the weights."""
    data = _data(real, forged, [1, 3], batch=128)
    _, pool, rows = _rows_drawn(data)
    assert (pool == 1).mean() == pytest.approx(0.75, abs=0.03)
    train = forged[0].where("train")
    uneven = train.select(np.flatnonzero((train.identity != "train0") | (train.frame == 0)))
    others = forged[0].where("validation")
    _, _, rows = _rows_drawn(_data(real, [Faces.concatenate([uneven, others])], batch=128))
    share = Counter(uneven.identity[rows])
    assert len(share) == 10
    assert all(count / len(rows) == pytest.approx(0.1, abs=0.02) for count in share.values())
    assert len(set(rows)) == len(uneven)


def test_the_real_half_holds_the_sources_of_the_forgeries(real: Faces, forged: list[Faces]) -> None:
    data = _data(real, forged)
    rows, pool, drawn = _rows_drawn(data)
    originals = real.where("train")
    for row_, index, forgery in zip(rows, pool, drawn, strict=True):
        faces = forged[index].where("train")
        assert originals.clip[row_] == faces.source_clip[forgery]
        assert originals.frame[row_] == faces.source_frame[forgery]
    rows, _, drawn = _rows_drawn(_data(real, forged[:1], paired=False))
    same = originals.identity[rows] == forged[0].where("train").identity[drawn]
    assert same.mean() == pytest.approx(0.1, abs=0.05)


def test_a_forgery_without_its_source_is_paired_with_its_person_and_a_stranger_with_anybody(
    real: Faces, forged: list[Faces]
) -> None:
    faces = forged[0]
    gone = real.select((real.split != "train") | (real.frame != 2))
    gone = gone.select(gone.identity != "train3")
    data = _data(gone, [faces])
    rows, _, drawn = _rows_drawn(data)
    originals, forgeries = gone.where("train"), faces.where("train")
    person, frame = forgeries.identity[drawn], forgeries.frame[drawn]
    stranger = person == "train3"
    assert (originals.identity[rows] == person)[~stranger].all()
    assert (originals.frame[rows] == frame)[~stranger & (frame != 2)].all()
    assert len(set(originals.identity[rows][stranger])) > 4


def test_a_batch_depends_on_seed_and_step_alone(real: Faces, forged: list[Faces]) -> None:
    degrade = Degrade(probability=0.5)
    one, two = (_data(real, forged, degrade=degrade, steps_per_epoch=steps, masks=True) for steps in (4, 9))
    torch.manual_seed(0)
    batches = list(one.train_dataloader())
    torch.manual_seed(1)
    for batch, other in zip(batches, islice(two.train_dataloader(), 4), strict=True):
        assert torch.equal(batch.image, other.image) and torch.equal(batch.label, other.label)
        assert batch.mask is not None and other.mask is not None and torch.equal(batch.mask, other.mask)
    assert not torch.equal(batches[0].image, batches[1].image)
    assert not torch.equal(batches[0].image, _data(real, forged, degrade=degrade, seed=6).drawing(0).image)


def test_validation_holds_every_frame_in_order(real: Faces, forged: list[Faces]) -> None:
    data = _data(real, forged)
    held = data.held("validation")
    assert held.identity.tolist() == [f"validation{i}" for i in range(3) for _ in range(FRAMES)] * 2
    batches = list(data.val_dataloader())
    assert torch.equal(torch.cat([batch.label for batch in batches]), held.label.float())
    assert torch.equal((torch.cat([batch.image for batch in batches]) * 255).round().to(torch.uint8), held.image)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("kind", ["real", "forged"])
def test_a_split_with_one_class_is_named(real: Faces, forged: list[Faces], split: str, kind: str) -> None:
    def without(faces: Faces) -> Faces:
        return faces.select(faces.split != split)

    with pytest.raises(UserError, match=f"the {split} split holds no {kind} faces"):
        _data(without(real) if kind == "real" else real, [without(f) if kind == "forged" else f for f in forged])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": [1.0]}, "the 2 pools"),
        ({"weights": [1.0, -1.0]}, "needs one >= 0"),
        ({"weights": [0.0, 0.0]}, "not all of them 0"),
        ({"batch": 7}, r"data\.batch=7: must be even"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    real: Faces, forged: list[Faces], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        _data(real, forged, **settings)


def test_images_of_two_sizes_are_refused(real: Faces, forged: list[Faces]) -> None:
    smaller = replace(forged[0], image=forged[0].image[..., ::2, ::2])
    with pytest.raises(UserError, match="images of 24 and 48 pixels"):
        _data(real, [smaller])


@pytest.mark.parametrize("name", DETECTORS)
def test_score_is_the_detectors_logit_in_eval_mode(name: str, real: Faces) -> None:
    module = build_detector(name, OPTIONS.get(name)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    logits = score(module, real.image[:37], batch=16)
    assert logits.dtype == np.float64 and logits.shape == (37,)
    assert module.training and all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert np.array_equal(logits, score(module, real.image[:37], batch=16))
    with torch.no_grad():
        expected = [float(module.eval()(image[None].float() / 255)) for image in real.image[:37]]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 40, 301])
def test_the_threshold_is_the_best_there_is(count: int) -> None:
    generator = np.random.default_rng(count)
    labels = np.arange(count) % 2
    scores = np.round(generator.normal(size=count) + labels, 1)
    threshold = choose_threshold(labels, scores)
    tried = [balanced_accuracy_score(labels, scores >= t) for t in np.unique(scores)]
    assert balanced_accuracy_score(labels, scores >= threshold) == pytest.approx(max(tried))


def test_the_threshold_lies_in_the_gap_between_separated_classes() -> None:
    assert choose_threshold([0, 0, 1, 1], [-3.0, -1.0, 2.0, 9.0]) == 0.5
    assert choose_threshold([0, 1], [2.0, 2.0]) == 2.0


def test_the_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 100) for step in range(101)]
    assert factors[9] == 1 and factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.01) and learning_rate_factor(500, 100) == pytest.approx(0.01)


def _trained(
    name: str, real: Faces, forged: list[Faces], folder: Path, *, steps: int, epoch: int, **settings: Any
) -> nn.Module:
    module = DetectorTrainer(build_detector(name, seed=1), total_steps=steps, learning_rate=2e-3)
    data = _data(real, forged, steps_per_epoch=epoch, **settings)
    fit(module, data, folder, TRAINER.with_steps(steps, epoch))
    return module.network


def test_frequency_learns_blurred_patches_in_seconds(real: Faces, forged: list[Faces], tmp_path: Path) -> None:
    module = _trained("frequency", real, forged[:1], tmp_path, steps=120, epoch=40, degrade=Degrade(probability=0.1))
    test = [faces.where("test") for faces in (real, forged[0])]
    logits = np.concatenate([score(module, faces.image) for faces in test])
    assert roc_auc_score(np.repeat([0, 1], [len(faces) for faces in test]), logits) > 0.9


class _StopError(Exception):
    pass


@pytest.mark.parametrize("name", ["mesonet", "frequency"])
def test_a_stopped_training_ends_with_the_same_weights(
    name: str, real: Faces, forged: list[Faces], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second of three epochs: batches, degradations and dropout are drawn as in an undisturbed run."""
    settings: dict[str, Any] = {"steps": 9, "epoch": 3, "degrade": Degrade(probability=0.5), "batch": 8}
    whole = _trained(name, real, forged, tmp_path / "whole", **settings).state_dict()
    step = DetectorTrainer.training_step

    def stopping(self: DetectorTrainer, batch: Batch, index: int) -> Tensor:
        if self.global_step == 5:
            raise _StopError
        return step(self, batch, index)

    with monkeypatch.context() as patch, pytest.raises(_StopError):
        patch.setattr(DetectorTrainer, "training_step", stopping)
        _trained(name, real, forged, tmp_path / "stopped", **settings)
    torch.manual_seed(77)
    again = _trained(name, real, forged, tmp_path / "stopped", **settings).state_dict()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


class OneLayer(nn.Module):
    """The least that says where and whether: compiling a real detector takes half a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Conv2d(3, 1, 1)

    def locate(self, images: Tensor) -> Located:
        heat = self.heat(images)
        return Located(heat.flatten(1).mean(1), heat)

    def forward(self, images: Tensor) -> Tensor:
        return self.locate(images).logit


def test_compiled_training_is_the_same_training(
    real: Faces, forged: list[Faces], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is missing")
    monkeypatch.setattr(DetectorTrainer, "log", lambda *given, **more: None)
    monkeypatch.setattr(DetectorTrainer, "global_step", 0)
    batch = _data(real, forged, masks=True).drawing(0)
    network, found, graphs = OneLayer(), [], torch._dynamo.utils.counters["stats"]
    for compiled in (False, True):
        before = graphs["unique_graphs"]
        module = DetectorTrainer(network, 9, 1e-3, compiled=compiled)
        assert module.state_dict().keys() == {"network.heat.weight", "network.heat.bias"}
        network.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        assert network.heat.weight.grad is not None
        found.append((loss.detach(), network.heat.weight.grad.clone()))
        assert (graphs["unique_graphs"] > before) == compiled
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_script_trains_measures_and_saves(
    folders: dict[str, Path], real: Faces, run_here: RunHere, tmp_path: Path
) -> None:
    pools = f"data.forged=[{folders['G0']},{folders['G1']}]"
    run = run_here(
        main, "hydra.run.dir=run", f"data.real={folders['real']}", pools, "training.steps=60",
        "training.steps_per_epoch=30", "data.batch=32", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    detector = load_detector(tmp_path / "run" / "detector.safetensors")
    assert detector.name == "frequency" and detector.meta["pools"] == ["G0", "G1"]
    test = [real.where("test"), load(folders["G0"]).where("test")]
    logits = np.concatenate([score(detector.module, faces.image) for faces in test])
    labels = np.repeat([0, 1], [len(faces) for faces in test])
    found = summary["test"]
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-9)
    assert 0.5 < found["auroc_low"] <= found["auroc"] <= found["auroc_high"] <= 1
    flagged = logits >= detector.meta["threshold"]
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, flagged))
    assert summary["pools"] == {"G0": found}
    assert summary["validation_auroc"] == detector.meta["validation_auroc"]
    assert (found["real"], found["forged"], found["identities"]) == (32, 32, 4)


def test_the_script_says_what_is_wrong_in_one_line(folders: dict[str, Path], run_here: RunHere) -> None:
    run = run_here(main, "hydra.run.dir=run", f"data.real={folders['real']}", "data.forged=[nothing]")
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "nothing: no such folder of records" in run.stderr.splitlines()[-1]


MISTAKES = [
    ({"detector.name": "meso"}, r"detector\.name=meso"),
    ({"detector.name": "external"}, r"detector\.name=external: is taken as it is and cannot be trained"),
    ({"detector.options.truncation": "much"}, r"detector\.options\.truncation=much"),
    ({"detector.options.colour": 1}, r"detector\.options\.colour"),
    ({"data.forged": []}, r"data\.forged=\[\]"),
    ({"data.weights": [1, 2]}, r"data\.weights"),
    ({"training.adversarial.share": 2}, r"training\.adversarial\.share=2\.0: must lie in \[0, 1\]"),
    ({"training.adversarial.norm": "l1"}, r"training\.adversarial\.norm=l1"),
    ({"degrade.severity": 9}, r"degrade\.severity=9"),
    ({"data.real": "G0"}, r"G0: holds no real faces"),
    ({"data.forged": ["real"]}, r"real: holds no forged faces"),
]


@pytest.mark.parametrize(("changes", "says"), MISTAKES, ids=[next(iter(changes)) for changes, _ in MISTAKES])
def test_mistakes_are_found_before_training(changes: dict[str, Any], says: str, folders: dict[str, Path]) -> None:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from scripts.door import configure
    from scripts.train_detector import TrainDetectorConfig, prepare

    with initialize_config_module("conf", version_base="1.3"):
        config = compose("train_detector", ["data.real=real", "data.forged=[G0]"])
    OmegaConf.set_struct(config, False)
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    config.data.real = str(folders.get(config.data.real))
    config.data.forged = [str(folders[name]) for name in config.data.forged]
    with pytest.raises(UserError, match=says) as caught:
        prepare(configure(TrainDetectorConfig, config))
    assert "\n" not in str(caught.value)
