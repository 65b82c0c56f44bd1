"""Write a warp reenactor as two ONNX graphs, and compare what onnxruntime makes of them with PyTorch.

python scripts/export_onnx.py                                    # the shipped one, at its own size
python scripts/export_onnx.py checkpoint=PATH size=256 out=DIR
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from generation.faces.expressions import expression_bank
from generation.faces.people import sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.motion import Motion
from generation.records import UserError
from generation.reenactors import load_reenactor, shipped
from generation.reenactors.onnx import OnnxReenactor, export_onnx
from scripts.door import configure, entry, say

PARITY = 1e-4
"""Largest difference of a pixel in [0, 1] between the two."""


@dataclass(frozen=True)
class ExportConfig:
    """checkpoint: a path, or the name of a shipped one; size: pixels, null for the checkpoint's own; out: null for the
    run folder."""

    checkpoint: str = "warp_128"
    size: int | None = None
    out: Path | None = None
    seed: int = 0


def parity(reenactor: Any, exported: OnnxReenactor, size: int, seed: int) -> float:
    """The largest difference of image and mask between the two, over 8 expressions of a synthetic person."""
    bank = expression_bank(9, seed)
    frames = Renderer(size).render(sample_person(seed, 0), sample_scene(seed, 0, 0), bank)
    images = torch.from_numpy(frames.image).permute(0, 3, 1, 2).float() / 255
    pose = torch.from_numpy(frames.pose).expand(len(bank), -1)
    motion = Motion(torch.from_numpy(bank), pose).vector()
    source, own, landmarks = images[:1], motion[:1], torch.from_numpy(frames.landmarks[:1])
    worst = 0.0
    with torch.no_grad():
        features, other = reenactor.encode(source, own, landmarks), exported.encode(source, own, landmarks)
        for wanted in torch.chunk(motion[1:], len(motion) - 1):
            one = reenactor.decode(source, features, own, wanted)
            two = exported.decode(source, other, own, wanted)
            worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(one[:2], two[:2], strict=True)))
    return worst


@entry("export_onnx")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(ExportConfig, config)
    reenactor, made = load_reenactor(shipped(settings.checkpoint))
    size = settings.size or int(made["meta"].get("size", 64))
    out = settings.out or folder
    export_onnx(reenactor, size, out)
    difference = parity(reenactor, OnnxReenactor(out), size, settings.seed)
    say(f"{out}: encoder.onnx and frame.onnx for {size} px; largest difference from PyTorch {difference:.1e}")
    if difference > PARITY:
        raise UserError(f"{out}: onnxruntime differs from PyTorch by {difference:.1e}, more than {PARITY}")
    return {"difference": difference, "size": size}


if __name__ == "__main__":
    main()
