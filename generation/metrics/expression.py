"""Expression and pose as a third party reads them: AED, APD, and whether a forgery comes nearer to what was wanted.

The judge is MediaPipe's Face Landmarker. Readings are (N, 52) and (N, 6), rows of NaN where no face was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generation.faces.judges import UNREAD
from generation.metrics.pixels import mean
from generation.motion import ACTIONS

_SCORED = torch.tensor([index for index, name in enumerate(ACTIONS) if name != "tongueOut"])
_UNDERSTOOD = torch.tensor([index for index, name in enumerate(ACTIONS) if name not in UNREAD])


def aed(result: Tensor, target: Tensor) -> Tensor:  # (N, 52) readings -> (N,)
    """AED in the sense of expressions: mean |difference| over the 51 actions that MediaPipe scores (not `tongueOut`).

    Not comparable across readers, nor with FOMM's AED, which is of identity.
    """
    return (result - target)[:, _SCORED].abs().mean(1)


def aed_truth(reading: Tensor, wanted: Tensor) -> Tensor:  # (N, 52) reading, (N, 52) known -> (N,)
    """Mean |reading - wanted| over the actions whose truth MediaPipe's reading follows (all but `judges.UNREAD`)."""
    return (reading - wanted)[:, _UNDERSTOOD].abs().mean(1)


def apd(result: Tensor, target: Tensor) -> Tensor:  # (N, 6) poses -> (N,) radians
    """APD: mean |difference| of pitch, yaw and roll, radians."""
    turn = (result - target)[:, :3]
    return torch.atan2(turn.sin(), turn.cos()).abs().mean(1)


@dataclass(frozen=True)
class ExpressionQuality:
    """How MediaPipe reads the expressions of swaps.

    aed: mean of `aed` between forgery and exact target; aed_copy: the same for copying the source
    aed_truth: mean of `aed_truth` between the forgery's reading and the numbers that were asked for; aed_truth_exact:
        the same for the exact target, what a perfect reenactor would have; aed_truth_copy: for copying the source
    nearer_wanted: share of visible swaps whose forgery's reading is nearer (L2, 51 actions) to the wanted expression
        than the source's reading is; a forgery in which no face is found is not nearer
    nearer_wanted_exact: the same for the exact target in the place of the forgery
    nearer_target: as nearer_wanted, with the target's reading in the place of the wanted expression
    unread: faces not found, by "source", "result" and "target". Means are over the swaps in which all three were read;
        shares over those in which source and target were

    A number is None where no swap could be judged.
    """

    aed: float | None
    aed_copy: float | None
    aed_truth: float | None
    aed_truth_exact: float | None
    aed_truth_copy: float | None
    nearer_wanted: float | None
    nearer_wanted_exact: float | None
    nearer_target: float | None
    unread: dict[str, int]


def expression_quality(
    source: Tensor, result: Tensor, target: Tensor, wanted: Tensor, visible: Tensor
) -> ExpressionQuality:
    """Judge swaps by the readings of their source, result and target, each (N, 52) with NaN rows for faces not found.

    wanted: Tensor   # (N, 52) in [0, 1], the expression that was asked for
    visible: Tensor  # (N,) bool, swaps that count for the shares
    """
    readings = {"source": source, "result": result, "target": target}
    unread = {name: reading.isnan().any(1) for name, reading in readings.items()}
    judged = ~(unread["source"] | unread["target"])
    read = judged & ~unread["result"]

    def nearer(goal: Tensor, reading: Tensor) -> float | None:
        before, after = (torch.linalg.vector_norm((value - goal)[:, _SCORED], dim=1) for value in (source, reading))
        return mean((after < before)[judged & visible].float())  # NaN < x is false: an unread forgery is not nearer

    return ExpressionQuality(
        aed=mean(aed(result, target)[read]),
        aed_copy=mean(aed(source, target)[read]),
        aed_truth=mean(aed_truth(result, wanted)[read]),
        aed_truth_exact=mean(aed_truth(target, wanted)[read]),
        aed_truth_copy=mean(aed_truth(source, wanted)[read]),
        nearer_wanted=nearer(wanted, result),
        nearer_wanted_exact=nearer(wanted, target),
        nearer_target=nearer(target, result),
        unread={name: int(missing.sum()) for name, missing in unread.items()},
    )
