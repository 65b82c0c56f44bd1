"""What the red team gets of a detector whose insides it does not see: answers, and only so many of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detection.detectors import Detector
from detection.training import score

ANSWERS = ("scores", "decisions")
"""Log-odds, or the detector's verdict at its own threshold, chosen on validation identities."""


class BudgetSpentError(RuntimeError):
    """A query would go beyond the budget; it was not answered."""


class Oracle:
    """Detectors behind a counter; called with 8-bit images, as files hold them, so that no gradient can come back.

    answers: one of `ANSWERS`
    budget: queries allowed; every image that a detector scores is one
    asked: queries so far; a search that is taken up again sets it to what it had asked
    weights: (D,) how much each detector counts, summing to 1; those of weight 0 are left out and never asked
    """

    def __init__(self, detectors: Sequence[Detector], weights: Sequence[float], answers: str, budget: int) -> None:
        if answers not in ANSWERS:
            raise ValueError(f"answers={answers}: allowed are {', '.join(ANSWERS)}")
        used = [(detector, weight) for detector, weight in zip(detectors, weights, strict=True) if weight > 0]
        self.answers, self.budget, self.asked = answers, budget, 0
        self.weights = torch.tensor([weight for _, weight in used], dtype=torch.float64)
        self.weights /= self.weights.sum()
        self._detectors = [detector for detector, _ in used]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> (B, D): float64 log-odds, or bool, True where it is called forged.

        Raises `BudgetSpentError`, and asks nothing, where the budget does not reach.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images of {images.dtype}: a detector is asked about 8-bit images")
        price = len(images) * len(self._detectors)
        if self.asked + price > self.budget:
            raise BudgetSpentError(f"{self.asked} of {self.budget} queries are spent; {price} more were wanted")
        self.asked += price
        columns = []
        for detector in self._detectors:
            logits = torch.from_numpy(score(detector.module, images))
            columns.append(logits >= detector.meta["threshold"] if self.answers == "decisions" else logits)
        return torch.stack(columns, dim=1)
