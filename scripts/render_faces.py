"""Render the synthetic people: every expression of one bank on every person in every scene, with exact Motion.

python scripts/render_faces.py                         # 260 people, 64 expressions, 64 px, into the cache
python scripts/render_faces.py data.size=128 out=DIR   # the same people at 128 px, into DIR

The run folder gets `grid.png`: people in rows, expressions in columns. A set that is there is not rendered again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.records import Faces, UserError, encode_png, load, write_beside
from scripts.data import prepare
from scripts.door import configure, entry, progress, say

ROWS, COLUMNS = 12, 16
"""People and expressions on the contact sheet, at most."""


@dataclass(frozen=True)
class OutputConfig:
    """out: folder of the records, None for one in the cache that the configuration names; workers: processes."""

    out: Path | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers={self.workers}: must be at least 1")


@entry("render_faces")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Render a set of synthetic faces and a contact sheet of it."""
    output = configure(OutputConfig, {"out": config.out, "workers": config.workers})
    if output.out is None:
        records = prepare(config.data, output.workers)
    else:
        records = output.out
        settings = configure(
            FacesConfig, {key: config.data[key] for key in config.data if key not in ("name", "records")}, "data"
        )
        with progress("synthetic faces") as bar:
            render_records(settings, records, output.workers, bar)
    faces = load(records)
    write_beside(folder / "grid.png", encode_png(contact_sheet(faces)))
    say(f"{len(faces)} faces of {len(set(faces.identity))} people: {records}")
    people = {split: len(set(faces.identity[faces.split == split])) for split in sorted(set(faces.split))}
    return {"records": str(records), "faces": len(faces), "people": people}


def contact_sheet(faces: Faces) -> np.ndarray:  # uint8 (rows * H, columns * W, 3)
    """The first clips, each in its first expressions."""
    clips = list(dict.fromkeys(faces.clip))[:ROWS]
    rows = [
        faces.select(np.flatnonzero(faces.clip == clip)[:COLUMNS]).image.permute(0, 2, 3, 1).numpy() for clip in clips
    ]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


if __name__ == "__main__":
    main()
