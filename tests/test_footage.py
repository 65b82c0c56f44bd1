"""Footage to records: faces found, tracked, cropped, told apart, and what is dropped and why. Real faces in motion."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunHere
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image
from real_media import film, shared

from generation import records, workers
from generation.faces.alignment import EYE_HEIGHT
from generation.faces.clipping import ClipConfig, Clipper
from generation.faces.footage import (
    REPORT,
    SHEET,
    TIMES,
    File,
    FootageConfig,
    OriginConfig,
    files_in,
    footage_records,
    ingest,
)
from generation.faces.identities import FaceEmbedder
from generation.pairs import Pairs
from generation.records import SPLITS, UserError
from scripts.ingest import main

ORIGIN = OriginConfig(consent="signed", licence="CC BY 4.0")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clipper() -> Iterator[Clipper]:
    for name in ("weights/yunet", "weights/mediapipe", "weights/insightface_minipack"):
        shared(name)
    with Clipper(ClipConfig(size=64)) as clipper:
        yield clipper


def face(person: str, width: int = 130, kind: str = "neutral") -> np.ndarray:
    """The head of one of the London Set's photos, uint8 (H, W, 3)."""
    with Image.open(shared(f"data/london/{person}_{kind}.jpg")) as photo:
        head = photo.convert("RGB").crop((110, 60, 400, 470))
        return np.asarray(head.resize((width, width * 410 // 290)))


def scene(*faces: tuple[np.ndarray, float, float], width: int = 320, height: int = 240) -> np.ndarray:
    """Heads with their centres at (x, y), the last one in front; what lies outside is cut off."""
    picture = Image.fromarray(np.linspace(40, 120, height * width * 3).reshape(height, width, 3).astype(np.uint8))
    for head, x, y in faces:
        picture.paste(Image.fromarray(head), (round(x - head.shape[1] / 2), round(y - head.shape[0] / 2)))
    return np.asarray(picture)


def rows_of(clipper: Clipper, path: Path, out: Path, **about: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The entry of a file, and the rows of each of its clips."""
    import pyarrow.parquet as pq

    out.mkdir(exist_ok=True)
    entry = clipper.clips(File(path, path.name, **about), "origin", 0, out)
    return entry, {clip["clip"]: pq.read_table(out / f"{clip['part']}.parquet").to_pylist() for clip in entry["clips"]}


def faces_seen(rows: list[Any], embedder: FaceEmbedder) -> np.ndarray:  # (N, D)
    """The identity of each row's very picture, aligned by the landmarks in the row."""
    found = []
    for row in rows:
        points = np.asarray(row["landmarks"])
        five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
        found.append(embedder.embed(records.decode(row["image"]["bytes"], "row"), five))
    return np.stack(found)


# One file


def test_a_cut_two_people_and_a_moving_camera(clipper: Clipper, tmp_path: Path) -> None:
    one, other = face("014"), face("061")
    images = [scene((one, 100 + 2 * index, 120)) for index in range(20)]
    images += [scene((other, 80, 115), (one, 240, 120)) for _ in range(20)]
    entry, clips = rows_of(clipper, film(tmp_path / "a.mp4", images), tmp_path / "out")
    assert entry["dropped"] == [] and (entry["frames"], entry["width"], entry["height"]) == (40, 320, 240)
    assert [(clip["shot"], clip["first"], clip["last"]) for clip in entry["clips"]] == [
        (0, 0, 19),
        (1, 20, 39),
        (1, 20, 39),
    ]
    first, left, right = (np.array(clip["embedding"]) for clip in entry["clips"])
    assert first @ right > 0.6 and first @ left < 0.4 and right @ left < 0.4
    for name, rows in clips.items():
        assert len({row["clip"] for row in rows}) == 1 and rows[0]["clip"] == name
        poses = np.array([row["pose"] for row in rows])
        assert np.abs(poses[:, 3]).max() < 0.07 and np.abs(poses[:, 4] - (2 * EYE_HEIGHT - 1)).max() < 0.08
        assert np.ptp(poses[:, 5]) < 0.03, "a steady crop does not breathe"
        assert {row["label"] for row in rows} == {0} and {row["origin"] for row in rows} == {"origin"}
    assert {row["scene"] for rows in clips.values() for row in rows} == {"a.mp4#shot0", "a.mp4#shot1"}


def test_no_cut_is_seen_where_there_is_none(clipper: Clipper, tmp_path: Path) -> None:
    path = shared("data/talking/d12.mp4")
    entry, clips = rows_of(replaced(clipper, frames=4), path, tmp_path / "out")
    (clip,) = entry["clips"]
    assert (clip["shot"], entry["frames"], clip["frames"]) == (0, 183, 4) and entry["dropped"] == []
    assert [row["frame"] for row in clips[clip["clip"]]] == [0, 61, 121, 182]


def replaced(clipper: Clipper, **settings: Any) -> Clipper:
    """The same networks with other settings."""
    other = object.__new__(Clipper)
    other.__dict__ |= clipper.__dict__
    other._config = replace(clipper._config, **settings)
    return other


def test_two_faces_crossing_never_share_a_clip(clipper: Clipper, tmp_path: Path) -> None:
    front, behind = face("014", 110), face("061", 110)
    images = [scene((behind, 340 - 5 * index, 118), (front, 60 + 5 * index, 122), width=400) for index in range(57)]
    entry, clips = rows_of(clipper, film(tmp_path / "a.mp4", images), tmp_path / "out")
    embedder = clipper._embedder
    people = {}
    for name, person in (("front", "014"), ("behind", "061")):
        reference, _ = rows_of(clipper, photo(tmp_path / f"{person}.png", face(person, 200)), tmp_path / person)
        people[name] = np.array(reference["clips"][0]["embedding"])
    owners = []
    for rows in clips.values():
        likeness = faces_seen(rows, embedder) @ np.stack([people["front"], people["behind"]]).T
        owner = likeness.mean(0).argmax()
        assert (likeness.argmax(1) == owner).all()
        owners.append(owner)
    assert owners.count(0) == 1 and owners.count(1) >= 2, "the one in front is seen throughout, the other twice"
    assert len(clips[entry["clips"][owners.index(0)]["clip"]]) >= 55


def photo(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(scene((image, 160, 120)) if image.shape[0] < 300 else image).save(path)
    return path


def test_a_face_that_leaves_ends_its_clip_and_begins_another(clipper: Clipper, tmp_path: Path) -> None:
    head = face("025", 120)
    places = [*np.linspace(160, 420, 30), *[500.0] * 20, *np.linspace(420, 160, 30)]
    images = [scene((head, x, 120)) for x in places]
    entry, _ = rows_of(clipper, film(tmp_path / "a.mp4", images), tmp_path / "out")
    first, second = entry["clips"]
    assert first["first"] == 0 and 10 <= first["last"] <= 20 and second["first"] >= 60 and second["last"] == 79
    assert np.array(first["embedding"]) @ np.array(second["embedding"]) > 0.7


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (lambda: [scene()] * 5, "no face found in 5 frames"),
        (lambda: [scene((face("001"), 160, 120))] * 4, "in frames 0 to 3: seen in 4 frames, data.shortest=8"),
        (lambda: [scene((face("001", 24), 160, 120))] * 10, "pixels, data.smallest=64"),
    ],
)
def test_what_is_dropped_says_why(
    clipper: Clipper, tmp_path: Path, images: Callable[[], list[np.ndarray]], said: str
) -> None:
    entry, clips = rows_of(clipper, film(tmp_path / "a.mp4", images()), tmp_path / "out")
    assert clips == {} and len(entry["dropped"]) == 1 and said in entry["dropped"][0]


def test_a_group_photo_gives_a_clip_for_everyone(clipper: Clipper, tmp_path: Path) -> None:
    group = scene(
        *[(face(person, 60), 80 + 170 * index, 400) for index, person in enumerate(("001", "014", "025", "061"))],
        width=2400,
        height=1600,
    )
    entry, clips = rows_of(replaced(clipper, smallest=40), photo(tmp_path / "group.png", group), tmp_path / "out")
    assert entry["kind"] == "photo" and [len(rows) for rows in clips.values()] == [1] * 4


def test_deepfakebench_alignment(clipper: Clipper, tmp_path: Path) -> None:
    from skimage.transform import SimilarityTransform

    path = photo(tmp_path / "a.png", face("090", 330))
    _, clips = rows_of(replaced(clipper, alignment="deepfakebench", size=256), path, tmp_path / "out")
    (row,) = clips["a.png#0"]
    points = np.asarray(row["landmarks"], float)[[37, 44, 30, 49, 55]]
    template = np.array(
        [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
    )
    wanted = ((template + np.array([8, 0])) * 256 / 112 + 0.15 * 256) / 1.3
    still_to_do = SimilarityTransform.from_estimate(points, wanted)
    assert np.allclose(still_to_do.params, np.eye(3), atol=[[0.01, 0.01, 1], [0.01, 0.01, 1], [0, 0, 0.01]])
    assert records.decode(row["image"]["bytes"], "row").shape == (256, 256, 3)


def test_an_item_of_an_archive_keeps_what_is_known_of_it(clipper: Clipper, tmp_path: Path) -> None:
    frames = []
    for folder in ("frames", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(10):
        frames.append(tmp_path / "frames" / f"{index}.png")
        Image.fromarray(scene((face("001"), 160 + index, 120))).save(frames[-1])
        region = np.zeros((240, 320), np.uint8)
        region[:, : 160 + index] = 255
        Image.fromarray(region).save(tmp_path / "masks" / f"{index}.png")
    item = {
        "frames": tuple(frames),
        "label": 1,
        "method": "Deepfakes",
        "identity": "071",
        "split": "test",
        "mask": tmp_path / "masks",
    }
    _, clips = rows_of(clipper, tmp_path / "frames", tmp_path / "out", **item)
    (rows,) = clips.values()
    assert len(rows) == 10
    for row in rows:
        assert (row["label"], row["method"], row["identity"], row["split"]) == (1, "Deepfakes", "071", "test")
        mask = records.decode(row["mask"]["bytes"], "row")
        assert set(np.unique(mask)) == {0, 255} and mask[:, :20].min() == 255 and mask[:, 44:].max() == 0


# A folder


@pytest.fixture
def folder(clipper: Clipper, tmp_path: Path) -> Path:
    """Two people in four files, of which two have the same name, and what does not belong there."""
    root = tmp_path / "media"
    film(root / "a" / "take.mp4", [scene((face("014"), 150 + index, 120)) for index in range(12)])
    film(root / "b" / "take.mp4", [scene((face("061"), 150, 110 + index)) for index in range(12)])
    Image.fromarray(scene((face("014", kind="smiling"), 160, 120))).save(root / "smile.jpg", quality=95)
    Image.fromarray(scene((face("061", kind="smiling"), 160, 120))).save(root / "b" / "smile.JPG", "JPEG", quality=95)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("no video")
    (root / "notes.txt").write_text("not media")
    (root / ".hidden.jpg").write_text("left alone")
    return root


def config(root: Path, **settings: Any) -> FootageConfig:
    return FootageConfig(root=str(root), origin=ORIGIN, **settings)


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_becomes_records(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = footage_records(
        config(folder, size=64), tmp_path / "out", 1, lambda done, total: steps.append((done, total))
    )
    assert steps == [(step, 12) for step in range(1, 13)] and report["read"] == 6
    found = {entry["file"]: entry for entry in report["files"]}
    assert list(found) == ["a/take.mp4", "b/smile.JPG", "b/take.mp4", "empty.mp4", "smile.jpg", "text.mp4"]
    assert report["others"] == ["notes.txt"] and report["identity"] == "mobilefacenet.onnx"
    assert found["empty.mp4"]["dropped"] == ["empty: it has no byte"] and "no frame" in found["text.mp4"]["dropped"][0]

    faces = records.load(tmp_path / "out")
    assert len(faces) == 26 and len(set(faces.clip)) == 4 and set(faces.origin) == {"CC BY 4.0; consent: signed"}
    people = {clip: str(faces.identity[faces.clip == clip][0]) for clip in faces.clip}
    assert people["a/take.mp4#0"] == people["smile.jpg#0"] != people["b/take.mp4#0"] == people["b/smile.JPG#0"]
    splits = {identity: set(faces.split[faces.identity == identity]) for identity in set(faces.identity)}
    assert all(len(those) == 1 for those in splits.values()) and len(set.union(*splits.values())) == 2
    source, target = Pairs(faces).draw(50, np.random.default_rng(0))
    assert (faces.clip[source] == faces.clip[target]).all() and (source != target).all()
    assert (Pairs(faces).drivers(target, np.random.default_rng(0)) == target).all()
    assert set(state(tmp_path / "out")) == {REPORT, SHEET, TIMES, records.INFO, "shard-00000.parquet"}
    times = (tmp_path / "out" / TIMES).read_text().splitlines()
    assert times[0] == "clip,frame,seconds" and times[2] == "a/take.mp4#0,1,0.04" and len(times) == 27


def test_what_is_finished_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    made = footage_records(config(folder), tmp_path / "out")
    before = state(tmp_path / "out")
    again = footage_records(config(folder), tmp_path / "out")
    assert again == {**made, "read": 0} and state(tmp_path / "out") == before
    assert footage_records(config(folder), tmp_path / "other", 2)["read"] == 0
    assert state(tmp_path / "other") == before
    Image.fromarray(scene((face("025"), 160, 120))).save(folder / "new.png")
    assert footage_records(config(folder), tmp_path / "out")["read"] == 1
    assert len(set(records.load(tmp_path / "out").identity)) == 3
    assert footage_records(config(folder, same_person=0.3, seed=0), tmp_path / "out")["read"] == 0
    (tmp_path / "out" / records.INFO).unlink()
    assert footage_records(config(folder), tmp_path / "out")["read"] == 0
    assert footage_records(config(folder, size=32), tmp_path / "out")["read"] == 7


def test_known_identities_and_splits_are_kept(folder: Path, tmp_path: Path) -> None:
    files, _ = files_in(str(folder))
    known = [replace(file, identity=f"actor {file.name[0]}", split="train") for file in files[:3]]
    ingest([*known, *files[4:5]], config(folder, train=0, validation=1, test=0), "mine", tmp_path / "out")
    faces = records.load(tmp_path / "out")
    who = {(str(a), str(b)) for a, b in zip(faces.identity, faces.split, strict=True)}
    assert who == {("actor a", "train"), ("actor b", "train"), ("person-000", "validation")}


@pytest.mark.parametrize(
    ("consent", "licence", "named"), [(None, "x", "consent"), ("x", None, "licence"), ("x", " ", "licence")]
)
def test_no_footage_without_consent_and_licence(
    consent: str | None, licence: str | None, named: str, tmp_path: Path
) -> None:
    wanted = FootageConfig(root=str(tmp_path), origin=OriginConfig(consent, licence))
    with pytest.raises(UserError, match=rf"^origin\.{named}: must be given, as .*footage shows real people"):
        footage_records(wanted, tmp_path / "out")


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (None, "data.root: must be given"),
        ("nowhere", "nowhere: no such file or folder; set data.root"),
        (".", "no photo or video in 1 files; known endings are jpg, "),
    ],
)
def test_nothing_to_ingest(tmp_path: Path, root: str | None, said: str) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(UserError, match=said):
        files_in(None if root is None else str(tmp_path / root))


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_no_text_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.mp4")
    files, others = files_in(str(tmp_path))
    assert [file.name for file in files] == ["caf\\xe9.png"] and others == ["pipe.mp4"]


def test_no_face_anywhere_is_told_with_the_reason(clipper: Clipper, tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"no face in 1 files.*ingest_report\.json.*a\.png: no face found in 1 frame$"):
        footage_records(config(tmp_path / "a.png"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / REPORT).read_bytes())["files"][0]["dropped"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 8}, "data.size=8: must be at least 32"),
        ({"frames": 0}, "data.frames=0: must be at least 1"),
        ({"same_person": 1.5}, "data.same_person=1.5: must lie between 0 and 1"),
        ({"train": -1.0}, "none may be negative"),
        ({"train": 0, "validation": 0, "test": 0}, "one must be above 0"),
        ({"seed": -1}, "data.seed=-1: must be at least 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FootageConfig(**settings)


def test_yaml_holds_the_defaults() -> None:
    with initialize_config_module("conf", version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose("train_generator", ["data=footage"]).data, resolve=True)
        larger = compose("ingest").data
        cycle = compose("arms_race", ["experiment=footage"])
    assert plain == {"name": "footage", "records": None, **asdict(FootageConfig())}
    assert larger.size == 256 and (cycle.data.name, cycle.data.frames) == ("footage", 48)
    assert set(SPLITS) <= set(plain)


def test_the_command_tells_that_something_was_dropped(folder: Path, run_here: RunHere, tmp_path: Path) -> None:
    said = ["origin.consent=signed", "origin.licence=mine", "hydra.run.dir=run", f"data.root={folder}"]
    done = run_here(main, *said, "data.size=64", "workers=2")
    assert done.returncode == 3, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    wanted = {"files": 6, "clips": 4, "frames": 26, "identities": 2, "dropped": 2, "read": 6}
    assert {key: summary[key] for key in wanted} == wanted and summary["seconds"]["ingest"] > 0
    assert (
        "dropped: empty.mp4: empty: it has no byte" in done.stderr
        and "4 clips with 26 frames of 2 people" in done.stderr
    )
    report = json.loads((tmp_path / "run" / REPORT).read_bytes())
    assert len(report["files"]) == 6
    with Image.open(tmp_path / "run" / SHEET) as sheet:
        assert sheet.width > 1500 and np.asarray(sheet).std() > 20


def test_a_job_that_kills_its_process_harms_no_other() -> None:
    jobs = [(sys.executable, "-c", "0"), (3,), (sys.executable, "-c", "0")]
    found = dict(workers.each(_die_or_tell, jobs, 2, preload="generation.workers"))
    assert found == {0: 3, 1: None, 2: 3}


def _die_or_tell(*job: Any) -> int:
    if len(job) == 1:
        os._exit(job[0])
    return len(job)
