"""Reenact: faces followed and edited, marked files, and every mistake a user can make."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from editing_parts import clip_driver, picture
from omegaconf import OmegaConf
from PIL import Image
from real_media import film, shared

from generation.editing import following
from generation.editing.drivers import EditConfig, media_driver, slider_driver
from generation.editing.editing import chosen, digest, edited, open_source, synthetic_source
from generation.editing.following import Follower
from generation.editing.redrawing import Redrawer
from generation.editing.writing import VideoWriter, write_photo
from generation.faces.landmarks import READING_SIZE
from generation.faces.media import Frame, Media
from generation.faces.tracking import Found, Track
from generation.motion import ACTIONS, read_expressions
from generation.provenance import Statement, verify
from generation.records import UserError
from generation.reenactors import load_reenactor, shipped
from scripts.door import Incomplete, configure
from scripts.expression_sheet import EXPRESSIONS, expression_sheet
from scripts.reenact import Editor, main
from scripts.reenact_plan import ReenactConfig

ROOT = Path(__file__).parents[1]
STATEMENT = Statement("warp", "0" * 64, ("1" * 64,), "signed release", "CC BY 4.0", False)
NEUTRAL, SMILE = "data/london/103_neutral.jpg", "data/london/103_smiling.jpg"
HEADER, ZEROS = ",".join(ACTIONS), ",".join(["0"] * 52)
LEFT_SMILE = ACTIONS.index("mouthSmileLeft")


@pytest.fixture(scope="module")
def follower() -> Iterator[Follower]:
    for name in ("weights/yunet", "weights/mediapipe", "weights/insightface_minipack"):
        shared(name)
    with Follower() as follower:
        yield follower


@pytest.fixture(scope="module")
def redrawer() -> Redrawer:
    return Redrawer(load_reenactor(shipped("warp_64"))[0], 64)


def first_frames(path: Path, source: Path, frames: int) -> Path:
    """The first frames of a video, encoded again, with its sound, copied."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        pictures: Any = new.add_stream("libx264", rate=old.streams.video[0].average_rate)
        pictures.width, pictures.height = old.streams.video[0].width, old.streams.video[0].height
        pictures.pix_fmt, pictures.options = "yuv420p", {"crf": "14", "preset": "ultrafast"}
        sounds = {stream.index: new.add_stream_from_template(stream) for stream in old.streams.audio}
        for index, frame in enumerate(itertools.islice(old.decode(video=0), frames)):
            frame.pts, frame.time_base, frame.pict_type = index, 1 / old.streams.video[0].average_rate, 0
            new.mux(pictures.encode(frame))
        new.mux(pictures.encode())
        old.seek(0)
        for packet in old.demux(*old.streams.audio) if sounds else ():
            if packet.dts is not None and packet.pts * packet.time_base < frames / old.streams.video[0].average_rate:
                packet.stream = sounds[packet.stream.index]
                new.mux(packet)
    return path


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of a person who talks, with sound."""
    return first_frames(tmp_path_factory.mktemp("clip") / "talking.mp4", shared("data/talking/d12.mp4"), 12)


def read_back(path: Path) -> tuple[list[Frame], list[np.ndarray]]:
    frames = list(Media(path))
    return frames, [frame.image() for frame in frames]


def sound_of(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.dts is not None]


def test_a_video_keeps_times_size_sound_and_colours(talking: Path, tmp_path: Path) -> None:
    before, images = read_back(talking)
    with VideoWriter(tmp_path / "a.mp4", STATEMENT, 512, 512, talking) as writer:
        for frame, image in zip(before, images, strict=True):
            writer.write(image, frame.seconds)
    after, written = read_back(tmp_path / "a.mp4")
    assert [round(frame.seconds, 4) for frame in after] == [round(frame.seconds, 4) for frame in before]
    assert len(after) == 12 and (after[0].width, after[0].height) == (512, 512)
    for image, other in zip(images, written, strict=True):
        assert (
            np.abs(image.astype(int) - other).mean() < 3 and np.abs(image.mean((0, 1)) - other.mean((0, 1))).max() < 2
        )
    assert len(sound_of(talking)) > 10
    assert [data for _, data in sound_of(tmp_path / "a.mp4")] == [data for _, data in sound_of(talking)]
    with av.open(str(talking)) as old, av.open(str(tmp_path / "a.mp4")) as new:
        assert [stream.type for stream in new.streams] == ["video", "audio"]
        assert new.streams.video[0].average_rate == old.streams.video[0].average_rate == 25
        for name in ("colorspace", "color_trc", "color_primaries"):
            assert getattr(new.streams.video[0].codec_context, name) == getattr(
                old.streams.video[0].codec_context, name
            )
    assert verify(tmp_path / "a.mp4").state == "trusted"


def test_sound_that_does_not_fit_is_encoded_again(tmp_path: Path) -> None:
    tone = (np.sin(np.arange(8000) / 5) * 8000).astype(np.int16)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture(64, 64), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        heard = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        heard.sample_rate, heard.pts = 8000, 0
        container.mux([*pictures.encode(), *sound.encode(heard), *sound.encode()])
    with VideoWriter(tmp_path / "b.mov", STATEMENT, 64, 64, tmp_path / "a.mkv") as writer:
        for frame in Media(tmp_path / "a.mkv"):
            writer.write(frame.image(), frame.seconds)
    with av.open(str(tmp_path / "b.mov")) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        samples = np.concatenate([part.to_ndarray().ravel() for part in container.decode(audio=0)])
    assert abs(len(samples) - 8000) < 2500 and np.abs(samples).max() > 0.1


@pytest.mark.parametrize(("times", "size"), [((0, 0.04, 0.3, 0.32, 1.5), (81, 66)), ((0, 1 / 3, 2 / 3), (80, 67))])
def test_uneven_times_and_odd_sizes(times: tuple[float, ...], size: tuple[int, int], tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", STATEMENT, *size, None) as writer:
        for seconds in times:
            writer.write(picture(size[1], size[0]), seconds)
    frames, _ = read_back(tmp_path / "a.mp4")
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=1e-4)
    assert (frames[0].width, frames[0].height) == size


def test_a_video_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", STATEMENT, 64, 64, None) as writer:
        writer.write(picture(64, 64), 0)
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_photos_are_marked_and_signed(ending: str, tmp_path: Path) -> None:
    with Image.open(shared(NEUTRAL)) as photo:
        image = np.asarray(photo.convert("RGB"))
    write_photo(tmp_path / f"a{ending}", image, STATEMENT)
    verdict = verify(tmp_path / f"a{ending}")
    assert verdict.state == "trusted" and verdict.found and verdict.statement is not None
    assert verdict.statement["consent"] == "signed release"
    with Image.open(tmp_path / f"a{ending}") as photo:
        assert np.abs(np.asarray(photo.convert("RGB")).astype(int) - image).mean() < 3


# Real faces


def test_a_photo_smiles_and_keeps_its_background(follower: Follower, redrawer: Redrawer) -> None:
    source = open_source(shared(NEUTRAL), follower)
    driver = media_driver(shared(SMILE), follower, "replace")
    (person,) = chosen(source, 0, 64)
    (frame,) = edited(source, [person], driver, EditConfig(), redrawer)
    assert source.photo is not None and (frame.image[frame.mask == 0] == source.photo[frame.mask == 0]).all()
    assert 0.02 < (frame.mask > 0).mean() < 0.5
    after = follower._reader.read(person.square(0).crop(frame.image, READING_SIZE))
    assert after is not None
    copied = np.abs(person.expression[0] - driver.expression[0]).mean()
    assert np.abs(after.expression - driver.expression[0]).mean() < 0.75 * copied
    assert after.expression[LEFT_SMILE] > person.expression[0, LEFT_SMILE] + 0.2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side."""
    photos = [np.asarray(Image.open(shared(f"data/london/{person}_neutral.jpg"))) for person in ("014", "061")]
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    Image.fromarray(np.concatenate(photos, axis=1)).save(path)
    return path


@pytest.mark.parametrize(("face", "changed"), [(0, (True, False)), (1, (False, True)), ("all", (True, True))])
def test_of_several_faces_the_chosen_ones_change(
    face: int | str, changed: tuple[bool, bool], pair: Path, follower: Follower, redrawer: Redrawer
) -> None:
    source = open_source(pair, follower)
    (frame,) = edited(source, chosen(source, face, 64), slider_driver({"jawOpen": 0.7}), EditConfig(), redrawer)
    assert source.photo is not None
    halves = [(frame.image[:, part] != source.photo[:, part]).any() for part in (slice(0, 512), slice(512, 1024))]
    assert tuple(halves) == changed


def test_a_face_that_is_not_there(pair: Path, follower: Follower) -> None:
    with pytest.raises(UserError, match=r"face=2 is not there; from left to right there are 0 at \(\d+, \d+\), 1 at"):
        chosen(open_source(pair, follower), 2, 64)


@pytest.mark.parametrize(("yaw", "refused"), [(0.5, False), (0.7, True), (-0.7, True)])
def test_a_face_turned_far_to_the_side_is_refused(yaw: float, refused: bool) -> None:
    source = synthetic_source(0)
    (person,) = source.followed.people
    person.pose[:, 1] = yaw
    person.weight[:] = 0
    following._calm(person, Track(0, [0], last=0), Found([], np.zeros(1), frozenset({0}), 512, 512))
    if not refused:
        assert chosen(source, 0, 64) == chosen(source, "all", 64) == [person]
        return
    for face in (0, "all"):
        with pytest.raises(UserError, match=r"is turned 0.70 rad to the side; at most 0.6 can be edited"):
            chosen(source, face, 64)


def test_a_video_is_edited_frame_by_frame(
    talking: Path, follower: Follower, redrawer: Redrawer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a video that goes on and on no more frames are decoded than were asked for, and none is kept."""
    source = open_source(talking, follower)
    people = chosen(source, 0, 64)
    assert people[0].read.all() and (people[0].weight == 1).all()
    decoded = []

    class Counted:
        def __iter__(self) -> Iterator[Frame]:
            for frame in Media(talking):
                decoded.append(frame.index)
                yield frame

    driver = clip_driver()
    frames = edited(replace(source, media=Counted()), people, driver, EditConfig(), redrawer)  # type: ignore[arg-type]
    for index, frame in enumerate(itertools.islice(frames, 5)):
        assert decoded == list(range(index + 1)) and frame.mask.any()


def test_a_calm_source_stays_calm(follower: Follower, redrawer: Redrawer, tmp_path: Path) -> None:
    """Jitter, the mean absolute second difference of the landmarks, at most 1.5 times the source's own."""
    clip = first_frames(tmp_path / "a.mp4", shared("data/expressive/W011_front_neutral_level1_001.mp4"), 24)
    wide = first_frames(tmp_path / "b.mp4", shared("data/expressive/W009_front_happy_level3_001.mp4"), 24)
    source, driver = open_source(clip, follower), media_driver(wide, follower, "replace")
    (person,) = chosen(source, 0, 64)
    own, new = [], []
    assert source.media is not None
    for frame, result in zip(source.media, edited(source, [person], driver, EditConfig(), redrawer), strict=True):
        square = person.square(frame.index)
        for image, found in ((frame.image(), own), (result.image, new)):
            reading = follower._reader.read(square.crop(image, READING_SIZE))
            assert reading is not None
            found.append(reading.landmarks)
    jitter = [float(np.abs(np.diff(np.stack(points), n=2, axis=0)).mean()) for points in (own, new)]
    assert jitter[1] <= 1.5 * jitter[0]


def test_a_driver_without_a_face_in_some_frames_is_held(follower: Follower, tmp_path: Path) -> None:
    with Image.open(shared(SMILE)) as photo:
        face = np.asarray(photo.convert("RGB").resize((320, 320)))
    grey = np.full_like(face, 128)
    driver = media_driver(film(tmp_path / "a.mp4", [grey] * 3 + [face] * 6 + [grey] * 4), follower, "replace")
    assert driver.held == 7 and len(driver.seconds) == 13
    assert (driver.expression[:3] == driver.expression[3]).all() and (
        driver.expression[9:] == driver.expression[8]
    ).all()
    assert driver.expression[:, LEFT_SMILE].min() > 0.3


def test_synthetic_people_need_no_network_that_reads_faces(redrawer: Redrawer) -> None:
    source = synthetic_source(5)
    (frame,) = edited(source, chosen(source, 0, 64), slider_driver({"jawOpen": 0.8}), EditConfig(), redrawer)
    assert frame.image.shape == (512, 512, 3) and 0.01 < (frame.mask > 0).mean() < 0.5
    sheet = expression_sheet(source, source.followed.people[0], redrawer, "warp")
    assert len(EXPRESSIONS) == 12 and sheet.shape[1] == 8 * 256


# The command


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


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["reenact.py", f"hydra.run.dir={folder / 'run'}", *overrides])
    main()


def test_the_command_and_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, tmp_path, "source=synthetic", "expression.jawOpen=0.7", "regions=mouth", "out=a.png")
    assert "a.png: 1 frame" in capfd.readouterr().err
    verdict = verify(tmp_path / "a.png")
    assert verdict.state == "trusted" and verdict.statement is not None and verdict.statement["synthetic"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    (file,) = summary["files"]
    assert file["sha256"] == digest(tmp_path / "a.png") and file["verdict"]["watermark"]
    assert summary["reenactor"]["family"] == "warp" and summary["config"]["regions"] == ["mouth"]


def test_an_action_that_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, tmp_path, "source=synthetic", "expression.jawOpn=0.7", "out=b.png")
    assert stopped.value.code == 2
    assert "expression.jawOpn: no such key; did you mean jawOpen?" in capfd.readouterr().err
