"""Records: what a sample is, and its one form on disk.

A set of faces is a folder of Parquet shards plus `dataset_info.json`, which is written last and names the shards:
without it the folder is unfinished and is not read. One row is one frame (`row_features`).
`datasets.load_dataset("parquet", data_files=...)` reads the shards with none of this code. Real and forged rows pass
through the same encoder (`encode_png`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from generation.motion import EXPRESSION_SIZE, POSE

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
INFO = "dataset_info.json"


class UserError(ValueError):
    """What a user can mend: one line that names the file or key, says what is allowed and what to do."""


def cache_folder() -> Path:
    """`VICIOUS_CYCLE_CACHE`, or the platform's cache folder: rendered faces and downloaded weights."""
    chosen = os.environ.get("VICIOUS_CYCLE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("vicious-cycle", appauthor=False))


def shared_folder() -> Path | None:
    """`VICIOUS_CYCLE_SHARED`, the optional folder of local media and weights; None where it is not set."""
    chosen = os.environ.get("VICIOUS_CYCLE_SHARED")
    return Path(chosen) if chosen else None


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name in the same folder and rename it: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@cache
def row_features() -> datasets.Features:
    """One row: `image` and `mask` (forged region, null for real rows) as PNG, `landmarks` in pixels with pixel centres
    at integer + 0.5, `label` 0 real and 1 forged, `source` and `driver` the frames a forgery was made from, `sha256` of
    the image's bytes."""
    import datasets  # a second, which few commands need

    frame_id = {"clip": datasets.Value("string"), "frame": datasets.Value("int32")}
    return datasets.Features(
        {
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "clip": datasets.Value("string"),
            "frame": datasets.Value("int32"),
            "identity": datasets.Value("string"),
            "scene": datasets.Value("string"),
            "expression": datasets.List(datasets.Value("float32"), length=EXPRESSION_SIZE),
            "pose": datasets.List(datasets.Value("float32"), length=len(POSE)),
            "landmarks": datasets.List(datasets.List(datasets.Value("float32"), length=2), length=68),
            "split": datasets.Value("string"),
            "label": datasets.Value("int8"),
            "method": datasets.Value("string"),
            "round": datasets.Value("int32"),
            "source": frame_id,
            "driver": frame_id,
            "seed": datasets.Value("int64"),
            "sha256": datasets.Value("string"),
            "origin": datasets.Value("string"),
        }
    )


def encode_png(image: np.ndarray) -> bytes:  # uint8 (H, W, 3) or (H, W)
    """PNG bytes; the same pixels always give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode(content: bytes, where: str) -> np.ndarray:  # uint8 (H, W, 3) or (H, W)
    """Pixels of encoded bytes; a damaged image raises `UserError` that names `where` it lies."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)))
    except (OSError, SyntaxError) as error:
        raise UserError(f"{where}: the image is damaged or truncated ({error}); write the records again") from error


def row(
    image: np.ndarray,  # uint8 (H, W, 3)
    *,
    clip: str,
    frame: int,
    identity: str,
    scene: str,
    expression: Sequence[float] | np.ndarray,  # (52,)
    pose: Sequence[float] | np.ndarray,  # (6,)
    landmarks: np.ndarray,  # (68, 2) pixels
    split: str,
    origin: str,
    seed: int,
    mask: np.ndarray | None = None,  # uint8 (H, W)
    method: str = "",
    round: int = -1,
    source: tuple[str, int] | None = None,
    driver: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """One row of `row_features()`; a row with a `method` is a forgery."""
    content = encode_png(image)
    return {
        "image": {"bytes": content, "path": None},
        "mask": None if mask is None else {"bytes": encode_png(mask), "path": None},
        "clip": clip,
        "frame": frame,
        "identity": identity,
        "scene": scene,
        "expression": np.asarray(expression, np.float32),
        "pose": np.asarray(pose, np.float32),
        "landmarks": list(np.asarray(landmarks, np.float32)),
        "split": split,
        "label": int(bool(method)),
        "method": method,
        "round": round,
        "source": None if source is None else {"clip": source[0], "frame": source[1]},
        "driver": None if driver is None else {"clip": driver[0], "frame": driver[1]},
        "seed": seed,
        "sha256": hashlib.sha256(content).hexdigest(),
        "origin": origin,
    }


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.parquet"


def write_shard(
    folder: Path, index: int, rows: Sequence[Mapping[str, Any]], features: datasets.Features | None = None
) -> Path:
    """Write rows as shard `index`, beside and renamed; the same rows give the same bytes. `features`: `row_features()`
    and maybe more columns."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=(features or row_features()).arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    path = shard_path(folder, index)
    write_beside(path, buffer.getvalue())
    return path


def finish(folder: Path, shards: int, kind: Mapping[str, Any], features: datasets.Features | None = None) -> None:
    """Write `dataset_info.json`: from now on the folder can be read. `kind` says what made it (a configuration)."""
    rows = [pq.read_metadata(shard_path(folder, index)).num_rows for index in range(shards)]
    info = {
        "shards": [shard_path(folder, index).name for index in range(shards)],
        "rows": rows,
        "kind": dict(kind),
        "features": (features or row_features()).to_dict(),
    }
    write_beside(folder / INFO, json.dumps(info, indent=1, sort_keys=True).encode())
    (folder / ".unfinished.json").unlink(missing_ok=True)


def finished(folder: Path, kind: Mapping[str, Any] | None = None) -> bool:
    """Whether the folder holds a whole set (made as `kind` says, if given)."""
    path = folder / INFO
    return path.is_file() and (
        kind is None or json.loads(path.read_bytes())["kind"] == json.loads(json.dumps(dict(kind)))
    )


def begin(folder: Path, kind: Mapping[str, Any]) -> None:
    """Make a folder ready for `write_shard`: shards of the same unfinished work (the same `kind`) stay, all others
    go."""
    note = folder / ".unfinished.json"
    content = json.dumps(dict(kind), sort_keys=True).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO).unlink(missing_ok=True)
    if not note.is_file() or note.read_bytes() != content:
        for path in folder.glob("shard-*.parquet"):
            path.unlink()
        write_beside(note, content)


class Writer:
    """Context manager: `add` rows one by one; shards are written as they fill, `dataset_info.json` on a clean exit
    only."""

    def __init__(self, folder: Path, kind: Mapping[str, Any], shard_rows: int = 1024) -> None:
        self.folder, self.kind, self.shard_rows = folder, kind, shard_rows
        self._rows: list[Mapping[str, Any]] = []
        self._shards = 0

    def __enter__(self) -> Writer:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / INFO).unlink(missing_ok=True)
        for path in self.folder.glob("shard-*.parquet"):
            path.unlink()
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == self.shard_rows:
            self._flush()

    def _flush(self) -> None:
        write_shard(self.folder, self._shards, self._rows)
        self._shards += 1
        self._rows = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._rows:
                self._flush()
            if self._shards == 0:
                raise UserError(f"{self.folder}: no rows to write; the source of these records is empty")
            finish(self.folder, self._shards, self.kind)


def write(folder: Path, rows: Iterable[Mapping[str, Any]], kind: Mapping[str, Any] | None = None) -> None:
    """Write all rows as one set."""
    with Writer(folder, kind or {}) as writer:
        for item in rows:
            writer.add(item)


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder of records; render_faces or another script of this project writes one"
        )
    if not (folder / INFO).is_file():
        raise UserError(
            f"{folder}: no {INFO}, so this is not a finished set of records; run the script that writes it again"
        )
    paths = [folder / name for name in json.loads((folder / INFO).read_bytes())["shards"]]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: missing, though {INFO} names it; write the records again")
    return paths


def read(folder: Path, split: str | None = None) -> datasets.IterableDataset:
    """The rows of a finished set as a streamed Hugging Face data set, images decoded by it."""
    import datasets

    files = [str(path) for path in _shards(folder)]
    rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    return rows if split is None else rows.filter(lambda item: item["split"] == split)


@dataclass(frozen=True)
class Faces:
    """Decoded rows in memory, all of one size; the rows' order is the files' order.

    image: Tensor       # (N, 3, H, W) uint8
    mask: Tensor        # (N, 1, H, W) uint8, forged region 0..255; zero where the row has none
    expression: Tensor  # (N, 52) in [0, 1]
    pose: Tensor        # (N, 6), see `generation.motion`
    landmarks: Tensor   # (N, 68, 2) pixels (x, y)
    label: Tensor       # (N,) int64, 0 real, 1 forged
    The others are numpy arrays (N,) of strings or integers; for real rows the clips of `source` and `driver` are ""
    and the frames -1.
    """

    image: Tensor
    mask: Tensor
    expression: Tensor
    pose: Tensor
    landmarks: Tensor
    label: Tensor
    identity: np.ndarray
    scene: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    split: np.ndarray
    method: np.ndarray
    source_clip: np.ndarray
    source_frame: np.ndarray
    driver_clip: np.ndarray
    driver_frame: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def size(self) -> int:
        return int(self.image.shape[-1])

    @property
    def motion(self) -> Tensor:  # (N, 58)
        return torch.cat([self.expression, self.pose], dim=1)

    def select(self, indices: np.ndarray | Tensor | Sequence[int]) -> Faces:
        """These rows, positions or a mask of bool; consecutive ones share the memory."""
        index = np.asarray(indices)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        consecutive = len(index) > 0 and bool((np.diff(index) == 1).all())
        rows = slice(int(index[0]), int(index[-1]) + 1) if consecutive else index
        return Faces(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def where(self, split: str | None = None, label: int | None = None) -> Faces:
        keep = np.ones(len(self), bool)
        if split is not None:
            keep &= self.split == split
        if label is not None:
            keep &= self.label.numpy() == label
        return self.select(keep)

    @staticmethod
    def concatenate(parts: Sequence[Faces]) -> Faces:
        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return torch.cat(values) if isinstance(values[0], Tensor) else np.concatenate(values)

        return Faces(**{field.name: joined(field.name) for field in fields(Faces)})


def _column(table: pa.Table, name: str, width: tuple[int, ...]) -> Tensor:
    flat = table.column(name).combine_chunks()
    while isinstance(flat, pa.ListArray | pa.FixedSizeListArray):
        flat = flat.flatten()
    return torch.from_numpy(flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), *width))


_ENCODED = ("image", "mask", "sha256")


def _items(table: pa.Table, name: str) -> Iterator[Any]:
    """A column's values one by one, so that they are not all held twice."""
    for chunk in table.column(name).chunks:
        for item in chunk:
            yield item.as_py()


def load(folder: Path, split: str | None = None, order: Sequence[str] = ()) -> Faces:
    """Decode a finished set (or one split of it) into memory; every image is checked against its `sha256`.

    order: columns by which the rows are sorted, the first one first, so that rows which are alike share memory when
        they are selected

    Raises `UserError` for a missing or unfinished folder, a damaged image, images of several sizes, or no row.
    """
    table = pa.concat_tables([pq.read_table(path) for path in _shards(folder)])
    if split is not None:
        table = table.filter(pa.compute.equal(table.column("split"), split))
    if len(table) == 0:
        raise UserError(f"{folder}: no rows" + (f" of the split {split!r}; it has others" if split else ""))
    rows = np.arange(len(table))
    if order:
        rows = np.lexsort([np.asarray(table.column(name).to_pylist()) for name in reversed(order)])
    place = np.argsort(rows)
    images = masks = np.empty(0, np.uint8)
    for index, (image, mask, digest) in enumerate(zip(*(_items(table, name) for name in _ENCODED), strict=True)):
        where = f"{folder}, row {index}"
        if hashlib.sha256(image["bytes"]).hexdigest() != digest:
            raise UserError(f"{where}: the image does not have the sha256 written beside it; write the records again")
        pixels = decode(image["bytes"], where)
        height, width = pixels.shape[:2]
        if index == 0:
            images = np.empty((len(table), 3, height, width), np.uint8)
            masks = np.zeros((len(table), 1, height, width), np.uint8)
        if images.shape[2:] != pixels.shape[:2]:
            raise UserError(f"{where}: {pixels.shape[:2]} pixels, the rows before {images.shape[2:]}; one size per set")
        images[place[index]] = pixels.transpose(2, 0, 1)
        if mask is not None:
            masks[place[index], 0] = decode(mask["bytes"], where)
    table = table.drop_columns([*_ENCODED]).take(rows)
    ids = {name: np.asarray(table.column(name).to_pylist()) for name in ("identity", "scene", "clip", "frame", "split")}
    for name in ("source", "driver"):
        made_of = [item or {} for item in table.column(name).to_pylist()]
        ids[f"{name}_clip"] = np.asarray([item.get("clip") or "" for item in made_of])
        ids[f"{name}_frame"] = np.asarray([-1 if item.get("frame") is None else item["frame"] for item in made_of])
    return Faces(
        image=torch.from_numpy(images),
        mask=torch.from_numpy(masks),
        expression=_column(table, "expression", (EXPRESSION_SIZE,)),
        pose=_column(table, "pose", (len(POSE),)),
        landmarks=_column(table, "landmarks", (68, 2)),
        label=torch.from_numpy(table.column("label").to_numpy().astype(np.int64)),
        method=np.asarray(table.column("method").to_pylist()),
        origin=np.asarray(table.column("origin").to_pylist()),
        **ids,
    )
