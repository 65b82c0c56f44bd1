"""What is this photo or video worth as evidence? A calibrated verdict on every face, and what the file says of itself.

python scripts/examine.py path=FILE                        # photo or video
python scripts/examine.py path=FOLDER                      # all in it; or path="DIR/*.jpg"
python scripts/examine.py path=FILE detector=RUN/detector.safetensors     # another detector, calibrated

`verdict.json` for machines, `report.html` for people, both in the run's folder. The exit code is 0 whatever the
verdict, 3 where some of several files could not be read. The same command with the same hydra.run.dir goes on where it
was.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from generation.workers import each, prepare

if __name__ == "__main__" and not any(Path(argument.removeprefix("path=")).is_file() for argument in sys.argv[1:]):
    prepare("scripts.examine")

import torch
from omegaconf import DictConfig

from detection.examine import Examination, examine
from detection.examine_basis import Ensemble, load_ensemble
from detection.examine_container import container
from detection.examine_report import file_json, file_page, render, write_page
from generation.faces.footage import files_in
from generation.provenance import verify
from generation.records import UserError, write_beside
from scripts.door import Incomplete, configure, entry, progress, say
from scripts.examine_faces import FaceSource, face_finder
from scripts.summary import commit, jsonable

_PATTERN = set("*?[")


@dataclass(frozen=True)
class ExamineConfig:
    """See conf/examine.yaml."""

    path: str
    weights: Path | None = None
    every: int | None = None
    most: int = 100
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for key in ("most", "workers"):
            if getattr(self, key) < 1:
                raise UserError(f"{key}={getattr(self, key)}: must be at least 1")


@entry("examine")
def main(config: DictConfig, folder: Path) -> Mapping[str, Any]:
    settings = configure(ExamineConfig, config)
    ensemble = load_ensemble(settings.weights)
    paths = files_of(settings.path)
    made_by = hashlib.sha256(f"{ensemble.digest} {commit()}".encode()).hexdigest()[:12]
    parts = folder / "files" / made_by  # what another ensemble or commit found is not taken for this one's
    failed: list[dict[str, str]] = []
    with progress("examine") as bar:
        if len(paths) == 1:
            torch.set_num_threads(min(2, torch.get_num_threads()))
            with FaceSource(settings.every, settings.most, bar) as finder:
                files = [_examined(paths[0], ensemble, finder, parts, settings)]
        else:
            files, failed = _side_by_side(paths, parts, settings, bar)
    if not files:
        raise UserError(f"path={settings.path}: none of {len(paths)} files can be examined; {failed[0]['reason']}")
    text = render(files, failed, ensemble, time.strftime("%Y-%m-%d"), commit())
    write_page(folder / "report.html", text)
    verdict = {
        "files": [{key: value for key, value in file.items() if key != "page"} for file in files],
        "failed": failed,
        "detectors": list(ensemble.names),
        "calibration": {
            key: value
            for key, value in ensemble.basis.calibration.about.items()
            if key not in ("tippett", "reliability", "calibrators")
        },
    }
    write_beside(folder / "verdict.json", json.dumps(jsonable(verdict), indent=1, ensure_ascii=False).encode())
    for file in files if len(files) <= 20 else []:
        say(f"{file['path']}: {file['page']['summary']}")
        for line in file["page"]["provenance"][:1] if len(files) == 1 else []:
            say(f"  {line}")
    say(f"report: {folder / 'report.html'}")
    results = {"examined": len(files), "failed": failed, "verdict": "verdict.json"}
    return Incomplete(results) if failed else results


def files_of(path: str) -> list[Path]:
    """The files that a path, a folder or a pattern names, in order. Raises `UserError` where there is none."""
    if Path(path).exists():
        return [file.path for file in files_in(path)[0]]
    if _PATTERN & set(path):
        found = sorted(Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file())
        if not found:
            raise UserError(f"path={path}: no file fits this pattern")
        return found
    raise UserError(f'path={path}: no such file or folder; or give a pattern, as path="DIR/*.jpg"')


def _side_by_side(
    paths: Sequence[Path], folder: Path, settings: ExamineConfig, bar: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What `_examined` gives of the files that can be examined, and of the others why they cannot; in their order."""
    files: dict[int, dict[str, Any]] = {}
    failed: dict[int, dict[str, str]] = {}
    jobs = [(path, folder, settings) for path in paths]
    for index, found in each(_in_worker, jobs, settings.workers, preload="scripts.examine"):
        if isinstance(found, dict):
            files[index] = found
        else:
            reason = found or f"{paths[index]}: its process was killed, perhaps for want of memory; run it again"
            failed[index] = {"path": str(paths[index]), "reason": reason}
            say(f"left out: {reason}")
        bar(len(files) + len(failed), len(paths))
    return [files[index] for index in sorted(files)], [failed[index] for index in sorted(failed)]


def _in_worker(path: Path, folder: Path, settings: ExamineConfig) -> dict[str, Any] | str:
    torch.set_num_threads(1)
    ensemble, finder = _held(settings.weights, settings.every, settings.most)
    try:
        return _examined(path, ensemble, finder, folder, settings)
    except UserError as error:
        return str(error)


@cache
def _held(weights: Path | None, every: int | None, most: int) -> tuple[Ensemble, FaceSource]:
    """What a process examines with, until it ends."""
    return load_ensemble(weights), face_finder(every, most)


def _examined(
    path: Path, ensemble: Ensemble, finder: FaceSource, folder: Path, settings: ExamineConfig
) -> dict[str, Any]:
    """Of one file what the page and `verdict.json` need, from `folder` where it was examined before."""
    stat = path.stat()
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {replace(settings, workers=1)}"
    part = folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.json"
    if part.is_file():
        known: dict[str, Any] = json.loads(part.read_bytes())
        return known
    held = container(path)
    seen, faces = examine(path, ensemble, finder, held.get("jpeg", {}).get("quality"))
    found = Examination(str(path), seen, faces, held, marks(path))
    made: dict[str, Any] = jsonable({**file_json(found, ensemble), "page": file_page(found, ensemble)})
    write_beside(part, json.dumps(made).encode())
    return made


def marks(path: Path) -> dict[str, Any]:
    """What `provenance.verify` reads; `error` where it cannot."""
    try:
        return asdict(verify(path))
    except UserError as error:
        return {"error": str(error)}


def quoted(argument: str) -> str:
    """`path=...` in quotes, so that Hydra takes spaces, commas, brackets and `=` in names of files as they are; and
    `detector=...`, which is a group of choices elsewhere, as the key `weights`."""
    key, equals, value = argument.partition("=")
    if key not in ("path", "detector") or not equals:
        return argument
    key = "weights" if key == "detector" else key
    if value[:1] in ("'", '"', "") or value == "null":
        return f"{key}={value}"
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    escaped = escaped.replace("${", "\\${")
    return f'{key}="{escaped}"'


if __name__ == "__main__":
    sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
    main()
