"""Provenance: what is signed reads back, what is changed is noticed, and the watermark survives without being seen."""

from __future__ import annotations

import base64
import datetime
import json
import multiprocessing
import re
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import c2pa
import cv2
import numpy as np
import pytest
from PIL import Image

from generation.provenance import SIGNABLE, Statement, describe, keys, mark_image, sign, verify
from generation.provenance.keys import LaboratoryKey, key_file, laboratory_key, new_key, use_key
from generation.provenance.manifest import read
from generation.records import Faces, UserError
from tests.real_media import film, photos
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


def write(path: Path, image: np.ndarray) -> Path:
    if SIGNABLE[path.suffix].startswith("video/"):
        return film(path, [image] * 6)
    Image.fromarray(image).save(path)
    return path


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
    assert path.stat().st_size - before <= 4_096
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
def test_any_flipped_bit_is_noticed(ending: str, face: np.ndarray, tmp_path: Path) -> None:
    """Anywhere in the file: also where the standard's signature does not reach, in the boxes around a manifest, in its
    padding, in the file type of MP4."""
    path = write(tmp_path / f"face{ending}", face)
    sign(path, STATEMENT)
    whole = path.read_bytes()
    assert read(path)[0] == "trusted"
    draws = np.random.default_rng(0)
    for place in [*range(0, 40), *draws.integers(len(whole), size=60)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draws.integers(8))
        path.write_bytes(damaged)
        assert read(path)[0] == "tampered", place


def test_saving_again_takes_the_manifest_and_leaves_the_watermark(face: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "face.png", mark_image(face))
    sign(path, STATEMENT)
    Image.open(path).save(tmp_path / "again.jpg", quality=80)
    verdict = verify(tmp_path / "again.jpg")
    assert (verdict.state, verdict.signed_by, verdict.statement) == ("absent", None, None)
    assert verdict.found and verdict.stripped and not verify(path).stripped
    assert describe(verdict).startswith("stripped: no manifest, but the watermark, watermark p = ")
    assert describe(verify(path)).startswith("trusted, signed by Vicious Cycle laboratory, watermark p = ")


def test_verify_reads_the_payload_of_photos_and_videos(tmp_path: Path) -> None:
    photo = photos(50, 256)[0]
    marked = mark_image(photo, 0xC0FFEE11)
    for path in (write(tmp_path / "face.jpg", marked), film(tmp_path / "face.mp4", [marked] * 6)):
        verdict = verify(path)
        assert verdict.stripped and verdict.payload == 0xC0FFEE11
        assert describe(verdict).endswith("payload c0ffee11")


def test_an_ordinary_file_has_neither_mark(face: np.ndarray, tmp_path: Path) -> None:
    verdict = verify(write(tmp_path / "face.png", face))
    assert (verdict.state, verdict.signed_by, verdict.statement, verdict.found) == ("absent", None, None, False)
    assert verdict.watermark_p > 1e-4 and not verdict.stripped
    assert describe(verdict).startswith("absent, no watermark")


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


def _write_key(path: Path) -> None:
    key = laboratory_key()
    path.write_text(key.private + key.leaf)


def test_parallel_first_use_makes_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path))
    fork, paths = multiprocessing.get_context("fork"), [tmp_path / f"{number}.txt" for number in range(8)]
    processes = [fork.Process(target=_write_key, args=(path,)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len({path.read_text() for path in paths}) == 1
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


def test_a_new_key_takes_the_place_of_the_old_which_can_still_be_named(
    face: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VICIOUS_CYCLE_KEY", "")
    path = write(tmp_path / "face.png", face)
    assert new_key() == (key_file(), None)
    sign(path, STATEMENT)
    _, old = new_key()
    assert old is not None and verify(path).state == "valid"
    use_key(old)
    assert verify(path).state == "trusted"


def _mixed(first: LaboratoryKey, second: LaboratoryKey) -> dict[str, tuple[str, str]]:
    return {
        "another root": (first.private + first.leaf + second.root, "not signed by the root that is in it"),
        "another private key": (second.private + first.leaf + first.root, "private key is not that of"),
        "no key": ("", "damaged"),
        "cut": (first.private + first.leaf, "damaged"),
    }


@pytest.mark.parametrize("fault", ["another root", "another private key", "no key", "cut", "missing", "run out"])
def test_a_key_that_cannot_be_used_ends_in_one_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_KEY", "")
    pairs = []
    for name in ("first", "second"):
        monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / name))
        new_key()
        pairs.append(laboratory_key())
    said = {"missing": "no such key file", "run out": "is valid from .* only"}.get(fault)
    if fault == "missing":
        path = tmp_path / "gone.pem"
    elif fault == "run out":
        monkeypatch.setattr(keys, "_LIFE", datetime.timedelta(days=0.5))
        path = tmp_path / "old.pem"
        path.write_text(keys._made())
    elif said is None:
        content, said = _mixed(*pairs)[fault]
        path = tmp_path / "key.pem"
        path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        use_key(path)
    assert str(path) in str(error.value) and "keys=new makes" in str(error.value)


def test_a_file_outlives_the_certificate_that_signed_it_as_valid(
    face: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed while the certificate was good, read when it is not: nothing was changed, but nobody vouches for it."""
    path = write(tmp_path / "face.png", face)
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(keys, "_LIFE", datetime.timedelta(days=1, seconds=3))
    laboratory_key()
    sign(path, STATEMENT)
    assert read(path)[0] == "trusted"
    time.sleep(4)
    assert read(path)[0] == "valid"
    path.write_bytes(path.read_bytes()[:-30] + b"x" + path.read_bytes()[-29:])
    assert read(path)[0] == "tampered"
