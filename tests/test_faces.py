"""Synthetic faces: exact truth, the same bytes for any number of workers, and faces that MediaPipe reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunHere

from generation import records
from generation.faces import shapes
from generation.faces.camera import blur_of
from generation.faces.expressions import _CONFLICTS, conflicts, expression_bank, single_actions
from generation.faces.glasses import Glasses
from generation.faces.head import GLASSES, LASH, SKIN, TONGUE, UPPER_TEETH, load_head
from generation.faces.landmarks import FaceReader, pose_of
from generation.faces.people import ORIGIN, FacesConfig, Person, Scene, sample_person, sample_scene
from generation.faces.render import SHARD_PEOPLE, Renderer, kind_of, render_records
from generation.faces.renderer import Frames, rotation
from generation.faces.subject import subject
from generation.motion import ACTIONS, POSE
from generation.records import UserError
from scripts.render_faces import main

NEUTRAL = np.zeros((1, len(ACTIONS)), np.float32)
FRONTAL = (0.0, 0.0, 0.0, 0.0, -0.1, 0.47)


def with_pose(scene: Scene, **changes: float) -> Scene:
    pose = dict(zip(POSE, FRONTAL, strict=True)) | changes
    return dataclasses.replace(scene, pose=tuple(pose[name] for name in POSE))


def of(**actions: float) -> np.ndarray:  # (1, 52)
    expression = NEUTRAL.copy()
    for name, value in actions.items():
        expression[0, ACTIONS.index(name)] = value
    return expression


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(size=64, samples=4)


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_person(11, 4)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return with_pose(sample_scene(11, 4, 0))


@pytest.fixture(scope="module")
def neutral(renderer: Renderer, person: Person, scene: Scene) -> Frames:
    return renderer.render(person, scene, NEUTRAL)


def test_the_head_is_annys(person: Person) -> None:
    """Shapes and actions add up to the very vertices that Anny computes."""
    anny = pytest.importorskip("anny")
    model = anny.Anny(
        rig="makehuman-head", topology="head", local_changes="all", phenotypes="all", facial_actions="all"
    )
    expression = expression_bank(8, 0)[4]
    made = model(
        phenotype_kwargs={name: torch.tensor([value]).double() for name, value in person.phenotype.items()},
        local_changes_kwargs={name: torch.tensor([value]).double() for name, value in person.local.items()},
        facial_actions={name: torch.tensor([float(v)]).double() for name, v in zip(ACTIONS, expression, strict=True)},
    )
    theirs = made["vertices"][0].numpy() @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    head = load_head()
    ours = head.vertices(head.coefficients(person.phenotype, person.local))
    ours = ours + np.einsum("a,avc->vc", expression, head.actions)
    shared, mine, other = np.intersect1d(head.source, model.base_mesh_vertex_indices.numpy(), return_indices=True)
    assert len(shared) > 4000
    difference = (ours[mine] - theirs[other])[head.part[mine] != TONGUE]  # we lower the tongue
    assert np.abs(difference - difference.mean(0)).max() < 2e-6


@pytest.mark.parametrize("angles", [(0.1, 0, 0), (0, 0.3, 0), (0, 0, -0.1), (0.15, -0.35, 0.1)])
def test_rotation_is_read_back_as_footage_reads_it(angles: tuple[float, float, float]) -> None:
    flip = np.diag([1, -1, -1])  # to MediaPipe's axes: y up, z to the viewer
    pose = pose_of(flip @ rotation(*angles) @ flip, np.array([[24.0, 30.0], [40.0, 30.0]]), 64, 64)
    assert pose[:3] == pytest.approx(angles, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "landmark", "axis", "sign"),
    [
        ("pitch", 30, 1, -1),
        ("yaw", 30, 0, 1),
        ("roll", 45, 1, 1),
        ("x", 30, 0, 1),
        ("y", 30, 1, 1),
        ("scale", 45, 0, 1),
    ],
)
def test_pose_moves_the_face_where_motion_says(
    renderer: Renderer, person: Person, scene: Scene, neutral: Frames, name: str, landmark: int, axis: int, sign: int
) -> None:
    value = dict(zip(POSE, FRONTAL, strict=True))[name] + 0.05
    moved = renderer.render(person, with_pose(scene, **{name: value}), NEUTRAL)
    assert sign * (moved.landmarks - neutral.landmarks)[0, landmark, axis] > 0.25


def test_pose_is_that_of_the_projected_eyes(renderer: Renderer, person: Person) -> None:
    scene = sample_scene(11, 4, 1)
    frames = renderer.render(person, scene, NEUTRAL)
    eyes = subject(renderer.head, person).neutral[renderer.head.eyes].mean(1)
    depth = scene.lens * np.linalg.norm(eyes[1] - eyes[0]) / scene.pose[5]
    at = depth * np.array([scene.pose[3] / scene.lens, scene.pose[4] / scene.lens, 1])
    seen = eyes @ rotation(*scene.pose[:3]).T + at
    flat = scene.lens * seen[:, :2] / seen[:, 2:]
    assert frames.pose[3:5] == pytest.approx(flat.mean(0), abs=1e-5)
    straight = renderer.render(person, dataclasses.replace(scene, pose=(0.0, 0.0, 0.0, *scene.pose[3:])), NEUTRAL)
    corners = straight.landmarks[0, [36, 39, 42, 45]] / 32 - 1
    assert straight.pose[5] == pytest.approx(np.linalg.norm(corners[2:].mean(0) - corners[:2].mean(0)), rel=0.12)


@pytest.mark.parametrize(
    ("action", "landmark", "axis", "sign"),
    [
        ("jawOpen", 8, 1, 1), ("jawOpen", 66, 1, 1), ("mouthSmileLeft", 54, 1, -1), ("mouthSmileLeft", 54, 0, 1),
        ("mouthSmileRight", 48, 0, -1), ("mouthFrownRight", 48, 1, 1), ("browInnerUp", 21, 1, -1),
        ("browDownLeft", 23, 1, 1),
        ("eyeBlinkLeft", 43, 1, 1), ("eyeBlinkRight", 37, 1, 1), ("mouthLeft", 57, 0, 1), ("mouthPucker", 48, 0, 1),
        ("jawRight", 8, 0, -1), ("mouthUpperUpLeft", 52, 1, -1), ("mouthLowerDownRight", 58, 1, 1),
    ],
)  # fmt: skip
def test_actions_move_the_persons_own_side(
    renderer: Renderer, person: Person, scene: Scene, neutral: Frames, action: str, landmark: int, axis: int, sign: int
) -> None:
    moved = renderer.render(person, scene, of(**{action: 0.8}))
    assert sign * (moved.landmarks - neutral.landmarks)[0, landmark, axis] > 0.2


def test_left_blink_changes_only_the_right_of_the_picture(
    renderer: Renderer, person: Person, scene: Scene, neutral: Frames
) -> None:
    wink = renderer.render(person, scene, of(eyeBlinkLeft=1.0))
    change = np.abs(wink.image[0].astype(int) - neutral.image[0]).sum(-1)
    assert change[:, 34:].sum() > 50 * change[:, :30].sum()
    assert np.linalg.norm(wink.landmarks[0, 43] - wink.landmarks[0, 47]) < 0.6
    assert np.linalg.norm(neutral.landmarks[0, 43] - neutral.landmarks[0, 47]) > 0.9


def test_only_the_face_changes_within_a_clip(renderer: Renderer, person: Person) -> None:
    sharp = dataclasses.replace(sample_scene(11, 4, 0), defocus=0.0, shake=(0.0, 0.0))
    frames = renderer.render(person, sharp, expression_bank(12, 1))
    behind = (frames.depth == 0).all(0)
    assert 0.05 < behind.mean() < 0.9
    assert (frames.image[:, behind] == frames.image[0, behind]).all()
    on_face = frames.mask.max(0) > 128
    spread = frames.image.astype(int).max(0) - frames.image.astype(int).min(0)
    assert spread.sum(-1)[on_face].mean() > 5 * spread.sum(-1)[~on_face].mean()
    assert (frames.landmarks > 0).all() and (frames.landmarks < 64).all()
    assert 0.15 < (frames.mask > 128).mean() < 0.6


def test_depth_and_triangles_are_those_of_a_plain_loop(renderer: Renderer, person: Person, scene: Scene) -> None:
    """Every opaque triangle against the centre of a pixel, with one sample a pixel."""
    bald = dataclasses.replace(person, lashes=0.0, hair=dataclasses.replace(person.hair, style="bald", length=0.0))
    coarse = Renderer(size=32, samples=1)
    frames = coarse.render(bald, scene, NEUTRAL)
    who = subject(coarse.head, bald, scene.neckline, scene.neck_v)
    eyes = who.neutral[coarse.head.eyes].mean(1)
    depth = scene.lens * np.linalg.norm(eyes[1] - eyes[0]) / scene.pose[5]
    place = who.neutral.astype(np.float64) + depth * np.array([0, scene.pose[4] / scene.lens, 1])
    flat = 16 * (1 + scene.lens * place[:, :2] / place[:, 2:])
    a, b, c = (flat[who.faces[:, k]] for k in range(3))
    inverse = [1 / place[who.faces[:, k], 2] for k in range(3)]
    lash = who.kind == LASH

    def cross(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]

    area = cross(b - a, c - a)
    open_to_view = ~lash & ~((area > 0) & (who.kind == SKIN)) & (np.abs(area) > 1e-9)
    checked = 0
    for y, x in np.random.default_rng(0).integers(0, 32, (150, 2)):
        centre = np.array([x + 0.5, y + 0.5])
        weights = [cross(b - centre, c - centre) / area, cross(c - centre, a - centre) / area]
        weights.append(1 - weights[0] - weights[1])
        inside = open_to_view & (np.min(weights, axis=0) >= 0)
        if np.min(np.abs(weights), axis=0)[open_to_view].min() < 1e-4:
            continue  # an edge runs through the centre
        nearest = max((sum(w * i for w, i in zip(weights, inverse, strict=True)))[inside], default=0.0)
        expected = 1 / nearest if nearest else 0.0
        assert frames.depth[0, y, x] == pytest.approx(expected, abs=2e-4)
        checked += 1
    assert checked > 60


def test_frames_do_not_depend_on_the_block(renderer: Renderer, person: Person, scene: Scene) -> None:
    bank = expression_bank(5, 0)
    together = renderer.render(person, scene, bank)
    apart = [renderer.render(person, scene, bank[k : k + 1]) for k in range(5)]
    assert (together.image == np.concatenate([frames.image for frames in apart])).all()


def test_people_are_adults_of_every_kind_and_do_not_depend_on_order() -> None:
    people = [sample_person(0, index) for index in range(60)]
    assert sample_person(0, 33) == people[33] != sample_person(1, 33)
    assert sample_scene(0, 33, 0) == sample_scene(0, 33, 0) != sample_scene(0, 33, 1)
    assert min(person.phenotype["age"] for person in people) >= 0.66
    assert 0.3 < np.mean([person.phenotype["gender"] > 0.5 for person in people]) < 0.7
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        assert sum(low <= person.melanin < high for person in people) >= 8
    assert len({person.hair.style for person in people}) >= 7
    assert people[7].name == "synthetic-0-00007"


def test_faces_have_the_proportions_of_people() -> None:
    """On average as photographs have them, within what people have, and as different from one another as people are."""
    head = load_head()
    marks = [subject(head, sample_person(3, index)).neutral[head.landmarks] for index in range(40)]
    found = shapes.proportions(np.array(marks))
    away = (found - shapes._PEOPLE) / shapes._DEVIATION
    assert np.abs(away.mean(0)).max() < 1.2 and np.abs(away).max() < 4
    spread = dict(zip(shapes._PROPORTIONS, away.std(0), strict=True))
    assert all(spread[name] > 0.6 for name in ("chin height", "jaw width", "cheek width", "mouth height"))


def test_proportions_are_shares_of_the_distance_between_the_eyes() -> None:
    head = load_head()
    marks = head.template[head.landmarks]
    turned = shapes.proportions(3 * marks + np.array([1.0, 2.0, 3.0]))
    assert turned == pytest.approx(shapes.proportions(marks), rel=1e-4)
    eyes = marks[[42, 45], 0].mean() - marks[[36, 39], 0].mean()
    width = dict(zip(shapes._PROPORTIONS, shapes.proportions(marks), strict=True))["mouth width"]
    assert width == pytest.approx((marks[54, 0] - marks[48, 0]) / eyes, rel=1e-5)


def test_shapes_are_moderate_and_nearly_symmetric() -> None:
    for index in range(12):
        local = sample_person(3, index).local
        assert max(abs(value) for value in local.values()) <= 1
        assert all(local[name] == 0 for name in shapes._FIXED)
        pairs = [(value, local["r" + name[1:]]) for name, value in local.items() if name.startswith("l-")]
        assert np.mean([abs(left - right) for left, right in pairs]) < 0.12


def test_folds_come_with_their_expression(renderer: Renderer, person: Person, scene: Scene) -> None:
    """The forehead gets darker lines when the brows go up: with the folds' tint than without it."""
    raised = of(browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    stage = renderer._stage(person, scene)
    lined = next(renderer._takes(stage, np.concatenate([raised, NEUTRAL]), None)).image.numpy()
    stage.paints.fold_tint = (0.0, 0.0, 0.0)
    smooth = next(renderer._takes(stage, np.concatenate([raised, NEUTRAL]), None)).image.numpy()
    assert (lined[1] == smooth[1]).all()
    assert (lined[0] <= smooth[0]).all() and (smooth[0] - lined[0]).max() >= 3


def test_glasses_rest_on_the_face_and_stay_there(renderer: Renderer, person: Person, scene: Scene) -> None:
    """In front of both eyes, closed surfaces that face outwards, unmoved by any expression, and seen in the picture."""
    glasses = Glasses(width=0.048, height=0.040, roundness=3.0, thickness=0.003, colour=(0.01, 0.01, 0.01))
    worn = dataclasses.replace(person, glasses=glasses)
    who = subject(renderer.head, worn)
    frame = np.unique(who.faces[who.kind == GLASSES])
    place = who.neutral[frame]
    for side, ball in zip((-1, 1), renderer.head.eyes, strict=True):
        eye, rim = who.neutral[ball], place[(np.sign(place[:, 0]) == side) & (place[:, 2] < 0)]
        assert rim[:, 2].max() < eye[:, 2].min()
        assert rim[:, 1].min() < eye[:, 1].min() and rim[:, 1].max() > eye[:, 1].mean() + 0.012
    assert np.ptp(who.actions[:, frame], axis=0).max() < 1e-6
    corner = who.neutral[who.faces[who.kind == GLASSES]]
    assert np.einsum("ti,ti->t", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])).sum() > 0  # the volume
    with_them, without = (renderer.render(someone, scene, NEUTRAL) for someone in (worn, person))
    assert (with_them.image[0].astype(int) - without.image[0]).min() < -40
    assert (with_them.landmarks == without.landmarks).all()


def test_blur_is_that_of_the_scene(scene: Scene) -> None:
    """Weights sum to 1; their second moments are those of the defocus and of the way that the camera moved."""
    blurred = dataclasses.replace(scene, defocus=0.004, shake=(0.012, 0.0))
    weights = blur_of(blurred, 512)
    x = np.arange(len(weights)) - len(weights) // 2
    assert weights.sum() == pytest.approx(1, abs=1e-5) and len(weights) % 2 == 1
    down, across = ((weights.sum(axis) * x**2).sum() for axis in (1, 0))
    assert down == pytest.approx((0.004 * 512) ** 2, rel=0.1)
    assert across == pytest.approx((0.004 * 512) ** 2 + (0.012 * 512) ** 2 / 12, rel=0.2)
    assert blur_of(dataclasses.replace(scene, defocus=0.0, shake=(0.0, 0.0)), 64).shape == (1, 1)


def test_noise_is_the_scenes_and_the_same_in_every_frame(renderer: Renderer, person: Person, scene: Scene) -> None:
    noisy = dataclasses.replace(scene, grain=0.02)
    frames = renderer.render(person, noisy, NEUTRAL.repeat(2, axis=0))
    clean = renderer.render(person, dataclasses.replace(scene, grain=0.0), NEUTRAL)
    assert (frames.image[0] == frames.image[1]).all()
    assert 1 < (frames.image[0].astype(float) - clean.image[0]).std() < 20
    assert (frames.mask[0] == clean.mask[0]).all()


def test_bank() -> None:
    bank = expression_bank(160, 3)
    assert bank.shape == (160, 52) and bank.dtype == np.float32
    assert (bank[0] == 0).all() and bank.min() >= 0 and bank.max() <= 1
    assert (expression_bank(16, 3) == bank[:16]).all() and (expression_bank(16, 4) != bank[:16]).any()
    assert len(np.unique(bank, axis=0)) == 160
    assert [conflicts(expression) for expression in bank] == [[]] * 160
    used = (bank > 0.15).sum(0)
    assert [name for name, count in zip(ACTIONS, used, strict=True) if count == 0] == []


def test_single_actions_are_all_but_gaze_and_a_closed_mouth_of_an_open_jaw() -> None:
    alone = single_actions(0.6)
    moved = [{name for name, value in zip(ACTIONS, one, strict=True) if value} for one in alone]
    assert sorted(name for names in moved for name in names) == sorted(
        name for name in ACTIONS if "Look" not in name and name != "mouthClose"
    )
    assert {"mouthSmileLeft", "mouthSmileRight"} in moved and {"jawLeft"} in moved
    assert set(np.unique(alone)) == {np.float32(0), np.float32(0.6)}


@pytest.mark.parametrize(("first", "second"), [*_CONFLICTS[:3], ("mouthClose", "jawLeft")])
def test_conflicts_are_found(first: str, second: str) -> None:
    assert conflicts(of(**{first: 0.9, second: 0.9})[0])


def test_upper_teeth_stay_and_lower_teeth_follow_the_jaw() -> None:
    head = load_head()
    jaw = head.actions[ACTIONS.index("jawOpen")]
    assert np.abs(jaw[head.part == UPPER_TEETH]).max() == 0
    assert jaw[head.part == UPPER_TEETH + 1][:, 1].min() > 0.005


SMALL = FacesConfig(size=32, seed=5, train=3 * SHARD_PEOPLE - 2, validation=3, test=4, expressions=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "records"
    render_records(SMALL, folder, 1)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [2, 4])
def test_same_bytes_for_any_number_of_workers(small: Path, tmp_path: Path, workers: int) -> None:
    told: list[tuple[int, int]] = []
    render_records(SMALL, tmp_path / "again", workers, lambda done, total: told.append((done, total)))
    assert contents(tmp_path / "again") == contents(small)
    assert len(contents(small)) == 5  # four shards and their index
    assert told[-1] == (29, 29) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_records_are_factorial_and_splits_disjoint(small: Path) -> None:
    faces = records.load(small)
    bank = expression_bank(3, 5)
    assert len(faces) == 29 * 3 and set(faces.origin) == {ORIGIN}
    assert (faces.frame.reshape(29, 3) == [0, 1, 2]).all()
    assert torch.equal(faces.expression.reshape(29, 3, 52), torch.from_numpy(bank).expand(29, 3, 52))
    pose = faces.pose.reshape(29, 3, 6)
    assert (pose == pose[:, :1]).all() and len(pose[:, 0].unique(dim=0)) == 29
    assert list(faces.clip[::3]) == [f"synthetic-5-{index:05d}/0" for index in range(29)]
    people = {split: set(faces.identity[faces.split == split]) for split in records.SPLITS}
    assert [len(people[split]) for split in records.SPLITS] == [22, 3, 4]
    assert not people["train"] & people["test"]
    assert (faces.label == 0).all()


def test_an_interrupted_run_goes_on(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    records.begin(folder, kind_of(SMALL))
    for index in (0, 1, 3):
        (folder / f"shard-{index:05d}.parquet").write_bytes((small / f"shard-{index:05d}.parquet").read_bytes())
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    told: list[int] = []
    render_records(SMALL, folder, 1, lambda done, total: told.append(done))
    assert told == [29]  # one shard was left
    assert all((folder / name).stat().st_mtime_ns == when for name, when in before.items())
    assert contents(folder) == contents(small)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 8}, "data.size"), ({"size": 4096}, "data.size"), ({"samples": 5}, "data.samples"),
        ({"train": 0}, "data.train"), ({"test": 0}, "data.test"), ({"expressions": 1}, "data.expressions"),
        ({"seed": -1}, "data.seed"),
    ],
)  # fmt: skip
def test_wrong_configurations_name_the_key(changes: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        FacesConfig(**changes)


def test_command(run_here: RunHere, tmp_path: Path) -> None:
    few = ["data.size=32", "data.train=2", "data.validation=1", "data.test=1", "data.expressions=3", "workers=1"]
    done = run_here(main, "hydra.run.dir=run", "out=faces", *few)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["faces"] == 12 and summary["people"] == {"train": 2, "validation": 1, "test": 1}
    assert (tmp_path / "run" / "grid.png").is_file() and records.finished(tmp_path / "faces")


def mixtures(count: int) -> np.ndarray:  # (count, 52)
    """Random mixtures of actions, the same on both sides: MediaPipe reads winks as half blinks."""
    rng = np.random.default_rng(7)
    bank = np.zeros((count, len(ACTIONS)), np.float32)
    for stem in ("jawOpen", "eyeBlink", "mouthSmile", "browInnerUp"):
        value = rng.uniform(0, 1, count) * (rng.random(count) < 0.6)
        bank[:, [name.startswith(stem) for name in ACTIONS]] = value[:, None]
    return bank


def test_mediapipe_reads_what_was_rendered(reader: FaceReader) -> None:
    """Found in at least 98 of 100 renders at 128 px; expression, pose and landmarks agree with the truth."""
    renderer, bank = Renderer(size=128, samples=4), mixtures(100)
    true: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    distance: list[float] = []
    for index in range(len(bank)):
        frames = renderer.render(sample_person(9, index), sample_scene(9, index, 0), bank[index : index + 1])
        reading = reader.read(frames.image[0].repeat(2, axis=0).repeat(2, axis=1))
        if reading is not None:
            true.append(np.concatenate([bank[index], frames.pose]))
            seen.append(np.concatenate([reading.expression, reading.pose]))
            distance.append(float(np.linalg.norm(frames.landmarks[0] - reading.landmarks / 2, axis=1).mean()))
    assert len(seen) >= 98
    least = {
        "jawOpen": 0.85,
        "eyeBlink": 0.9,
        "mouthSmile": 0.8,
        "browInnerUp": 0.45,
        "yaw": 0.95,
        "roll": 0.9,
        "x": 0.9,
        "y": 0.9,
        "scale": 0.8,
    }
    for stem, limit in least.items():
        columns = [index for index, name in enumerate((*ACTIONS, *POSE)) if name.startswith(stem)]
        r = np.corrcoef(np.array(true)[:, columns].ravel(), np.array(seen)[:, columns].ravel())[0, 1]
        assert r >= limit, f"{stem}: r = {r:.3f}"
    assert np.median(distance) < 2.5
