"""Which detectors take part in the cycle, and how they are trained: tiny cycles in one process."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detection.arms_race import ArmsRace
from detection.cycle import CLIPS, CycleOptions
from detection.data import Batch
from detection.detectors import DETECTORS, TRAINABLE, load_detector
from detection.training import DetectorTrainer
from generation.records import Faces, UserError
from scripts.arms_race import fit_for
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import LoggerConfig, TrainerConfig

TRAINER = TrainerConfig(accelerator="cpu", progress=False, logger=LoggerConfig("none"))
REENACTOR = ReenactorConfig("warp", {"widths": [16, 32], "blocks": 1, "refine_width": 16})
GENERATOR = GeneratorConfig(
    steps=4, steps_per_epoch=4, batch=4, fine_tune_steps=3, precision="32-true", judged=0
)  # fmt: skip
STEPS = 3
COUNTS: dict[str, Any] = {
    "rounds": 2, "train_forgeries": 12, "validation_forgeries": 8, "test_forgeries": 12, "detector_steps": STEPS,
    "detector_batch": 8, "resamples": 10,
}  # fmt: skip


def run(faces: Faces, folder: Path, **options: Any) -> dict[str, Any]:
    with RedTeam(faces, REENACTOR, GENERATOR, TRAINER, 0) as red:
        cycle = CycleOptions(**COUNTS | options)
        return ArmsRace(faces, red, partial(fit_for, TRAINER), cycle, folder, 0, lambda line: None).run()


@pytest.mark.parametrize("pool", ["latest", "uniform", "nash"])
def test_a_localizer_is_disclosed_and_learns_from_masks_and_attacks(
    pool: str, faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, list[Tensor | None]] = {True: [], False: []}
    loss = DetectorTrainer.loss

    def watched(self: DetectorTrainer, batch: Batch) -> Tensor:
        seen[hasattr(self.network, "locate")].append(batch.mask)
        return loss(self, batch)

    monkeypatch.setattr(DetectorTrainer, "loss", watched)
    found = run(faces, tmp_path, disclosed="localizer", withheld="mesonet", pool=pool, adversarial=0.25)
    assert np.isfinite(found["payoff"]["matrix"]).all() and found["adversarial"] == 0.25
    assert len(seen[True]) == 3 * STEPS and all(mask is not None and mask.any() for mask in seen[True])
    assert seen[False] == [None] * STEPS
    assert load_detector(tmp_path / "detectors" / "D1.safetensors").name == "localizer"
    weights = {name: load_file(tmp_path / "reenactors" / f"{name}.safetensors") for name in ("G1", "G1_plain")}
    assert any(not torch.equal(value, weights["G1_plain"][key]) for key, value in weights["G1"].items())
    members = json.loads((tmp_path / "detectors" / "D1.json").read_text())["meta"]["pool"]
    allowed = {"latest": [["G1"]], "uniform": [["G0", "G1"]], "nash": [["G0"], ["G1"], ["G0", "G1"]]}
    assert list(members) in allowed[pool]


class _StopError(Exception):
    pass


def test_attacks_change_the_disclosed_detectors_alone_and_a_stop_changes_nothing(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DetectorTrainer.training_step

    def stopping(self: DetectorTrainer, batch: Batch, index: int) -> Tensor:
        if self.global_step == STEPS - 2:
            raise _StopError
        return step(self, batch, index)

    with monkeypatch.context() as patch, pytest.raises(_StopError):
        patch.setattr(DetectorTrainer, "training_step", stopping)
        run(faces, tmp_path / "stopped", rounds=1, adversarial=0.5)
    assert list(json.loads((tmp_path / "stopped" / "journal.json").read_text())) == ["train G0", "forge G0"]
    weights = {}
    for name, share in (("plain", 0.0), ("whole", 0.5), ("stopped", 0.5)):
        assert run(faces, tmp_path / name, rounds=1, adversarial=share)["adversarial"] == share
        detectors = tmp_path / name / "detectors"
        weights[name] = [(detectors / f"{detector}.safetensors").read_bytes() for detector in ("D0", "W0")]
    assert weights["stopped"] == weights["whole"]
    assert weights["plain"][0] != weights["whole"][0] and weights["plain"][1] == weights["whole"][1]


@pytest.mark.parametrize("name", DETECTORS)
def test_what_can_be_trained_takes_part_and_clips_are_not_disclosed(name: str) -> None:
    other = "mesonet" if name != "mesonet" else "frequency"
    for key, refused in (("withheld", name not in TRAINABLE), ("disclosed", name not in TRAINABLE or name in CLIPS)):
        options = {key: name, ({"withheld", "disclosed"} - {key}).pop(): other}
        if refused:
            with pytest.raises(UserError, match=rf"cycle\.{key}={name}: ") as caught:
                CycleOptions(**options)
            assert "\n" not in str(caught.value)
        else:
            CycleOptions(**options)


def test_a_detector_of_clips_cannot_be_disclosed() -> None:
    with pytest.raises(UserError, match=r"cycle\.disclosed=temporal: looks at clips"):
        CycleOptions(disclosed="temporal")
    assert CycleOptions(withheld="temporal").withheld == "temporal"
    assert CLIPS == ("temporal",)
