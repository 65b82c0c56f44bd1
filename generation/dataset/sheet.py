"""The contact sheet of a set: pairs with all their forgeries, marked and signed, and with it the set as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from generation.dataset.design import PlanConfig
from generation.dataset.features import PLAN, SHEET, SUMS
from generation.dataset.sums import digest
from generation.editing.writing import write_photo
from generation.provenance import Statement
from generation.records import decode

ROWS = 4
"""Clips on the sheet, at most."""

_TILE, _GAP, _LINE = 160, 4, 30
_PAPER, _INK, _FORGED = (232, 232, 232), (24, 24, 24), (170, 30, 24)
_DARKEST, _LIGHTEST = 24, 232  # a watermark needs room above and below


def write_sheet(folder: Path, config: PlanConfig) -> None:
    """Write `contact_sheet.png`: clips evenly spread over the plan; the middle frame of the source, of the driver, and
    of one forgery by each reenactor with its mask."""
    plan = pd.read_parquet(folder / PLAN)
    real = plan[plan["label"] == 0]
    chosen = real.iloc[np.unique(np.linspace(0, len(real) - 1, min(ROWS, len(real))).round().astype(int))]
    rows: list[dict[str, Any]] = chosen.to_dict("records")  # type: ignore[assignment]
    lines = [_line(folder, plan, row, config) for row in rows]
    origins = sorted(set(plan["origin"]))
    statement = Statement(
        reenactor=", ".join(config.reenactors),
        checkpoint="",
        parents=(digest(folder / SUMS),),
        consent="; ".join(origins),
        licence="; ".join(origins),
        synthetic=config.source == "synthetic",
        seed=config.seed,
        edit={"dataset": config.name, "clips": len(plan), "parent": SUMS},
    )
    write_photo(folder / SHEET, _drawn(lines), statement)


def _line(folder: Path, plan: pd.DataFrame, real: dict[str, Any], config: PlanConfig) -> list[tuple[str, np.ndarray]]:
    """Labelled pictures of one row of the sheet."""
    forged = plan[plan["source"] == real["clip"]].drop_duplicates("method")
    driver = plan[plan["clip"] == forged["driver"].iloc[0]].iloc[0]
    frame = config.frames // 2
    made = [
        (f"real {real['clip']}\n{real['degradation']}, {real['compression']}", _frame(folder, real, frame)["image"]),
        (f"driver {driver['clip']}", _frame(folder, driver.to_dict(), frame)["image"]),
    ]
    for row in forged.to_dict("records"):
        found = _frame(folder, {str(key): value for key, value in row.items()}, frame)
        asked = f"{row['strength']:.2g}, {row['region']}"
        made += [(f"AI generated: {row['method']}\n{asked}", found["image"]), ("its mask", found["mask"])]
    return [(label, decode(image["bytes"], str(folder))) for label, image in made]


def _frame(folder: Path, row: dict[str, Any], frame: int) -> dict[str, Any]:
    path = folder / f"shard-{row['shard']:05d}.parquet"
    table = pq.read_table(path, columns=["image", "mask"], filters=[("row", "=", row["row"]), ("frame", "=", frame)])
    return dict(table.to_pylist()[0])


def _drawn(lines: Sequence[Sequence[tuple[str, np.ndarray]]]) -> np.ndarray:  # uint8 (H, W, 3)
    across, step = max(map(len, lines)), _TILE + _LINE + _GAP
    sheet = Image.new("RGB", (across * (_TILE + _GAP) + _GAP, len(lines) * step + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for down, line in enumerate(lines):
        for right, (label, image) in enumerate(line):
            x, y = _GAP + right * (_TILE + _GAP), _GAP + down * step
            pen.text((x, y), label, fill=_INK if right < 2 else _FORGED, font=font)
            picture = Image.fromarray(image.clip(_DARKEST, _LIGHTEST)).convert("RGB")
            sheet.paste(picture.resize((_TILE, _TILE), Image.Resampling.LANCZOS), (x, y + _LINE))
    return np.asarray(sheet)
