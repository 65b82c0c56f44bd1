"""Motion: how a face is held and what it expresses, in 58 named numbers.

An expression is 52 ARKit facial actions in [0, 1]. A pose is six numbers in the frame of the crop:

    rotation     (pitch, yaw, roll) in radians; positive pitch looks up, positive yaw turns the face to
                 the viewer's right, positive roll turns it clockwise as the viewer sees it
    translation  (x, y): where the midpoint between the eye centres lies, in crop units: (0, 0) is the centre, the
                 crop's left and top edges are -1, its right and bottom edges +1
    scale        distance between the eye centres at zero rotation, in the same units

The expression acts before the rotation: x = s((x_c + delta) R) + t (PerformRecast, arXiv 2603.19731).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BOTH_SIDES = ("Left", "Right")

ACTIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 ARKit facial actions, in the order of MediaPipe's blend shapes, with ARKit's `tongueOut` last."""

POSE: tuple[str, ...] = ("pitch", "yaw", "roll", "x", "y", "scale")
EXPRESSION_SIZE = len(ACTIONS)
MOTION_SIZE = EXPRESSION_SIZE + len(POSE)


def expression_of(actions: dict[str, float]) -> Tensor:  # (52,)
    """An expression from named actions; what is not named is 0.

    Raises `ValueError` for a name that is no action or a value outside [0, 1].
    """
    expression = torch.zeros(EXPRESSION_SIZE)
    for name, value in actions.items():
        if name not in ACTIONS:
            raise ValueError(f"{name!r} is no facial action; the 52 names are {', '.join(ACTIONS)}")
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value} is outside [0, 1]")
        expression[ACTIONS.index(name)] = value
    return expression


def mirror(expression: Tensor) -> Tensor:  # (..., 52) -> (..., 52)
    """The expression of the mirrored face: every left action becomes the right one and the other way round.

    `jawLeft` and `mouthLeft` swap with their right-hand partners in the same way.
    """
    return expression[..., _MIRROR_ORDER]


def _mirror_order() -> list[int]:
    order = []
    for name in ACTIONS:
        for side, other in (_BOTH_SIDES, _BOTH_SIDES[::-1]):
            if name.endswith(side):
                name = name.removesuffix(side) + other
                break
        order.append(ACTIONS.index(name))
    return order


_MIRROR_ORDER = _mirror_order()


@dataclass(frozen=True)
class Motion:
    """Expression and pose of one face or of a batch of faces.

    expression: Tensor  # (..., 52) in [0, 1], the order of `ACTIONS`
    pose: Tensor        # (..., 6), the order of `POSE`
    """

    expression: Tensor
    pose: Tensor

    def __post_init__(self) -> None:
        if self.expression.shape[-1] != EXPRESSION_SIZE or self.pose.shape[-1] != len(POSE):
            raise ValueError(
                f"a Motion needs an expression (..., {EXPRESSION_SIZE}) and a pose (..., {len(POSE)}), "
                f"not {tuple(self.expression.shape)} and {tuple(self.pose.shape)}"
            )

    def vector(self) -> Tensor:  # (..., 58)
        """What reenactors take: the expression followed by the pose."""
        return torch.cat([self.expression, self.pose], dim=-1)

    @classmethod
    def from_vector(cls, vector: Tensor) -> Motion:
        """The inverse of `vector`."""
        return cls(vector[..., :EXPRESSION_SIZE], vector[..., EXPRESSION_SIZE:])


def swap(source: Motion, driver: Motion) -> Motion:
    """The wanted motion of an expression swap: the driver's expression in the source's own pose."""
    return Motion(driver.expression, source.pose)
