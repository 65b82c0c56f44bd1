"""The price of disclosure: one red phase for every way of disclosing one detector, all from the same G0 against the
same D0, and what each cost in quality.

Names: `G0` and the controls `G1_plain` (fine-tuned as long without a detector) and `G0_blur` (G0 blurred until it has
lost as much quality as the worst of the others); `white_box_W` with weight W of the evasion loss; `scores_Q` and
`decisions_Q` with a budget of Q queries. Nobody is trained on the results; `detection.arms_race` tells what retraining
wins back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from detection import metrics
from detection.arms_race import WITHHELD, ArmsRace, Red, joined
from detection.detectors import load_detector
from detection.oracle import ANSWERS
from detection.training import score
from generation.records import Faces

Quality = Mapping[str, float | None]
CONTROLS = ("G1_plain", "G0_blur")


class DisclosureStudy(ArmsRace):
    """`run_study` returns what the summary says; a stopped study goes on as the cycle does."""

    def run_study(
        self, white_box: Mapping[str, Red], budgets: Sequence[int], judge: Callable[[Faces], Quality]
    ) -> dict[str, Any]:
        """white_box: name -> red side that trains with a weight of its own; judge: quality of test forgeries, with
        `changed_l1_ratio`."""
        self._train_red("G0", None, (), ())
        self._forge("G0", 0, "G0")
        self._train_blue("D0", {"G0": 1.0})
        self._train_blue(WITHHELD, {"G0": 1.0}, self.options.withheld)
        self._train_red("G1_plain", "G0", (), ())
        for name, red in white_box.items():
            self._train_red(name, "G0", [self._critic("D0")], [1.0], red)
        searches = {f"{answers}_{queries}": (answers, queries) for answers in ANSWERS for queries in budgets}
        for name, (answers, queries) in searches.items():
            self._search(name, "G1_plain", {"D0": 1.0}, answers, queries)
        names = ["G1_plain", *white_box, *searches]
        for name in names:
            self._forge(name, 1, name, test_only=True)
        return self._judged(["G0", *names], judge)

    def _judged(self, names: Sequence[str], judge: Callable[[Faces], Quality]) -> dict[str, Any]:
        payoff = self._payoff(names, ["D0", WITHHELD])
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            value, low, high = payoff.cell(name, "D0")
            forged = self.forged(name).where(split="test")
            found[name] = {
                "auroc_D0": value,
                "auroc_D0_interval": [low, high],
                "auroc_W0": payoff.cell(name, WITHHELD)[0],
                "passed_D0": self._passed(self._score("D0", name)),
                "queries": self.queries.get(name, 0),
                "quality": self.journal.run(f"judge {name}", partial(judge, forged)),
            }
        worst = max(found.values(), key=lambda one: one["quality"]["changed_l1_ratio"] or 0.0)
        found["G0_blur"] = self.journal.run("judge G0_blur", partial(self._blurred_like, worst["quality"], judge))
        return {"disclosures": found, "withheld": [WITHHELD]}

    def _passed(self, logits: np.ndarray) -> float:
        """The share of forgeries that D0 takes for real, at its own threshold."""
        return float((logits < self.journal.entries["train D0"]["result"]["threshold"]).mean())

    def _blurred_like(self, aim: Quality, judge: Callable[[Faces], Quality]) -> dict[str, Any]:
        sigma = self._blur(aim)["sigma"]
        faces = self._blurred(self.forged("G0").where(split="test"), sigma)
        logits = {name: score(load_detector(self.detector(name)).module, faces.image) for name in ("D0", WITHHELD)}
        aurocs = {
            f"auroc_{name}": metrics.auroc(*joined(self._score(name, None), value)) for name, value in logits.items()
        }
        return {
            **aurocs,
            "passed_D0": self._passed(logits["D0"]),
            "queries": 0,
            "sigma": sigma,
            "quality": dict(judge(faces)),
        }
