"""Archives: what is read off every layout, and the splits that come of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from archive_trees import (
    BUILD,
    METHODS,
    by_name,
    by_split,
    celeb_df,
    deepfakebench,
    df40,
    dfdc,
    dfdcp,
    faceforensics,
    folders,
    put,
    put_frames,
    read,
)
from omegaconf import OmegaConf
from PIL import Image
from real_media import film, shared

from generation.faces.archives import ARCHIVES, TERMS, ArchiveConfig, Origin, archive_records, detect, frames_in
from generation.faces.archives.files import UnusableError
from generation.faces.archives.vocabulary import label_of, people_in
from generation.records import SPLITS, UserError, load
from scripts.door import configure

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_archive_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "inside"):
        BUILD[name](root)
        if name in ("faceforensics++", "celeb-df", "dfdcp") or root == tmp_path:
            assert detect(root.parent if root != tmp_path else root) == name
        index = read(root, name)
        assert index.archive == name and {item.label for item in index.items} == {0, 1}
        assert index.origin == "CC BY 4.0; consent: asked in writing"
        for folder in sorted(root.rglob("*"), reverse=True):
            folder.rmdir() if folder.is_dir() else folder.unlink()


@pytest.mark.parametrize("name", ARCHIVES)
def test_reading_is_repeatable_and_hidden_files_change_nothing(name: str, tmp_path: Path) -> None:
    BUILD[name](tmp_path)
    before = read(tmp_path, name)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        put(path.with_name(f"._{path.name}"))
    put(tmp_path / ".DS_Store")
    assert read(tmp_path, name) == before


def test_faceforensics(tmp_path: Path) -> None:
    index = read(faceforensics(tmp_path, compressions=("raw", "c23", "c40")))
    items = by_name(index)
    assert index.dropped == [] and index.notes == [] and len(items) == 3 * (8 + 4 * 8)
    item = items["Deepfakes/c23/071_054"]
    assert (item.label, item.method, item.identity, item.split, item.frames) == (
        1,
        "Deepfakes",
        "ff-071",
        "train",
        None,
    )
    assert item.path == tmp_path / "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4"
    assert item.mask == tmp_path / "manipulated_sequences/Deepfakes/masks/videos/071_054.mp4"
    real = items["youtube/c40/003"]
    assert (real.label, real.method, real.identity, real.split, real.mask) == (0, "", "ff-003", "test", None)
    for method in METHODS:
        assert {item.split for name, item in items.items() if name.startswith(method)} == set(SPLITS)
        assert items[f"{method}/raw/720_672"].split == "validation"
    assert {name.split("/")[1] for name in by_name(read(tmp_path, select=("*/c23/*",)))} == {"c23"}


@pytest.mark.parametrize("method", METHODS)
def test_faceforensics_with_one_method_only(method: str, tmp_path: Path) -> None:
    index = read(faceforensics(tmp_path, methods=(method,), compressions=("c40",)))
    assert len(index.items) == 16 and {item.method for item in index.items} == {"", method}


def test_faceforensics_drops_what_no_split_file_names(tmp_path: Path) -> None:
    faceforensics(tmp_path, methods=("Deepfakes",))
    folder = tmp_path / "manipulated_sequences" / "Deepfakes" / "c23" / "videos"
    put(folder / "071_003.mp4")
    put(folder / "555_556.mp4")
    put(folder / "notes.mp4")
    put_frames(folder.parent / "frames" / "071_054", 0)
    dropped = dict(read(tmp_path).dropped)
    assert set(dropped) == {f"Deepfakes/c23/{name}" for name in ("071_003", "555_556", "notes")}
    assert "not together" in dropped["Deepfakes/c23/071_003"] and "071_054" in dropped["Deepfakes/c23/notes"]


def test_celeb_df(tmp_path: Path) -> None:
    celeb_df(tmp_path)
    put(
        tmp_path / "List_of_testing_videos.txt",
        (tmp_path / "List_of_testing_videos.txt").read_text().replace("/", "\\"),
    )
    index = read(tmp_path)
    items = by_name(index)
    official = {"YouTube-real/00170", "Celeb-real/id0_0000", "Celeb-synthesis/id0_id1_0000"}
    assert by_split(index)["test"] == official
    assert items["Celeb-synthesis/id0_id1_0000"].label == 1 and items["YouTube-real/00170"].label == 0
    assert items["Celeb-synthesis/id2_id3_0000"].identity == "celeb-id2"
    assert items["YouTube-real/00171"].identity == "celeb-youtube-00171"
    # id0 and id1 are people of the official test: their other videos are in no split
    assert {name for name, _ in index.dropped} >= {
        *(f"Celeb-real/{name}" for name in ("id0_0001", "id1_0000", "id1_0001")),
        "Celeb-synthesis/id0_id2_0000",
    }
    assert by_split(index)["validation"] and "no validation split" in index.notes[0]
    (tmp_path / "Celeb-synthesis" / "id0_id1_0000.mp4").unlink()
    assert "Celeb-real/id1_0000" in dict(read(tmp_path).dropped)


def test_celeb_df_list_that_contradicts_its_folders(tmp_path: Path) -> None:
    celeb_df(tmp_path)
    put(
        tmp_path / "List_of_testing_videos.txt",
        "0 YouTube-real/00170.mp4\n1 Celeb-real/id0_0000.mp4\n1 Celeb-real/id9_0000.mp4\n1 ../../etc/passwd\n",
    )
    dropped = dict(read(tmp_path).dropped)
    assert "calls it forged" in dropped["YouTube-real/00170"]
    assert "missing" in dropped["celeb-real/id9_0000"]
    assert "climbs out" in dropped["List_of_testing_videos.txt, line 4"]


def test_dfdc(tmp_path: Path) -> None:
    index = read(dfdc(tmp_path))
    items = by_name(index)
    assert items["dfdc_train_part_0/abc0x"].identity == items["dfdc_train_part_0/abc0"].identity == "dfdc-abc0"
    assert items["dfdc_train_part_0/abc0x"].split == items["dfdc_train_part_0/abc0"].split
    assert (items["test/yes"].label, items["test/no"].label) == (1, 0)
    assert by_split(index)["test"] == {"test/yes", "test/no"} and len(items) == 10
    assert len(by_split(index)["validation"]) == 2  # one original and its forgery
    put(tmp_path / "dfdc_train_part_0" / "unknown.mp4")
    (tmp_path / "dfdc_train_part_1" / "def1.mp4").unlink()
    put(tmp_path / "test" / "metadata.json", {"no.mp4": {"is_fake": 1}})
    index = read(tmp_path)
    assert dict(index.dropped)["dfdc_train_part_0/unknown"].startswith("has no label")
    assert dict(index.dropped)["dfdc_train_part_1/def1"] == "missing"
    assert by_name(index)["test/no"].label == 1


def test_one_damaged_part_of_dfdc_does_not_stop_the_others(tmp_path: Path) -> None:
    path = dfdc(tmp_path) / "dfdc_train_part_0" / "metadata.json"
    path.write_bytes(path.read_bytes()[:40])
    index = read(tmp_path)
    assert "truncated" in dict(index.dropped)["dfdc_train_part_0"] and len(index.items) == 6


def test_dfdcp(tmp_path: Path) -> None:
    index = read(dfdcp(tmp_path))
    items = by_name(index)
    item = items["method_A/643991/643991_C_001"]
    assert (item.label, item.method, item.identity) == (1, "method_A", "dfdcp-643991")
    assert {item.identity for item in index.items if item.split == "test"} == {"dfdcp-2030094", "dfdcp-9"}
    assert [len(names) for names in by_split(index).values()] == [4, 4, 4]
    (tmp_path / "method_A/77/77_C_001.mp4").unlink()
    put_frames(tmp_path / "method_A/frames/77_C_001", 0)
    assert by_name(read(tmp_path))["method_A/77/77_C_001"].path == tmp_path / "method_A/frames/77_C_001"


def test_deepfakebench(tmp_path: Path) -> None:
    index = read(deepfakebench(tmp_path))
    items = by_name(index)
    # 8 real, 8 Deepfakes, 4 Face2Face, 2 of Celeb-DF; FF-DF.json repeats what is there
    assert len(items) == 22 and index.dropped == []
    item = items["FF-DF/FF-DF/c23/071_054"]
    assert (item.label, item.method, item.identity, item.split) == (1, "Deepfakes", "ff-071", "train")
    assert item.frames is not None and [path.name for path in item.frames] == ["0.png", "2.png", "10.png"]
    assert item.mask == tmp_path / "FaceForensics++/manipulated_sequences/Deepfakes/c23/masks/071_054"
    assert items["FaceForensics++/FF-F2F/c23/071_054"].method == "Face2Face"
    assert {item.split for name, item in items.items() if name.startswith("Celeb")} == {"test"}
    assert [item.split for name, item in items.items() if name.endswith("720_672")] == ["validation"] * 2


@pytest.mark.parametrize("prefix", ["", "./", ".\\", "deepfakes_detection_datasets/DF40/", "data\\rgb\\"])
def test_deepfakebench_paths_of_other_machines(prefix: str, tmp_path: Path) -> None:
    put_frames(tmp_path / "DF40" / "simswap" / "ff" / "frames" / "000_003", 0, 1)
    frames = [f"{prefix}DF40/simswap/ff/frames/000_003/{number}.png" for number in (1, 0)]
    if "\\" in prefix:
        frames = [path.replace("/", "\\") for path in frames]
    entry = {"label": "simswap_Fake", "frames": frames}
    put(tmp_path / "simswap_ff.json", {"simswap_ff": {"simswap_Fake": {"test": {"000_003": entry}}}})
    (item,) = read(tmp_path, "deepfakebench").items
    assert (item.method, item.identity, item.split) == ("simswap", "ff-000", "test")
    assert item.path == tmp_path / "DF40/simswap/ff/frames/000_003" and item.frames == frames_in(item.path)


def test_deepfakebench_odd_entries(tmp_path: Path) -> None:
    put_frames(tmp_path / "f" / "v1", 0, 1)
    put_frames(tmp_path / "f" / "v2", 0)
    v1, v2 = ["f/v1/1.png", "f/v1/0.png", "f/v1/7.png"], ["f/v2/0.png"]
    content = {
        "DFDC": {
            # one of `rearrange.py`'s own oddities: a video without a name, and others beside it
            "DFDC_Real": {"val": {"label": 0, "frames": v1}, "later": {"v": {"label": 0, "frames": v1}}},
            "DFDC_Fake": {"val": {"frames": v2}, "test": {}, "train": {"c23": {}}},
            "DFDC_Odd": 3,
        },
        "Empty": [],
    }
    put(tmp_path / "DFDC.json", content)
    index = read(tmp_path)
    assert [(item.name, item.label, item.split) for item in index.items] == [
        ("DFDC/DFDC_Fake/v2", 1, "validation"),
        ("DFDC/DFDC_Real/v1", 0, "validation"),
    ]
    assert index.items[0].path == tmp_path / "f/v2/0.png" and index.items[0].frames is None
    dropped = dict(index.dropped)
    assert set(dropped) == {
        "DFDC.json: DFDC/DFDC_Odd",
        "DFDC.json: Empty",
        "DFDC/DFDC_Real/later",
        "DFDC/DFDC_Real (in part)",
    }
    assert dropped["DFDC/DFDC_Real (in part)"].startswith("1 of 3 frames cannot be used, the first is f/v1/7.png")


def test_a_video_listed_as_real_and_as_forged_is_dropped(tmp_path: Path) -> None:
    put_frames(tmp_path / "f" / "v", 0, 1)
    put_frames(tmp_path / "f" / "w", 0, 1)
    for name, video in (("Real", "v"), ("Fake", "v"), ("Fake", "w")):
        lists = {"train": {video: {"label": f"x_{name}", "frames": [f"f/{video}/0.png", f"f/{video}/1.png"]}}}
        put(tmp_path / f"{name}-{video}.json", {f"{name}-{video}": {f"x_{name}": lists}})
    index = read(tmp_path)
    assert [item.path.name for item in index.items] == ["w"]
    assert index.dropped == [("Fake-v/x_Fake/v", "listed as real and as forged")]


def test_df40(tmp_path: Path) -> None:
    items = by_name(read(df40(tmp_path)))
    assert items["DF40_train/simswap/frames/071_054"].identity == "ff-071"
    assert items["DF40/simswap/cdf/frames/id0_id1_0000"].identity == "celeb-id0"
    assert items["DF40/heygen/real/b"].label == 0 and items["DF40/heygen/fake/videos/a.mp4"].method == "heygen"
    assert items["DF40/ddim/ff/0.png"].method == "ddim"
    assert {item.split for name, item in items.items() if name.startswith("DF40/")} == {"test"}
    assert {item.split for name, item in items.items() if name.startswith("DF40_train/")} == {"train", "validation"}


def test_plain_folders(tmp_path: Path) -> None:
    items = by_name(read(folders(tmp_path)))
    assert set(items) == {*(f"real/{n}.mp4" for n in "abc"), *(f"fake/{n}" for n in "abc"), "real/7.png"}
    assert items["fake/a"].identity == items["real/a.mp4"].identity
    put(tmp_path / "df" / "c.png")
    assert ("df/", "neither real nor fake; not read") in read(tmp_path).dropped
    official = tmp_path / "official"
    for split in ("train", "val", "test"):
        put(official / split / "Real" / f"{split}.mp4")
        put(official / split / "Fake" / f"{split}.mp4")
    assert by_split(read(official)) == {
        name: {f"{split}/{kind}/{split}.mp4" for kind in ("Real", "Fake")}
        for name, split in zip(SPLITS, ("train", "val", "test"), strict=True)
    }


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_part_of_an_archive(name: str, part: int, tmp_path: Path) -> None:
    """What is left is read, and official test videos stay test videos."""
    whole = read(BUILD[name](tmp_path), name)
    files = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".mp4", ".png"))
    for path in files[part::3]:
        path.unlink()
    left = read(tmp_path, name)
    assert set(by_name(left)) <= {*by_name(whole), *(what for what, _ in whole.dropped)} and len(left.items) > 2
    if name not in ("folders", "df40"):
        assert by_split(left)["test"] <= by_split(whole)["test"]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        (0, 0), (1, 1), ("1", 1), ("REAL", 0), ("FAKE", 1), ("real", 0), ("original", 0), ("Deepfakes", 1),
        ("FF-real", 0), ("FF-DF", 1), ("FF-SH", 1), ("DFD_real", 0), ("DFDCP_FakeA", 1), ("CelebDFv1_real", 0),
        ("simswap_Fake", 1), ("EFSAll_Real", 0), ("roop_Real", 0), ("Real3DPortrait_Fake", 1),
    ],
)  # fmt: skip
def test_labels(said: object, label: int) -> None:
    assert label_of(said) == label


@pytest.mark.parametrize("said", [2, -1, True, 0.0, None, "", "unknown", "both real and fake ones", [], {}])
def test_labels_that_say_nothing(said: object) -> None:
    with pytest.raises(UnusableError, match="neither real nor forged"):
        label_of(said)


def test_people() -> None:
    assert people_in("071_054", "FaceForensics++/x") == ("ff-071", "ff-054")
    assert people_in("071_054", "UADFV/x") == ("071_054",)
    assert people_in("071", "simswap_ff") == ("ff-071",) and people_in("071", "stuff/x") == ("071",)
    assert people_in("id3_id12_0007", "") == ("celeb-id3", "celeb-id12")
    assert people_in("03_14__hugging__ABCDEFGH", "") == ("dfd-03", "dfd-14")


def test_yaml_holds_the_defaults() -> None:
    whole = OmegaConf.load(ROOT / "conf" / "data" / "archive.yaml")
    data = OmegaConf.to_container(whole, resolve=True)["data"]
    values = {name: value for name, value in data.items() if name not in ("name", "records")}
    assert configure(ArchiveConfig, values) == ArchiveConfig()
    assert set(values) == set(asdict(ArchiveConfig()))
    with pytest.raises(UserError, match=r"data\.root: must be given"):
        archive_records(ArchiveConfig(), ROOT)


def test_an_archive_becomes_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celeb-DF's layout filled with real faces: label, person, split and terms of every row are the archive's."""
    photos = sorted(shared("data/london").glob("*_neutral.jpg"))
    monkeypatch.setenv("VICIOUS_CYCLE_CACHE", str(tmp_path / "cache"))
    videos = ["Celeb-real/id0_0000", "Celeb-real/id1_0000", "Celeb-synthesis/id2_id3_0000", "YouTube-real/00007"]
    for name, photo in zip(videos, photos, strict=False):
        film(put(tmp_path / "celeb" / f"{name}.mp4"), [np.asarray(Image.open(photo).convert("RGB"))] * 8)
    put(tmp_path / "celeb" / "List_of_testing_videos.txt", "1 YouTube-real/00007.mp4\n1 YouTube-real/00008.mp4\n")
    config = ArchiveConfig(root=str(tmp_path / "celeb"), origin=Origin(terms="celeb-df"), size=64, frames=4)
    report = archive_records(config, tmp_path / "records")
    assert any("00008" in file["file"] and file["dropped"] for file in report["files"])
    faces = load(tmp_path / "records")
    assert set(faces.scene) == {f"{name}#shot0" for name in videos} and len(faces) == 4 * len(videos)
    for name, row in zip(faces.scene, range(len(faces)), strict=True):
        assert faces.label[row] == int("synthesis" in name) and bool(faces.method[row]) == ("synthesis" in name)
        assert (faces.split[row] == "test") == ("YouTube" in name)
        assert faces.origin[row] == str(TERMS["celeb-df"])
    assert archive_records(config, tmp_path / "records")["read"] == 0
