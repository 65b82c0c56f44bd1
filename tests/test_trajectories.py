"""Faces in motion: smooth, plausible, free of conflicts, the same for the same seed; clips of them as records."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import RunHere
from PIL import Image

from generation import records
from generation.faces.cast import cast, people_of
from generation.faces.expressions import SIX_EMOTIONS, SPEECH, STRENGTHS, conflicts, expression_bank, settled, yielding
from generation.faces.factors import OF_PEOPLE, OF_SCENES, Factor
from generation.faces.layers import read_layers
from generation.faces.people import FacesConfig, sample_person, sample_scene
from generation.faces.render import kind_of, render_records
from generation.faces.renderer import rotation
from generation.faces.surface import Flow, warp
from generation.faces.trajectories import FRAME_RATE, KINDS, Kind, minimum_jerk, trajectory
from generation.faces.truth import REGIONS
from generation.motion import ACTIONS
from generation.records import UserError
from scripts.door import configure
from scripts.render_faces import main

MINUTE = 60 * FRAME_RATE
BASE = (0.05, -0.1, 0.02, 0.03, -0.08, 0.5)


@pytest.fixture(scope="module")
def minutes() -> dict[Kind, tuple[np.ndarray, np.ndarray]]:
    """Four minutes of each kind: expressions (4, F, 52) and poses (4, F, 6)."""
    made = {kind: [trajectory(MINUTE, seed, kind, BASE) for seed in range(4)] for kind in KINDS}
    return {
        kind: (np.stack([one.expression for one in four]), np.stack([one.pose for one in four]))
        for kind, four in made.items()
    }


def action(expressions: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(expressions[..., ACTIONS.index(name)])


def test_minimum_jerk() -> None:
    """The polynomial of least mean squared jerk: at rest at both ends, symmetric, fastest (15/8) in the middle."""
    t = np.linspace(0, 1, 2001)
    done = minimum_jerk(t)
    assert done[0] == 0 and done[-1] == 1 and np.allclose(done + done[::-1], 1)
    speed = np.gradient(done, t)
    assert speed.max() == pytest.approx(15 / 8, rel=1e-4) and speed[[0, -1]] == pytest.approx(0, abs=1e-5)
    assert (minimum_jerk(np.array([-3.0, 4.0])) == [0, 1]).all()

    def jerk(course: np.ndarray) -> float:
        for _ in range(3):
            course = np.gradient(course, t)
        return float((course[10:-10] ** 2).mean())

    other = (1 - np.cos(np.pi * t)) / 2  # at rest at both ends too
    assert jerk(done) == pytest.approx(720, rel=0.05)
    assert jerk(minimum_jerk(t) + 0.05 * np.sin(2 * np.pi * t) ** 2 * np.sign(0.5 - t)) > jerk(done)
    assert jerk(other) < jerk(done)  # but it starts and stops with a jolt
    assert abs(np.gradient(np.gradient(other, t), t)[2]) > 4 > abs(np.gradient(np.gradient(done, t), t)[2])


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_possible_faces(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]], kind: Kind) -> None:
    expressions, poses = minutes[kind]
    assert expressions.dtype == poses.dtype == np.float32
    assert expressions.min() >= 0 and expressions.max() <= 1 and np.isfinite(poses).all()
    assert [conflicts(frame, slack=1e-3) for frame in expressions[:2, ::3].reshape(-1, 52)].count([]) == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_blinks(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]], kind: Kind) -> None:
    """9 to 30 a minute, as people do; lids fall faster than they rise, and are down for 0.1 to 0.4 s."""
    for lid in action(minutes[kind][0], "eyeBlinkLeft"):
        down = lid > 0.5
        starts = np.flatnonzero(down[1:] & ~down[:-1])
        ends = np.flatnonzero(~down[1:] & down[:-1])
        assert 9 <= len(starts) <= 30
        length = (ends[-len(starts) :] - starts[: len(ends)]) / FRAME_RATE
        assert 0.08 <= length.mean() <= 0.4
        assert np.quantile([lid[start : start + 6].max() for start in starts], 0.3) > 0.9
        change = np.diff(lid)
        assert (change > 0.02).sum() < (change < -0.02).sum()
    left, right = (action(minutes[kind][0], f"eyeBlink{side}") for side in ("Left", "Right"))
    assert np.abs(left - right).max() < 0.05


def test_speech_opens_and_closes_the_mouth(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]]) -> None:
    """The jaw goes up and down two to seven times a second of speech, with pauses; lips close, round and spread."""
    expressions = minutes["speech"][0]
    jaw = action(expressions, "jawOpen")
    steps = np.sign(np.diff(jaw, axis=1)) * (np.abs(np.diff(jaw, axis=1)) > 0.004)
    peaks = ((steps[:, :-1] > 0) & (steps[:, 1:] <= 0)).sum(1) / 60
    assert ((peaks > 1.5) & (peaks < 7)).all()
    mouth = expressions[..., [name.startswith(("jaw", "mouth")) for name in ACTIONS]].max(-1)
    assert 0.05 < (mouth < 0.05).mean() < 0.4
    for name in ("jawOpen", "mouthFunnel", "mouthPucker", "mouthPressLeft", "mouthRollLower", "mouthStretchLeft"):
        assert action(expressions, name).max() > 0.25, name
    assert action(minutes["listening"][0], "jawOpen").max() == 0
    assert action(expressions, "browDownLeft").max() == 0


def test_emotions_come_stay_and_go(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]]) -> None:
    expressions = minutes["emotion"][0]
    still = expressions[..., [not name.startswith("eye") for name in ACTIONS]]
    assert (still.max(-1) < 0.02).mean() > 0.05  # neutral in between
    speed = np.abs(np.diff(still, axis=1)).max(-1)
    assert (speed < 0.02).mean() > 0.4 and speed.max() < 0.25
    for name in ("mouthSmileLeft", "browInnerUp", "browDownRight", "mouthFrownLeft", "noseSneerLeft", "eyeWideLeft"):
        assert action(expressions, name).max() > 0.3, name


def test_gaze_jumps_and_rests(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]]) -> None:
    """Saccades: most frames hardly move the eyes, few move them much; both eyes look the same way."""
    expressions = minutes["listening"][0]
    across = action(expressions, "eyeLookOutLeft") - action(expressions, "eyeLookInLeft")
    other = action(expressions, "eyeLookInRight") - action(expressions, "eyeLookOutRight")
    assert np.corrcoef(across.ravel(), other.ravel())[0, 1] > 0.99
    speed = np.abs(np.diff(across, axis=1))
    assert np.median(speed) < 0.02 and np.quantile(speed, 0.99) > 0.1
    assert 0.1 < np.abs(across).max() <= 0.9


def test_eyes_stay_on_the_camera_when_the_head_turns() -> None:
    """The turn of the eyes is against that of the head: what is left is where the eyes look in space."""
    made = trajectory(MINUTE, 3, "listening", BASE)
    away = np.degrees(made.pose[:, 1] - BASE[1])
    out, inward = (action(made.expression, f"eyeLook{way}Left") for way in ("Out", "In"))
    eye = out * 21.6 - inward * 20.8  # to the viewer's right
    on_camera = np.abs(eye + away) < 3
    assert on_camera.mean() > 0.4
    assert np.polyfit(away[on_camera], eye[on_camera], 1)[0] == pytest.approx(-1, abs=0.15)


def test_the_head_sways_on_its_neck(minutes: dict[Kind, tuple[np.ndarray, np.ndarray]]) -> None:
    poses = minutes["speech"][1]
    away = np.degrees(poses[..., :3] - np.array(BASE[:3]))
    assert (np.abs(away.mean((0, 1))) < 1.0).all() and (away.std((0, 1)) < 4).all() and (away.std((0, 1)) > 0.5).all()
    assert np.abs(away).max() < 10
    speed = np.abs(np.diff(away, axis=1)) * FRAME_RATE
    assert speed.max() < 60
    jolt = np.abs(np.diff(away, n=2, axis=1)).max()
    assert jolt < 0.6
    neck = np.array([0.0, 0.12, 0.10]) / 0.0625 * BASE[5]
    for pose in poses[0, ::100]:
        place = pose[3:5] + (rotation(*pose[:3]) @ neck)[:2]
        assert place == pytest.approx(BASE[3:5] + (rotation(*BASE[:3]) @ neck)[:2], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_clip(kind: Kind) -> None:
    made, again, longer = trajectory(40, 5, kind), trajectory(40, 5, kind), trajectory(400, 5, kind)
    for name in ("expression", "pose"):
        assert np.array_equal(getattr(made, name), getattr(again, name))
        assert np.abs(getattr(made, name) - getattr(longer, name)[:40]).max() < 1e-6
    other, head = trajectory(40, 6, kind), trajectory(40, 5, kind, head_seed=9)
    assert not np.array_equal(made.expression, other.expression)
    assert not np.array_equal(made.pose, head.pose)
    eyes = [name.startswith("eyeLook") for name in ACTIONS]
    assert np.array_equal(np.delete(made.expression, eyes, 1), np.delete(head.expression, eyes, 1))
    assert trajectory(0, 5, kind).expression.shape == (0, 52) and trajectory(1, 5, kind).pose.shape == (1, 6)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="speech, emotion, emotional speech, listening"):
        trajectory(10, 0, "singing")  # type: ignore[arg-type]


def test_yielding_leaves_no_conflict_and_no_jump() -> None:
    rng = np.random.default_rng(0)
    above = expression_bank(60, 1)[rng.permutation(60)]
    below = expression_bank(60, 2)
    together = np.maximum(above, yielding(below, above))
    assert [conflicts(frame, slack=1e-3) for frame in together] == [[]] * 60
    share = np.linspace(0, 1, 101)[:, None]
    blink = settled({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    wide = np.repeat(settled({"eyeWideLeft": 1.0})[None], 101, axis=0)
    course = np.maximum(share * blink, yielding(wide, share * blink))
    assert np.abs(np.diff(course, axis=0)).max() < 0.011


def test_the_bank_holds_what_it_promises() -> None:
    """Six emotions at three strengths and 14 visemes, from number 64 on; the first 64 are drawn."""
    assert len(SIX_EMOTIONS) == 6 and len(STRENGTHS) == 3 and len(SPEECH) == 14
    bank = expression_bank(110, 7)
    assert (expression_bank(64, 7) == bank[:64]).all()
    joy = bank[64:67, ACTIONS.index("mouthSmileLeft")]
    assert (np.diff(joy) > 0.2).all()
    assert np.array_equal(bank[82:96], np.stack([settled(shape) for shape in SPEECH.values()]))
    assert np.array_equal(bank[64:96], expression_bank(96, 8)[64:])
    assert not np.array_equal(bank[96:], expression_bank(110, 8)[96:])
    assert [conflicts(expression) for expression in bank] == [[]] * 110
    assert len(np.unique(bank, axis=0)) == 110


@pytest.mark.parametrize("factors", [("beard",), ("side_light",), ("old", "large_yaw", "blurred_room")])
def test_held_out_factors_are_in_test_alone(factors: tuple[Factor, ...]) -> None:
    config = FacesConfig(seed=3, train=30, validation=5, test=9, scenes=2, split_factors=factors)
    names, shown = [], []
    for number, split in people_of(config):
        person, scenes = cast(config, number, split)
        names.append(person.name)
        assert len({scene.name for scene in scenes}) == 2
        for scene in scenes:
            has = {factor for factor in factors if factor in OF_PEOPLE and OF_PEOPLE[factor](person)}
            has |= {factor for factor in factors if factor in OF_SCENES and OF_SCENES[factor](scene)}
            if split != "test":
                assert has == set()
            else:
                assert len(has) == 1 and scene.name.endswith(f"-{next(iter(has))}")
                shown.append(next(iter(has)))
    assert len(set(names)) == 44
    assert {shown.count(factor) for factor in factors} == {18 // len(factors)}


def test_without_held_out_factors_the_cast_is_the_plain_one() -> None:
    config = FacesConfig(seed=3, train=3, validation=1, test=1, scenes=2)
    for number, split in people_of(config):
        assert cast(config, number, split) == (
            sample_person(3, number),
            [sample_scene(3, number, which) for which in range(2)],
        )
    assert kind_of(dataclasses.replace(config, split_factors=("beard",)))["split_factors"] == ("beard",)


CLIPS = FacesConfig(
    size=32, seed=5, train=2, validation=1, test=1, motion="clips", frames=12,
    layers=("mask", "regions", "depth", "flow", "visibility"),
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "records"
    render_records(CLIPS, folder)
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_clips_of_motion_are_records(clips: Path) -> None:
    faces = records.load(clips)
    assert len(faces) == 4 * 12 and (faces.frame.reshape(4, 12) == np.arange(12)).all()
    scene = sample_scene(5, 2, 0)
    course = trajectory(12, (5, 2), KINDS[2], scene.pose, head_seed=(5, 2, 0))
    assert np.array_equal(faces.expression[24:36].numpy(), course.expression)
    assert np.abs(faces.pose[24:36].numpy() - course.pose)[:, [0, 1, 2, 5]].max() < 1e-5
    assert np.abs(faces.pose[24:36].numpy() - course.pose).max() < 0.02  # the exact middle of the eyes, seen in depth
    assert len(faces.pose[24:36].unique(dim=0)) == 12
    assert len(np.unique(faces.image[24:36].numpy().reshape(12, -1), axis=0)) == 12


def test_layers_lie_beside_the_records(clips: Path) -> None:
    faces = records.load(clips)
    for clip in dict.fromkeys(faces.clip.tolist()):
        rows = np.flatnonzero(faces.clip == clip)
        layers = read_layers(clips, clip)
        assert (layers["frame"] == faces.frame[rows]).all()
        assert tuple(layers["region_names"]) == REGIONS and layers["regions"].max() < len(REGIONS)
        assert ((layers["depth"] > 0) == (layers["depth"] > 0.2)).all()
        on_face = layers["mask"] == 255
        assert on_face.mean() > 0.1 and (layers["regions"][on_face] != REGIONS.index("background")).all()
        assert (layers["flow_to"] == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).all()
        assert layers["landmarks_visible"].shape == (12, 68) and layers["landmarks_visible"][:, 27:36].mean() > 0.8
        image = faces.image[rows].permute(0, 2, 3, 1).numpy().astype(float)
        moved = Flow(layers["flow"][5], layers["flow_visible"][5])
        left = np.abs(warp(image[4], moved) - image[5])[moved.visible & on_face[5]].mean()
        assert left <= np.abs(image[4] - image[5])[moved.visible & on_face[5]].mean() + 0.2


def test_another_configuration_leaves_nothing_behind(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    render_records(dataclasses.replace(CLIPS, train=3, frames=2), folder)
    assert "truth/synthetic-5-00004/0.npz" in contents(folder)
    render_records(CLIPS, folder)
    assert contents(folder) == contents(clips)


def test_layers_change_no_record(tmp_path: Path) -> None:
    plain = FacesConfig(size=32, seed=5, train=1, validation=1, test=1, expressions=2)
    render_records(plain, tmp_path / "plain")
    render_records(dataclasses.replace(plain, layers=("regions",)), tmp_path / "layered")
    (name,) = [name for name in contents(tmp_path / "plain") if name.endswith(".parquet")]
    assert contents(tmp_path / "plain")[name] == contents(tmp_path / "layered")[name]
    assert set(contents(tmp_path / "plain")) == {name, "dataset_info.json"}
    with pytest.raises(UserError, match=r"layers=\[regions,depth,flow\]"):
        read_layers(tmp_path / "plain", "synthetic-5-00000/0")


def test_command(run_here: RunHere, tmp_path: Path) -> None:
    done = run_here(
        main, "hydra.run.dir=run", "out=faces", "data.size=32", "data.train=1", "data.validation=1", "data.test=1",
        "workers=1", "data.motion=clips", "data.frames=3", "layers=[regions,flow]", "data.split_factors=[beard]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    faces = records.load(tmp_path / "faces")
    assert len(faces) == 9 and set(faces.scene[faces.split == "test"]) == {"0-beard"}
    assert set(read_layers(tmp_path / "faces", faces.clip[0])) == {
        "frame", "regions", "region_names", "flow", "flow_visible", "flow_to",
    }  # fmt: skip
    moving = Image.open(io.BytesIO((tmp_path / "run" / "clips.gif").read_bytes()))
    assert moving.n_frames == 3 and moving.info["duration"] == 40  # type: ignore[attr-defined]
    for name in ("grid.png", "truth.png"):
        assert Image.open(tmp_path / "run" / name).height == 96


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layers": ["regions", "dept"]}, r"data.layers\[1\]=dept: did you mean depth\? allowed are mask, regions"),
        ({"split_factors": ["beards"]}, r"data.split_factors\[0\]=beards: did you mean beard\?"),
        ({"motion": "film"}, "data.motion=film: allowed are bank, clips"),
        ({"frames": 1}, "data.frames=1: must be at least 2"),
    ],
)
def test_wrong_configurations_are_named(changes: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=line):
        configure(FacesConfig, changes, "data")
