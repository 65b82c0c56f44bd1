"""Checking what lies in a folder, or one file: hashes of a set, marks of everything that carries some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from generation.dataset.features import SHEET, SUMS
from generation.dataset.sums import check_sums, digest
from generation.provenance import SIGNABLE, describe, verify
from generation.records import UserError

State = Literal["ok", "tampered", "stripped", "unmarked"]


class Finding(NamedTuple):
    """state: ok; tampered, changed or not what the signature says; stripped, marked in the pixels only; unmarked, so
    nothing can be said"""

    path: Path
    state: State
    told: str


def check(path: Path) -> Iterator[Finding]:
    """One finding a file: of a set its shards, papers and signed sheet; of any other folder all that can be signed, but
    for masks, which show nobody.

    Raises `UserError` where there is nothing to check.
    """
    if not path.exists():
        raise UserError(f"verify={path}: no such file or folder")
    if path.is_file():
        yield _marks(path)
        return
    if (path / SUMS).is_file():
        yield from _sums(path)
        return
    found = 0
    for folder, names, files in os.walk(path):
        names[:] = sorted(set(names) - {"masks"})
        for name in sorted(files):
            if Path(name).suffix.lower() in SIGNABLE and not name.startswith("."):
                found += 1
                yield _marks(Path(folder) / name)
    if not found:
        raise UserError(f"verify={path}: holds neither {SUMS} nor a photo or video that can be signed")


def _sums(folder: Path) -> Iterator[Finding]:
    for name, state in check_sums(folder):
        yield Finding(folder / name, "ok" if state == "ok" else "tampered", f"hash {state}")
    sheet = folder / SHEET
    if not sheet.is_file():
        yield Finding(sheet, "tampered", "missing, so nobody has signed the set")
        return
    finding = _marks(sheet)
    statement = verify(sheet).statement or {}
    if finding.state == "ok" and statement.get("parents") != [digest(folder / SUMS)]:
        finding = Finding(sheet, "tampered", f"signed another {SUMS} than the one beside it")
    yield finding


def _marks(path: Path) -> Finding:
    try:
        verdict = verify(path)
    except UserError as error:
        return Finding(path, "tampered", str(error))
    without: State = "stripped" if verdict.stripped else "unmarked"
    states: dict[str, State] = {"trusted": "ok", "valid": "ok", "tampered": "tampered", "absent": without}
    return Finding(path, states[verdict.state], describe(verdict))
