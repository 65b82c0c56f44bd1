"""Layouts: what other people's readers find in an export is what was in the set, and everything in it is marked."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import RunHere
from PIL import Image

from detection.degradations import DEGRADATIONS
from generation.dataset.checking import check
from generation.dataset.design import Factors
from generation.dataset.features import SUMS
from generation.dataset.layouts import CLIPS, LAYOUTS, clips, export_layout
from generation.dataset.layouts.clips import Clip, with_forehead
from generation.dataset.plan import make_plan
from generation.dataset.sums import digest
from generation.faces.archives import ARCHIVES, Origin, detect, read_archive
from generation.faces.archives.files import Tree
from generation.faces.archives.pictures import read_pictures
from generation.faces.archives.vocabulary import people_in
from generation.provenance import verify
from generation.records import UserError, encode_png
from scripts.make_dataset import main
from tests.test_dataset import CONFIG, in_small_shards, make

ARCHIVE = {"faceforensics": "faceforensics++", "deepfakebench": "deepfakebench", "folders": "folders"}
"""Our reader of each layout."""

SPLIT = {"train": "train", "val": "validation", "test": "test"}
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    with in_small_shards():
        assert make(out)
    return out


@pytest.fixture(scope="module")
def plan(source: Path) -> pd.DataFrame:
    return pd.read_parquet(source / "plan.parquet")


@pytest.fixture(scope="module")
def rows(source: Path) -> Rows:
    """The set's rows by clip, in order."""
    found: Rows = {}
    for path in sorted(source.glob("shard-*.parquet")):
        for row in pd.read_parquet(path).to_dict("records"):
            found.setdefault(row["clip"], []).append(row)  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def trees(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout, exported."""
    made = {}
    for name in LAYOUTS:
        made[name] = tmp_path_factory.mktemp(name)
        told: list[tuple[int, int]] = []
        counts = export_layout(name, source, made[name], lambda *done, told=told: told.append(done))
        assert counts["clips"] == 24 and counts["frames"] == 48 and told == [(12, 48), (24, 48), (36, 48), (48, 48)]
        files = [path for path in made[name].rglob("*") if path.is_file()]
        assert counts["bytes"] == sum(path.stat().st_size for path in files)
    return made


def pixels(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image["bytes"])))


def of(short: str) -> str:
    return "_".join(f"{int(number):05d}" for number in short.split("_"))


# Readers written from the descriptions of the formats alone


class Video(NamedTuple):
    """people: whose face, and for a forgery whose expression"""

    label: int
    method: str
    people: tuple[str, ...]
    split: str
    level: str
    path: Path
    mask: Path | None = None


def faceforensics(root: Path) -> Iterator[Video]:
    """FaceForensics++ as its README says: TTT_SSS.mp4, target_source; a pair of a split file gives two reals and both
    forgeries."""
    for split in SPLIT:
        for one, other in json.loads((root / "splits" / f"{split}.json").read_text()):
            for level in ("raw", "c23", "c40"):
                for person in (one, other):
                    path = root / "original_sequences" / "youtube" / level / "videos" / f"{person}.mp4"
                    if path.exists():
                        yield Video(0, "", (person,), SPLIT[split], level, path)
                for folder in (root / "manipulated_sequences").iterdir():
                    for target, driver in ((one, other), (other, one)):
                        path = folder / level / "videos" / f"{target}_{driver}.mp4"
                        mask = folder / "masks" / "videos" / f"{target}_{driver}.mp4"
                        if path.exists():
                            yield Video(1, folder.name, (target, driver), SPLIT[split], level, path, mask)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


class Loaded(NamedTuple):
    """As DeepfakeBench loads a frame."""

    image: np.ndarray
    label: int
    landmarks: np.ndarray
    mask: np.ndarray


def deepfakebench(root: Path, name: str, split: str) -> Iterator[tuple[str, list[Loaded]]]:
    """(folder of the frames, frames) of every video: dataset -> label -> split -> video -> {label, frames, masks}; both
    layers by replacing the word frames; a mask that is missing is empty."""
    label_dict = yaml.safe_load((root / "deepfakebench.yaml").read_text())["label_dict"]
    content = json.loads((root / "preprocessing" / "dataset_json" / f"{name}.json").read_text())
    assert list(content) == [name]
    for label in content[name]:
        for entry in content[name][label][split].values():
            assert entry["label"] == label and ("real" in label.lower()) == (label_dict[label] == 0)
            loaded = []
            for frame in sorted(entry["frames"], key=lambda path: int(path.split("/")[-1].split(".")[0])):
                image = cv2.imread(str(root / frame))
                mask = cv2.imread(str(root / frame.replace("frames", "masks")), 0)
                assert (mask is None) == ("masks" not in entry) == (label_dict[label] == 0)
                marks = np.load(root / frame.replace("frames", "landmarks").replace(".png", ".npy"))
                empty = np.zeros(image.shape[:2], np.uint8)
                loaded.append(Loaded(image[..., ::-1], label_dict[label], marks, empty if mask is None else mask))
            if label_dict[label]:
                assert entry["masks"] == [path.replace("frames", "masks") for path in entry["frames"]]
            yield str(Path(entry["frames"][0]).parent), loaded


def test_faceforensics_is_as_described(trees: dict[str, Path], plan: pd.DataFrame, rows: Rows) -> None:
    found = list(faceforensics(trees["faceforensics"]))
    wanted = {
        (row.label, row.method, (row.source, row.driver) if row.label else (row.clip,), row.split, level)
        for row in plan.itertuples()
        for level in (("raw", "c23", "c40") if row.compression == "raw" else (row.compression,))
    }
    assert {(v.label, v.method, tuple(map(of, v.people)), v.split, v.level) for v in found} == wanted
    assert len(found) == len(wanted) == 48
    media = [path for path in trees["faceforensics"].rglob("*.mp4") if "masks" not in path.parts]
    assert sorted(video.path for video in found) == sorted(media)
    fidelity: dict[str, list[float]] = {"c23": [], "c40": []}
    for video in found:
        name = "_".join(map(of, video.people))
        own = rows[f"{video.method}/{name}" if video.label else name]
        images = decoded(video.path)
        assert len(images) == len(own) == 2
        wanted_images = np.stack([pixels(row["image"]) for row in own])
        if video.level == own[0]["compression"]:
            np.testing.assert_array_equal(np.stack(images), wanted_images)
        else:
            fidelity[video.level].append(float(np.square(np.stack(images) - wanted_images.astype(float)).mean()))
        if video.mask is not None:
            for mask, row in zip(decoded(video.mask), own, strict=True):
                np.testing.assert_array_equal(mask, np.repeat(pixels(row["mask"])[..., None], 3, -1))
    assert 1 < np.mean(fidelity["c23"]) < np.mean(fidelity["c40"]) / 2


def test_deepfakebench_is_as_described(trees: dict[str, Path], plan: pd.DataFrame, rows: Rows) -> None:
    root = trees["deepfakebench"]
    names = {path.stem for path in (root / "preprocessing" / "dataset_json").iterdir()}
    assert names == {"tiny", "tiny_warp", "tiny_landmark_warp", "tiny_raw", "tiny_c23"}
    for name in names:
        chosen = plan
        if name in ("tiny_raw", "tiny_c23"):
            chosen = plan[plan["compression"] == name.removeprefix("tiny_")]
        elif name != "tiny":
            chosen = plan[plan["method"].isin(["", name.removeprefix("tiny_")])]
        seen: list[str] = []
        for split in SPLIT:
            for folder, frames in deepfakebench(root, name, split):
                video = folder.rpartition("/")[2]
                method, _, short = video.rpartition("-")
                clip = f"{method}/{of(short)}" if method else of(short)
                own = rows[clip]
                assert own[0]["split"] == SPLIT[split] and f"/{own[0]['compression']}/frames/" in folder
                assert f"/{method or 'youtube'}/" in folder
                seen.append(clip)
                for frame, row in zip(frames, own, strict=True):
                    assert frame.label == row["label"]
                    np.testing.assert_array_equal(frame.image, pixels(row["image"]))
                    assert frame.landmarks.shape == (81, 2) and frame.landmarks.dtype == np.float32
                    np.testing.assert_allclose(frame.landmarks[:68] + 0.5, np.stack(row["landmarks"]), atol=1e-4)
                    if row["label"]:
                        np.testing.assert_array_equal(frame.mask, pixels(row["mask"]))
        assert sorted(seen) == sorted(chosen["clip"])
    folders = [path.name for path in root.glob("tiny/**/frames/*")]
    assert len(set(folders)) == len(folders) == 24  # its video-level AUROC takes folders of one name for one video


def test_folders_name_person_clip_and_frame(trees: dict[str, Path], rows: Rows) -> None:
    files = sorted(trees["folders"].rglob("*.png"))
    assert len(files) == 48
    for path in files:
        split, kind, person, name = path.relative_to(trees["folders"]).parts
        *method, short, frame = name.removesuffix(".png").split("-")
        row = rows[f"{method[0]}/{of(short)}" if method else of(short)][int(frame)]
        assert (row["split"], row["identity"], row["label"]) == (split, person, int(kind == "fake"))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels(row["image"]))


# Our own readers


@pytest.mark.parametrize("name", LAYOUTS)
def test_our_readers_read_labels_splits_and_pairs_back(
    name: str, trees: dict[str, Path], plan: pd.DataFrame, rows: Rows
) -> None:
    root = trees[name]
    assert detect(root) == ARCHIVE[name]
    index = read_archive(ARCHIVE[name], root, Origin(consent="not needed", licence="CC0"))
    assert index.dropped == [] and index.notes == []
    people = {found.name: found.people for found in ARCHIVES[ARCHIVE[name]].read(Tree(root)).found}
    if name == "folders":
        wanted = {(row.label, row.split, row.identity) for row in plan.itertuples()}
        assert {(item.label, item.split, item.identity) for item in index.items} == wanted
        return
    clips_of: dict[str, int] = {}
    for item in index.items:
        own = people[item.name]
        clip = "_".join(of(person.removeprefix("ff-")) for person in own)
        clip = f"{item.method}/{clip}" if item.label else clip
        row = rows[clip][0]
        assert (item.label, item.method, item.split) == (row["label"], row["method"], row["split"])
        pair = (row["source"]["clip"], row["driver"]["clip"]) if row["label"] else (clip,)
        assert tuple(of(person.removeprefix("ff-")) for person in own) == pair
        assert (item.mask is not None) == bool(item.label)
        clips_of[clip] = clips_of.get(clip, 0) + 1
    assert set(clips_of) == set(plan["clip"])


def test_a_detector_may_be_trained_on_the_folders(trees: dict[str, Path], plan: pd.DataFrame) -> None:
    faces, notes = read_pictures(trees["folders"], CONFIG.size)
    assert notes == [] and len(faces) == 48
    counts = pd.DataFrame({"split": faces.split, "label": faces.label, "identity": faces.identity}).value_counts()
    wanted = pd.concat([plan, plan])[["split", "label", "identity"]].value_counts()
    assert counts.sort_index().to_dict() == wanted.sort_index().to_dict()


# Marks


@pytest.mark.parametrize("name", LAYOUTS)
def test_everything_that_shows_a_face_is_signed(name: str, trees: dict[str, Path]) -> None:
    states = {True: set(), False: set()}
    for finding in check(trees[name]):
        states["masks" in finding.path.parts].add(finding.state)
    assert states[False] == {"ok"} and states[True] <= {"unmarked"}
    assert not [path for path in trees[name].rglob(".*") if path.name != ".export.json"]


def test_each_file_states_how_it_was_made(trees: dict[str, Path], source: Path, rows: Rows) -> None:
    place = trees["deepfakebench"] / "tiny"
    for clip in ("00000", "warp/00000_00001", "landmark_warp/00005_00004"):
        for row in rows[clip]:
            method, _, short = clip.rpartition("/")
            video = "_".join(f"{int(number):03d}" for number in short.split("_"))
            (path,) = place.glob(f"**/frames/{method + '-' * bool(method)}{video}/{row['frame']:03d}.png")
            verdict = verify(path)
            said = verdict.statement
            assert verdict.state == "trusted" and verdict.found and said is not None
            assert said["reenactor"] == row["method"] and said["checkpoint"] == row["checkpoint"]
            assert said["parents"] == list(row["parents"]) and said["seed"] == row["seed"]
            assert said["payload"] == row["payload"] and said["licence"] == row["origin"] and said["synthetic"]
            edit = said["edit"]
            assert (edit["clip"], edit["frame"], edit["sums"]) == (clip, row["frame"], digest(source / SUMS))
            assert edit["compression"] == row["compression"] and ("strength" in edit) == bool(row["label"])
    video = trees["faceforensics"] / "manipulated_sequences" / "warp" / "c23" / "videos" / "000_001.mp4"
    said = verify(video).statement
    assert said is not None and len(said["parents"]) == 2 and "frame" not in said["edit"]


def test_footage_keeps_its_licence_and_its_consent(rows: Rows) -> None:
    row = {**rows["warp/00000_00001"][0], "origin": "CC BY 4.0, A. Nother; consent: signed release; https://x.org"}
    made = clips.statement([row], clips.Origin("x", "0" * 64))
    assert (made.licence, made.consent) == ("CC BY 4.0, A. Nother", "signed release; https://x.org")
    assert not made.synthetic and made.source_type.endswith("/compositeSynthetic")
    real = {**rows["00000"][0], "origin": row["origin"]}
    assert clips.statement([real], clips.Origin("x", "0" * 64)).source_type.endswith("/digitalCapture")


# Written once


def test_what_is_there_is_not_made_again(source: Path, tmp_path: Path) -> None:
    def stop(*_: Any) -> None:
        signed.append(1)
        if len(signed) == 20:
            raise KeyboardInterrupt
        sign(*_)

    signed: list[int] = []
    sign = clips.sign
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "sign", stop)
        with pytest.raises(KeyboardInterrupt):
            export_layout("folders", source, tmp_path, lambda *_: None)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(there) == 19 and {finding.state for finding in check(tmp_path)} == {"ok"}
    export_layout("folders", source, tmp_path, lambda *_: None)
    assert len(list(tmp_path.rglob("*.png"))) == 48
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())


def test_factors_come_along(trees: dict[str, Path], plan: pd.DataFrame) -> None:
    for name, root in trees.items():
        table = pd.read_csv(root / CLIPS, dtype={"clip": str, "source": str, "driver": str}, keep_default_na=False)
        assert table["clip"].tolist() == plan["clip"].tolist() and table["degradation"].tolist() == list(
            plan["degradation"]
        )
        for known in table["exported_as"]:
            assert [path for path in root.rglob("*") if known.rpartition("/")[2] in path.name], (name, known)
        assert (root / "DATASHEET.md").is_file()


def test_several_forgeries_of_a_pair_have_names_of_their_own() -> None:
    factors = Factors(motion=("speech",), strength=(0.5, 1.0), region=("all", "mouth"), compression=("raw", "c23"))
    config = replace(CONFIG, design="factorial", clips=None, people=6, factors=factors, train=1)
    found = [Clip.of(row, 2, 64) for row in make_plan(config, DEGRADATIONS).to_dict("records")]  # type: ignore[arg-type]
    assert {clip.method for clip in found} == {""} | {f"{m}-{i}" for m in config.reenactors for i in range(4)}
    for layout in LAYOUTS.values():
        paths = [file.path for clip in found for file in layout.files(clip, "x")]
        assert len(set(paths)) == len(paths) and len({layout.known_as(clip) for clip in found}) == len(found)
    late = replace(found[-1], short="1234_007")
    assert people_in(LAYOUTS["deepfakebench"].known_as(late), "x/manipulated_sequences") == ("ff-1234", "ff-007")


def test_the_forehead_lies_over_the_brows_from_temple_to_temple(rows: Rows) -> None:
    points = np.stack(rows["00000"][0]["landmarks"])
    full = with_forehead(points)
    np.testing.assert_array_equal(full[:68], points)
    along = full[[77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78]]
    across, down = (along - points[[0, 16]].mean(0)).T
    assert (np.diff(np.arctan2(-down, across)) < 0).all()  # from image left to image right
    for end, temple in ((along[0], points[0]), (along[-1], points[16])):
        assert np.linalg.norm(end - temple) < 0.3 * np.linalg.norm(points[16] - points[0])
    assert along[3:10, 1].max() < points[17:27, 1].min()
    turned = with_forehead(np.c_[-points[:, 1], points[:, 0]])  # it turns with the face
    np.testing.assert_allclose(turned, np.c_[-full[:, 1], full[:, 0]], atol=1e-4)


def test_players_read_the_videos(trees: dict[str, Path]) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    root = trees["faceforensics"]
    for path in (*root.glob("*/youtube/*/videos/006.mp4"), *root.glob("*/warp/*/videos/006_007.mp4")):
        command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "json", "-show_entries"]
        told = subprocess.run([*command, "stream=codec_name,nb_read_frames,width", path], capture_output=True)
        assert told.stderr == b""
        assert json.loads(told.stdout)["streams"] == [{"codec_name": "h264", "width": 64, "nb_read_frames": "2"}]


def test_videos_of_an_odd_size(rows: Rows, tmp_path: Path) -> None:
    images = [cv2.resize(pixels(row["image"]), (67, 67)) for row in rows["00006"]]
    own = [{**row, "image": {"bytes": encode_png(image)}} for row, image in zip(rows["00006"], images, strict=True)]
    for level in ("raw", "c23"):
        clips.video(level)(tmp_path / f"{level}.mp4", own, clips.Origin("x", "0" * 64))
        assert (np.abs(np.subtract(decoded(tmp_path / f"{level}.mp4"), images, dtype=int)).mean() == 0) == (
            level == "raw"
        )
        assert verify(tmp_path / f"{level}.mp4").state == "trusted"


# Bad input


def changed(source: Path, to: Path, name: str | None) -> Path:
    """A copy of the set, with a file damaged, or the list of hashes gone."""
    shutil.copytree(source, to)
    if name is None:
        (to / SUMS).unlink()
    else:
        (to / name).write_bytes((to / name).read_bytes()[:-9])
    return to


@pytest.mark.parametrize(
    ("layout", "damage", "said"),
    [
        ("faceforensic", "", "export=faceforensic: no such layout; there are faceforensics, deepfakebench, folders"),
        ("folders", None, "no finished data set; the command that makes it goes on"),
        ("folders", "shard-00002.parquet", "shard-00002.parquet: damaged, as SHA256SUMS says; make the set again"),
        ("folders", "plan.parquet", "plan.parquet: damaged"),
    ],
)
def test_what_cannot_be_exported(layout: str, damage: str | None, said: str, source: Path, tmp_path: Path) -> None:
    folder = source if damage == "" else changed(source, tmp_path / "set", damage)
    with pytest.raises(UserError, match=said):
        export_layout(layout, folder, tmp_path / "to", lambda *_: None)
    assert not (tmp_path / "to").exists()


def test_other_folders_are_left_alone(source: Path, trees: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for to, held in ((tmp_path, "mine.txt"), (trees["deepfakebench"], "tiny"), (source, "shard")):
        before = sorted(to.iterdir())
        with pytest.raises(UserError, match=f"holds {held}.* is no export of this set in this layout; choose another"):
            export_layout("folders", source, to, lambda *_: None)
        assert sorted(to.iterdir()) == before


def test_names_that_a_layout_cannot_have(plan: pd.DataFrame) -> None:
    found = [Clip.of(row, 2, 64) for row in plan.to_dict("records")]  # type: ignore[arg-type]
    with pytest.raises(UserError, match="so my_frames cannot be a name"):
        list(LAYOUTS["deepfakebench"].lists(found, "my_frames"))
    real = next(clip for clip in found if not clip.label)
    for name in ("deepfakebench", "faceforensics"):
        with pytest.raises(UserError, match="10001 real clips, and names"):
            list(LAYOUTS[name].lists([real] * 10_001, "x"))


def test_the_command_exports(source: Path, run_here: RunHere, tmp_path: Path) -> None:
    done = run_here(main, "export=deepfakebench", f"from={source}", "to=to", "hydra.run.dir=run", "workers=2")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    files = [path for path in (tmp_path / "to").rglob("*.*") if path.is_file()]
    assert summary["clips"] == 24 and summary["bytes"] == sum(path.stat().st_size for path in files)
    assert summary["files"] == len([path for path in files if "tiny" in path.parts])
