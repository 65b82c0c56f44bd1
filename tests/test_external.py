from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from external_files import Theirs, onnx, script
from PIL import Image
from real_media import shared
from torch import Tensor, nn

from detection.detectors import build_detector, check_trainable, load_detector, save_detector
from detection.detectors.external import External, ExternalOptions
from detection.detectors.mesonet import read_published
from detection.metrics import looks_like_probabilities
from detection.training import score
from generation.records import UserError


class Brightness(nn.Module):
    """Log-odds: 20 (mean - .5), so a bright picture is forged."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.mean((1, 2, 3)) - 0.5)


class TwoAnswers(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean((1, 2, 3)), images.amax((1, 2, 3))


def pictures(count: int = 3, size: int = 16) -> Tensor:
    return (torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255).round() / 255


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    code = """
        import numpy as np
        from PIL import Image

        def score(path):
            return 20 * (np.asarray(Image.open(path)).mean() / 255 - 0.5)
    """
    (tmp_path / "theirs.py").write_text(dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return "theirs:score"


@pytest.mark.parametrize("kind", ["onnx", "onnx of one", "torchscript", "function"])
def test_anybody_s_detector_gives_the_score_it_gives_elsewhere(kind: str, tmp_path: Path, function: str) -> None:
    path = {
        "onnx": lambda: onnx(tmp_path / "a.onnx", Brightness()),
        "onnx of one": lambda: onnx(tmp_path / "b.onnx", Brightness(), batch=False),
        "torchscript": lambda: script(tmp_path / "c.pt", Brightness()),
        "function": lambda: function,
    }[kind]()
    images = pictures()
    with torch.no_grad():
        found = External(ExternalOptions(path))(images)
        turned = External(ExternalOptions(path, forged_high=False))(images)
    torch.testing.assert_close(found, Brightness()(images), atol=1e-4, rtol=1e-4)
    assert torch.equal(turned, -found)


def test_its_own_normalisation_size_and_layout_are_done_for_it(tmp_path: Path) -> None:
    class Last(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[1:] == (16, 16, 3)
            return images.mean((1, 2))[:, 0]

    path = script_last(tmp_path / "a.pt", Last())
    options = ExternalOptions(path, size=16, mean=(0.5, 0.4, 0.3), deviation=(0.5, 0.5, 0.25), channels_last=True)
    flat = torch.full((2, 3, 40, 40), 0.75)
    assert External(options)(flat).tolist() == pytest.approx([0.5, 0.5])


def script_last(path: Path, module: nn.Module) -> str:
    torch.jit.save(torch.jit.trace(module, torch.rand(1, 16, 16, 3)), str(path))  # type: ignore[no-untyped-call]
    return str(path)


class Probability(Brightness):
    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(images))


def test_probabilities_become_log_odds(tmp_path: Path) -> None:
    path, images = script(tmp_path / "a.pt", Probability()), pictures()
    found = External(ExternalOptions(path, output="probability"))(images)
    torch.testing.assert_close(found, Brightness()(images), atol=1e-3, rtol=1e-3)
    with pytest.raises(UserError, match=r"no probabilities; set detector\.options\.output=log_odds"):
        External(ExternalOptions(script(tmp_path / "b.pt", Brightness()), output="probability"))(images * 0)


def test_probabilities_where_log_odds_are_due_are_noticed(tmp_path: Path) -> None:
    path = script(tmp_path / "a.pt", Probability())
    shades = torch.linspace(90, 165, 16).round().to(torch.uint8).view(16, 1, 1, 1).expand(16, 3, 16, 16)
    told, untold = (score(External(ExternalOptions(path, output=kind)), shades) for kind in ("probability", "log_odds"))
    assert looks_like_probabilities(untold) and not looks_like_probabilities(told)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "function"])
def test_a_module_without_parameters_is_scored(kind: str, tmp_path: Path, function: str) -> None:
    path = {
        "onnx": lambda: onnx(tmp_path / "a.onnx", Brightness()),
        "torchscript": lambda: script(tmp_path / "a.pt", Brightness()),
        "function": lambda: function,
    }[kind]()
    module = build_detector("external", {"path": path})
    assert not list(module.parameters())
    images = (pictures() * 255).round().to(torch.uint8)
    expected = Brightness()(images.float() / 255).numpy()
    np.testing.assert_allclose(score(module, images), expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(score(Brightness(), images), expected)
    saved = load_detector(save_detector(tmp_path / "D", module, "external", {"path": path}, {}))
    np.testing.assert_array_equal(score(saved.module, images), score(module, images))


def test_it_cannot_be_trained() -> None:
    with pytest.raises(UserError, match=r"cycle\.withheld=external: is taken as it is and cannot be trained"):
        check_trainable("external", "cycle.withheld")
    check_trainable("localizer")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = script(tmp_path / "theirs.pt", Theirs(4))
    weights = save_detector(tmp_path / "D", build_detector("external", {"path": path}), "external", {"path": path}, {})
    script(tmp_path / "theirs.pt", Theirs(5))
    with pytest.raises(UserError, match="does not hold the detector"):
        load_detector(weights)
    Path(path).unlink()
    with pytest.raises(UserError, match="no such file"):
        load_detector(weights)


def test_keras_weights_of_another_network_are_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for layer in range(1, 5):
            file[f"conv2d_{layer}/conv2d_{layer}/kernel:0"] = np.zeros((7, 7, 3, 2), np.float32)
            file[f"conv2d_{layer}/conv2d_{layer}/bias:0"] = np.zeros(2, np.float32)
    with pytest.raises(UserError, match=r"other\.h5: holds neither Meso4 nor MesoInception4") as caught:
        External(ExternalOptions(str(tmp_path / "other.h5")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", r"detector\.options\.path"),
        ("missing.onnx", "no such file"),
        ("bad.onnx", "no ONNX file"),
        ("bad.pt", "no TorchScript file"),
        ("bad.h5", "no Keras weights"),
        ("bad.txt", r"must end in \.onnx, \.pt, \.h5"),
        ("nowhere:score", "there is no such function"),
        ("json:nothing", "there is no such function"),
    ],
)
def test_what_is_no_detector_is_named(path: str, says: str, tmp_path: Path) -> None:
    for name in ("bad.onnx", "bad.pt", "bad.h5", "bad.txt"):
        (tmp_path / name).write_bytes(b"not a network")
    where = path if ":" in path or not path else str(tmp_path / path)
    with pytest.raises(UserError, match=says) as caught:
        External(ExternalOptions(where))
    assert "\n" not in str(caught.value)


def test_a_network_of_another_size_or_with_two_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 inputs and 2 outputs"):
        External(ExternalOptions(onnx(tmp_path / "two.onnx", TwoAnswers())))
    other = External(ExternalOptions(onnx(tmp_path / "a.onnx", Brightness())))
    with pytest.raises(UserError, match=r"set detector\.options\.size"):
        other(pictures(size=24))
    whole = External(ExternalOptions(script(tmp_path / "b.pt", nn.Identity())))
    with pytest.raises(UserError, match="one number each is due"):
        whole(pictures())


@pytest.mark.parametrize("options", [{"output": "percent"}, {"mean": (0.5,)}, {"deviation": (1.0, 0.0, 1.0)}])
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"detector\.options\."):
        External(ExternalOptions("x.onnx", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Meso4_DF", "Meso4_F2F", "MesoInception_DF", "MesoInception_F2F"])
def test_the_authors_own_weights_tell_their_own_pictures(name: str) -> None:
    """Their repository's four test pictures: two forged, two real; P(real) is what their code prints."""
    pytest.importorskip("h5py")
    weights, folder = shared(f"weights/mesonet/{name}.h5"), shared("data/known_fakes/mesonet_test_images")
    network = read_published(weights)
    for kind, forged in (("df", True), ("real", False)):
        for path in sorted((folder / kind).iterdir()):
            image = Image.open(path).convert("RGB").resize((256, 256))
            with torch.no_grad():
                logit = float(network(torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None].float() / 255))
            if name.endswith("DF"):
                assert (logit > 0) == forged, path.name
