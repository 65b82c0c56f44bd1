"""Every detector of the table: shapes, gradients, saving, loading, and what each family promises."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from external_files import their_file
from omegaconf import OmegaConf
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn

from detection.detectors import DETECTORS, TRAINABLE, build_detector, load_detector, save_detector
from detection.detectors.fronts import Residuals
from generation.records import UserError

PRESETS = Path(__file__).parent.parent / "conf" / "detector"
OPTIONS = {
    "backbone": {"architecture": "test_resnet"},
    "adapted": {"architecture": "test_vit"},
    "external": {"path": their_file()},
}
"""Small enough for a test; families that are not named here are tested with their defaults."""

every_family = pytest.mark.parametrize("name", DETECTORS)


def _detector(name: str, seed: int = 0) -> nn.Module:
    return build_detector(name, OPTIONS.get(name), seed)


def _images(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def _awake(name: str) -> nn.Module:
    """A detector whose running statistics have seen some images."""
    module = _detector(name)
    with torch.no_grad():
        for seed in range(20):
            module.train()(_images(8, seed=seed) * 0.8 + 0.1)
    return module.eval()


@every_family
@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 32), (3, 64, 64), (2, 47, 61), (1, 128, 96)])
def test_one_finite_logit_for_each_image(name: str, count: int, height: int, width: int) -> None:
    logits = _detector(name).eval()(_images(count, height, width))
    assert logits.shape == (count,) and logits.dtype == torch.float32 and torch.isfinite(logits).all()


@every_family
def test_a_logit_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    module, images = _awake(name), _images(5, seed=50)
    with torch.no_grad():
        alone = torch.cat([module(image[None]) for image in images])
        together = module(images)
    assert alone.unique().numel() == 5
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@every_family
def test_the_gradient_in_the_image_is_that_of_finite_differences(name: str) -> None:
    """What a critic must do: parameters frozen, eval mode, a true gradient everywhere in the image."""
    module = _awake(name).double().requires_grad_(False)
    images = (_images(2, seed=60).double() * 0.8 + 0.1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(images).sum(), images)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).double().mean() > 0.9
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-7
    with torch.no_grad():
        change = (module(images + step * direction) - module(images - step * direction)).sum() / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_step_in_bf16_goes_the_same_way(name: str) -> None:
    module, images, labels = _awake(name), _images(6, seed=70), torch.arange(6) % 2.0
    directions = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.binary_cross_entropy_with_logits(module(images), labels)
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(loss, trained)
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        directions.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert F.cosine_similarity(*directions, dim=0) > 0.5


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_first_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = _detector(name, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = _detector(name, seed=3).state_dict(), _detector(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_family
@pytest.mark.parametrize("ending", ["", ".safetensors"])
def test_saved_and_loaded_it_scores_the_same_bit_for_bit(name: str, ending: str, tmp_path: Path) -> None:
    module, images = _awake(name), _images(4)
    meta = {"threshold": 0.1 + 0.2, "pools": ["G0"]}
    weights = save_detector(tmp_path / f"D0.best{ending}", module, name, OPTIONS.get(name), meta)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["D0.best.json", "D0.best.safetensors"]
    detector = load_detector(weights)
    assert (detector.name, detector.meta) == (name, meta)
    assert detector.options == asdict(DETECTORS[name].options(**OPTIONS.get(name, {})))
    assert not detector.module.training
    with torch.no_grad():
        assert torch.equal(detector.module(images), module(images))


@every_family
def test_unknown_options_are_named_with_those_allowed(name: str) -> None:
    with pytest.raises(UserError, match=r"detector\.options\.colour") as caught:
        build_detector(name, {"colour": "red"})
    assert all(key in str(caught.value) for key in asdict(DETECTORS[name].options()))


def test_an_unknown_detector_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"detector\.name=meso") as caught:
        build_detector("meso")
    assert all(name in str(caught.value) for name in DETECTORS)


@every_family
def test_files_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    other = next(family for family in DETECTORS if family != name)
    save_detector(tmp_path / "right", _detector(name), name, OPTIONS.get(name), {})
    save_detector(tmp_path / "other", _detector(other), other, OPTIONS.get(other), {})
    right, wrong = tmp_path / "right.safetensors", tmp_path / "wrong.safetensors"

    def refused(says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            load_detector(wrong)
        assert "\n" not in str(caught.value)

    refused("wrong.safetensors: no such file")
    shutil.copy(tmp_path / "other.safetensors", wrong)
    refused("wrong.json: no such file")
    shutil.copy(tmp_path / "right.json", wrong.with_suffix(".json"))
    refused("wrong.safetensors: does not hold the detector")
    wrong.write_bytes(right.read_bytes()[:-100])
    refused("wrong.safetensors: does not hold the detector")
    shutil.copy(right, wrong)
    described = json.loads(wrong.with_suffix(".json").read_text())
    for change in ({"name": "nobody"}, {"options": {"colour": 1}}):
        wrong.with_suffix(".json").write_text(json.dumps(described | change))
        refused("wrong.json: detector")
    wrong.with_suffix(".json").write_text("{")
    refused("wrong.safetensors: does not hold the detector")


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    weights = save_detector(tmp_path / "narrow", build_detector("frequency", {"widths": [8, 16]}), "frequency", {}, {})
    with pytest.raises(UserError, match="does not hold the detector"):
        load_detector(weights)


def test_mesonet_at_256_pixels_is_meso4() -> None:
    """Written again from the paper's figure, and its number of parameters."""
    module = _awake("mesonet")
    assert sum(parameter.numel() for parameter in module.parameters()) == 27_977
    weights = module.state_dict()
    images = _images(2, 256, 256)
    features = images
    for stage, pool in ((1, 2), (2, 2), (3, 2), (4, 4)):
        at = f"features.stage{stage}"
        kernel = weights[f"{at}.0.0.weight"]
        assert kernel.shape[2] == (3 if stage == 1 else 5) and kernel.shape[0] == (8 if stage < 3 else 16)
        features = F.relu(F.conv2d(features, kernel, weights[f"{at}.0.0.bias"], padding="same"))
        statistics = (weights[f"{at}.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        features = F.max_pool2d(F.batch_norm(features, *statistics), pool)
    hidden = F.leaky_relu(features.flatten(1) @ weights["head.1.weight"].T + weights["head.1.bias"], 0.1)
    expected = (hidden @ weights["head.4.weight"].T + weights["head.4.bias"])[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(module(images), expected, rtol=1e-5, atol=1e-5)


def test_mesonet_refuses_images_that_its_pooling_would_use_up() -> None:
    with pytest.raises(UserError, match="at least 32 x 32"):
        build_detector("mesonet")(_images(1, 31, 64))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 18), (9, 11)])
def test_the_residuals_are_srm_and_npr_at_full_resolution(height: int, width: int) -> None:
    images = _images(2, height, width).double()
    truncation = 0.05
    found = Residuals(truncation).double()(images)
    second = np.array([1.0, -2.0, 1.0])
    edge = np.array([[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]) / 4
    square = np.array([-1, 2, -2, 2, -1]), np.array([2, -6, 8, -6, 2]), np.array([-2, 8, -12, 8, -2])
    square_kernel = np.stack([*square, *square[1::-1]]) / 12
    channel = 0
    for colour in range(3):
        pixels = np.pad(images[:, colour].numpy(), ((0, 0), (0, height % 2), (0, width % 2)), mode="reflect")
        srm = [
            np.stack([ndimage.correlate(image, kernel, mode="mirror") for image in pixels])
            for kernel in (edge, square_kernel, second[None] / 2)
        ]
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            wanted = [maps[:, row::2, column::2] for maps in srm]
            if (row, column) != (0, 0):
                wanted.append(pixels[:, row::2, column::2] - pixels[:, ::2, ::2])
            for residual in wanted:
                squashed = residual / truncation / (1 + np.abs(residual / truncation))
                inner = (slice(None), slice(0, height // 2 - 2), slice(0, width // 2 - 2))
                np.testing.assert_allclose(found[:, channel].numpy()[inner], squashed[inner], atol=1e-5)
                channel += 1
    assert found.shape == (2, channel, -(-height // 2), -(-width // 2))


def test_flat_colour_leaves_no_residual() -> None:
    assert Residuals(0.03)(torch.full((1, 3, 20, 20), 0.7)).abs().max() < 1e-4


@pytest.mark.parametrize("widths", [[], [0], [16, -1]])
def test_frequency_refuses_widths_that_cannot_be(widths: list[int]) -> None:
    with pytest.raises(UserError, match=r"detector\.options\.widths"):
        build_detector("frequency", {"widths": widths})


def test_a_backbone_is_timms_network_on_normalised_images() -> None:
    module = build_detector("backbone", {"architecture": "test_vit", "size": 160}).eval()
    network = timm.create_model("test_vit", num_classes=1).eval()
    network.load_state_dict(module.body.state_dict())
    mean, deviation = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = _images(2, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(module(images), network((images - mean) / deviation)[:, 0])
        assert module(_images(2, 64, 64)).shape == (2,)


def test_a_localizer_may_go_down_through_timms_network() -> None:
    module = build_detector("localizer", {"architecture": "test_resnet"}).eval()
    network = timm.create_model("test_resnet", features_only=True, out_indices=(0, 1, 2, 3)).eval()
    own = {key.removeprefix("model."): value for key, value in module.body.body.state_dict().items()}
    network.load_state_dict(own)
    mean, deviation = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = _images(2)
    with torch.no_grad():
        theirs = network((images - mean) / deviation)
        for features, expected in zip(module.body(images), theirs, strict=True):
            torch.testing.assert_close(features, expected)
        seen: list[Tensor] = []
        module.head.register_forward_hook(lambda layer, given, found: seen.append(given[0]))
        located = module.locate(images)
        assert located.heat.shape == (2, 1, 64, 64)
        assert module.locate(_images(1, 50, 41)).heat.shape == (1, 1, 50, 41)
    width = theirs[-1].shape[1]
    torch.testing.assert_close(seen[0][:, :width], theirs[-1].mean((-2, -1)))
    torch.testing.assert_close(seen[0][:, width:-2], theirs[-1].amax((-2, -1)))


def test_a_localizer_refuses_networks_without_fine_features() -> None:
    with pytest.raises(UserError, match=r"architecture=convnext_atto: .* at 1/4 .*tf_efficientnet_lite0"):
        build_detector("localizer", {"architecture": "convnext_atto"})


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_lists_all_options_of_its_family(path: Path) -> None:
    config = OmegaConf.load(path)
    assert set(config.options) == {field.name for field in fields(DETECTORS[config.name].options)}
    assert timm.is_model(config.options.get("architecture") or "resnet10t")


def test_an_unknown_network_is_named_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"detector\.options\.architecture=resnet1000") as caught:
        build_detector("backbone", {"architecture": "resnet1000"})
    assert "resnet" in str(caught.value).split("for example")[1]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, no weights in the cache; the shared folder is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("VICIOUS_CYCLE_SHARED", str(tmp_path / "shared"))
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "shared" / "weights" / "timm" / "test_resnet.r160_in1k.safetensors"


@pytest.mark.parametrize(
    ("name", "prefix", "new"),
    [("backbone", "body.", {"fc.weight", "fc.bias"}), ("localizer", "body.body.model.", set())],
)
def test_pretrained_weights_are_taken_from_the_shared_folder(
    offline: Path, tmp_path: Path, name: str, prefix: str, new: set[str]
) -> None:
    network = timm.create_model("test_resnet")
    offline.parent.mkdir(parents=True)
    save_file(network.state_dict(), offline)
    options = {"architecture": "test_resnet", "pretrained": True}
    module = build_detector(name, options)
    body = {key.removeprefix(prefix): value for key, value in module.state_dict().items() if key.startswith(prefix)}
    theirs = network.state_dict()
    assert body and {key for key, value in body.items() if not torch.equal(theirs[key], value)} == new
    assert all(len(body[key]) == 1 for key in new)
    weights = save_detector(tmp_path / "D0", module, name, options, {})
    offline.unlink()
    assert load_detector(weights).options["pretrained"] is True


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_pretrained_weights_that_cannot_be_had_are_named(offline: Path, content: bytes | None) -> None:
    if content:
        offline.parent.mkdir(parents=True)
        offline.write_bytes(content)
    with pytest.raises(UserError, match=offline.name) as caught:
        build_detector("backbone", {"architecture": "test_resnet", "pretrained": True})
    assert str(offline) in str(caught.value) and "\n" not in str(caught.value)


def test_combined_answers_with_the_mean_log_odds_over_temperatures() -> None:
    members = [{"name": "frequency", "temperature": 2.0}, {"name": "mesonet"}]
    combined = build_detector("combined", {"members": members}).eval()
    own = [build_detector(str(member["name"])).eval() for member in members]
    for module, taken in zip(own, combined.members, strict=True):  # type: ignore[arg-type]
        module.load_state_dict(taken.state_dict())
    with torch.no_grad():
        images = _images(5)
        torch.testing.assert_close(combined(images), (own[0](images) / 2 + own[1](images)) / 2)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([], "at least one"),
        ([{"name": "nobody"}], "no such detector"),
        ([{"name": "combined"}], "not combined"),
        ([{"options": {}}], "each needs the name"),
        ([{"name": "frequency", "weight": 2}], "there is no weight"),
        ([{"name": "frequency", "temperature": 0}], "must be more than 0"),
        ([{"name": "frequency", "options": {"colour": 1}}], "no such option"),
    ],
)
def test_members_that_cannot_be_combined(members: list[dict[str, object]], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_detector("combined", {"members": members})
