"""Turn photos and videos into records: aligned clips with Motion, landmarks and identity.

python scripts/ingest.py data.root=DIR origin.consent="signed release" origin.licence="CC BY 4.0, Jane Doe"
python scripts/ingest.py data.root=DIR ... data.alignment=deepfakebench data.frames=32   # as DeepfakeBench crops
python scripts/ingest.py data=archive data.root=DIR origin.terms=celeb-df                # an archive of forged faces

The run folder gets `contact_sheet.png`, one strip for every clip, person by person, and `ingest_report.json`, one entry
for every file: what was found, what was dropped and why. Files that were read before are not read again.

Exit code 3 says that something was dropped, 0 that nothing was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from generation.faces.archives import ArchiveConfig, archive_records
from generation.faces.footage import REPORT, SHEET, FootageConfig, footage_records
from generation.records import SPLITS, UserError
from scripts.data import records_folder
from scripts.door import Incomplete, configure, entry, progress, say
from scripts.render_faces import OutputConfig

INGESTS: dict[str, tuple[type, Callable[..., dict[str, Any]]]] = {
    "footage": (FootageConfig, footage_records),
    "archive": (ArchiveConfig, archive_records),
}
"""What can be ingested: configuration and function."""

SHOWN = 12
"""Reasons in the text summary; the report holds all."""


@entry("ingest")
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Ingest a folder or a file, and tell what was found and what was dropped."""
    output = configure(OutputConfig, {"out": config.out, "workers": config.workers})
    name = config.data.name
    if name not in INGESTS:
        raise UserError(f"data={name}: cannot be ingested; allowed are data=footage and data=archive")
    kind, make = INGESTS[name]
    plain = {key: config.data[key] for key in config.data if key not in ("name", "records")}
    settings: Any = configure(kind, plain, "data")
    records = output.out or records_folder(name, settings)
    start = time.perf_counter()
    try:
        with progress(name) as bar:
            report = make(settings, records, output.workers, bar)
    finally:
        for name in (REPORT, SHEET):
            if (records / name).is_file():
                shutil.copyfile(records / name, folder / name)
    results = {"records": str(records), **summary(report), "seconds": {"ingest": time.perf_counter() - start}}
    tell(report, results)
    return Incomplete(results) if results["dropped"] else results


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """The numbers of `summary.json`: `frames` are rows, `decoded` the frames in the files, `read` files read now."""
    files = report["files"]
    clips = [clip for file in files for clip in file["clips"]]
    people = {split: len({clip["identity"] for clip in clips if clip["split"] == split}) for split in SPLITS}
    return {
        "files": len(files),
        "clips": len(clips),
        "frames": sum(clip["frames"] for clip in clips),
        "identities": len({clip["identity"] for clip in clips}),
        "people": people,
        "dropped": sum(len(file["dropped"]) for file in files),
        "unread": sum(clip["unread"] for clip in clips),
        "decoded": sum(file["frames"] for file in files),
        "read": report["read"],
    }


def tell(report: dict[str, Any], results: dict[str, Any]) -> None:
    """The text summary."""
    people = ", ".join(f"{count} {split}" for split, count in results["people"].items())
    say(
        f"{results['files']} files ({results['read']} read now): {results['clips']} clips with {results['frames']} "
        f"frames of {results['identities']} people ({people}): {results['records']}"
    )
    if results["unread"]:
        say(f"frames left out of these clips because no landmarks could be read: {results['unread']}")
    if report["others"]:
        say(f"neither photos nor videos: {len(report['others'])} files, {report['others'][0]} for one")
    for note in report["notes"]:
        say(note)
    reasons = [f"{file['file']}: {reason}" for file in report["files"] for reason in file["dropped"]]
    for reason in reasons[:SHOWN]:
        say(f"dropped: {reason}")
    if len(reasons) > SHOWN:
        say(f"dropped: {len(reasons) - SHOWN} more, see {REPORT}")


if __name__ == "__main__":
    main()
