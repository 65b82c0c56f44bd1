from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from generation import records
from generation.records import Faces, UserError, Writer, load, read, write


def some_rows(count: int, size: int = 16) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(count)
    for i in range(count):
        forged: dict[str, Any] = {"mask": np.full((size, size), i, np.uint8), "method": "warp", "source": ("clip", i)}
        yield records.row(
            rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
            clip=f"clip-{i // 2}",
            frame=i,
            identity=f"person-{i // 4}",
            scene="studio",
            expression=rng.random(52),
            pose=rng.random(6),
            landmarks=rng.random((68, 2)),
            split=("train", "test")[i % 2],
            origin="drawn by a test",
            seed=3,
            **(forged if i % 2 else {}),
        )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = list(some_rows(11))
    with Writer(tmp_path, {}, shard_rows=4) as writer:
        for row in rows:
            writer.add(row)
    faces = load(tmp_path)
    assert len(list(tmp_path.glob("shard-*.parquet"))) == 3
    assert faces.image.shape == (11, 3, 16, 16)
    for i, row in enumerate(rows):
        pixels = records.decode(row["image"]["bytes"], "row")
        assert np.array_equal(faces.image[i].permute(1, 2, 0).numpy(), pixels)
        assert np.allclose(faces.landmarks[i], row["landmarks"]) and np.allclose(faces.pose[i], row["pose"])
        assert faces.label[i] == i % 2 == row["label"]
        assert faces.mask[i].max() == (i if i % 2 else 0)
        assert (faces.source_clip[i], faces.source_frame[i]) == (("clip", i) if i % 2 else ("", -1))
    assert len(load(tmp_path, "test")) == 5
    assert len(faces.where(split="train", label=0)) == 6


def test_rows_are_read_in_the_order_of_columns_and_of_the_files_where_they_are_alike(tmp_path: Path) -> None:
    write(tmp_path, list(some_rows(11)))
    as_written, ordered = load(tmp_path), load(tmp_path, order=("label", "identity"))
    expected = sorted(range(11), key=lambda i: (i % 2, i // 4))
    assert ordered.frame.tolist() == expected
    for field in dataclasses.fields(Faces):
        assert np.array_equal(getattr(ordered, field.name), getattr(as_written, field.name)[expected]), field.name
    assert ordered.where(label=1).image.untyped_storage().data_ptr() == ordered.image.untyped_storage().data_ptr()


def test_hugging_face_datasets_reads_the_shards_without_this_code(tmp_path: Path) -> None:
    write(tmp_path, some_rows(4))
    plain = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "shard-*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert plain.features == records.row_features()
    assert plain[1]["image"].size == (16, 16) and plain[1]["mask"].getpixel((0, 0)) == 1
    assert [row["frame"] for row in read(tmp_path, "test")] == [1, 3]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", some_rows(5))
    write(tmp_path / "b", some_rows(5))
    assert records.shard_path(tmp_path / "a", 0).read_bytes() == records.shard_path(tmp_path / "b", 0).read_bytes()


def test_an_unfinished_folder_is_not_read_and_can_be_written_again(tmp_path: Path) -> None:
    def fails() -> Iterator[dict[str, Any]]:
        yield from some_rows(3)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError), Writer(tmp_path, {}, shard_rows=2) as writer:
        for row in fails():
            writer.add(row)
    assert records.shard_path(tmp_path, 0).is_file()
    with pytest.raises(UserError, match=records.INFO):
        load(tmp_path)
    write(tmp_path, some_rows(2))
    assert len(load(tmp_path)) == 2


def test_no_space_left_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "00001" in path.name:
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"), Writer(tmp_path, {}, shard_rows=2) as writer:
        for row in some_rows(6):
            writer.add(row)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]
    assert pq.read_table(records.shard_path(tmp_path, 0)).num_rows == 2
    with pytest.raises(UserError):
        load(tmp_path)


def test_shards_of_the_same_unfinished_work_stay_and_others_go(tmp_path: Path) -> None:
    records.begin(tmp_path, {"seed": 1})
    records.write_shard(tmp_path, 0, list(some_rows(2)))
    records.begin(tmp_path, {"seed": 1})
    assert records.shard_path(tmp_path, 0).is_file()
    records.begin(tmp_path, {"seed": 2})
    assert not records.shard_path(tmp_path, 0).is_file()


def damage_image(folder: Path) -> None:
    rows = list(some_rows(2))
    content = rows[1]["image"]["bytes"]
    rows[1]["image"]["bytes"] = content[: len(content) // 2]
    write(folder, rows)


def truncate_image(folder: Path) -> None:
    rows = list(some_rows(2))
    content = rows[1]["image"]["bytes"][:60]
    rows[1]["image"]["bytes"], rows[1]["sha256"] = content, hashlib.sha256(content).hexdigest()
    write(folder, rows)


def lose_a_shard(folder: Path) -> None:
    write(folder, some_rows(2))
    records.shard_path(folder, 0).unlink()


def mix_sizes(folder: Path) -> None:
    write(folder, [*some_rows(1, 16), *some_rows(1, 32)])


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda folder: folder.rmdir(), "no such folder"),
        (lambda folder: None, records.INFO),
        (damage_image, "row 1.*sha256"),
        (truncate_image, "row 1.*truncated"),
        (lose_a_shard, "shard-00000"),
        (mix_sizes, "row 1.*one size"),
    ],
)
def test_bad_folders_are_named_in_one_line(tmp_path: Path, break_it: Any, named: str) -> None:
    break_it(tmp_path)
    with pytest.raises(UserError, match=named) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows"):
        write(tmp_path, [])
    write(tmp_path, some_rows(2))
    with pytest.raises(UserError, match="validation"):
        load(tmp_path, "validation")


def test_the_info_names_the_shards_and_what_made_them(tmp_path: Path) -> None:
    write(tmp_path, some_rows(3), {"seed": 5})
    info = json.loads((tmp_path / records.INFO).read_bytes())
    assert info["shards"] == ["shard-00000.parquet"] and info["rows"] == [3]
    assert records.finished(tmp_path, {"seed": 5}) and not records.finished(tmp_path, {"seed": 6})


def test_selected_rows_share_memory_where_they_are_consecutive(faces: Faces) -> None:
    consecutive, apart = faces.select(np.arange(2, 6)), faces.select([2, 4, 3])
    assert consecutive.image.data_ptr() == faces.image[2:].data_ptr()
    assert torch.equal(apart.image, faces.image[[2, 4, 3]]) and list(apart.clip) == list(faces.clip[[2, 4, 3]])
    chosen = np.arange(len(faces)) % 3 == 1
    assert torch.equal(faces.select(chosen).landmarks, faces.landmarks[torch.from_numpy(chosen)])
    assert len(faces.select(np.zeros(len(faces), bool))) == len(faces.select([])) == 0
