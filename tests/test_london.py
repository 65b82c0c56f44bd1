"""Real photos: the frame that poses are read in, the crops, the records, and what a user can get wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from real_media import shared
from scipy.spatial.transform import Rotation

from generation import records
from generation.faces.alignment import EYE_DISTANCE, EYE_HEIGHT, face_crop
from generation.faces.landmarks import IBUG_68, FaceReader, landmarker_file, pose_of
from generation.faces.london import LondonConfig, photo_records
from generation.motion import ACTIONS, POSE, mirror
from generation.pairs import MIRRORED_LANDMARKS
from generation.records import UserError

ROOT = Path(__file__).parents[1]
PEOPLE = ("001", "014", "025", "061", "090", "103")
SIX = {"train": 3, "validation": 1, "test": 2}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six people's photos, which a test may damage."""
    shared("weights/mediapipe/face_landmarker.task")
    for person in PEOPLE:
        for name in (f"{person}_neutral.jpg", f"{person}_smiling.jpg"):
            (tmp_path / "photos").mkdir(exist_ok=True)
            shutil.copy(shared(f"data/london/{name}"), tmp_path / "photos" / name)
    return tmp_path / "photos"


def open_photo(name: str) -> Image.Image:
    return Image.open(shared(f"data/london/{name}.jpg")).convert("RGB")


@pytest.mark.parametrize("pitch", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("yaw", [-0.5, 0.0, 0.4])
@pytest.mark.parametrize("roll", [-0.3, 0.0, 0.6])
def test_pose_of_a_rotated_head(pitch: float, yaw: float, roll: float) -> None:
    # y up and z to the viewer, so looking up and turning clockwise are negative rotations about x and z
    rotation = Rotation.from_euler("ZYX", [-roll, yaw, -pitch])
    eyes = rotation.apply([[-1.0, 0, 0], [1.0, 0, 0]])[:, :2] * (1, -1) * 30 + (110, 90)
    pose = pose_of(rotation.as_matrix(), eyes, 200, 200)
    assert np.allclose(pose, [pitch, yaw, roll, 0.1, -0.1, 0.6])
    nose = rotation.apply([0, 0, 1])
    if roll == 0:
        assert np.sign(nose[0]) == np.sign(yaw) and np.sign(round(nose[1], 9)) == np.sign(pitch)
    slope = round(eyes[1, 1] - eyes[0, 1], 9)  # clockwise: the eye on the right is the lower one
    assert np.sign(slope) == np.sign(roll)


def test_crop_puts_the_eyes_in_place_and_keeps_the_picture() -> None:
    y, x = np.mgrid[:300, :400] + 0.5
    photo = np.stack([x / 2, y / 2, np.full_like(x, 77)], -1).round().astype(np.uint8)
    eyes = np.array([(150.0, 140.0), (195.0, 170.0)])
    crop = face_crop(photo, eyes, 50).astype(float) * (2, 2, 1)
    across = (eyes[1] - eyes[0]) / EYE_DISTANCE
    down = np.array([-across[1], across[0]])
    for row, column in ((20, 10), (22, 25), (24, 31), (40, 30)):
        place = eyes.mean(0) + ((column + 0.5) / 50 - 0.5) * across + ((row + 0.5) / 50 - EYE_HEIGHT) * down
        assert np.allclose(crop[row, column, :2], place, atol=1.1)
    assert (crop[..., 2] == 77).all()


@pytest.mark.parametrize("size", [32, 64, 100])
def test_crop_averages_detail_away_instead_of_aliasing(size: int) -> None:
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    photo = np.repeat(checks[..., None], 3, -1).astype(np.uint8)
    crop = face_crop(photo, np.array([(215.3, 240.1), (297.1, 243.8)]), size)
    assert crop.shape == (size, size, 3)
    assert abs(crop.mean() - 127.5) < 2
    assert crop.std() < 12, "sampling without averaging has a deviation near 100"


def test_crop_repeats_the_edge_outside_the_photo() -> None:
    photo = np.full((60, 60, 3), 90, np.uint8)
    assert (face_crop(photo, np.array([(20.0, 30.0), (40.0, 30.0)]), 32) == 90).all()


@pytest.mark.parametrize("name", ["001_smiling", "014_neutral", "104_smiling"])
def test_a_mirrored_photo_gives_the_mirrored_reading(reader: FaceReader, name: str) -> None:
    photo = np.asarray(open_photo(name))
    one, other = reader.read(photo), reader.read(photo[:, ::-1])
    assert one is not None and other is not None
    assert np.allclose(one.pose, other.pose * (1, -1, -1, -1, 1, 1), atol=0.04)
    points = other.landmarks[MIRRORED_LANDMARKS.numpy()] * (-1, 1) + (photo.shape[1], 0)
    assert np.abs(one.landmarks - points).max() < 5 and np.abs(one.landmarks - points).mean() < 1.5
    assert np.abs(one.expression - mirror(torch.from_numpy(other.expression)).numpy()).mean() < 0.05


@pytest.mark.parametrize("degrees", [-20, -10, 10, 20])
def test_a_turned_photo_turns_the_roll_alone(reader: FaceReader, degrees: int) -> None:
    photo = open_photo("014_neutral")
    turned = photo.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=(200, 200, 200))  # PIL turns against the clock
    one, other = reader.read(np.asarray(photo)), reader.read(np.asarray(turned))
    assert one is not None and other is not None
    change = dict(zip(POSE, other.pose - one.pose, strict=True))
    assert change["roll"] == pytest.approx(np.radians(degrees), abs=0.03)
    assert abs(change["pitch"]) < 0.05 and abs(change["yaw"]) < 0.05 and abs(change["scale"]) < 0.02


def test_signs_of_yaw_and_pitch_follow_the_nose(reader: FaceReader) -> None:
    readings = [reader.read(np.asarray(open_photo(f"{person}_neutral"))) for person in PEOPLE]
    readings += [reader.read(np.asarray(open_photo(f"{person}_smiling"))) for person in PEOPLE]
    poses = np.array([reading.pose for reading in readings if reading])
    points = np.array([reading.landmarks for reading in readings if reading])
    ears, tip = points[:, [0, 16]].mean(1), points[:, 30]
    width = np.linalg.norm(points[:, 16] - points[:, 0], axis=1)
    right, down = (tip - ears).T / width
    assert np.corrcoef(poses[:, 1], right)[0, 1] > 0.9
    assert np.corrcoef(poses[:, 0], -down)[0, 1] > 0.9


def test_reading(reader: FaceReader) -> None:
    photo = np.asarray(open_photo("002_smiling"))
    reading = reader.read(photo)
    assert reading is not None
    shapes = [(value.shape, value.dtype) for value in asdict(reading).values()]
    assert shapes == [((52,), "float32"), ((6,), "float32"), ((68, 2), "float32"), ((2, 2), "float32")]
    assert reading.expression.min() >= 0 and reading.expression.max() <= 1
    assert reading.expression[ACTIONS.index("mouthSmileLeft")] > 0.5 and reading.expression[-1] == 0
    chin, brow, upper_lip, lower_lip = (reading.landmarks[index, 1] for index in (8, 24, 51, 57))
    assert brow < reading.eyes[:, 1].min() < upper_lip < lower_lip < chin
    assert reading.eyes[0, 0] < reading.landmarks[30, 0] < reading.eyes[1, 0]
    assert np.allclose(reading.eyes[0], reading.landmarks[[36, 39]].mean(0), atol=1e-3)
    x, y = reading.landmarks.T
    for rightwards in (range(17, 27), range(31, 36), range(36, 40), range(42, 46), range(48, 55), range(60, 65)):
        assert (np.diff(x[list(rightwards)]) > 0).all()
    for downwards in (range(9), range(16, 7, -1), range(27, 31), (51, 62, 66, 57), (37, 41), (44, 46)):
        assert (np.diff(y[list(downwards)]) > 0).all()
    assert reader.read(np.full((256, 256, 3), 128, np.uint8)) is None


def test_landmark_table() -> None:
    assert len(IBUG_68) == len(set(IBUG_68)) == 68 and max(IBUG_68) < 478


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_photo_records(photos: Path, tmp_path: Path, reader: FaceReader) -> None:
    config = LondonConfig(root=str(photos), size=128, **SIX)
    steps: list[tuple[int, int]] = []
    photo_records(config, tmp_path / "a", lambda done, total: steps.append((done, total)))
    assert steps == [(done, 12) for done in range(1, 13)]
    faces = records.load(tmp_path / "a")
    assert faces.size == 128 and faces.label.sum() == 0
    assert faces.clip.tolist() == [f"london-{person}" for person in PEOPLE for _ in range(2)]
    assert faces.frame.tolist() == [0, 1] * 6 and set(faces.scene) == {"studio"}
    assert (faces.identity == faces.clip).all() and all("CC BY 4.0" in origin for origin in faces.origin)
    people = {split: set(faces.where(split=split).identity.tolist()) for split in records.SPLITS}
    assert {split: len(those) for split, those in people.items()} == SIX and len(set().union(*people.values())) == 6

    smile = faces.expression[:, [ACTIONS.index("mouthSmileLeft"), ACTIONS.index("mouthSmileRight")]].mean(1)
    assert (smile[1::2] > smile[0::2]).all()
    x, y, scale = faces.pose[:, 3:].T
    assert x.abs().max() < 0.02 and (y - (2 * EYE_HEIGHT - 1)).abs().max() < 0.02
    assert (scale - 2 * EYE_DISTANCE).abs().max() < 0.02 and faces.pose[:, 2].abs().max() < 0.06
    assert faces.landmarks.min() > 0 and faces.landmarks.max() < 128
    enlarged = Image.fromarray(faces.image[3].permute(1, 2, 0).numpy()).resize((256, 256), Image.Resampling.BICUBIC)
    again = reader.read(np.asarray(enlarged))
    assert again is not None and np.abs(again.landmarks / 2 - faces.landmarks[3].numpy()).mean() < 1

    photo_records(config, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_photo_records_are_made_once_until_something_changes(photos: Path, tmp_path: Path) -> None:
    config = LondonConfig(root=str(photos), size=32, **SIX)
    calls: list[int] = []
    photo_records(config, tmp_path / "a", lambda done, total: calls.append(done))
    before = digests(tmp_path / "a")
    photo_records(config, tmp_path / "a", lambda done, total: calls.append(done))
    assert len(calls) == 12 and digests(tmp_path / "a") == before
    for changed in (LondonConfig(root=str(photos), size=32, seed=1, **SIX), LondonConfig(root=str(photos), **SIX)):
        photo_records(changed, tmp_path / "a", lambda done, total: calls.append(done))
        assert digests(tmp_path / "a") != before
    photo_records(config, tmp_path / "a")
    shutil.copy(photos / "001_neutral.jpg", photos / "014_neutral.jpg")
    photo_records(config, tmp_path / "a")
    assert digests(tmp_path / "a") != before
    assert len(calls) == 36


def truncate(photos: Path) -> None:
    path = photos / "025_smiling.jpg"
    path.write_bytes(path.read_bytes()[:4000])


def blank(photos: Path) -> None:
    Image.new("RGB", (300, 300), (120, 130, 140)).save(photos / "061_neutral.jpg")


def one_person(photos: Path) -> None:
    for path in photos.glob("*.jpg"):
        if not path.name.startswith("001"):
            path.unlink()


def no_photo(photos: Path) -> None:
    for path in photos.glob("*.jpg"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, ["025_smiling.jpg", "truncated", "replace it or remove both photos"]),
        (blank, ["061_neutral.jpg", "no face", "replace it or remove both photos"]),
        (lambda photos: (photos / "014_smiling.jpg").unlink(), ["014_smiling.jpg", "missing"]),
        (one_person, ["6 people", "photos show 1", "data.train", "at least one person of its own"]),
        (no_photo, ["photos", "holds no NNN_neutral.jpg"]),
        (shutil.rmtree, ["photos", "no such folder", "data.root"]),
    ],
)
def test_bad_photos(photos: Path, tmp_path: Path, damage: Callable[[Path], None], said: list[str]) -> None:
    damage(photos)
    with pytest.raises(UserError) as error:
        photo_records(LondonConfig(root=str(photos), **SIX), tmp_path / "out")
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)
    assert not records.finished(tmp_path / "out")


@pytest.mark.parametrize("name", ["train", "validation", "test", "size"])
def test_bad_numbers(name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{name} = 0: must be at least"):
        LondonConfig(**{name: 0})


def test_no_folder_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VICIOUS_CYCLE_SHARED", raising=False)
    with pytest.raises(UserError, match=r"data\.root.*VICIOUS_CYCLE_SHARED"):
        photo_records(LondonConfig(), tmp_path)


def test_yaml_holds_the_defaults() -> None:
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "data" / "london.yaml"))
    assert config == {"name": "london", "records": None, **asdict(LondonConfig())}


def test_landmarker_is_found_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VICIOUS_CYCLE_SHARED", raising=False)
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path))
    (tmp_path / "face_landmarker.task").write_bytes(b"model")
    assert landmarker_file() == tmp_path / "face_landmarker.task"
    monkeypatch.setenv("VICIOUS_CYCLE_SHARED", str(tmp_path / "empty"))
    assert landmarker_file() == tmp_path / "face_landmarker.task"
    with pytest.raises(UserError, match=r"face_landmarker\.task: not a face landmarker"), FaceReader():
        pass


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path\nfrom generation.faces.landmarks import *\n{code}"],
        env={**kept, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_landmarker_that_cannot_be_downloaded(tmp_path: Path) -> None:
    code = "try: landmarker_file()\nexcept UserError as error: print(error)"
    nowhere = {"https_proxy": "http://127.0.0.1:9", "VICIOUS_CYCLE_SHARED": str(tmp_path)}
    done = run_python(code, VICIOUS_CYCLE_CACHE=str(tmp_path), **nowhere)
    assert done.returncode == 0, done.stderr
    for part in (str(tmp_path / "face_landmarker.task"), "https://", "by hand"):
        assert part in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the system's libraries are found another way")
def test_missing_system_library(tmp_path: Path) -> None:
    (tmp_path / "libEGL.so.1").write_bytes(b"")
    code = "try:\n  with FaceReader(Path('any')): pass\nexcept UserError as error: print(error)"
    done = run_python(code, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "libEGL.so.1" in done.stdout and "apt-get install libgl1 libegl1 libgles2" in done.stdout


def test_reader_leaves_no_error_at_exit() -> None:
    model = shared("weights/mediapipe/face_landmarker.task")
    done = run_python(f"reader = FaceReader(Path({str(model)!r}))\nwith reader: pass")
    assert done.returncode == 0 and "Exception ignored" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="there is no SIGPROF here")
def test_a_training_between_two_readers_does_not_end_the_process() -> None:
    """Lightning sets all signals to what Python knows of them; MediaPipe's timers go on sending theirs."""
    model = shared("weights/mediapipe/face_landmarker.task")
    code = f"""
import os, signal
with FaceReader(Path({str(model)!r})):
    signal.signal(signal.SIGPROF, signal.getsignal(signal.SIGPROF))
    os.kill(os.getpid(), signal.SIGPROF)
    print("alive")
"""
    done = run_python(code)
    assert done.returncode == 0 and "alive" in done.stdout, done.returncode
