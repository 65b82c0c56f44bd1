"""Render the synthetic people: every expression of one bank on every person in every scene, with exact Motion.

Or clips of them in motion; and, where asked for, layers of truth beside the records (`generation/faces/layers.py`).

python scripts/render_faces.py                         # 360 people, 64 expressions, 64 px, into the cache
python scripts/render_faces.py data.size=128 out=DIR   # the same people at 128 px, into DIR
python scripts/render_faces.py data.motion=clips       # 360 clips of 3 s: speech, emotions, blinks, glances
python scripts/render_faces.py layers=[regions,depth,flow]
python scripts/render_faces.py report=true count=1000 size=256   # how networks that know real faces read them

The run folder gets `grid.png`: people in rows, expressions (or moments) in columns; clips of motion also `clips.gif`,
truth layers also `truth.png`. A set that is there is not rendered again.
The report renders people of its own and gets `people.png` and `sweeps/ACTION.png`: each action from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from generation.faces.layers import layers_path
from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.faces.survey import SurveyConfig
from generation.records import UserError, encode_png, load, write_beside
from scripts.data import prepare
from scripts.door import configure, entry, progress, say
from scripts.face_report import report
from scripts.face_sheets import contact_sheet, moving_sheet, truth_sheet


@dataclass(frozen=True)
class OutputConfig:
    """out: folder of the records, None for one in the cache that the configuration names; workers: processes.

    report: have random people judged, instead of rendering a set
    """

    out: Path | None = None
    workers: int = 2
    report: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers={self.workers}: must be at least 1")


@entry("render_faces")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Render a set of synthetic faces and a contact sheet of it, or report on the population that they come from."""
    output = configure(OutputConfig, {key: config[key] for key in ("out", "workers", "report")})
    if output.report:
        settings = configure(SurveyConfig, {key: config[key] for key in ("count", "size", "seed")})
        return report(settings, folder, output.workers)
    data = DictConfig({**config.data, "layers": config.layers}) if config.layers else config.data
    if output.out is None:
        records = prepare(data, output.workers)
    else:
        records = output.out
        design = configure(FacesConfig, {str(key): data[key] for key in data if key not in ("name", "records")}, "data")
        with progress("synthetic faces") as bar:
            render_records(design, records, output.workers, bar)
    faces = load(records)
    clips = list(dict.fromkeys(faces.clip.tolist()))
    write_beside(folder / "grid.png", encode_png(contact_sheet(faces, clips)))
    if len(np.unique(faces.pose[faces.clip == clips[0]], axis=0)) > 1:
        write_beside(folder / "clips.gif", moving_sheet(faces, clips))
    if layers_path(records, clips[0]).is_file():
        write_beside(folder / "truth.png", encode_png(truth_sheet(faces, clips, records)))
    say(f"{len(faces)} faces of {len(set(faces.identity))} people: {records}")
    people = {split: len(set(faces.identity[faces.split == split])) for split in sorted(set(faces.split))}
    return {"records": str(records), "faces": len(faces), "people": people}


if __name__ == "__main__":
    main()
