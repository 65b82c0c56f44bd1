"""Scores as a table that anybody can read and recompute figures from: one row a face, a detector and a condition.

CSV or Parquet. `label` (0 real, 1 forged) and `score` (log-odds) must be there; the others have defaults, so that a
file of two columns is enough:

detector, data      names; "detector" and "data"
method              what made a forgery; "forged", and "" for real faces
clip, frame         what the face is of; the row's number, and 0
identity            whose face it is, for intervals; the clip
split               `test`, or `validation`, from which threshold and temperature come
degradation, severity   what was done to the picture; "", 0
attack              what attack was made on it; ""
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from generation.records import UserError, write_beside

KEYS = ("detector", "data", "degradation", "severity", "attack")
"""What a figure is of: rows that agree in these, and a method, make one."""

COLUMNS = (*KEYS, "method", "clip", "frame", "identity", "split", "label", "score")
_TEXT = ("detector", "data", "degradation", "attack", "method", "clip", "identity", "split")
SPLITS = ("test", "validation")


def read_scores(path: Path) -> pd.DataFrame:
    """The whole table of `COLUMNS`. Raises `UserError` with the file, the column and the row for what is wrong."""
    if not path.is_file():
        raise UserError(f"{path}: no such file of scores")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: must end in {' or '.join(readers)}")
    try:
        table = readers[path.suffix](path)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own are of these kinds
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({str(error).splitlines()[0]})") from error
    return checked_table(table, str(path))


def checked_table(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with all columns, in order, and of the right kinds; see `read_scores`."""
    unknown = [str(name) for name in table.columns if name not in COLUMNS]
    missing = [name for name in ("label", "score") if name not in table.columns]
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown columns {', '.join(unknown)}"
        raise UserError(f"{where}: {wrong}; columns are {', '.join(COLUMNS)}, of which label and score are needed")
    if len(table) == 0:
        raise UserError(f"{where}: no rows")
    table = table.reset_index(drop=True)
    for name in ("label", "score"):
        table[name] = _numbers(table[name], name, where)
    wrong_label = table.index[~table["label"].isin([0, 1])]
    if len(wrong_label):
        raise UserError(
            f"{where}, row {wrong_label[0]}: label {table['label'][wrong_label[0]]:g}; 0 (real) or 1 (forged)"
        )
    wrong_score = table.index[~np.isfinite(table["score"])]
    if len(wrong_score):
        raise UserError(
            f"{where}, row {wrong_score[0]}: the score is NaN or infinite, {len(wrong_score)} rows are so; "
            "leave out faces without a score and say how many"
        )
    table["label"] = table["label"].astype(np.int64)
    rows = pd.Series(np.arange(len(table)).astype(str))
    defaults: dict[str, Any] = {
        "detector": "detector",
        "data": "data",
        "degradation": "",
        "severity": 0,
        "attack": "",
        "method": pd.Series(np.where(table["label"] == 1, "forged", "")),
        "clip": rows,
        "frame": 0,
        "split": "test",
    }
    for name, value in defaults.items():
        if name not in table.columns:
            table[name] = value
    if "identity" not in table.columns:
        table["identity"] = table["clip"]
    for name in _TEXT:
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    for name in ("severity", "frame"):
        table[name] = _numbers(table[name], name, where).fillna(0).astype(np.int64)
    wrong_split = table.index[~table["split"].isin(SPLITS)]
    if len(wrong_split):
        raise UserError(
            f"{where}, row {wrong_split[0]}: split {table['split'][wrong_split[0]]!r}; {' or '.join(SPLITS)}"
        )
    table.loc[table["label"] == 0, "method"] = ""
    twice = table.index[table.duplicated([*KEYS, "method", "clip", "frame", "split", "label"])]
    if len(twice):
        row = table.loc[twice[0]]
        raise UserError(
            f"{where}, row {twice[0]}: clip {row['clip']!r}, frame {row['frame']} has a score of {row['detector']} "
            f"already; {len(twice)} rows are there twice"
        )
    return table[list(COLUMNS)]


def _numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    text = column.index[values.isna() & column.notna()]
    if len(text):
        raise UserError(
            f"{where}, row {text[0]}: {name} {column[text[0]]!r} is no number"
            + ("; 0 (real) or 1 (forged)" if name == "label" else "")
        )
    return values


def write_scores(path: Path, table: pd.DataFrame) -> None:
    """As CSV or Parquet, by the ending; whole or not at all."""
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        table.to_csv(buffer, index=False)
    else:
        table.to_parquet(buffer, index=False)
    write_beside(path, buffer.getvalue())
