"""Provenance: what is signed reads back, what is changed is noticed, and the watermark survives without being seen."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import multiprocessing
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import c2pa
import cv2
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from generation.provenance import SIGNABLE, Statement, keys, mark_image, sign, verify, watermark_p
from generation.provenance.keys import key_file, laboratory_key
from generation.provenance.manifest import read
from generation.records import Faces, UserError
from tests.real_media import film, shared
from tests.test_skeleton import tracked

STATEMENT = Statement(
    reenactor="warp",
    checkpoint="ab" * 32,
    parents=("cd" * 32, "ef" * 32),
    consent="signed, for research",
    licence="CC BY 4.0",
    synthetic=False,
    seed=3,
    round=2,
    edit={"mode": "add", "strength": 0.5, "regions": ["eyes", "mouth"], "expression": {"jawOpen": 0.8}},
)


@pytest.fixture(scope="module", autouse=True)
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of its own, so that no test makes or reads the user's key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path_factory.mktemp("laboratory")))
        yield


@pytest.fixture(scope="module")
def face(faces: Faces) -> np.ndarray:  # uint8 (128, 128, 3)
    return cv2.resize(faces.image[0].permute(1, 2, 0).numpy(), (128, 128), interpolation=cv2.INTER_CUBIC)


def photos(step: int, size: int | None = None) -> list[np.ndarray]:
    """Every `step`-th photo of the London Set, 512 px or reduced."""
    found = [Image.open(path).convert("RGB") for path in sorted(shared("data/london").glob("*.jpg"))[::step]]
    assert found
    return [np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS) if size else photo) for photo in found]


def write(path: Path, image: np.ndarray) -> Path:
    if SIGNABLE[path.suffix].startswith("video/"):
        return film(path, [image] * 6)
    Image.fromarray(image).save(path)
    return path


def saved(kind: str, quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def again(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return again


def resized(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def again(image: np.ndarray) -> np.ndarray:
        size = round(image.shape[1] * factor), round(image.shape[0] * factor)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

    return again


def h264(frames: list[np.ndarray], crf: int) -> list[np.ndarray]:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf)}
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


# The manifest


@pytest.mark.parametrize("ending", SIGNABLE)
def test_what_is_signed_reads_back(ending: str, face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / f"face{ending}", mark_image(face))
    before = path.stat().st_size
    sign(path, STATEMENT)
    verdict = verify(path)
    assert (verdict.state, verdict.signed_by) == ("trusted", "Vicious Cycle laboratory")
    assert verdict.statement == json.loads(json.dumps(asdict(STATEMENT)))
    assert verdict.found and verdict.watermark_p < 1e-6
    assert path.stat().st_size - before < 8_000
    assert list(tmp_path.iterdir()) == [path]


def test_signing_leaves_the_pixels_and_signing_again_replaces(face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "face.png", face)
    path.chmod(0o640)
    sign(path, STATEMENT)
    size = path.stat().st_size
    sign(path, replace(STATEMENT, seed=4))
    assert abs(path.stat().st_size - size) < 64
    assert path.stat().st_mode & 0o777 == 0o640
    verdict = verify(path)
    assert verdict.state == "trusted" and verdict.statement is not None and verdict.statement["seed"] == 4
    assert np.array_equal(np.asarray(Image.open(path)), face)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".mp4"])
def test_any_flipped_bit_is_noticed_or_changes_nothing(ending: str, face: np.ndarray, tmp_path: Path) -> None:
    """Padding and the frame around a manifest are not signed; a picture's data are, and so is all that is stated."""
    path = write(tmp_path / f"face{ending}", face[::2, ::2])
    media = path.read_bytes()
    sign(path, STATEMENT)
    whole, seen = path.read_bytes(), set()
    start = media.find(b"mdat") + 8 if ending == ".mp4" else len(media) // 2
    pictures = whole.find(media[start : start + 400])
    assert pictures > 0
    for place in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        state, _, statement = read(path)
        seen.add(state)
        if pictures <= place < pictures + 400:
            assert state == "tampered", place
        if state == "trusted":
            assert statement == json.loads(json.dumps(asdict(STATEMENT))), place
    assert {"tampered", "trusted"} <= seen


def test_saving_again_takes_the_manifest_and_leaves_the_watermark(face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "face.png", mark_image(face))
    sign(path, STATEMENT)
    Image.open(path).save(tmp_path / "again.jpg", quality=80)
    verdict = verify(tmp_path / "again.jpg")
    assert (verdict.state, verdict.signed_by, verdict.statement) == ("absent", None, None)
    assert verdict.found


def test_an_ordinary_file_has_neither_mark(face: np.ndarray, tmp_path: Path) -> None:
    verdict = verify(write(tmp_path / "face.png", face))
    assert (verdict.state, verdict.signed_by, verdict.statement, verdict.found) == ("absent", None, None, False)
    assert verdict.watermark_p > 1e-4


def test_another_laboratory_is_valid_and_not_trusted(
    face: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "face.jpg", face)
    sign(path, STATEMENT)
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "elsewhere"))
    assert verify(path).state == "valid"
    assert not (tmp_path / "elsewhere").exists(), "verify made a key"
    sign(write(tmp_path / "own.jpg", face), STATEMENT)
    assert (verify(tmp_path / "own.jpg").state, verify(path).state) == ("trusted", "valid")


def test_the_manifest_says_what_the_standards_ask(face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "face.png", face)
    sign(path, STATEMENT)
    with c2pa.Reader(str(path)) as reader:
        manifest = reader.get_active_manifest()
    said = {item["label"]: item["data"] for item in manifest["assertions"]}
    first, *others = said["c2pa.actions.v2"]["actions"]
    assert first["action"] == "c2pa.created"
    assert first["digitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
    assert [action["action"] for action in others] == ["c2pa.edited"]
    for use in ("ai_inference", "ai_training", "ai_generative_training", "data_mining"):
        terms = said["cawg.training-mining"]["entries"][f"cawg.{use}"]
        assert terms == {"use": "constrained", "constraint_info": "CC BY 4.0"}
    assert manifest["claim_version"] == 2 and "thumbnail" not in manifest
    assert manifest["signature_info"]["alg"] == "Es256" and "time" not in manifest["signature_info"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "compositeSynthetic"),
        ({"checkpoint": ""}, "compositeSynthetic"),
        ({"synthetic": True}, "trainedAlgorithmicMedia"),
        ({"synthetic": True, "checkpoint": ""}, "algorithmicMedia"),
        ({"reenactor": "", "checkpoint": "", "round": None}, "digitalCapture"),
        ({"reenactor": "", "checkpoint": "", "round": None, "synthetic": True}, "algorithmicMedia"),
    ],
)
def test_digital_source_type(change: dict[str, Any], kind: str) -> None:
    assert replace(STATEMENT, **change).source_type.rpartition("/")[2] == kind


def test_a_real_says_so_and_what_its_watermark_says(face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "face.png", face)
    sign(path, Statement("", "", (), "signed release", "CC BY 4.0", False, payload=0xC0FFEE11))
    with c2pa.Reader(str(path)) as reader:
        manifest = reader.get_active_manifest()
    said = {item["label"]: item["data"] for item in manifest["assertions"]}
    first, edited, watermarked = said["c2pa.actions.v2"]["actions"]
    assert first["digitalSourceType"].endswith("/digitalCapture")
    assert edited["description"] == "cut out and compressed; no face was changed"
    assert watermarked == {"action": "c2pa.watermarked.bound"}
    (block,) = said["c2pa.soft-binding"]["blocks"]
    assert base64.b64decode(block["value"]) == bytes.fromhex("c0ffee11")
    with pytest.raises(ValueError, match="no checkpoint"):
        Statement("", "ab" * 32, (), "", "", True)


@pytest.mark.parametrize("missing", ["consent", "licence"])
def test_somebody_real_is_never_signed_without_consent_and_licence(missing: str) -> None:
    with pytest.raises(UserError, match=f"origin.{missing} is empty"):
        replace(STATEMENT, **{missing: " "})
    replace(STATEMENT, **{missing: ""}, synthetic=True)


@pytest.mark.parametrize(
    ("act", "name", "content", "said"),
    [
        (sign, "face.bmp", b"BM", r"a \.bmp cannot be signed; use one of \.png \.jpg"),
        (sign, "face", b"", "a file without ending cannot be signed"),
        (sign, "face.png", b"no picture", r"cannot be signed .*is it a whole image/png"),
        (sign, "gone.png", None, "no such file"),
        (verify, "gone.png", None, "no such file"),
        (verify, "face.txt", b"no picture", "no frame can be decoded"),
        (verify, "face.png", b"", "empty"),
    ],
)
def test_bad_files(act: Any, name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        act(path, *([STATEMENT] if act is sign else []))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert [item.name for item in tmp_path.iterdir()] == ([name] if content is not None else [])


def test_a_missing_package_is_named(face: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "face.png", face)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    for act in (lambda: sign(path, STATEMENT), lambda: verify(path)):
        with pytest.raises(UserError, match=re.escape("c2pa is missing") + ".*" + re.escape("[provenance]'")):
            act()


# The key


def test_whoever_comes_second_takes_the_key_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path))
    made, first = keys._made, []

    def overtaken() -> str:
        monkeypatch.setattr(keys, "_made", made)
        first.append(laboratory_key())
        return made()

    monkeypatch.setattr(keys, "_made", overtaken)
    assert laboratory_key() == first[0]
    assert list(key_file().parent.iterdir()) == [key_file()]


def _key_of_a_process(_: int) -> tuple[str, str]:
    key = laboratory_key()
    return key.private, key.leaf


def test_parallel_first_use_makes_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path))
    with multiprocessing.get_context("fork").Pool(4) as processes:
        assert len(set(processes.map(_key_of_a_process, range(8), chunksize=1))) == 1
    (told,) = capfd.readouterr().err.splitlines()
    assert str(tmp_path / "keys" / "laboratory.pem") in told
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


def test_a_damaged_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path))
    laboratory_key()
    key_file().write_bytes(key_file().read_bytes()[:700])
    with pytest.raises(UserError, match=r"laboratory\.pem: damaged"):
        laboratory_key()


def test_no_private_key_is_in_the_repository() -> None:
    private = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40}")
    assert private.search(laboratory_key().private.encode())
    assert [str(path) for path in tracked() if private.search(path.read_bytes())] == []


# The watermark


@pytest.mark.parametrize(
    ("high", "wide", "least"),
    [(64, 64, 40), (64, 200, 40), (97, 131, 40), (256, 256, 44), (512, 512, 48), (720, 1280, 50), (2160, 3840, 50)],
)
def test_the_watermark_is_found_and_invisible(high: int, wide: int, least: float, faces: Faces) -> None:
    image = cv2.resize(faces.image[0].permute(1, 2, 0).numpy(), (wide, high), interpolation=cv2.INTER_CUBIC)
    marked = mark_image(image)
    assert marked.shape == image.shape and marked.dtype == np.uint8
    assert cv2.PSNR(image, marked) >= least
    assert watermark_p([marked]) < 1e-9
    assert watermark_p([image]) > 1e-3


def test_the_same_frame_gives_the_same_bytes(face: np.ndarray) -> None:
    assert np.array_equal(mark_image(face), mark_image(face.copy()))


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_frame_can_be_marked(grey: int) -> None:
    image = np.full((256, 256, 3), grey, np.uint8)
    assert watermark_p([image]) > 1e-3
    assert watermark_p([mark_image(image)]) < 1e-6


ATTACKS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "JPEG 90 at 64 px": (64, saved("JPEG", 90)),
    "JPEG 75 at 128 px": (128, saved("JPEG", 75)),
    "JPEG 75 at 256 px": (256, saved("JPEG", 75)),
    "JPEG 75 at 512 px": (512, saved("JPEG", 75)),
    "WebP 80 at 256 px": (256, saved("WEBP", 80)),
    "75 % of 256 px": (256, resized(0.75)),
    "50 % of 256 px": (256, resized(0.5)),
    "50 % of 512 px": (512, resized(0.5)),
    "200 % of 64 px": (64, resized(2)),
    "50 % of 512 px, then JPEG 75": (512, lambda image: saved("JPEG", 75)(resized(0.5)(image))),
    "brighter": (256, lambda image: (255 * (image / 255) ** 0.8).astype(np.uint8)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_watermark_of_photos_survives(attack: str) -> None:
    size, act = ATTACKS[attack]
    worst = max(watermark_p([act(mark_image(photo))]) for photo in photos(40, size))
    assert worst < 1e-6


def test_the_watermark_mostly_survives_jpeg_75_at_64_px() -> None:
    values = [watermark_p([saved("JPEG", 75)(mark_image(photo))]) for photo in photos(10, 64)]
    assert np.mean(np.less(values, 1e-6)) >= 0.9


@pytest.mark.parametrize("name", ["expressive/W009_front_disgusted_level3_001.mp4", "talking/d0.mp4"])
def test_the_watermark_survives_h264(name: str) -> None:
    with av.open(str(shared(f"data/{name}"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(12))]  # noqa: B905
    frames = [cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in frames]
    assert watermark_p(h264([mark_image(frame) for frame in frames], crf=23)) < 1e-9
    assert watermark_p(h264(frames, crf=23)) > 1e-3


def test_unmarked_photos_and_renders_show_nothing(faces: Faces) -> None:
    renders = list(faces.image[:: len(faces) // 11].permute(0, 2, 3, 1).numpy())
    values = [watermark_p([image]) for image in photos(4) + photos(4, 64) + renders]
    assert min(values) > 1e-4 and max(values) <= 1


@pytest.mark.parametrize("size", [64, 256])
def test_the_p_value_is_uniform_over_keys(size: int) -> None:
    """On real photos the key of another mark finds p < x as often as x says; several frames that are alike, too."""
    one, *_, last = photos(100, size)
    frames = [[one], [last], [one, np.roll(one, 1, axis=1), one]]
    for index, taken in enumerate(frames):
        values = [watermark_p(taken, key=f"{index}/{key}".encode()) for key in range(150)]
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.01
        assert 0.02 <= np.mean(np.less(values, 0.1)) <= 0.2


def test_the_p_value_against_its_definition(face: np.ndarray) -> None:
    """Computed again in float64 with dense matrices and one ring at a time."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float64)
    n = len(grey)
    basis = np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    coefficients = basis @ grey @ basis.T / n
    padded = np.pad(coefficients**2, 4, mode="reflect")
    around = np.mean([padded[i : i + n, j : j + n] for i in range(9) for j in range(9)], axis=0)
    terms = np.clip(coefficients / (0.5 * np.sqrt(around + 9 / n**2)), -1, 1)
    digest = np.frombuffer(hashlib.shake_256(b"vicious-cycle watermark 1").digest(8192), np.uint8)
    signs = np.unpackbits(digest).reshape(256, 256)[:n, :n] * 2.0 - 1
    radius = np.hypot(*np.meshgrid(np.arange(n), np.arange(n)))
    values = []
    for inner, outer in ((12, 48), (48, 0.9 * n)):
        ring = (radius >= inner) & (radius < outer)
        values.append(scipy.stats.norm.sf((terms * signs)[ring].sum() / np.sqrt((terms[ring] ** 2).sum())))
    assert watermark_p([face]) == pytest.approx(1 - (1 - min(values)) ** 2, rel=1e-3)


def test_a_negative_of_a_marked_frame_carries_no_mark(face: np.ndarray) -> None:
    assert watermark_p([255 - mark_image(face)]) == 1


def test_frames_too_small(faces: Faces) -> None:
    image = faces.image[0].permute(1, 2, 0).numpy()
    with pytest.raises(UserError, match="64 x 63 pixels are too few to carry a watermark; at least 64 a side"):
        mark_image(image[:63])
    assert watermark_p([image[:16, :16]]) == 1
