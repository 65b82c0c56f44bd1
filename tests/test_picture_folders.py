"""Folders of pictures in real/ and fake/, and the training of a detector on one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunHere
from external_files import their_file
from PIL import Image

from detection.detectors import load_detector
from detection.training import score
from generation.faces.archives.pictures import read_pictures
from generation.records import Faces, UserError, row, write
from scripts import evaluate, train_detector
from scripts.train_detector import PoolsConfig, load_pools

SIDES = {"real": (48, 60), "fake": (64, 40)}


def picture(path: Path, kind: str = "real", seed: int = 0) -> Path:
    """A smooth field; forgeries have a checkerboard on it."""
    width, height = SIDES[kind]
    generator = np.random.default_rng([seed, kind == "fake"])
    small = Image.fromarray(generator.integers(60, 190, (4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    if kind == "fake":
        pixels += 12 * ((np.indices((height, width)).sum(0) // 4 % 2) * 2 - 1)[..., None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def tree(root: Path, people: int = 16, frames: int = 3, split: str = "") -> Path:
    """A sub-folder for every person but the last, whose picture lies in none."""
    for kind in ("real", "fake"):
        for person in range(people - 1):
            for frame in range(frames):
                ending = "jpg" if frame else "png"
                picture(root / split / kind / f"p{person}" / f"{frame}.{ending}", kind, 100 * person + frame)
        picture(root / split / kind / "alone.png", kind, 9000)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("pictures"))


def test_every_picture_is_read_with_label_person_and_split(folder: Path) -> None:
    faces, notes = read_pictures(folder, 32)
    assert len(faces) == 2 * (15 * 3 + 1) and faces.size == 32 and any("no official split" in note for note in notes)
    assert set(faces.identity) == {f"p{i}" for i in range(15)} | {"alone"}
    for person in set(faces.identity):
        here = faces.identity == person
        assert len(set(faces.split[here])) == 1 and set(faces.label.numpy()[here]) == {0, 1}
    for split in ("train", "validation", "test"):
        assert len(faces.where(split, 0)) == len(faces.where(split, 1)) > 0
    again = read_pictures(folder, 32).faces
    assert torch.equal(faces.image, again.image) and faces.split.tolist() == again.split.tolist()


def test_a_picture_is_its_middle_square(folder: Path) -> None:
    faces = read_pictures(folder, 40).faces
    for kind, label in (("real", 0), ("fake", 1)):
        (found,) = faces.select((faces.identity == "alone") & (faces.label.numpy() == label)).image
        whole = Image.open(folder / kind / "alone.png")
        side = min(whole.size)
        left, top = (whole.width - side) // 2, (whole.height - side) // 2
        middle = whole.crop((left, top, left + side, top + side)).resize((40, 40), Image.Resampling.BICUBIC)
        assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - np.asarray(middle)).max() <= 3


def test_folders_may_name_the_split(tmp_path: Path) -> None:
    for split, names in {"train": "abc", "val": "de", "test": "fg"}.items():
        for kind in ("real", "fake"):
            for name in names:
                picture(tmp_path / split / kind / f"{name}.png", kind)
    faces, notes = read_pictures(tmp_path, 32)
    owner = dict(zip(faces.identity.tolist(), faces.split.tolist(), strict=True))
    assert owner == dict.fromkeys("abc", "train") | dict.fromkeys("de", "validation") | dict.fromkeys("fg", "test")
    assert len(faces) == 14 and notes == []


def test_classes_that_are_encoded_differently_are_told(tmp_path: Path) -> None:
    for name in "abcdef":
        picture(tmp_path / "real" / f"{name}.jpg")
        picture(tmp_path / "fake" / f"{name}.png", "fake")
    notes = read_pictures(tmp_path, 32).notes
    assert notes[-1].startswith("real pictures are .jpg, forged ones .png: ")


def missing_class(root: Path) -> None:
    picture(root / "real" / "a.png")
    (root / "fake").mkdir()


def crossing(root: Path) -> None:
    for split in ("train", "test"):
        for name in ("ann", f"only_{split}"):
            picture(root / split / "real" / name / "0.png")
            picture(root / split / "fake" / name / "0.png", "fake")


def damaged(root: Path) -> None:
    tree(root, 5, 1)
    (root / "fake" / "p1" / "0.png").write_bytes((root / "fake" / "p1" / "0.png").read_bytes()[:200])


def video(root: Path) -> None:
    tree(root, 3, 1)
    (root / "fake" / "clip.mp4").write_bytes(b"video")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing_class, r"no pictures in fake/; \.png and \.jpg"),
        (lambda root: None, r"no pictures in real/ and fake/"),
        (lambda root: root.rmdir(), r"data\.folder=.*: no such folder"),
        (crossing, r"1 people lie in two splits \(ann\)"),
        (damaged, r"fake/p1/0\.png: damaged or truncated"),
        (video, r"clip\.mp4: a video.*scripts/ingest\.py data=archive"),
    ],
)
def test_what_cannot_be_read_is_named(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=says) as caught:
        read_pictures(root, 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, r"data\.real: must be given.* data\.folder=DIR"),
        ({"folder": "FOLDER", "real": "FOLDER"}, r"either data\.folder or data\.real and data\.forged"),
        ({"folder": "FOLDER", "self_blended": 0.5}, r"data\.self_blended=0\.5: needs landmarks"),
        ({"folder": "FOLDER", "size": 4}, r"data\.size=4"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], says: str, folder: Path) -> None:
    given = {key: folder if value == "FOLDER" else value for key, value in settings.items()}
    with pytest.raises(UserError, match=says):
        load_pools(PoolsConfig(**given))  # type: ignore[arg-type]


def test_a_folder_of_records_is_a_pool_for_each_method(tmp_path: Path) -> None:
    def rows() -> list[dict[str, object]]:
        return [
            row(
                np.full((16, 16, 3), 10 * person + len(method), np.uint8),
                clip=f"{method}{person}", frame=0, identity=str(person), scene="0", expression=np.zeros(52),
                pose=np.zeros(6), landmarks=np.zeros((68, 2)), split="train", origin="invented", seed=0, method=method,
            )
            for method in ("", "warp", "autoencoder")
            for person in range(3)
        ]  # fmt: skip

    write(tmp_path / "both", rows())
    real, pools = load_pools(PoolsConfig(folder=tmp_path / "both"))
    assert list(pools) == ["autoencoder", "warp"] and len(real) == 3 and real.size == 16
    assert all(set(faces.method) == {name} and len(faces) == 3 for name, faces in pools.items())
    write(tmp_path / "real", rows()[:3])
    with pytest.raises(UserError, match="real: holds no forged faces"):
        load_pools(PoolsConfig(folder=tmp_path / "real"))


def test_the_script_trains_on_a_folder_of_pictures(folder: Path, run_here: RunHere, tmp_path: Path) -> None:
    run = run_here(
        train_detector.main, "hydra.run.dir=run", "detector=localizer", f"data={folder}", "data.size=32",
        "data.batch=8", "training.steps=8", "training.steps_per_epoch=4", "training.adversarial.share=0.25",
        "training.adversarial.steps=2", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    detector = load_detector(tmp_path / "run" / "detector.safetensors")
    assert detector.name == "localizer" and detector.meta["pools"] == ["fake"]
    test: Faces = read_pictures(folder, 32).faces.where("test")
    assert summary["test"]["identities"] == len(set(test.identity)) >= 2
    assert np.isfinite(score(detector.module, test.image)).all()
    assert "no official split" in run.stderr
    done = run_here(
        evaluate.main, "hydra.run.dir=judged", "detector=external", f"detector.path={their_file()}",
        f"data={folder}", "size=32", "detectors.ours=run/detector.safetensors", "resamples=20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "judged" / "summary.json").read_text())["leaderboard"]
    assert {(row["detector"], row["method"]) for row in found} == {("ours", "fake"), ("external", "fake")}
    assert {row["n"] for row in found if row["level"] == "frame"} == {len(test)}
