"""The families of reenactors beside each other: quality, cost, how well each is detected and told from the others.

Every family is trained from scratch with the same budget on the same faces and forges the same swaps; a detector of the
same kind is trained on each family's forgeries, and one attributor on all of them. `scripts/benchmark.py only=families`
runs it; what lies in the run folder already is taken up.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from detection.attribution import AttributionData, AttributionTrainer, build_attributor, confusion
from detection.data import DetectorData
from detection.detectors import build_detector
from detection.metrics import summarise
from detection.pictures import LABEL, number, sample_grid
from detection.training import DetectorTrainer, choose_threshold, score
from generation.faces.people import FacesConfig
from generation.pairs import Pairs
from generation.records import Faces, UserError, load, write_beside
from generation.reenactors import REENACTORS, load_reenactor
from generation.reenactors.reenactment import blend
from scripts.console import progress
from scripts.data import SOURCES, load_split_faces, records_folder
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import LoggerConfig, TrainerConfig, fit

DETECTOR = "frequency"
"""The family of every detector here."""

QUALITY = (
    "changed_l1_ratio", "psnr", "psnr_face", "ssim", "ssim_face", "background_l1", "aed", "aed_copy", "nearer_wanted",
)  # fmt: skip
"""Figures of `generation.metrics` that are kept; those of expressions are None where they are not judged."""

SHOWN = 8
"""Swaps in the pictures."""


@dataclass(frozen=True)
class FamiliesConfig:
    """The budget that every family gets; `faces` describes the synthetic people."""

    names: tuple[str, ...] = tuple(REENACTORS)
    steps: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    train_forgeries: int = 3000
    validation_forgeries: int = 400
    test_forgeries: int = 1000
    judged: int = 120
    detector_steps: int = 400
    attribution_steps: int = 400
    faces: FacesConfig = field(default_factory=FacesConfig)

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in REENACTORS:
                raise UserError(f"families.names={name}: there is no such reenactor; there are {', '.join(REENACTORS)}")
        if len(set(self.names)) < 2:
            raise UserError(f"families.names={list(self.names)}: at least two families are needed, to be told apart")


@dataclass(frozen=True)
class Families:
    """figures: of each family by name; confusion: (K, K), see `detection.attribution`; accuracy: its mean diagonal."""

    figures: dict[str, dict[str, Any]]
    confusion: np.ndarray
    accuracy: float


def synthetic_faces(config: FamiliesConfig, workers: int) -> Faces:
    """The people of the comparison, from the cache; rendered where they are not there yet."""
    records = records_folder("synthetic", config.faces)
    with progress("synthetic faces") as bar:
        SOURCES["synthetic"].make(config.faces, records, workers, bar)
    return load_split_faces(records)


def compare_families(config: FamiliesConfig, faces: Faces, folder: Path, seed: int, seconds: float) -> Families:
    """Train, forge, detect and attribute; writes `families.md`, `families.png` and a picture of each family.

    faces: real ones of all splits; seconds: for how long the time of a frame is measured.
    """
    figures: dict[str, dict[str, Any]] = {}
    forged: list[Faces] = []
    shown: dict[str, np.ndarray] = {}
    for name in config.names:
        here = folder / name
        figures[name], pictures = _forge(name, config, faces, here, seed, seconds)
        forged.append(load(here / "forgeries"))
        figures[name] |= _detect(config, faces, forged[-1], here, seed)
        write_beside(folder / f"{name}.png", sample_grid(**pictures))
        shown[name] = pictures["forgery"]
    shares = _attribute(config, forged, folder / "attribution", seed)
    for name, share in zip(config.names, np.diag(shares), strict=True):
        figures[name]["attributed"] = float(share)
    found = Families(figures, shares, float(np.diag(shares).mean()))
    write_beside(folder / "families.md", table(found).encode())
    rows = {"source": pictures["source"], "driver": pictures["driver"], **shown, "target": pictures["target"]}
    write_beside(folder / "families.png", families_picture(rows, config.names))
    return found


def _forge(
    name: str, config: FamiliesConfig, faces: Faces, folder: Path, seed: int, seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a family and forge with it: its figures and pictures; the forgeries lie in `folder`/forgeries."""
    generator = GeneratorConfig(
        steps=config.steps, batch=config.batch, learning_rate=config.learning_rate, judged=config.judged
    )
    trainer = TrainerConfig(logger=LoggerConfig(name="none"))
    counts = {
        "train": config.train_forgeries,
        "validation": config.validation_forgeries,
        "test": config.test_forgeries,
    }
    with RedTeam(faces, ReenactorConfig(name), generator, trainer, seed) as red:
        checkpoint = red.train(name, None, (), (), folder / "training")
        red.forge(checkpoint, name, 0, counts, seed * 1000, folder / "forgeries")
        tested = load(folder / "forgeries", "test")
        quality = red.quality(tested)
        pictures = red.pictures(tested, SHOWN)
    network = load_reenactor(checkpoint)[0]
    about = {
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "ms": milliseconds(network, faces, seconds),
    }
    return {key: quality.get(key) for key in QUALITY} | about, pictures


@torch.no_grad()
def milliseconds(network: nn.Module, faces: Faces, seconds: float) -> float:
    """Of one frame, its source looked at before: decoding and blending, the median of as many as fit."""
    source, target = Pairs(faces).draw(1, np.random.default_rng(0))
    image, own, wanted = faces.image[source].float() / 255, faces.motion[source], faces.motion[target]
    features = network.encode(image, own, faces.landmarks[source])  # type: ignore[operator]
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        start = time.perf_counter()
        blend(image, network.decode(image, features, own, wanted))  # type: ignore[operator]
        took.append(time.perf_counter() - start)
    return 1000 * float(np.median(took[1:]))


def _detect(config: FamiliesConfig, faces: Faces, forged: Faces, folder: Path, seed: int) -> dict[str, Any]:
    """AUROC on test people of a detector that was trained on these forgeries, and its interval."""
    steps = config.detector_steps
    network, epoch = build_detector(DETECTOR, seed=seed), max(1, steps // 5)
    data = DetectorData(faces, [forged], batch=64, steps_per_epoch=epoch, seed=seed)
    trainer = TrainerConfig(logger=LoggerConfig(name="none"))
    fit(DetectorTrainer(network, steps, 4e-3), data, folder / "detector", trainer.with_steps(steps, epoch))
    validation, test = data.held("validation"), data.held("test")
    threshold = choose_threshold(validation.label, score(network, validation.image))
    found = summarise(test.label, score(network, test.image), test.identity, threshold, seed)
    return {key: found[key] for key in ("auroc", "auroc_low", "auroc_high", "tpr_at_1_percent_fpr")}


def _attribute(config: FamiliesConfig, forged: Sequence[Faces], folder: Path, seed: int) -> np.ndarray:
    """Which test forgery is taken for whose, (K, K)."""
    steps = config.attribution_steps
    network, epoch = build_attributor(len(forged), seed), max(1, steps // 5)
    data = AttributionData(forged, batch=64, steps_per_epoch=epoch, seed=seed)
    trainer = TrainerConfig(logger=LoggerConfig(name="none"))
    fit(AttributionTrainer(network, steps, 4e-3), data, folder, trainer.with_steps(steps, epoch))
    images, makers = data.held("test")
    return confusion(makers, score(network, images))


def table(found: Families) -> str:
    """The figures as Markdown."""
    head = ("family", "parameters", "L1 ratio", "PSNR, face", "nearer to the wanted expression", "ms a frame", "AUROC")
    lines = [[*head, "attributed"]]
    for name, of in found.figures.items():
        size = f"{of['parameters'] / 1e6:.2f} M" if of["parameters"] else "none"
        interval = f"{number(of['auroc'])} [{number(of['auroc_low'])}, {number(of['auroc_high'])}]"
        wanted = "\u2013" if of["nearer_wanted"] is None else f"{of['nearer_wanted']:.0%}"
        values = [
            size,
            number(of["changed_l1_ratio"]),
            f"{of['psnr_face']:.1f} dB",
            wanted,
            f"{of['ms']:.1f}",
            interval,
        ]
        lines.append([f"`{name}`", *values, f"{of['attributed']:.1%}"])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([rows[0], "|---" * len(lines[0]) + "|", *rows[1:]]) + "\n"


def families_picture(rows: dict[str, np.ndarray], forged: Sequence[str], tile: int = 96) -> bytes:
    """The same swaps in every row as PNG; the rows of `forged` say "AI GENERATED".

    rows: of each kind of picture (N, H, W, 3) uint8, square; enlarged (bicubic) to `tile`
    """
    gap, margin = 4, 150
    count, step = len(next(iter(rows.values()))), tile + gap
    canvas = Image.new("RGB", (margin + count * step, len(rows) * step + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for line, (name, images) in enumerate(rows.items()):
        top = gap + line * step
        draw.text((gap, top + tile / 2 - 10), name, "#1c1f23", ImageFont.load_default(17), anchor="lm")
        if name in forged:
            draw.rectangle((gap, top + tile / 2 + 4, gap + 118, top + tile / 2 + 24), fill="#a8321b")
            draw.text((gap + 59, top + tile / 2 + 14), LABEL, "white", ImageFont.load_default(14), anchor="mm")
        for column, image in enumerate(images):
            face = Image.fromarray(image).resize((tile, tile), Image.Resampling.BICUBIC)
            canvas.paste(face, (margin + column * step, top))
    buffer = io.BytesIO()
    canvas.quantize(256).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
