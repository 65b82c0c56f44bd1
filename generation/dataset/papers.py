"""The papers of a set, made of its plan and of what was made of it: `croissant.json`, `DATASHEET.md`, `README.md`.

The datasheet answers what Gebru et al. ask (Datasheets for Datasets, CACM 2021), the card is what Hugging Face shows.
Both are texts of `templates/`, filled with counts; what is said of risks and limits stands once, in `risks.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from generation.dataset import croissant
from generation.dataset.croissant import Held
from generation.dataset.features import CARD, CROISSANT, DATASHEET, PLAN
from generation.dataset.risks import risks
from generation.dataset.sums import digest
from generation.faces.people import ORIGIN
from generation.records import INFO, SPLITS, write_beside

LITTLE = 0.001
"""Share of the picture: a forgery whose mask covers less has hardly changed anything."""

_FACTORS = ("motion", "skin", "age", "yaw", "light", "degradation", "compression", "strength", "region")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_papers(folder: Path) -> None:
    """Write the three papers of a set whose plan, shards and `dataset_info.json` are there. The same set always gives
    the same bytes: no date, no path of this machine."""
    info = json.loads((folder / INFO).read_bytes())
    plan = pd.read_parquet(folder / PLAN)
    facts = _facts(plan, info["kind"], _changed(folder, info["shards"]))
    files = [_held(folder / name) for name in (PLAN, *info["shards"])]
    content = croissant.croissant(_about(facts), facts["risks"], files[0], files[1:], list(plan.columns))
    write_beside(folder / CROISSANT, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    write_beside(folder / DATASHEET, _filled("datasheet.md.j2", facts))
    write_beside(folder / CARD, _filled("card.md.j2", facts))


def _facts(plan: pd.DataFrame, kind: Mapping[str, Any], changed: np.ndarray) -> dict[str, Any]:
    """Everything that the papers tell. changed: share of the picture that is forged, of every forged frame."""
    forged = plan["label"] == 1
    origins = plan[~forged].groupby("origin").agg(clips=("clip", "size"), people=("identity", "nunique"))
    real = bool((origins.index != ORIGIN).any())
    frames = len(plan) * int(kind["frames"])
    facts = {
        **{name: kind[name] for name in ("name", "seed", "design", "source", "size", "flow")},
        "frames_each": kind["frames"],
        "version": kind["version"],
        "clips": len(plan),
        "frames": frames,
        "real": real,
        "shards": int(plan["shard"].max()) + 1,
        "people": int(plan["identity"].nunique()),
        "pairs": int(plan["pair"].nunique()),
        "splits": {split: _split(plan[plan["split"] == split]) for split in SPLITS},
        "reenactors": [_reenactor(plan, name, kind) for name in kind["reenactors"]],
        "factors": {name: counts for name in _FACTORS if (counts := _levels(plan, name))},
        "origins": [{"origin": str(origin), **row} for origin, row in origins.to_dict("index").items()],
        "unchanged": float((changed == 0).mean()),
        "little": float((changed < LITTLE).mean()),
        "changed": float(np.median(changed)),
        "size_category": next((word for most, word in _SIZES if frames < most), "1M<n<10M"),
    }
    return {**facts, "risks": risks(facts)}


def _split(plan: pd.DataFrame) -> dict[str, int]:
    real = plan["label"] == 0
    return {"people": int(plan["identity"].nunique()), "real": int(real.sum()), "forged": int((~real).sum())}


def _reenactor(plan: pd.DataFrame, name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    made = kind["reenactors"][name]
    checkpoint = "" if made["checkpoint"] is None else Path(made["checkpoint"]).name
    counts = {split: int(((plan["method"] == name) & (plan["split"] == split)).sum()) for split in SPLITS}
    return {
        "name": name,
        "checkpoint": checkpoint,
        "sha256": kind["checkpoints"][name],
        "round": made["round"],
        **counts,
    }


def _levels(plan: pd.DataFrame, name: str) -> dict[str, dict[str, int]]:
    """Level -> clips of each split that have it; nothing of a factor that the plan left alone."""
    values = plan[name].replace("", None).dropna()
    found: dict[str, dict[str, int]] = {}
    for level in sorted(values.unique()):
        of_level = plan.loc[values.index[values == level], "split"]
        shown = level if isinstance(level, str) else f"{level:g}"
        found[shown] = {split: int((of_level == split).sum()) for split in SPLITS}
    return found


def _changed(folder: Path, shards: list[str]) -> np.ndarray:
    tables = [pq.read_table(folder / name, columns=["changed"], filters=[("label", "=", 1)]) for name in shards]
    return np.concatenate([table.column("changed").to_numpy() for table in tables])


def _held(path: Path) -> Held:
    """A file with its hash: as it was noted when it was written, where the note is still there."""
    note = path.with_name(f".{path.name}.sha256")
    return Held(path.name, note.read_text() if note.is_file() else digest(path), path.stat().st_size)


def _about(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": facts["name"],
        "description": f"{facts['clips']} clips of {facts['frames_each']} frames, real ones and forgeries of them by "
        f"{len(facts['reenactors'])} face reenactors, in which every factor is known and set: a controlled data set to "
        "test detectors of forged faces with. See DATASHEET.md.",
        "version": f"{facts['version']}.0.0",
        "license": [item["origin"] for item in facts["origins"]],
        "creator": {"@type": "sc:Organization", "name": "a laboratory that runs Vicious Cycle"},
        "citeAs": "The Vicious Cycle authors: Vicious Cycle, a red team and a blue team for face reenactment in one "
        f"laboratory; the data set {facts['name']}, seed {facts['seed']}",
        "keywords": ["face reenactment", "deepfake detection", "robustness", "controlled experiment", "C2PA"],
        "isLiveDataset": False,
    }


def _filled(template: str, facts: Mapping[str, Any]) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("generation.dataset"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**facts).encode()
