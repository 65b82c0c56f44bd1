"""Scores -> the leaderboard: figures with intervals for every detector, data set, method and condition; differences
between detectors; groups of people; and whether a detector's figures are to be relied on.

One file a detector, as RobustBench has it (Croce et al., NeurIPS Datasets 2021, arXiv 2010.09670).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from detection import metrics
from detection.attacks import BLIND
from detection.scores import KEYS
from detection.training import choose_threshold
from generation.records import UserError, write_beside

ALL = "all"
"""The method of rows in which all methods are pooled."""

HARM = 0.02
"""A blind attack that brings the AUROC so much lower than every attack by gradients flags a detector."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """What validation faces say of a detector: from which log-odds it says forged, and what its log-odds are to be
    divided by."""

    threshold: float
    temperature: float


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """rows: see `figures`; differences: DeLong's test of every two detectors on the pooled clean faces of a data set,
    p-values corrected by Holm over the table; groups: AUROC of groups of people, the worst first; unreliable: why, by
    detector; calibration: by (detector, data)"""

    rows: list[Row]
    differences: list[Row]
    groups: list[Row]
    unreliable: dict[str, list[str]]
    calibration: dict[tuple[str, str], Calibration]


def calibrations(scores: pd.DataFrame) -> dict[tuple[str, str], Calibration]:
    """From the clean validation faces of each detector and data set that has any of both classes."""
    clean = scores[(scores["split"] == "validation") & (scores["degradation"] == "") & (scores["attack"] == "")]
    return {
        (str(detector), str(data)): Calibration(
            choose_threshold(part["label"], part["score"]), metrics.temperature(part["label"], part["score"])
        )
        for (detector, data), part in clean.groupby(["detector", "data"], sort=False)
        if part["label"].nunique() == 2
    }


def by_clip(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a clip: the mean log-odds of its frames."""
    keys = [*KEYS, "method", "clip", "identity", "split", "label"]
    return scores.groupby(keys, sort=False, as_index=False).agg(score=("score", "mean"), frame=("frame", "min"))


def leaderboard(
    scores: pd.DataFrame,
    *,
    groups: Mapping[str, Callable[[pd.DataFrame], np.ndarray]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Leaderboard:
    """Everything that can be said from scores alone.

    scores: see `detection.scores`; groups: {name: rows -> (N,) whether each is of that group}
    Raises `UserError` where no data set has test faces of both classes.
    """
    known = calibrations(scores)
    test = scores[scores["split"] == "test"]
    parts = list(test.groupby(list(KEYS), sort=False))
    rows: list[Row] = []
    for index, (keys, part) in enumerate(parts):
        found = known.get((str(keys[0]), str(keys[1])))
        levels = {"frame": part}
        if part.duplicated(["clip", "method"]).any():
            levels["clip"] = by_clip(part)
        for level, faces in levels.items():
            rows += _rows(dict(zip(KEYS, keys, strict=True)), level, faces, found, resamples, seed)
        if progress is not None:
            progress(index + 1, len(parts))
    if not rows:
        kind = "forged" if test["label"].eq(0).all() else "real"
        raise UserError(f"scores: no {kind} faces in the test split; figures need real and forged ones")
    clean = test[(test["degradation"] == "") & (test["attack"] == "")]
    return Leaderboard(
        rows,
        _differences(clean),
        _groups(clean, groups or {}, seed),
        {name: _doubts(name, scores, rows) for name in scores["detector"].unique()},
        known,
    )


def _rows(
    keys: Row, level: str, faces: pd.DataFrame, known: Calibration | None, resamples: int, seed: int
) -> list[Row]:
    real, forged = faces[faces["label"] == 0], faces[faces["label"] == 1]
    if real.empty or forged.empty:
        return []
    methods = list(forged["method"].unique())
    chosen = {ALL: forged} if len(methods) != 1 else {}
    chosen |= {method: forged[forged["method"] == method] for method in methods}
    return [
        {**keys, "method": method, "level": level, **figures(pd.concat([real, some]), known, resamples, seed)}
        for method, some in chosen.items()
    ]


def figures(faces: pd.DataFrame, known: Calibration | None, resamples: int = 1000, seed: int = 0) -> Row:
    """All figures of some faces. `low` and `high` bound the AUROC by a bootstrap over identities, None for fewer than
    two; what needs validation faces is None without them."""
    truth, score = faces["label"].to_numpy(), faces["score"].to_numpy()
    identity = faces["identity"].to_numpy()
    low = high = None
    if len(np.unique(identity)) > 1 and resamples:
        low, high = metrics.bootstrap_by_identity(metrics.auroc, truth, score, identity, resamples, seed)
    scaled = None if known is None else score / known.temperature
    return {
        "n": len(faces),
        "real": int((truth == 0).sum()),
        "forged": int(truth.sum()),
        "identities": len(np.unique(identity)),
        "auroc": metrics.auroc(truth, score),
        "low": low,
        "high": high,
        "ap": metrics.average_precision(truth, score),
        "eer": metrics.eer(truth, score),
        "tpr1": metrics.tpr_at_fpr(truth, score, 0.01),
        "tpr01": metrics.tpr_at_fpr(truth, score, 0.001),
        "balanced_accuracy": None if known is None else metrics.balanced_accuracy(truth, score, known.threshold),
        "brier": metrics.brier(truth, score),
        "ece": _balanced_ece(truth, score),
        "ece_scaled": None if scaled is None else _balanced_ece(truth, scaled),
        "cllr": metrics.cllr(truth, score),
        "cllr_scaled": None if scaled is None else metrics.cllr(truth, scaled),
        "cllr_min": metrics.cllr_min(truth, score),
    }


def _balanced_ece(truth: np.ndarray, score: np.ndarray) -> float:
    """ECE with real and forged faces counting the same in all: log-odds are meant for prior odds of 1."""
    weights = np.where(truth == 1, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    return metrics.ece(truth, score, weights=weights)


def _differences(clean: pd.DataFrame) -> list[Row]:
    """Every two detectors on the very same faces of a data set."""
    found: list[Row] = []
    face = ["method", "clip", "frame", "identity", "label"]
    for data, part in clean.groupby("data", sort=False):
        names = list(part["detector"].unique())
        table = part.pivot_table(index=face, columns="detector", values="score", sort=False)
        for a, b in combinations(names, 2):
            both = table[[a, b]].dropna().reset_index()
            people = both.groupby("label")["identity"].nunique()
            if len(people) < 2 or people.min() < 2:
                continue
            test = metrics.delong(both["label"], both[a], both[b], both["identity"])
            found.append({"data": data, "a": a, "b": b, "difference": test.value, "error": test.error, "p": test.p})
    for row, p in zip(found, metrics.holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
    return found


def _groups(clean: pd.DataFrame, groups: Mapping[str, Callable[[pd.DataFrame], np.ndarray]], seed: int) -> list[Row]:
    found: list[Row] = []
    for (detector, data), part in clean.groupby(["detector", "data"], sort=False):
        if not groups or part["label"].nunique() < 2:
            continue
        members = {name: belongs(part) for name, belongs in groups.items()}
        given = part["label"], part["score"], part["identity"]
        for group in metrics.by_group(metrics.auroc, *given, members, seed):
            found.append({"detector": detector, "data": data, **group._asdict()})
    return found


def _doubts(name: str, scores: pd.DataFrame, rows: Sequence[Row]) -> list[str]:
    """Why this detector's figures may mislead; empty where nothing speaks against them."""
    own = scores[scores["detector"] == name]
    doubts = []
    if metrics.looks_like_probabilities(own["score"]):
        doubts.append("its scores lie in [0, 1] and look like probabilities; log-odds are due")
    attacked = [row for row in rows if row["detector"] == name and row["attack"] and row["method"] == ALL]
    attacked = attacked or [row for row in rows if row["detector"] == name and row["attack"]]
    for target in ("forged", "real"):
        worst: dict[str, float] = {}
        for row in attacked:
            kind, _, side = row["attack"].partition(" ")
            if side == target:
                worst[kind] = min(row["auroc"], worst.get(kind, 1.0))
        seeing = [value for kind, value in worst.items() if kind not in BLIND]
        blind = [value for kind, value in worst.items() if kind in BLIND]
        if seeing and blind and min(blind) < min(seeing) - HARM:
            doubts.append(
                f"a blind attack on {target} faces does more harm (AUROC {min(blind):.3f}) than any by gradients "
                f"({min(seeing):.3f}): its gradients are masked"
            )
    if any(row["identities"] < 10 for row in rows if row["detector"] == name):
        doubts.append("measured on fewer than ten people")
    return doubts


def write_leaderboard(folder: Path, found: Leaderboard, about: Mapping[str, Mapping[str, Any]], commit: str) -> None:
    """`folder`/<detector>.json: its figures, intervals, doubts, calibration, what is known of it, and the commit."""
    for name, doubts in found.unreliable.items():
        content = {
            "detector": name,
            "commit": commit,
            "unreliable": bool(doubts),
            "doubts": doubts,
            "about": dict(about.get(name, {})),
            "calibration": {
                data: {"threshold": one.threshold, "temperature": one.temperature}
                for (detector, data), one in found.calibration.items()
                if detector == name
            },
            "rows": [row for row in found.rows if row["detector"] == name],
        }
        file = re.sub(r"[^\w.-]", "_", name) + ".json"
        write_beside(folder / file, json.dumps(content, indent=1).encode())
