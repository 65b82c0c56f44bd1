"""The page of an evaluation: made of scores and their leaderboard alone, so anybody's scores get the same page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from detection.evaluation_pictures import MOST, calibration_chart, curves_of, det_chart, roc_chart, severity_chart
from detection.leaderboard import ALL, Leaderboard, Row
from detection.pages import page
from detection.pictures import colours, number
from generation.records import write_beside


@dataclass(frozen=True)
class Picture:
    """A PNG, such as the worst errors or heat maps, and what is to be seen."""

    title: str
    png: bytes
    caption: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything the page says. about: what is known of each detector, such as `images` (how many it was trained on)
    and `seconds`; findings, notes: sentences, limits among the latter."""

    title: str
    when: str
    commit: str
    seed: int
    scores: pd.DataFrame
    found: Leaderboard
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: Sequence[str] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


def clean_rows(rows: Sequence[Row], data: str, level: str = "frame") -> list[Row]:
    """Those of unchanged pictures."""
    return [
        row
        for row in rows
        if row["data"] == data and row["level"] == level and not row["degradation"] and not row["attack"]
    ]


def ranked(rows: Sequence[Row], data: str) -> list[Row]:
    """One row a detector, all methods pooled, the highest AUROC first."""
    clean = clean_rows(rows, data)
    whole = {row["detector"]: row for row in clean if row["method"] == ALL}
    single = {row["detector"]: row for row in clean}
    return sorted((single | whole).values(), key=lambda row: -float(row["auroc"]))


def matrix(rows: Sequence[Row], data: str) -> tuple[list[str], list[str], dict[tuple[str, str], Row]]:
    """Detectors, methods, and their clean rows: trained on one thing, tested on another."""
    clean = [row for row in clean_rows(rows, data) if row["method"] != ALL]
    cells = {(row["detector"], row["method"]): row for row in clean}
    return list(dict.fromkeys(d for d, _ in cells)), list(dict.fromkeys(m for _, m in cells)), cells


def severities(rows: Sequence[Row], data: str, names: Sequence[str]) -> dict[str, dict[str, dict[int, float]]]:
    """degradation -> detector -> severity -> AUROC, pooled where there are several methods."""
    start = {row["detector"]: row["auroc"] for row in ranked(rows, data)}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in _pooled(rows, data):
        if row["degradation"] and row["detector"] in names:
            curves = found.setdefault(row["degradation"], {})
            curves.setdefault(row["detector"], {0: start[row["detector"]]})[row["severity"]] = row["auroc"]
    return found


def attacked(rows: Sequence[Row], data: str) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Names of the attacks, and detector -> attack -> AUROC, pooled where there are several methods."""
    found: dict[str, dict[str, float]] = {}
    for row in _pooled(rows, data):
        if row["attack"]:
            found.setdefault(row["detector"], {})[row["attack"]] = row["auroc"]
    return list(dict.fromkeys(attack for of in found.values() for attack in of)), found


def _pooled(rows: Sequence[Row], data: str) -> list[Row]:
    here = [row for row in rows if row["data"] == data and row["level"] == "frame"]
    several = any(row["method"] == ALL for row in here)
    return [row for row in here if not several or row["method"] == ALL]


def headline(evaluation: Evaluation) -> str:
    """Who is best on each data set, with the interval."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in evaluation.found.rows):
        best, *others = ranked(evaluation.found.rows, data)
        interval = "" if best["low"] is None else f" [{number(best['low'])}, {number(best['high'])}]"
        among = f"of {len(others) + 1} detectors " if others else ""
        parts.append(f"On {data}, {among}{best['detector']} has AUROC {number(best['auroc'])}{interval}.")
    return " ".join(parts)


FEW = 60
"""Sets of no more clips are shown clip by clip."""


def clip_by_clip(clean: pd.DataFrame, names: Sequence[str]) -> list[Row]:
    """Every clip of a small set with its mean log-odds by each detector, forged ones first; [] for large sets."""
    keys = ["label", "method", "clip"]
    if len(clean[keys].drop_duplicates()) > FEW:
        return []
    table = clean.pivot_table(index=keys, columns="detector", values="score", aggfunc="mean").reindex(
        columns=list(names)
    )
    rows = zip(table.index.tolist(), table.to_numpy().tolist(), strict=True)
    found: list[Row] = [
        {"label": label, "method": method, "clip": clip, "scores": scores} for (label, method, clip), scores in rows
    ]
    return found[::-1]


def _sections(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows, scores = evaluation.found.rows, evaluation.scores
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        order = ranked(rows, data)
        names = [row["detector"] for row in order[:MOST]]
        here = scores[(scores["data"] == data) & (scores["split"] == "test")]
        clean = here[(here["degradation"] == "") & (here["attack"] == "")]
        curves = curves_of(clean, names)
        known = evaluation.found.calibration
        detectors, methods, cells = matrix(rows, data)
        found.append(
            {
                "data": data,
                "order": order,
                "clips": [row for row in clean_rows(rows, data, "clip") if len(methods) == 1 or row["method"] == ALL],
                "shown": names,
                "few": clip_by_clip(clean, names),
                "roc": roc_chart(curves),
                "det": det_chart(curves),
                "calibration": [
                    calibration_chart(
                        name,
                        truth,
                        score,
                        score / known[name, data].temperature if (name, data) in known else None,
                    )
                    for name, (truth, score) in curves.items()
                ],
                "severity": [severity_chart(title, of) for title, of in severities(rows, data, names).items()],
                "attacks": attacked(rows, data),
                "matrix": (detectors, methods, cells),
                "groups": [row for row in evaluation.found.groups if row["data"] == data],
                "differences": [row for row in evaluation.found.differences if row["data"] == data],
            }
        )
    return found


def render(evaluation: Evaluation) -> str:
    """The page as text; the same evaluation always gives the same page."""
    return page(
        "evaluation.html.j2",
        page=evaluation,
        headline=headline(evaluation),
        sections=_sections(evaluation),
        colours=colours,
        most=MOST,
        costs=sorted({key for about in evaluation.about.values() for key in about if key in COSTS}, key=COSTS.index),
        names={
            "images": "training images",
            "people": "people",
            "parameters": "parameters",
            "seconds": "seconds of training",
        },
    )


COSTS = ["images", "people", "parameters", "seconds"]
"""What a detector's training took, where it is known."""


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write the page beside `path` and rename it."""
    write_beside(path, render(evaluation).encode())
