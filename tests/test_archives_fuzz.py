"""Fuzz: whatever a list of an archive holds, the answer is an index or one line that says what is wrong.

VICIOUS_CYCLE_FUZZ=2000 makes every test try that many inputs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from archive_trees import BUILD, read
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from generation.faces.archives import detect
from generation.faces.archives.files import Tree, UnusableError
from generation.faces.archives.vocabulary import label_if_said, people_in
from generation.records import UserError

settings.register_profile(
    "archives",
    max_examples=int(os.environ.get("VICIOUS_CYCLE_FUZZ", "50")),
    deadline=None,
    database=None,
    derandomize="VICIOUS_CYCLE_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FUZZ = settings.get_profile("archives")

WORDS = st.sampled_from(
    [
        "train", "val", "test", "c23", "label", "frames", "masks", "split", "set", "original", "target_id",
        "real", "fake", "REAL", "FAKE", "FF-real", "FF-DF", "x_Fake", "071", "071_054", "abc.mp4", "id0_0000",
        "", "\0", "../..", "..\\a", "/etc/passwd", "method_A/77/77_C_001.mp4",
        "FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/071_054/0.png",
    ]
)  # fmt: skip
TEXT = WORDS | st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=24,
)
ENTRIES = st.dictionaries(
    st.sampled_from(["label", "frames", "masks", "split", "set", "original", "target_id", "swapped_id"]),
    JSON,
    max_size=5,
)
NESTED = st.dictionaries(TEXT, st.dictionaries(TEXT, st.dictionaries(TEXT, st.dictionaries(TEXT, ENTRIES | JSON))))
CONTENT = (
    st.binary(max_size=80)
    | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.dictionaries(TEXT, ENTRIES | JSON, max_size=5).map(lambda value: json.dumps(value).encode())
    | NESTED.map(lambda value: json.dumps(value).encode())
)
LINES = st.lists(
    st.sampled_from(["1 YouTube-real/00170.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4", "filename,label", "yes.mp4,1"])
    | TEXT
    | st.tuples(TEXT, TEXT).map(",".join)
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def trees() -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {name: build(Path(folder) / name.replace("+", "p")) for name, build in BUILD.items()}


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def answers(root: Path, name: str) -> None:
    """An index that `read` finds nothing wrong with, or one line."""
    try:
        index = read(root, name)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    else:
        shown = [*index.dropped, *((item.name, item.identity) for item in index.items)]
        assert index.items and all(text and text.isprintable() for pair in shown for text in pair)


@pytest.mark.parametrize(
    ("name", "list_file"),
    [
        ("faceforensics++", "splits/train.json"),
        ("dfdcp", "dataset.json"),
        ("dfdc", "dfdc_train_part_0/metadata.json"),
        ("deepfakebench", "dataset_json/FF-DF.json"),
    ],
)
@given(content=CONTENT)
@FUZZ
def test_any_json(trees: dict[str, Path], name: str, list_file: str, content: bytes) -> None:
    with replaced(trees[name] / list_file, content):
        answers(trees[name], name)


@pytest.mark.parametrize(
    ("name", "list_file"), [("celeb-df", "List_of_testing_videos.txt"), ("dfdc", "test/labels.csv")]
)
@given(content=LINES | st.binary(max_size=80))
@FUZZ
def test_any_list(trees: dict[str, Path], name: str, list_file: str, content: bytes) -> None:
    with replaced(trees[name] / list_file, content):
        answers(trees[name], name)


@pytest.mark.parametrize(
    ("name", "list_file"),
    [("dfdcp", "dataset.json"), ("dfdc", "test/labels.csv"), ("deepfakebench", "dataset_json/FaceForensics++.json")],
)
@given(data=st.data())
@FUZZ
def test_a_real_list_with_a_change(trees: dict[str, Path], name: str, list_file: str, data: st.DataObject) -> None:
    content = (trees[name] / list_file).read_bytes()
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    changed = content[:first] + data.draw(TEXT).encode("utf-8", "replace") + content[last:]
    with replaced(trees[name] / list_file, changed):
        answers(trees[name], name)


@given(names=st.dictionaries(st.lists(TEXT, min_size=1, max_size=4).map("/".join), st.booleans(), max_size=8))
@FUZZ
def test_any_tree(names: dict[str, bool]) -> None:
    """Folders and files of any name, detected and read as everything that they might be."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        for name, is_file in names.items():
            path = Path(os.path.normpath(root / name.replace("\0", "0").encode("utf-8", "replace").decode()))
            try:
                if path.is_relative_to(root):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.with_suffix(".mp4").write_bytes(b"video") if is_file else path.mkdir(exist_ok=True)
            except (OSError, ValueError):
                continue
        try:
            detect(root)
        except UserError as error:
            assert "holds none of the archives" in str(error)
        for archive in BUILD:
            answers(root, archive)


@given(text=TEXT | st.lists(WORDS, max_size=5).map("/".join))
@example("C:\\x")
@example("\\\\host\\share\\x")
@example("root/../root/../..")
@FUZZ
def test_no_path_leads_out(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        try:
            path = tree.root.joinpath(*tree.parts(text))
        except UnusableError as reason:
            assert "\n" not in str(reason)
        else:
            assert Path(os.path.realpath(path)).is_relative_to(tree.root)
            assert not tree.has(path)


@given(said=JSON)
@FUZZ
def test_any_label(said: Any) -> None:
    assert label_if_said(said) in (0, 1, None)


@given(name=TEXT, where=TEXT)
@FUZZ
def test_anybody(name: str, where: str) -> None:
    people = people_in(name, where)
    assert 1 <= len(people) <= 2 and len(set(people)) == len(people)
