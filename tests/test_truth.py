"""Truth layers: regions partition the picture, depth and vertices agree, flow carries one frame into another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from generation.faces.expressions import expression_bank
from generation.faces.head import AXIS, HAIR, LASH, SKIN, load_head
from generation.faces.people import Person, Scene, sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.faces.surface import SLACK, Surface, flow, warp
from generation.faces.truth import REGIONS, Truth
from generation.motion import ACTIONS, POSE

SIZE = 128
FRONTAL = (0.0, 0.0, 0.0, 0.0, -0.1, 0.47)


def of(**actions: float) -> np.ndarray:  # (52,)
    expression = np.zeros(len(ACTIONS), np.float32)
    for name, value in actions.items():
        expression[ACTIONS.index(name)] = value
    return expression


EXPRESSIONS = np.stack(
    [
        of(),
        of(eyeBlinkLeft=1, eyeBlinkRight=1),
        of(mouthSmileLeft=0.9, mouthSmileRight=0.9, mouthUpperUpLeft=0.6, mouthUpperUpRight=0.6, jawOpen=0.2),
        of(jawOpen=0.8),
        of(browInnerUp=1, browOuterUpLeft=1, browOuterUpRight=1),
    ]
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(size=SIZE, samples=4)


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_person(11, 8)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return dataclasses.replace(sample_scene(11, 8, 0), pose=FRONTAL)


@pytest.fixture(scope="module")
def truth(renderer: Renderer, person: Person, scene: Scene) -> Truth:
    return renderer.truth(person, scene, EXPRESSIONS)


@pytest.fixture(scope="module")
def turned(renderer: Renderer, person: Person, scene: Scene) -> Truth:
    """The same light, the head 32 degrees to the viewer's right and a little up."""
    pose = np.array([[0.1, 0.56, 0.0, 0.1, -0.1, 0.47]])
    return renderer.truth(person, scene, EXPRESSIONS[:1], pose)


def bare(surface: Surface, renderer: Renderer) -> np.ndarray:  # (H, W) bool
    """Where a pixel and its neighbours show the head itself: strands of hair are thinner than pixels."""
    kind = np.append(renderer_kinds(surface, renderer), HAIR)[surface.triangle]
    inside = kind < HAIR
    inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return np.asarray(inside)


def renderer_kinds(surface: Surface, renderer: Renderer) -> np.ndarray:  # (T,)
    extra = len(surface.faces) - len(renderer.head.kind)
    return np.concatenate([renderer.head.kind, np.full(extra, HAIR)])


def region(truth: Truth, frame: int, name: str) -> np.ndarray:  # (H, W) share in [0, 1]
    return np.asarray(truth.regions[frame, ..., REGIONS.index(name)] / 4)


def test_truth_shows_the_same_pictures(renderer: Renderer, person: Person, scene: Scene, truth: Truth) -> None:
    frames = renderer.render(person, scene, EXPRESSIONS)
    for field in dataclasses.fields(frames):
        assert np.array_equal(getattr(frames, field.name), getattr(truth.frames, field.name)), field.name


def test_regions_partition_the_frame(truth: Truth) -> None:
    assert (truth.regions.sum(-1, dtype=int) == 4).all()
    assert set(np.unique(truth.labels)) <= set(range(len(REGIONS)))
    nothing = region(truth, 0, "background") == 1
    assert np.array_equal(nothing, truth.frames.depth[0] == 0)
    whole = truth.regions.max(-1) == 4
    assert np.array_equal(truth.labels[whole], truth.regions.argmax(-1)[whole])


def test_regions_lie_where_the_landmarks_are(truth: Truth) -> None:
    points = truth.frames.landmarks[3]
    for name, members in {"brows": slice(17, 27), "lips": slice(48, 60), "mouth": slice(60, 68)}.items():
        place = np.argwhere(region(truth, 3, name) > 0.5)[:, ::-1] + 0.5
        assert np.linalg.norm(place.mean(0) - points[members].mean(0)) < 4, name
    at = points[[36, 39, 42, 45]].reshape(2, 2, 2).mean(1).astype(int)
    assert (truth.labels[3][at[:, 1], at[:, 0]] == REGIONS.index("eyes")).all()
    assert truth.labels[3][tuple(points[30].astype(int)[::-1])] == REGIONS.index("skin")


def test_regions_follow_the_expression(truth: Truth) -> None:
    area = {name: [region(truth, frame, name).sum() for frame in range(len(EXPRESSIONS))] for name in REGIONS}
    assert area["eyes"][1] < 0.6 * area["eyes"][0]
    assert area["teeth"][0] < 5 and area["teeth"][2] > 15
    assert area["mouth"][3] > 5 * max(area["mouth"][0], 5)
    brows = [np.argwhere(region(truth, frame, "brows") > 0.5)[:, 0].mean() for frame in (0, 4)]
    assert brows[1] < brows[0] - 1
    assert area["hair"][1] == pytest.approx(area["hair"][0], rel=0.02)


def test_depth_agrees_with_projected_vertices(truth: Truth, renderer: Renderer) -> None:
    """Where a vertex is seen, the depth beside it is its own; where it is hidden, something lies before it."""
    surface, depth = truth.surfaces[0], truth.depth[0]
    inside = ((surface.pixels >= 1) & (surface.pixels < SIZE - 1)).all(1)
    seen, hidden = surface.visible & inside, ~surface.visible & inside
    column, line = surface.pixels.astype(int).T.clip(0, SIZE - 1)
    behind = surface.points[:, 2] - depth[line, column]
    assert seen.sum() > 500 and hidden.sum() > 500
    on_head = depth[line, column] > 0
    face = np.flatnonzero(renderer.head.face > 0.01)
    near = np.abs(behind[face[seen[face]]])
    assert len(near) > 300 and np.median(near) < 0.001 and np.quantile(near, 0.8) < 0.003
    assert (behind[hidden & on_head] > SLACK / 2).mean() > 0.95
    coarse = (truth.depth[0] > 0) & (truth.frames.depth[0] > 0)
    difference = truth.depth[0][coarse] - truth.frames.depth[0][coarse]
    assert np.quantile(difference, 0.02) > -0.002 and np.median(difference) < 0.001


def test_landmarks_are_vertices(truth: Truth, turned: Truth, renderer: Renderer) -> None:
    marks = renderer.head.landmarks
    assert np.abs(truth.surfaces[2].pixels[marks] - truth.frames.landmarks[2]).max() < 1e-3
    straight, aside = truth.surfaces[0].visible[marks], turned.surfaces[0].visible[marks]
    assert straight[17:36].all() and straight[48:60].all()
    assert not aside[13:17].any() and aside[0:6].all()  # the far side of the jaw's line


def test_resting_points_name_the_surface(truth: Truth) -> None:
    surface = truth.surfaces[0]
    place = np.nan_to_num(surface.resting)
    on = surface.triangle >= 0
    pose = dict(zip(POSE, FRONTAL, strict=True))
    eye = np.linalg.norm(np.diff(surface.rest[truth_eyes()].mean(1), axis=0))
    distance = surface.focal * eye / pose["scale"]
    assert np.abs(place[on][:, 2] + distance - truth.depth[0][on]).max() < 1e-4
    assert np.isnan(surface.resting[~on]).all()


def truth_eyes() -> np.ndarray:
    return load_head().eyes


@pytest.mark.parametrize("frame", [1, 2, 3, 4])
def test_flow_between_expressions_carries_the_surface(truth: Truth, renderer: Renderer, frame: int) -> None:
    check_surface(truth.surfaces[0], truth.surfaces[frame], renderer, share=0.97)
    check_surface(truth.surfaces[frame], truth.surfaces[0], renderer, share=0.97)


def test_flow_between_poses_carries_the_surface(truth: Truth, turned: Truth, renderer: Renderer) -> None:
    check_surface(truth.surfaces[0], turned.surfaces[0], renderer, share=0.9)
    check_surface(turned.surfaces[0], truth.surfaces[0], renderer, share=0.9)


def check_surface(first: Surface, second: Surface, renderer: Renderer, share: float) -> None:
    """Without light: the resting points that the second frame shows, warped, are those of the first.

    Between pixels of the second frame that lie on one surface the error is that of drawing a straight line between
    them; at an edge within the face (a nostril, a lip) the four pixels belong to several surfaces, hence the `share`.
    """
    moved = flow(first, second)
    here = bare(first, renderer) & moved.visible
    carried = warp(np.nan_to_num(second.resting), moved)
    error = np.linalg.norm(carried - np.nan_to_num(first.resting), axis=-1)[here]
    assert here.sum() > 2000
    assert np.median(error) < 0.0004 and (error < 0.003).mean() > share


def test_flow_carries_the_picture(renderer: Renderer, person: Person, scene: Scene) -> None:
    """In light that comes from everywhere alike a point keeps its colour, but for creases, folds and a little sheen."""
    dark, even = (0.0, 0.0, 0.0), (0.9, 0.9, 0.9)
    flat = dataclasses.replace(scene, key_colour=dark, rim_colour=dark, slopes=(dark, dark, dark), ambient=even)
    flat = dataclasses.replace(flat, grain=0.0, defocus=0.0, shake=(0.0, 0.0))
    truth = renderer.truth(person, flat, EXPRESSIONS)
    for frame in (2, 3, 4):
        moved = flow(truth.surfaces[0], truth.surfaces[frame])
        moving = moved.visible & bare(truth.surfaces[0], renderer) & (np.linalg.norm(moved.pixels, axis=-1) > 1)
        image, other = (truth.frames.image[index].astype(float) for index in (0, frame))
        left = np.abs(warp(other, moved) - image)[moving].mean()
        assert moving.sum() > 300 and left < 0.4 * np.abs(other - image)[moving].mean()


def test_flow_follows_vertices(truth: Truth, turned: Truth, renderer: Renderer) -> None:
    """At a landmark seen in both frames the flow is the landmark's own displacement."""
    first, second = truth.surfaces[3], turned.surfaces[0]
    marks = np.array([index for index in renderer.head.landmarks if first.visible[index]])
    moved = flow(first, second)
    column, line = first.pixels[marks].astype(int).T
    error = moved.pixels[line, column] - (second.pixels[marks] - first.pixels[marks])
    assert np.median(np.linalg.norm(error, axis=1)) < 0.7 and len(marks) > 50


def test_flow_of_a_frame_to_itself_is_zero(truth: Truth) -> None:
    moved = flow(truth.surfaces[0], truth.surfaces[0])
    assert np.abs(moved.pixels).max() < 1e-3
    assert moved.visible.mean() > 0.995
    image = truth.frames.image[0]
    assert np.abs(warp(image, moved) - image).max() < 0.1


def test_a_turned_head_hides_its_far_side(truth: Truth, turned: Truth, renderer: Renderer) -> None:
    """Turned by 32 degrees to the viewer's right: what was more than 70 degrees around that side goes out of sight."""
    moved = flow(truth.surfaces[0], turned.surfaces[0])
    skin = (truth.labels[0] == REGIONS.index("skin")) & bare(truth.surfaces[0], renderer)
    place = np.nan_to_num(truth.surfaces[0].resting)
    around = np.degrees(np.arctan2(place[..., 0], -(place[..., 2] - AXIS)))
    above_jaw = skin & (place[..., 1] < 0.09)
    far, near = above_jaw & (around > 70), above_jaw & (around > -75) & (around < 30)
    assert min(far.sum(), near.sum()) > 20
    assert moved.visible[far].mean() < 0.1 and moved.visible[near].mean() > 0.95
    uncovered = turned.surfaces[0].triangle < 0
    assert not (flow(turned.surfaces[0], truth.surfaces[0]).visible & uncovered & (truth.depth[0] > 0)).any()


def test_visibility_is_that_of_a_plain_loop(turned: Truth, renderer: Renderer) -> None:
    """Rays from the camera to vertices against every triangle of the bare head."""
    surface = turned.surfaces[0]
    kinds = renderer_kinds(surface, renderer)
    opaque = kinds < HAIR
    faces = surface.faces[opaque & (kinds != LASH)]
    corner = surface.points[faces].astype(np.float64)
    one, two = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    candidates = np.flatnonzero((renderer.head.part == SKIN) & (renderer.head.face > 0.01))
    agree = []
    for vertex in np.random.default_rng(0).choice(candidates, 150, replace=False):
        ray = surface.points[vertex].astype(np.float64)
        across = np.cross(ray, two)
        scale = (one * across).sum(1)
        u = -(corner[:, 0] * across).sum(1) / scale
        other = np.cross(-corner[:, 0], one)
        v, distance = (other @ ray) / scale, (two * other).sum(1) / scale
        front = (u > 1e-6) & (v > 1e-6) & (u + v < 1 - 1e-6) & (distance > 0)
        hidden = (front & (distance < 1 - 2 * SLACK / ray[2])).any()
        agree.append(surface.visible[vertex] != hidden)
    assert np.mean(agree) > 0.95


def test_closed_lids_hide_the_eyes(truth: Truth) -> None:
    eyes = (truth.labels[0] == REGIONS.index("eyes")) & (region(truth, 0, "eyes") == 1)
    ball = np.isin(truth.surfaces[0].faces[truth.surfaces[0].triangle[eyes]], truth_eyes()).all(1)
    seen = flow(truth.surfaces[0], truth.surfaces[1]).visible[eyes]
    assert ball.sum() > 10 and seen[ball].mean() < 0.1


def test_background_stands_still_where_it_is_the_same(
    renderer: Renderer, person: Person, scene: Scene, truth: Truth
) -> None:
    behind = truth.surfaces[0].triangle < 0
    moved = flow(truth.surfaces[0], truth.surfaces[3])
    assert moved.visible[behind].mean() > 0.95 and (moved.pixels[behind] == 0).all()
    elsewhere = dataclasses.replace(sample_scene(11, 8, 1), pose=FRONTAL)
    other = renderer.truth(person, elsewhere, EXPRESSIONS[:1]).surfaces[0]
    assert not flow(truth.surfaces[0], other).visible[behind].any()
    check_surface(truth.surfaces[0], other, renderer, share=0.97)


def test_flow_refuses_other_people_and_sizes(renderer: Renderer, scene: Scene, truth: Truth) -> None:
    stranger = renderer.truth(sample_person(11, 5), scene, EXPRESSIONS[:1]).surfaces[0]
    with pytest.raises(ValueError, match="one person"):
        flow(truth.surfaces[0], stranger)
    small = Renderer(size=32, samples=1).truth(sample_person(11, 8), scene, EXPRESSIONS[:1])
    with pytest.raises(ValueError, match="one size"):
        flow(truth.surfaces[0], small.surfaces[0])
    assert (small.regions.sum(-1) == 1).all()


def test_poses_of_single_frames(renderer: Renderer, person: Person, scene: Scene, truth: Truth) -> None:
    """A frame in a pose of its own is the frame of the scene in that pose, but for the shoulders and their light."""
    poses = np.array([FRONTAL, (0.05, -0.3, 0.05, 0.02, -0.08, 0.46)])
    frames = renderer.render(person, scene, expression_bank(2, 0), poses)
    assert frames.pose.shape == (2, 6) and frames.pose[:, :3] == pytest.approx(poses[:, :3], abs=1e-6)
    assert np.array_equal(frames.image[0], truth.frames.image[0])
    alone = renderer.render(person, dataclasses.replace(scene, pose=tuple(poses[1])), expression_bank(2, 0)[1:])
    on_face = alone.mask[0] == 255
    assert np.abs(frames.image[1].astype(int) - alone.image[0])[on_face].mean() < 1.5
    assert np.array_equal(frames.landmarks[1, 17:], alone.landmarks[0, 17:])
