"""The command reenact: its files, folders, second runs, and every mistake a user can make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunHere
from omegaconf import OmegaConf
from PIL import Image
from real_media import first_frames, read_back, shared, sound_of

from generation.editing.editing import digest
from generation.motion import ACTIONS, read_expressions
from generation.provenance import Statement, verify
from generation.records import UserError
from generation.reenactors import shipped
from scripts.door import Incomplete, configure
from scripts.reenact import Editor, main
from scripts.reenact_plan import ReenactConfig

ROOT = Path(__file__).parents[1]
STATEMENT = Statement("warp", "0" * 64, ("1" * 64,), "signed release", "CC BY 4.0", False)
NEUTRAL, SMILE = "data/london/103_neutral.jpg", "data/london/103_smiling.jpg"
HEADER, ZEROS = ",".join(ACTIONS), ",".join(["0"] * 52)
LEFT_SMILE = ACTIONS.index("mouthSmileLeft")


def settings(source: object, out: Path, **more: Any) -> dict[str, Any]:
    config: Any = OmegaConf.load(ROOT / "conf" / "reenact.yaml")
    del config["defaults"]
    given = {"source": str(source), "out": str(out), "origin": {"consent": "signed", "licence": "CC BY 4.0"}, "seed": 0}
    return OmegaConf.to_container(OmegaConf.merge(config, given, more))  # type: ignore[return-value]


def reenact(folder: Path, source: object, out: Path, **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    with Editor(configure(ReenactConfig, settings(source, out, **more)), folder) as editor:
        return editor.run()


def test_the_sliders_of_the_command_are_the_52_actions(tmp_path: Path) -> None:
    assert tuple(settings("a", tmp_path)["expression"]) == ACTIONS


def test_video_to_video_with_mask_marks_and_a_second_run(talking: Path, tmp_path: Path) -> None:
    for name in ("weights/yunet", "weights/mediapipe", "weights/insightface_minipack"):
        shared(name)
    driver = first_frames(tmp_path / "d.mp4", shared("data/expressive/W011_front_happy_level3_001.mp4"), 8)
    given: dict[str, Any] = {"driver": str(driver), "mask": True, "mode": "add", "regions": ["mouth"]}
    results = reenact(tmp_path / "run", talking, tmp_path / "out.mp4", **given)
    (file,) = results["files"]
    assert (file["frames"], file["faces"], file["unread"], file["turned"]) == (12, 1, 0, 0)
    assert file["verdict"]["state"] == "trusted" and file["verdict"]["watermark"]
    assert results["driver"] == {"moments": 8, "held": 0}
    seconds, expressions = read_expressions(tmp_path / "run" / "driver.csv")
    assert len(seconds) == 8 and expressions[:, LEFT_SMILE].max() > 0.3
    assert [data for _, data in sound_of(tmp_path / "out.mp4")] == [data for _, data in sound_of(talking)]
    _, masks = read_back(tmp_path / "out.mask.mp4")
    assert len(masks) == 12 and masks[5].max() > 200 and masks[5][:20].max() < 20
    assert verify(tmp_path / "out.mask.mp4").state == "trusted"
    verdict = verify(tmp_path / "out.mp4")
    assert verdict.statement is not None and len(verdict.statement["parents"]) == 2
    assert verdict.statement["edit"]["regions"] == ["mouth"] and verdict.statement["licence"] == "CC BY 4.0"
    written = (tmp_path / "out.mp4").stat().st_mtime_ns
    (again,) = reenact(tmp_path / "run", talking, tmp_path / "out.mp4", **given)["files"]
    assert again["skipped"] and (tmp_path / "out.mp4").stat().st_mtime_ns == written
    with pytest.raises(UserError, match="no result of this very command"):
        reenact(tmp_path / "run", talking, tmp_path / "out.mp4", **{**given, "strength": 0.5})


def test_a_folder_goes_on_where_it_stopped_and_lists_what_fails(tmp_path: Path) -> None:
    for name in ("weights/yunet", "weights/mediapipe"):
        shared(name)
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "more").mkdir(parents=True)
    Image.open(shared(NEUTRAL)).save(folder / "a.bmp")
    Image.open(shared("data/london/014_neutral.jpg")).save(folder / "more" / "b.jpg")
    Image.new("RGB", (200, 200), "grey").save(folder / "nobody.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    given: dict[str, Any] = {"expression": {"jawOpen": 0.5}}
    first = reenact(tmp_path / "run", folder, out, **given)
    assert isinstance(first, Incomplete)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["a.bmp.png", "more/b.jpg"]
    reasons = {Path(item["source"]).name: item["reason"] for item in first["failed"]}
    assert set(reasons) == {"nobody.png", "broken.jpg"} and "no face found" in reasons["nobody.png"]
    (out / "a.bmp.png").unlink()
    second = reenact(tmp_path / "run", folder, out, **given)
    assert [bool(file.get("skipped")) for file in second["files"]] == [False, True]


def small_face(path: Path) -> Path:
    with Image.open(shared(NEUTRAL)) as photo:
        photo.resize((80, 80)).save(path)
    return path


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "give exactly one of driver=PATH, sliders"),
    ({"expression": {"jawOpen": 0.5}, "expression_sheet": True}, "give exactly one of"),
    ({"expression": {"jawOpen": 80}}, r"expression.jawOpen=80.*between 0 and 1; divide percent by 100"),
    ({"expression": {"jawOpen": -0.1}}, r"expression.jawOpen=-0.1"),
    ({"expression": {"jawOpen": "wide"}}, r"expression.jawOpen=wide: must be a number"),
    ({"expression": {"jawOpen": 0.5}, "strength": 2}, r"strength=2.*between 0"),
    ({"expression": {"jawOpen": 0.5}, "mode": "ad"}, r"mode=ad: did you mean add"),
    ({"expression": {"jawOpen": 0.5}, "regions": ["nose"]}, r"regions\[0\]=nose.*eyes, brows, mouth"),
    ({"expression": {"jawOpen": 0.5}, "regions": []}, r"regions=\[\]"),
    ({"expression": {"jawOpen": 0.5}, "face": "left"}, r"face=left: must be a number"),
    ({"expression": {"jawOpen": 0.5}, "source": "nowhere.jpg"}, r"source=nowhere.jpg: no such file"),
    ({"driver": "nowhere.mp4"}, r"driver=nowhere.mp4: no such file"),
    ({"driver": "a.png"}, r"driver=.*a.png: is the source itself"),
    ({"expression": {"jawOpen": 0.5}, "out": "a.png"}, r"out=.*a.png: is the source, which would be lost"),
    ({"driver": "b.png", "out": "b.png"}, r"out=.*b.png: is the driver"),
    ({"expression": {"jawOpen": 0.5}, "out": "c.gif"}, r"c.gif: the result is a photo; end its name in one of .png"),
    ({"expression": {"jawOpen": 0.5}, "out": "c.mp4"}, r"c.mp4: the result is a photo"),
    ({"driver": "a.csv", "out": "c.png"}, r"c.png: the result is a video; end its name in one of .mp4"),
    ({"expression": {"jawOpen": 0.5}, "out": "."}, r"is a folder; name the file"),
    ({"expression": {"jawOpen": 0.5}, "out": "b.png/c.png"}, r"b.png is no folder that can be written"),
    ({"expression": {"jawOpen": 0.5}, "out": "b.png"}, r"b.png: is there already and no result of this very command"),
    ({"expression": {"jawOpen": 0.5}, "origin": {"consent": None}}, r"origin.consent: must be given"),
    ({"expression": {"jawOpen": 0.5}, "origin": {"licence": " "}}, r"origin.licence: must be given"),
    ({"expression": {"jawOpen": 0.5}, "reenactor": "warp_65"}, r"warp_65: no such file; a reenactor is a .safetensors"),
    ({"expression": {"jawOpen": 0.5}, "reenactor": "code.ckpt"}, r"only .safetensors are read.*can carry code"),
    ({"expression": {"jawOpen": 0.5}, "reenactor": "other.safetensors"}, r"does not hold the reenactor"),
    ({"expression": {"jawOpen": 0.5}}, r"a.png: no face found"),
    ({"expression": {"jawOpen": 0.5}, "source": "small.png"}, r"the square around it has \d+ pixels, smallest=64"),
    ({"driver": "b.png", "source": "face.png"}, r"b.png: no face found in the driver"),
    ({"driver": "face.png", "mode": "add", "source": "small.png"}, r"face.png: mode=add needs a driver that moves"),
    ({"driver": "text.txt", "out": "c.mp4"}, r"text.txt: no frame can be decoded"),
    ({"source": ".", "expression": {"jawOpen": 0.5}, "out": "b.png"}, r"the source is a folder, so this must be one"),
    ({"source": ".", "expression": {"jawOpen": 0.5}, "out": "sub"}, r"lies in the source"),
]


@pytest.fixture(scope="module")
def bad_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("weights/yunet", "weights/mediapipe"):
        shared(name)
    place = tmp_path_factory.mktemp("bad")
    for name, shade in (("a.png", "grey"), ("b.png", "white")):
        Image.new("RGB", (256, 256), shade).save(place / name)
    Image.open(shared(NEUTRAL)).save(place / "face.png")
    small_face(place / "small.png")
    (place / "a.csv").write_text("\n".join([HEADER, ZEROS, ZEROS]))
    (place / "text.txt").write_text("no picture")
    torch.save({}, place / "code.ckpt")
    weights = shipped("warp_64")
    (place / "other.safetensors").write_bytes(weights.read_bytes())
    text = weights.with_suffix(".json").read_text().replace('"atlas": 16', '"atlas": 8')
    (place / "other.json").write_text(text)
    return place


@pytest.mark.parametrize(("given", "says"), BAD)
def test_every_mistake_is_one_clear_line(
    given: dict[str, Any], says: str, bad_place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(bad_place)
    before = {path: path.read_bytes() for path in bad_place.iterdir()}
    more = dict(given)
    source, out = more.pop("source", "a.png"), Path(more.pop("out", tmp_path / "c.png"))
    with pytest.raises(UserError, match=says) as error:
        reenact(tmp_path / "run", source, out, **more)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in bad_place.iterdir()} == before, "nothing is written or lost"


def test_the_command_and_its_summary(run_here: RunHere, tmp_path: Path) -> None:
    given = ["source=synthetic", "expression.jawOpen=0.7", "regions=mouth", "out=a.png"]
    assert "a.png: 1 frame" in run_here(main, "hydra.run.dir=run", *given).stderr
    verdict = verify(tmp_path / "a.png")
    assert verdict.state == "trusted" and verdict.statement is not None and verdict.statement["synthetic"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    (file,) = summary["files"]
    assert file["sha256"] == digest(tmp_path / "a.png") and file["verdict"]["watermark"]
    assert summary["reenactor"]["family"] == "warp" and summary["config"]["regions"] == ["mouth"]


def test_an_action_that_does_not_exist(run_here: RunHere) -> None:
    done = run_here(main, "hydra.run.dir=run", "source=synthetic", "expression.jawOpn=0.7", "out=b.png")
    assert done.returncode == 2
    assert "expression.jawOpn: no such key; did you mean jawOpen?" in done.stderr
