"""Reenact: faces followed and edited, marked files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from editing_parts import clip_driver, picture
from PIL import Image
from real_media import film, first_frames, read_back, shared, sound_of

from generation.editing import following
from generation.editing.drivers import EditConfig, media_driver, slider_driver
from generation.editing.editing import chosen, edited, open_source, synthetic_source
from generation.editing.following import Follower
from generation.editing.redrawing import Redrawer
from generation.editing.writing import VideoWriter, write_photo
from generation.faces.landmarks import READING_SIZE
from generation.faces.media import Frame, Media
from generation.faces.tracking import Found, Track
from generation.motion import ACTIONS
from generation.provenance import Statement, verify
from generation.records import UserError
from generation.reenactors import load_reenactor, shipped
from scripts.expression_sheet import EXPRESSIONS, expression_sheet

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
