from __future__ import annotations

import pytest
import torch

from generation.motion import ACTIONS, MOTION_SIZE, Motion, expression_of, mirror, swap


def test_there_are_52_actions_in_mediapipe_order_with_the_tongue_last() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 52
    assert list(ACTIONS[:-1]) == sorted(ACTIONS[:-1])
    assert ACTIONS[-1] == "tongueOut"


def test_vector_and_back() -> None:
    motion = Motion(torch.rand(4, 52), torch.randn(4, 6))
    again = Motion.from_vector(motion.vector())
    assert motion.vector().shape == (4, MOTION_SIZE)
    assert torch.equal(again.expression, motion.expression) and torch.equal(again.pose, motion.pose)


def test_swap_takes_the_expression_and_keeps_the_pose() -> None:
    source, driver = Motion(torch.rand(52), torch.randn(6)), Motion(torch.rand(52), torch.randn(6))
    wanted = swap(source, driver)
    assert torch.equal(wanted.expression, driver.expression) and torch.equal(wanted.pose, source.pose)


def test_mirror_swaps_sides_and_undoes_itself() -> None:
    left = expression_of({"eyeBlinkLeft": 0.7, "jawLeft": 0.2, "jawOpen": 0.5, "mouthRight": 1.0})
    right = expression_of({"eyeBlinkRight": 0.7, "jawRight": 0.2, "jawOpen": 0.5, "mouthLeft": 1.0})
    assert torch.equal(mirror(left), right)
    assert torch.equal(mirror(mirror(left)), left)


@pytest.mark.parametrize(("actions", "named"), [({"jawOpened": 0.5}, "jawOpened"), ({"jawOpen": 1.5}, "1.5")])
def test_bad_actions_are_named(actions: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        expression_of(actions)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="52"):
        Motion(torch.zeros(51), torch.zeros(6))
