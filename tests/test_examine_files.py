"""Photos and videos examined as files: faces found and tracked, odd files, the command, its page in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import RunHere
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from real_media import film, shared
from test_report import Page, browse

from detection.examine import examine
from detection.examine_basis import Ensemble, load_ensemble
from detection.examine_container import jpeg_quality
from detection.examine_looks import Look, Seen
from detection.examine_report import provenance_words
from detection.pictures import number
from generation.editing.drivers import EditConfig, expression_driver
from generation.editing.editing import edited, open_source
from generation.editing.following import Follower
from generation.editing.redrawing import Redrawer
from generation.editing.writing import write_photo
from generation.motion import expression_of
from generation.provenance import Statement
from generation.records import UserError
from generation.reenactors import load_reenactor, shipped
from scripts import examine as examine_script
from scripts.examine import ExamineConfig, _side_by_side, files_of, main, marks, quoted
from scripts.examine_faces import FaceSource
from scripts.examine_photos import PhotographsConfig, _people

WEIGHTS = Path(str(resources.files("detection") / "weights"))
STATEMENT = Statement("warp", "0" * 64, ("1" * 64,), "signed release", "CC BY 4.0", False)


@pytest.fixture(scope="module")
def finder() -> Any:
    for name in ("weights/yunet", "weights/mediapipe", "weights/insightface_minipack"):
        shared(name)
    with FaceSource() as source:
        yield source


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return load_ensemble()


def person(number: str, size: int = 512, which: str = "neutral") -> np.ndarray:
    image = Image.open(shared(f"data/london/{number}_{which}.jpg")).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def put(path: Path, image: np.ndarray, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **how)
    return path


def looked(finder: FaceSource, path: Path, size: int = 128) -> tuple[list[Look], Seen]:
    seen = Seen()
    return list(finder.looks(path, size, seen)), seen


def test_the_shipped_ensemble_is_small_and_says_what_it_is(ensemble: Ensemble) -> None:
    assert len(ensemble.names) >= 2 and all(path.stat().st_size <= 5e6 for path in WEIGHTS.iterdir())
    assert {f"{name}.safetensors" for name in ensemble.names} <= {path.name for path in WEIGHTS.iterdir()}
    text = (WEIGHTS / "README.md").read_text()
    about = ensemble.basis.calibration.about
    assert all(f"`{name}`" in text for name in ensemble.names) and str(about["people"]) in text
    assert about["people"] >= 60 and about["cllr"] < 1  # worth more than saying nothing
    assert ensemble.basis.calibration.high < np.log(about["people"] + 1) + 0.02


def test_the_shipped_ensemble_tells_edited_photos_from_what_they_were(
    finder: FaceSource, ensemble: Ensemble, tmp_path: Path
) -> None:
    """Of real people whom neither training nor calibration has seen, in the mean: a single one may be missed."""
    people = [name for split, name in _people(PhotographsConfig()) if split == "test" and isinstance(name, str)][:4]
    redrawer = Redrawer(load_reenactor(shipped("warp_128"))[0], 128)
    laughing = expression_driver(expression_of({"jawOpen": 0.8}).numpy())
    ratios = []
    with Follower() as follower:
        for name in people:
            source = open_source(shared(f"data/london/{name}_neutral.jpg"), follower)
            assert source.photo is not None
            (forged,) = edited(source, source.followed.people[:1], laughing, EditConfig("replace"), redrawer)
            for kind, image in (("real", source.photo), ("forged", forged.image)):
                path = put(tmp_path / f"{name}-{kind}.jpg", image, quality=85)
                _, (face,) = examine(path, ensemble, finder, jpeg_quality(path))
                ratios.append(face.llr)
    real, forged_ones = np.array(ratios, float).reshape(-1, 2).T
    assert np.nanmean(forged_ones) > np.nanmean(real) + 1, (real, forged_ones)


def test_a_face_in_a_photo_is_cropped_upright_and_read(finder: FaceSource, tmp_path: Path) -> None:
    (look,), seen = looked(finder, put(tmp_path / "a.jpg", person("103"), quality=95))
    assert (seen.kind, seen.width, seen.looked, seen.person) == ("photo", 512, 1, {0: 0})
    assert look.crop.shape == (128, 128, 3) and 250 < look.side < 450
    eyes = look.landmarks[36:48].reshape(2, 6, 2).mean(1)
    np.testing.assert_allclose(eyes.mean(0) / 128, [0.5, 0.45], atol=0.03)
    assert abs(eyes[1, 1] - eyes[0, 1]) < 4 and abs(look.pose[1]) < 0.3
    middle = look.matrix @ [*(look.box[:2] + look.box[2:]) / 2, 1]
    assert np.abs(middle / 128 - 0.5).max() < 0.2


@pytest.mark.parametrize("image", [np.full((300, 300, 3), 90, np.uint8), np.full((10, 10, 3), 200, np.uint8)])
def test_no_face_is_no_error(finder: FaceSource, ensemble: Ensemble, tmp_path: Path, image: np.ndarray) -> None:
    seen, faces = examine(put(tmp_path / "a.png", image), ensemble, finder)
    assert faces == [] and seen.kind == "photo"


def test_forty_faces(finder: FaceSource, tmp_path: Path) -> None:
    numbers = [path.name[:3] for path in sorted(shared("data/london").glob("*_neutral.jpg"))[:40]]
    tiles = np.stack([person(number, 192) for number in numbers]).reshape(5, 8, 192, 192, 3)
    path = put(tmp_path / "many.jpg", tiles.swapaxes(1, 2).reshape(5 * 192, 8 * 192, 3), quality=92)
    looks, seen = looked(finder, path)
    assert len(looks) == 40 and len(set(seen.person.values())) == 40


def test_people_of_a_video_are_tracked_through_cuts(finder: FaceSource, tmp_path: Path) -> None:
    one, other = person("103", 256), person("001", 256)
    path = film(tmp_path / "cuts.mp4", [one] * 6 + [other] * 6 + [one] * 6)
    finder.every = 2
    looks, seen = looked(finder, path)
    finder.every = None
    assert seen.kind == "video" and seen.looked == len(looks) == 9 and seen.frames == 18
    assert [seen.person[look.number] for look in looks] == [0] * 3 + [1] * 3 + [0] * 3
    assert len({look.track for look in looks}) == 3 and "one frame in 2" in seen.sampling


def test_a_video_is_sampled_evenly_and_says_so(finder: FaceSource, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [person("103", 128)] * 24)
    finder.most = 6
    looks, seen = looked(finder, path)
    finder.most = 100
    assert [look.frame for look in looks] == [0, 4, 8, 12, 16, 20]
    assert "one frame in 4 of 24" in seen.sampling and "every=1" in seen.sampling


def test_a_long_video_is_looked_at_here_and_there(finder: FaceSource, tmp_path: Path) -> None:
    """Two hours, of one frame in half a minute."""
    path, face = tmp_path / "long.mp4", person("103", 128)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=Fraction(1, 30))
        stream.height, stream.width, stream.pix_fmt = 128, 128, "yuv420p"
        stream.options = {"g": "4", "preset": "ultrafast"}
        for index in range(240):
            frame = av.VideoFrame.from_ndarray(face, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(30, 1)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    finder.most = 20
    looks, seen = looked(finder, path)
    finder.most = 100
    assert 15 <= len(looks) <= 20 and looks[-1].seconds > 6000
    assert "120 minutes" in seen.sampling and "every=N" in seen.sampling
    assert len(set(seen.person.values())) == 1


def test_the_readable_part_of_a_truncated_video_is_examined(finder: FaceSource, tmp_path: Path) -> None:
    plain, path = film(tmp_path / "plain.mp4", [person("103", 192)] * 20), tmp_path / "a.mp4"
    with av.open(str(plain)) as old, av.open(str(path), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - (len(whole) - whole.index(b"mdat")) // 4])
    looks, seen = looked(finder, path)
    assert 0 < len(looks) < 20 and seen.frames == 20 and seen.damage


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 broken"])
def test_what_is_no_picture_is_named(finder: FaceSource, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg"):
        looked(finder, path)


def test_marks_are_read_and_their_loss_is_named(tmp_path: Path) -> None:
    shared("weights/yunet")
    marked = tmp_path / "a.png"
    write_photo(marked, person("103"), STATEMENT)
    assert "warp, a reenactor: AI generated" in " ".join(provenance_words(marks(marked)))
    Image.open(marked).convert("RGB").save(tmp_path / "b.jpg", quality=85)
    said = " ".join(provenance_words(marks(tmp_path / "b.jpg")))
    assert "lost or removed" in said and "made with a reenactor of this project" in said


NAMES = ["a b.jpg", "ö.jpg", "a, b.jpg", "a=b (1) [x]{y}.jpg", 'it\'s "so".jpg', "$HOME ${x}.jpg", "back\\slash.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_reach_the_command(name: str) -> None:
    parsed = OverridesParser.create().parse_override(quoted(f"path=/some where/{name}"))
    assert parsed.key_or_group == "path" and str(parsed.value()).replace("\\${", "${") == f"/some where/{name}"


def test_files_are_a_file_a_folder_or_a_pattern(tmp_path: Path) -> None:
    for name in ("b [1].png", "a.jpg", "sub/c.png", "notes.txt"):
        put(tmp_path / name, person("103", 16)) if name != "notes.txt" else (tmp_path / name).write_text("x")
    assert files_of(str(tmp_path / "b [1].png")) == [tmp_path / "b [1].png"]
    assert [path.name for path in files_of(str(tmp_path))] == ["a.jpg", "b [1].png", "c.png"]
    assert [path.name for path in files_of(str(tmp_path / "*.png"))] == ["b [1].png"]
    for wrong, said in (("none.jpg", "no such file"), ("*.mp4", "no file fits")):
        with pytest.raises(UserError, match=said):
            files_of(str(tmp_path / wrong))


def examined(run_here: RunHere, *given: str) -> subprocess.CompletedProcess[str]:
    return run_here(main, *map(quoted, ("hydra.run.dir=run", *given)))


def test_seventeen_verdicts_and_three_reasons(finder: FaceSource, run_here: RunHere, tmp_path: Path) -> None:
    folder = tmp_path / "in ö, [1]"
    first = put(folder / "00.jpg", person("103", 200), quality=90)
    for index in range(1, 17):
        shutil.copy(first, folder / f"{index:02d}.jpg")
    for name, content in (("x.jpg", b""), ("y.png", b"nothing"), ("z.mp4", b"\0" * 500)):
        (folder / name).write_bytes(content)
    assert examined(run_here, f"path={folder}").returncode == 3
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert len(verdict["files"]) == 17 and [Path(one["path"]).name for one in verdict["failed"]] == [
        "x.jpg",
        "y.png",
        "z.mp4",
    ]
    assert all(one["reason"] for one in verdict["failed"])
    for file in verdict["files"]:
        (face,) = file["faces"]
        assert {"llr", "low", "high", "scale", "calibrated_for", "detectors", "spans"} <= set(face)
        assert file["provenance"]["state"] == "absent"
    text = (tmp_path / "run" / "report.html").read_text()
    assert "What each detector says alone is added" in text
    page = Page(text)
    assert page.addresses and all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "://" not in text and "@import" not in text and "url(" not in text and "script" not in page.tags
    bars = re.findall(r'<svg class="scale".*?</svg>', text, re.DOTALL)
    assert len(bars) == 17
    for bar, file in zip(bars, verdict["files"], strict=True):
        llr, known = file["faces"][0]["llr"], file["faces"][0]["calibrated_for"]
        place = 400 * (llr - known["least"]) / (known["largest"] - known["least"])
        assert [float(x) for x in re.findall(r'<circle cx="([^"]+)"', bar)] == pytest.approx([place])
        assert all(f">{word}</text>" in bar for word in ("real", "forged", "0", number(known["largest"], 1)))
    dom, console = browse(tmp_path / "run" / "report.html", tmp_path / "profile")
    assert console == [] and "17 of 20 files examined" in dom and "not examined" in dom
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "files").rglob("*.json")}
    assert len(parts) == 17
    assert examined(run_here, f"path={folder}").returncode == 3  # goes on where it was: nothing is examined twice
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "files").rglob("*.json")} == parts
    two = tmp_path / "two"
    put(two / "b.png", person("103", 16))
    shutil.copy(first, two / "a.jpg")
    assert examined(run_here, "path=two", "hydra.run.dir=two/run", "workers=1").returncode == 0
    alone = json.loads((two / "run" / "verdict.json").read_text())["files"]
    assert [Path(one["path"]).name for one in alone] == ["a.jpg", "b.png"] and alone[1]["faces"] == []
    assert alone[0]["faces"] == verdict["files"][0]["faces"]


def test_another_ensemble_in_the_same_place_examines_anew(
    finder: FaceSource, ensemble: Ensemble, run_here: RunHere, tmp_path: Path
) -> None:
    put(tmp_path / "in" / "a.jpg", person("103", 200), quality=90)
    shutil.copytree(WEIGHTS, tmp_path / "weights")

    def scores() -> list[float]:
        assert examined(run_here, "path=in", "detector=weights").returncode == 0
        (file,) = json.loads((tmp_path / "run" / "verdict.json").read_text())["files"]
        return [one["score"] for one in file["faces"][0]["detectors"].values()]

    before = scores()
    first, second = ensemble.names[:2]
    for name, other in ((first, second), (second, first)):
        for end in (".safetensors", ".json"):
            shutil.copy(WEIGHTS / f"{other}{end}", tmp_path / "weights" / f"{name}{end}")
    assert scores()[:2] == before[1::-1]


def dies_of_b(path: Path, folder: Path, settings: ExamineConfig) -> dict[str, Any]:
    if path.name == "b.mp4":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"path": path.name}


def test_a_file_that_kills_its_process_is_named_and_the_others_are_examined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(examine_script, "_in_worker", dies_of_b)
    paths = [tmp_path / name for name in ("a.jpg", "b.mp4", "c.jpg")]
    files, failed = _side_by_side(paths, tmp_path, ExamineConfig("in", workers=2), lambda done, total: None)
    assert files == [{"path": "a.jpg"}, {"path": "c.jpg"}]
    assert [one["path"] for one in failed] == [str(paths[1])] and "b.mp4: its process was killed" in failed[0]["reason"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["path=none.jpg"], "no such file or folder"),
        (["path=a.png", "every=0"], "every=0: must be 1"),
        (["path=a.png", "most=0"], "most=0: must be at least 1"),
        (["path=a.png", "workers=0"], "workers=0: must be at least 1"),
        (["path=a.png", "detector=none"], "detector=none: no such file or folder"),
    ],
)
def test_mistakes_are_one_line(
    finder: FaceSource, run_here: RunHere, tmp_path: Path, given: list[str], said: str
) -> None:
    put(tmp_path / "a.png", person("103", 16))
    done = examined(run_here, *given)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0]
