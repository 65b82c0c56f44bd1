"""Splits of archives: what they say themselves, what is drawn, and that nobody is in two of them."""

from __future__ import annotations

from pathlib import Path

from archive_trees import PAIRS, by_name, by_split, deepfakebench, faceforensics, put, put_frames, read

from generation.records import SPLITS


def test_faceforensics_without_split_files_keeps_pairs_together(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    for path in (tmp_path / "splits").iterdir():
        path.unlink()
    index = read(tmp_path)
    assert len(index.items) == 40 and index.dropped == []
    assert "github.com/ondyari/FaceForensics" in index.notes[0] and "no official split" in index.notes[1]
    assert all(by_split(index).values())
    splits = {item.identity: item.split for item in index.items}
    for pairs in PAIRS.values():
        for one, other in pairs:
            assert splits[f"ff-{one}"] == splits[f"ff-{other}"]


def test_deepfakedetection_videos_are_split_by_actor(tmp_path: Path) -> None:
    faceforensics(tmp_path, methods=())
    for actor in range(1, 9):
        put(tmp_path / "original_sequences/actors/c23/videos" / f"{actor:02}__walking.mp4")
        other = actor % 8 + 1
        video = f"{actor:02}_{other:02}__walking__ABCDEFGH.mp4"
        put(tmp_path / "manipulated_sequences/DeepFakeDetection/c23/videos" / video)
    index = read(tmp_path)
    items = by_name(index)
    assert items["actors/c23/01__walking"].identity == "dfd-01"
    splits = {name: item.split for name, item in items.items() if name.startswith("actors")}
    assert set(splits.values()) == set(SPLITS) and len(splits) == 8
    for name, item in items.items():
        if name.startswith("DeepFakeDetection"):
            target, source = name.split("/")[2][:5].split("_")
            assert item.identity == f"dfd-{target}"
            assert item.split == splits[f"actors/c23/{target}__walking"] == splits[f"actors/c23/{source}__walking"]
    assert all("a person is in one split only" in reason for _, reason in index.dropped) and index.dropped


def test_a_validation_list_that_only_repeats_others_counts_for_nothing(tmp_path: Path) -> None:
    """`rearrange.py` lists DFDC's training videos for validation too, and Celeb-DF's test videos for training."""
    deepfakebench(tmp_path)
    lists: dict[str, dict[str, object]] = {}
    for number in range(8):
        label, name = ("real", "fake")[number % 2], f"v{number}"
        frames = put_frames(tmp_path / "DFDC" / "frames" / name, 0, 1)
        entry = {"label": f"DFDC_{label}", "frames": [f"DFDC/frames/{name}/{path.name}" for path in frames.iterdir()]}
        lists.setdefault(f"DFDC_{label}", {})[name] = entry
    put(tmp_path / "dataset_json/DFDC.json", {"DFDC": {k: {"train": v, "val": v} for k, v in lists.items()}})
    index = read(tmp_path)
    splits = {item.name: item.split for item in index.items if item.name.startswith("DFDC")}
    assert len(splits) == 8 and set(splits.values()) == {"train"}  # FaceForensics++ has a validation split
    assert by_name(index)["FF-DF/FF-DF/c23/720_672"].split == "validation"
    assert [note.partition(":")[0] for note in index.notes] == ["Celeb-DF-v2", "DFDC"]


def test_people_of_official_test_videos_that_are_missing_stay_out_of_training(tmp_path: Path) -> None:
    lists = {}
    for split, video in (("train", "id0_0001"), ("train", "id1_0000"), ("test", "id0_0000")):
        put_frames(tmp_path / "Celeb-real" / "frames" / video, *([0, 1] if split == "train" else []))
        frames = [f"Celeb-real/frames/{video}/{number}.png" for number in (0, 1)]
        lists.setdefault(split, {})[video] = {"label": "CelebDFv2_real", "frames": frames}
    put(tmp_path / "Celeb-DF-v2.json", {"Celeb-DF-v2": {"CelebDFv2_real": lists}})
    index = read(tmp_path)
    assert [item.identity for item in index.items] == ["celeb-id1"]
    assert "celeb-id0, who is in test" in dict(index.dropped)["Celeb-DF-v2/CelebDFv2_real/id0_0001"]


def test_people_who_are_all_connected_are_split_one_by_one(tmp_path: Path) -> None:
    """As in Celeb-DF: 20 people, everybody put into everybody's video, and 100 others in real videos alone."""
    people = [f"id{number}" for number in range(20)]
    for person in people:
        put(tmp_path / "Celeb-real" / f"{person}_0000.mp4")
        for other in people:
            if other != person:
                put(tmp_path / "Celeb-synthesis" / f"{person}_{other}_0000.mp4")
    for number in range(100):
        put(tmp_path / "YouTube-real" / f"{number:05}.mp4")
    put(tmp_path / "List_of_testing_videos.txt", "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id1_id0_0000.mp4\n")
    index = read(tmp_path)
    for split in SPLITS:
        assert {item.label for item in index.items if item.split == split} == {0, 1}
    validation = {item.identity for item in index.items if item.split == "validation"}
    assert 15 <= len(validation) <= 23
    assert len({person for person in validation if "youtube" not in person}) == 2  # of 18
