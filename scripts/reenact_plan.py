"""What `reenact` is asked for: its configuration, its files, and what cannot be meant."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from generation.editing.drivers import EditConfig, Region
from generation.editing.writing import PHOTO_ENDINGS, VIDEO_ENDINGS
from generation.faces.footage import OriginConfig, files_in
from generation.records import UserError
from generation.reenactors import shipped

SYNTHETIC = "synthetic"
"""The source that needs no file."""


@dataclass(frozen=True)
class ReenactConfig:
    """See `conf/reenact.yaml`."""

    source: str
    out: Path
    driver: Path | None = None
    expression: dict[str, float | None] = field(default_factory=dict)
    expression_sheet: bool = False
    mode: Literal["replace", "add"] = "replace"
    strength: float = 1.0
    regions: tuple[Region, ...] = ("eyes", "brows", "mouth")
    face: Any = 0
    mask: bool = False
    smallest: int = 64
    reenactor: str = "warp_64"
    origin: OriginConfig = field(default_factory=OriginConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        given = [bool(self.driver), bool(self.sliders), self.expression_sheet]
        if sum(given) != 1:
            raise UserError("give exactly one of driver=PATH, sliders (expression.jawOpen=0.8), expression_sheet=true")
        if self.face != "all" and (not isinstance(self.face, int) or isinstance(self.face, bool) or self.face < 0):
            raise UserError(f"face={self.face}: must be a number, 0 for the leftmost face, or all")
        if self.smallest < 1:
            raise UserError(f"smallest={self.smallest}: must be at least 1")
        _ = self.edit

    @property
    def edit(self) -> EditConfig:
        return EditConfig(self.mode, self.strength, self.regions)

    @property
    def sliders(self) -> dict[str, float]:
        return {name: value for name, value in self.expression.items() if value is not None}


def jobs(settings: ReenactConfig) -> list[tuple[Path | None, Path]]:
    """Sources and where their results go. Raises `UserError` for what cannot be meant."""
    source, driver, out = Path(settings.source), settings.driver, settings.out
    if driver is not None and not driver.exists():
        raise UserError(f"driver={driver}: no such file")
    if settings.source == SYNTHETIC:
        return [(None, _writable(out))]
    if not source.exists():
        raise UserError(f"source={source}: no such file or folder; or source=synthetic for a person who does not exist")
    if driver is not None and source.samefile(driver):
        raise UserError(f"driver={driver}: is the source itself, which wears this expression already; give another")
    if source.is_dir():
        if out.exists() and not out.is_dir():
            raise UserError(f"out={out}: the source is a folder, so this must be one too")
        if out.resolve().is_relative_to(source.resolve()):
            raise UserError(f"out={out}: lies in the source, and would be edited itself the next time")
        files, _ = files_in(str(source))
        out.mkdir(parents=True, exist_ok=True)
        return [(file.path, _writable(out / file.name)) for file in files]
    for path, name in ((source, "source"), (driver, "driver")):
        if path is not None and out.exists() and out.samefile(path):
            raise UserError(f"out={out}: is the {name}, which would be lost; choose another name")
    return [(source, _writable(out))]


def _writable(out: Path) -> Path:
    if out.is_dir():
        raise UserError(f"out={out}: is a folder; name the file that is to be written")
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"out={out}: {folder} is no folder that can be written; choose another place")
    return out


def ending_for(out: Path, video: bool) -> Path:
    """Of a folder's file: its own name, and an ending that can be signed."""
    endings = VIDEO_ENDINGS if video else PHOTO_ENDINGS
    return out if out.suffix.lower() in endings else out.with_name(out.name + endings[0])


def checkpoint(name: str) -> Path:
    path = shipped(name)
    if path.is_file() and path.suffix != ".safetensors":
        raise UserError(
            f"reenactor={name}: only .safetensors are read, for other checkpoints can carry code; export it"
        )
    return path
