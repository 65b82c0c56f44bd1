"""The rig: its tables, and where it says that landmarks go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generation.forge import draw_swaps
from generation.motion import ACTIONS, EXPRESSION_SIZE, MOTION_SIZE
from generation.records import Faces
from generation.reenactors import rig
from generation.reenactors.warp import pixel_grid


def motion(actions: dict[str, float] | None = None, pose: tuple[float, ...] = (0, 0, 0, 0, 0, 0.48)) -> torch.Tensor:
    vector = torch.zeros(1, MOTION_SIZE)
    for name, value in (actions or {}).items():
        vector[0, ACTIONS.index(name)] = value
    vector[0, EXPRESSION_SIZE:] = torch.tensor(pose)
    return vector


def test_the_tables_are_those_of_the_mean_head() -> None:
    measured, shipped = rig.measure(), rig.tables()
    assert set(measured) == set(shipped)
    for name, table in measured.items():
        torch.testing.assert_close(shipped[name], table, atol=1e-5, rtol=1e-5)


def test_without_a_change_nothing_moves() -> None:
    own = motion({"jawOpen": 0.4}, (0.1, -0.2, 0.05, 0.03, -0.1, 0.5))
    landmarks = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 64
    torch.testing.assert_close(rig.moved_landmarks(landmarks, own, own, 64), landmarks, atol=1e-4, rtol=0)
    here, there = rig.places(landmarks / 32 - 1, own, own)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    torch.testing.assert_close(here[:, :68], landmarks / 32 - 1, atol=1e-5, rtol=0)


def test_on_people_never_measured_it_knows_where_landmarks_go(faces: Faces) -> None:
    swaps = draw_swaps(faces, 200, seed=0)
    source, target = faces.landmarks[swaps.source], faces.landmarks[swaps.target]
    said = rig.moved_landmarks(source, faces.motion[swaps.source], faces.motion[swaps.target], 64)
    moved = (source - target).norm(dim=2).mean()
    assert (said - target).norm(dim=2).mean() < 0.12 * moved


@pytest.mark.parametrize(
    ("pose", "expected"),
    [
        ((0, 0, 0, 0.25, 0, 0.48), lambda points: points + torch.tensor([0.25, 0.0])),
        ((0, 0, 0, 0, 0, 0.96), lambda points: points * 2),
        ((0, 0, np.pi / 2, 0, 0, 0.48), lambda points: torch.stack([-points[..., 1], points[..., 0]], dim=-1)),
    ],
)
def test_poses_shift_scale_and_turn(pose: tuple[float, ...], expected) -> None:  # type: ignore[no-untyped-def]
    landmarks = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    here, there = rig.places(landmarks, motion(), motion(pose=pose))
    torch.testing.assert_close(there, expected(here), atol=1e-5, rtol=0)


def test_the_jaw_takes_the_chin_down_and_looking_aside_moves_the_irises() -> None:
    landmarks = (rig.tables()["neutral"][None, :68, :2] * 0.48).contiguous()
    here, there = rig.places(landmarks, motion(), motion({"jawOpen": 1.0}))
    assert there[0, 8, 1] - here[0, 8, 1] > 0.15 and abs(there[0, 27, 1] - here[0, 27, 1]) < 0.01
    here, there = rig.places(landmarks, motion(), motion({"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8}))
    assert (there[0, 68:70, 0] - here[0, 68:70, 0] > 0.03).all()


def test_heat_and_spread_are_what_plain_loops_give() -> None:
    draw = torch.Generator().manual_seed(2)
    points, moves = torch.rand(1, rig.POINTS, 2, generator=draw) - 0.5, torch.rand(1, rig.POINTS, 2, generator=draw)
    scale, grid = torch.tensor([0.4]), pixel_grid(torch.zeros(1, 1, 3, 5))
    heat, spread = rig.heat(points, scale, grid), rig.spread(moves, points, scale, grid)
    for row in range(3):
        for column in range(5):
            away = ((points[0] - grid[row, column]) ** 2).sum(1) / 0.4**2
            for index, part in enumerate(rig.PARTS):
                nearest = min(float(away[point]) for point in part)
                assert float(heat[0, index, row, column]) == pytest.approx(np.exp(-nearest / 2 / 0.08**2), abs=1e-4)
            weights = torch.exp(-away / 2 / 0.12**2)
            mean = (weights[:, None] * moves[0]).sum(0) / (weights.sum() + np.exp(-(4.5**2) / 2))
            torch.testing.assert_close(spread[0, :, row, column], mean, atol=1e-4, rtol=1e-3)
