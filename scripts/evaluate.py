"""Detectors x data sets x degradations x attacks -> a leaderboard and a page.

python scripts/evaluate.py experiment=cross_generator     # robustness, attacks, self_blend_only, fairness
python scripts/evaluate.py scores=FILE.csv                # anybody's scores: label, score, and more
python scripts/evaluate.py sets.mine=DIR detectors.D0=FILE.safetensors
python scripts/evaluate.py detector=external detector.path=FILE.onnx data=DIR

DIR is a folder of records with real and forged faces, or of pictures in real/ and fake/. A run that was stopped goes on
where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import nn

from detection.clips import takes_clips
from detection.detectors import build_detector, load_detector
from detection.evaluate import AttackConfig, conditions, evaluate
from detection.evaluation_pictures import face_grid
from detection.evaluation_report import Evaluation, Picture, headline, ranked, write_report
from detection.leaderboard import ALL, Leaderboard, Row, leaderboard, write_leaderboard
from detection.pictures import heated, number
from detection.scores import read_scores, write_scores
from generation.faces.people import FacesConfig
from generation.pairs import check_splits
from generation.records import Faces, UserError
from scripts.bench import Arm, ForgeConfig, Forger, Recipe, arms, forgeries, train
from scripts.data import apart_from_data, load_labelled_faces, load_split_faces, prepare
from scripts.door import configure, entry, progress, say
from scripts.groups import Belongs, groups_of
from scripts.summary import commit
from scripts.train_detector import DetectorConfig
from scripts.trainer import TrainerConfig

NAMED = ("sets", "detectors", "recipes", "forgers")
PATHS = {"data": "sets.data", "detector.path": "detector.options.path"}


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything but the faces of `data`; see conf/evaluate.yaml."""

    scores: Path | None = None
    sets: dict[str, Path] = field(default_factory=dict)
    size: int = 128
    whole: bool = False
    clip: int = 8
    detectors: dict[str, Path] = field(default_factory=dict)
    detector: DetectorConfig | None = None
    recipes: dict[str, Recipe] = field(default_factory=dict)
    forgers: dict[str, Forger] = field(default_factory=dict)
    forge: ForgeConfig = field(default_factory=ForgeConfig)
    degradations: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    attacks: AttackConfig = field(default_factory=AttackConfig)
    groups: bool = False
    resamples: int = 1000
    shown: int = 6
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        if self.scores is not None:
            return
        if not self.forgers and not self.sets:
            raise UserError(
                "evaluate: nothing to evaluate; give experiment=cross_generator (robustness, attacks, self_blend_only, "
                "fairness), scores=FILE.csv, or sets.NAME=DIR"
            )
        if not self.recipes and not self.detectors and self.detector is None:
            raise UserError("evaluate: no detector; give detectors.NAME=FILE.safetensors, detector=NAME or recipes")
        if self.recipes and not self.forgers:
            raise UserError("recipes: they are trained on what `forgers` make of `data`; give forgers too")
        if self.resamples < 0:
            raise UserError(f"resamples={self.resamples}: must be 0 (no intervals) or more")


class Competition(NamedTuple):
    """Who is compared on what, and what is known of each detector."""

    detectors: dict[str, nn.Module]
    sets: dict[str, Faces]
    about: dict[str, dict[str, Any]]
    arms: list[Arm]
    groups: dict[str, Belongs]


@entry("evaluate", named=NAMED, paths=PATHS)
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(EvaluateConfig, apart_from_data(config))
    title = f"Evaluation: {folder.name}"
    if settings.scores is not None:
        scores = read_scores(settings.scores)
        found = _leaderboard(scores, settings, {})
        page = _page(title, settings, scores, found, {}, (), ())
        return _finish(folder, page, {})
    wanted = conditions(settings.degradations, settings.severities, settings.attacks)
    competition = _competition(settings, config.data, folder)
    with progress("scores") as bar:
        scores = evaluate(
            competition.detectors,
            competition.sets,
            wanted,
            folder,
            attacks=settings.attacks,
            clip=settings.clip,
            seed=settings.seed,
            progress=bar,
        )
    write_scores(folder / "scores.parquet", scores)
    found = _leaderboard(scores, settings, competition.groups)
    left_out = leave_one_out(found.rows, competition.arms)
    pictures = _pictures(competition, scores, found, settings.shown)
    page = _page(title, settings, scores, found, competition.about, _findings(left_out), pictures)
    return _finish(folder, page, {"leave_one_out": left_out})


def _leaderboard(scores: pd.DataFrame, settings: EvaluateConfig, groups: Mapping[str, Belongs]) -> Leaderboard:
    with progress("figures") as bar:
        return leaderboard(scores, groups=groups, resamples=settings.resamples, seed=settings.seed, progress=bar)


def _competition(settings: EvaluateConfig, data: DictConfig, folder: Path) -> Competition:
    detectors: dict[str, nn.Module] = {}
    about: dict[str, dict[str, Any]] = {}
    sets: dict[str, Faces] = {}
    members: list[Arm] = []
    groups: dict[str, Belongs] = {}
    for name, path in settings.detectors.items():
        made = load_detector(path)
        detectors[name], about[name] = made.module, made.meta
    if settings.detector is not None:
        detectors[settings.detector.name] = build_detector(settings.detector.name, settings.detector.options).eval()
    for name, path in settings.sets.items():
        sets[name] = load_labelled_faces(path, settings.size)
        if settings.whole:
            sets[name] = replace(sets[name], split=np.full(len(sets[name]), "test"))
        check_splits(sets[name], str(path), ("test",))
    if settings.forgers:
        records = prepare(data, settings.workers)
        real = load_split_faces(records)
        forged = forgeries(settings.forgers, settings.forge, real, records, settings.trainer, settings.seed)
        if settings.groups:
            if data.name != "synthetic" or data.get("records"):
                raise UserError("groups: they are known of rendered people only; use data=synthetic, or groups=false")
            plain = {str(key): value for key, value in data.items() if key not in ("name", "records")}
            groups = groups_of(configure(FacesConfig, plain, "data"))
        members = arms(settings.recipes, tuple(settings.forgers))
        for arm in members:
            made = train(arm, settings.recipes, real, forged, settings.trainer, settings.seed, folder / "detectors")
            detectors[arm.name], about[arm.name] = made.module, made.meta
        sets[str(data.name)] = Faces.concatenate([real, *forged.values()])
    return Competition(detectors, sets, about, members, groups)


def leave_one_out(rows: list[Row], members: list[Arm]) -> dict[str, dict[str, float]]:
    """recipe -> left out family -> AUROC on that family of the detector that never saw it, and `mean`. A recipe that
    sees no forgery at all is tested on every family."""
    clean = {(row["detector"], row["method"]): row["auroc"] for row in rows if _is_clean(row)}
    families = dict.fromkeys(family for arm in members for family in arm.families)
    found: dict[str, dict[str, float]] = {}
    for arm in members:
        tested = [arm.left_out] if arm.left_out else [] if arm.families else list(families)
        for family in tested:
            if (arm.name, family) in clean:
                found.setdefault(arm.recipe, {})[family] = clean[arm.name, family]
    return {recipe: {**of, "mean": float(np.mean(list(of.values())))} for recipe, of in found.items()}


def _is_clean(row: Row) -> bool:
    return row["level"] == "frame" and not row["degradation"] and not row["attack"] and row["method"] != ALL


def _findings(left_out: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"Recipe {recipe}, on families that it never saw: mean AUROC {number(of['mean'])} ("
        + ", ".join(f"{family} {number(value)}" for family, value in of.items() if family != "mean")
        + ")."
        for recipe, of in left_out.items()
    ]


def _pictures(competition: Competition, scores: pd.DataFrame, found: Leaderboard, shown: int) -> list[Picture]:
    """The worst errors of the best detector of each set, and heat maps of the best that has some."""
    pictures = []
    clean = scores[(scores["split"] == "test") & (scores["degradation"] == "") & (scores["attack"] == "")]
    for data, faces in competition.sets.items():
        test = faces.where(split="test")
        frames = {name for name, module in competition.detectors.items() if not takes_clips(module)}
        order = [row["detector"] for row in ranked(found.rows, data) if row["detector"] in frames]
        if not order:
            continue
        logits = clean.loc[(clean["data"] == data) & (clean["detector"] == order[0]), "score"].to_numpy()
        truth = test.label.numpy()
        forged, real = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
        missed = forged[np.argsort(logits[forged])[:shown]]
        alarms = real[np.argsort(-logits[real])[:shown]]
        rows = [
            ("forged, most\nlike real", [(_pixels(test, i), f"{test.method[i]} {logits[i]:.1f}") for i in missed]),
            ("real, most\nlike forged", [(_pixels(test, i), f"{logits[i]:.1f}") for i in alarms]),
        ]
        caption = f"The worst errors of {order[0]}, with its log-odds. The upper row is AI generated."
        pictures.append(Picture(f"Worst errors on {data}", face_grid(rows), caption))
        locating = [name for name in order if hasattr(competition.detectors[name], "locate")]
        if locating:
            pictures.append(_heat(data, locating[0], competition.detectors[locating[0]], test, shown))
    return pictures


@torch.no_grad()
def _heat(data: str, name: str, module: Any, test: Faces, shown: int) -> Picture:
    forged = np.flatnonzero(test.label.numpy() == 1)
    chosen = forged[np.linspace(0, len(forged) - 1, shown).astype(int)]
    heat = torch.sigmoid(module.locate(test.image[chosen].float() / 255).heat)[:, 0].numpy()
    masks = test.mask[chosen, 0].numpy() / 255
    faces = [_pixels(test, i) for i in chosen]
    rows = [
        ("forgery", [(face, str(test.method[i])) for face, i in zip(faces, chosen, strict=True)]),
        ("found", [(heated(face, of), "") for face, of in zip(faces, heat, strict=True)]),
        ("truth", [(heated(face, of), "") for face, of in zip(faces, masks, strict=True)]),
    ]
    return Picture(
        f"Heat maps on {data}", face_grid(rows), f"What {name} holds for changed, and what was. AI generated."
    )


def _pixels(faces: Faces, index: int) -> np.ndarray:
    pixels: np.ndarray = faces.image[index].permute(1, 2, 0).numpy()
    return pixels


def _page(
    title: str,
    settings: EvaluateConfig,
    scores: pd.DataFrame,
    found: Leaderboard,
    about: Mapping[str, Mapping[str, Any]],
    findings: Any,
    pictures: Any,
) -> Evaluation:
    when = time.strftime("%Y-%m-%d")
    return Evaluation(title, when, commit(), settings.seed, scores, found, about, findings, (), pictures)


def _finish(folder: Path, page: Evaluation, more: dict[str, Any]) -> dict[str, Any]:
    write_leaderboard(folder / "leaderboard", page.found, page.about, page.commit)
    write_report(folder / "report.html", page)
    for line in (headline(page), *page.findings):
        say(line)
    for name, doubts in page.found.unreliable.items():
        for doubt in doubts:
            say(f"{name}: {doubt}")
    say(f"report: {folder / 'report.html'}")
    return {
        "leaderboard": page.found.rows,
        "differences": page.found.differences,
        "groups": page.found.groups,
        "unreliable": page.found.unreliable,
        "about": page.about,
        **more,
    }


if __name__ == "__main__":
    main()
