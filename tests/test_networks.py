"""The networks that read faces: the field's reference for landmarks, and what is said where one cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from real_media import shared

from generation.faces.identities import MODELS, FaceEmbedder
from generation.faces.landmarks import FaceReader, FanReader
from generation.faces.tracking import FaceFinder
from generation.faces.weights import YUNET, weights_file
from generation.records import UserError


@pytest.fixture
def photo() -> np.ndarray:
    with Image.open(shared("data/london/014_neutral.jpg")) as image:
        return np.asarray(image.convert("RGB").resize((256, 256)))


@pytest.fixture
def yunet() -> Path:
    return shared(f"weights/yunet/{YUNET.name}")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights, and no way to fetch any."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VICIOUS_CYCLE_SHARED", str(tmp_path / "shared"))
    return tmp_path


def test_fan_that_cannot_be_had(yunet: Path, offline: Path) -> None:
    pytest.importorskip("face_alignment")
    (offline / "cache").mkdir()
    shutil.copy(yunet, offline / "cache")
    checkpoint = offline / "torch" / "hub" / "checkpoints" / "2DFAN4-11f355bf06.pth.tar"
    with pytest.raises(UserError) as error:
        FanReader()
    for part in (
        str(checkpoint),
        "https://www.adrianbulat.com/",
        "by hand and put it there",
        "data.landmarks=mediapipe",
    ):
        assert part in str(error.value)


def test_fan_reads_the_face_that_yunet_finds(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock class with its real YuNet; the landmark network's weights are random."""
    package = pytest.importorskip("face_alignment")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoint = tmp_path / "hub" / "checkpoints" / "2DFAN4-11f355bf06.pth.tar"
    checkpoint.parent.mkdir(parents=True)
    torch.save(package.models.FAN(4).state_dict(), checkpoint)
    with FaceReader(shared("weights/mediapipe/face_landmarker.task")) as reader:
        seen = reader.read(photo)
    assert seen is not None
    fan = FanReader()
    (box,) = fan._network.face_detector.detect_from_image(photo.copy())
    left, top, right, bottom, score = box
    inner = seen.landmarks[17:]
    assert score > 0.8 and left < inner[:, 0].min() and inner[:, 0].max() < right and top < inner[:, 1].min() < bottom
    landmarks = fan.read(photo, seen.eyes)
    assert landmarks is not None and landmarks.shape == (68, 2) and landmarks.dtype == np.float32
    assert np.isfinite(landmarks).all() and np.ptp(landmarks) < 600
    assert fan.read(photo, np.array([(2.0, 2.0), (6.0, 2.0)])) is None


def test_identity_network_that_cannot_be_had(offline: Path) -> None:
    pytest.importorskip("insightface")
    with pytest.raises(UserError) as error:
        FaceEmbedder()
    for part in (str(offline / "cache" / "insightface" / "models" / MODELS), f"{MODELS}.zip", "by hand"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_face_finder_that_cannot_be_had(offline: Path) -> None:
    with pytest.raises(UserError) as error:
        FaceFinder()
    for part in (str(offline / "cache" / YUNET.name), YUNET.url, "by hand and put it there"):
        assert part in str(error.value)
    (offline / "cache").mkdir(exist_ok=True)
    (offline / "cache" / YUNET.name).write_bytes(b"no network")
    assert weights_file(YUNET) == offline / "cache" / YUNET.name
    with pytest.raises(UserError, match=rf"{YUNET.name}: not a face finder that OpenCV can open"):
        FaceFinder()
