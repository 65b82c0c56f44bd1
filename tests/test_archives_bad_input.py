"""Archives whose lists are damaged, lie, or lead out of their folder; terms that nobody confirmed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_trees import BUILD, by_name, dfdc, folders, put, put_frames, read

from generation.faces.archives import ARCHIVES, TERMS, ArchiveConfig, Origin, confirmed, detect, read_archive
from generation.faces.archives.files import Tree, UnusableError
from generation.records import UserError


def entry(**changed: object) -> dict[str, object]:
    return {"label": "x_Fake", "frames": ["a/b/c/0.png"], **changed}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (entry(frames=["../../0.png"]), "climbs out"),
        (entry(frames=["a\\..\\..\\0.png"]), "climbs out"),
        (entry(frames=["/etc/hostname"]), "absolute path"),
        (entry(frames=["C:\\faces\\0.png"]), "absolute path"),
        (entry(frames=["out/0.png"]), "leads out"),
        (entry(frames=["a/b/c/9.png"]), "missing"),
        (entry(frames=["a/b/c"]), "is no image"),
        (entry(frames=["\ud800", "a\0b", ""]), "3 of 3 frames"),
        (entry(frames=[3]), "is no path"),
        (entry(frames=[]), "no list of frames"),
        (entry(frames="a/b/c/0.png"), "no list of frames"),
        ({"label": "x_Fake"}, "no list of frames"),
        (entry(label="x"), "neither real nor forged"),
        (entry(label=2), "neither real nor forged"),
        (entry(label=True), "neither real nor forged"),
        (entry(label="x_Real"), "stands under x_Fake"),
        ("video", "no group of keys"),
    ],
)
def test_deepfakebench_entries_that_are_dropped(broken: object, reason: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    put_frames(root / "a" / "b" / "c", 0, 1)
    put_frames(tmp_path / "secret", 0)
    (root / "out").symlink_to(tmp_path / "secret")
    good = entry(frames=["a/b/c/1.png"])
    put(root / "x.json", {"x": {"x_Fake": {"test": {"broken": broken, "good": good}}}})
    index = read(root, "deepfakebench")
    assert [item.name for item in index.items] == ["x/x_Fake/good"]
    (said,) = [why for name, why in index.dropped if "broken" in name]
    assert reason in said and "\n" not in said


def test_links(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    before = set(by_name(read(root)))
    outside = put(tmp_path / "outside.mp4")
    (root / "real" / "out.mp4").symlink_to(outside)
    (root / "fake" / "gone").symlink_to(root / "nowhere")
    (root / "fake" / "loop").symlink_to(root)
    (root / "real" / "d.mp4").symlink_to(root / "real" / "a.mp4")
    os.mkfifo(root / "real" / "pipe.mp4")
    (tmp_path / "door").symlink_to(root)
    index = read(tmp_path / "door")
    dropped = dict(index.dropped)
    assert "leads out" in dropped["real/out.mp4"] and "nothing" in dropped["fake/gone"]
    assert "it lies in" in dropped["fake/loop"]
    assert set(by_name(index)) == before  # a link to a video is that video, and a pipe is none


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folders(tmp_path)
    with open(os.fsencode(tmp_path / "real") + b"/\xff.mp4", "wb"):
        pass
    assert ("real/?.mp4", "its name is not UTF-8") in read(tmp_path).dropped


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


def recode(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def lengthen(path: Path) -> None:
    path.write_text("9" * 10_000)


@pytest.mark.parametrize("damage", [truncate, nest, recode, lengthen, lambda path: path.write_text('{"a": 1}')])
@pytest.mark.parametrize(
    ("name", "broken"),
    [("faceforensics++", "splits/val.json"), ("dfdcp", "dataset.json"), ("deepfakebench", "dataset_json/FF-DF.json")],
)
def test_damaged_json(damage: Callable[[Path], None], name: str, broken: str, tmp_path: Path) -> None:
    BUILD[name](tmp_path)
    damage(tmp_path / broken)
    if name == "deepfakebench":
        assert any("FF-DF" in what for what, _ in read(tmp_path, name).dropped)
        return
    with pytest.raises(UserError) as error:
        read(tmp_path, name)
    assert Path(broken).name in str(error.value) or "nothing in it can be used" in str(error.value)
    assert "\n" not in str(error.value)


def rewrite(name: str, content: str) -> Callable[[Path], object]:
    return lambda root: put(root / name, content)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (
            "faceforensics++",
            lambda root: (root / "splits/val.json").unlink(),
            ["val.json", "missing beside train.json"],
        ),
        ("faceforensics++", rewrite("splits/val.json", '[["071"]]'), ["val.json", "list of pairs"]),
        ("faceforensics++", rewrite("splits/val.json", '[["071", "054"]]'), ["'071' is in another split file"]),
        (
            "celeb-df",
            lambda root: (root / "List_of_testing_videos.txt").unlink(),
            ["List_of_testing_videos.txt: missing"],
        ),
        ("celeb-df", rewrite("List_of_testing_videos.txt", "1 a\nreal b\n"), ["line 2"]),
        ("celeb-df", rewrite("List_of_testing_videos.txt", "\n"), ["empty"]),
        ("folders", lambda root: [path.unlink() for path in root.rglob("*") if path.is_file()], ["nothing in it"]),
    ],
)
def test_lists_that_nothing_can_be_read_without(
    name: str, damage: Callable[[Path], object], said: list[str], tmp_path: Path
) -> None:
    damage(BUILD[name](tmp_path))
    with pytest.raises(UserError) as error:
        read(tmp_path, name)
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "name,label\na,1\n", "filename\na\n", "\0", 'filename,label\n"' + "x" * 200_000]
)
def test_bad_csv(content: str, tmp_path: Path) -> None:
    put(dfdc(tmp_path) / "test" / "labels.csv", content)
    index = read(tmp_path)
    assert any(name.startswith("test") for name, _ in index.dropped) and len(index.items) == 8


def test_folders_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds none of the archives.*celeb-df: Celeb-real"):
        detect(tmp_path)
    with pytest.raises(UserError, match=r"no such folder; set data\.root"):
        detect(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.archive=celebdf: no such archive; did you mean celeb-df\?"):
        ArchiveConfig(root="", archive="celebdf")
    folders(tmp_path)
    with pytest.raises(UserError, match=r"data\.select=\['x'\]: fits none of 7 videos, which are named as fake/a"):
        read(tmp_path, select=("x",))


def test_origin_is_confirmed_by_name_or_given_by_hand() -> None:
    for name in TERMS:
        assert name in ARCHIVES and TERMS[name].url in confirmed(name, Origin(terms=name))
    assert confirmed("folders", Origin(consent=" signed\nforms ", licence="CC0")) == "CC0; consent: signed forms"
    assert confirmed("dfdc", Origin(consent="signed", licence="CC0")) == "CC0; consent: signed"


@pytest.mark.parametrize(
    ("archive", "origin", "said"),
    [
        ("celeb-df", Origin(), ["Terms to Use Celeb-DF", "origin.terms=celeb-df", 'origin.consent="..."']),
        ("celeb-df", Origin(terms="dfdc"), ["origin.terms=dfdc", "read as celeb-df", "origin.terms=celeb-df"]),
        ("celeb-df", Origin(terms=""), ["origin.terms=", "read as celeb-df"]),
        ("folders", Origin(), ["origin.consent", "origin.licence", "must be given"]),
        ("folders", Origin(terms="folders"), ["no terms are known", "origin.licence"]),
        ("folders", Origin(licence="CC0"), ["origin.consent", "must be given"]),
        ("folders", Origin(licence="CC0", consent=" "), ["origin.consent", "must be given"]),
        ("dfdc", Origin(terms="dfdc", licence="CC0"), ["either"]),
    ],
)
def test_terms_that_are_not_confirmed(archive: str, origin: Origin, said: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_archive(archive, BUILD[archive](tmp_path), origin)
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)


def test_the_tree_holds_nothing_outside(tmp_path: Path) -> None:
    put(tmp_path / "root" / "a.mp4")
    put(tmp_path / "secret.mp4")
    tree = Tree(tmp_path / "root")
    assert tree.locate("./a.mp4") == tree.locate(str(tmp_path / "root" / "a.mp4")) == tmp_path / "root" / "a.mp4"
    for text in ("../secret.mp4", str(tmp_path / "secret.mp4"), "..", "a/../../secret.mp4", "//host/share", "b.mp4"):
        with pytest.raises(UnusableError):
            tree.locate(text)
    assert tree.entries(tmp_path) == {} and ARCHIVES.keys() == BUILD.keys()
