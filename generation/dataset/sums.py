"""Hashes: of every shard as soon as it is written, and of the whole set, in the format of sha256sum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from generation.dataset.features import SUMS
from generation.records import UserError, write_beside

State = Literal["ok", "damaged", "missing"]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def note_hash(path: Path) -> None:
    """Write a shard's hash beside it: from now on it counts as whole."""
    write_beside(_note(path), digest(path).encode())


def undamaged(path: Path, say: Callable[[str], None]) -> bool:
    """Whether a shard is there and has the hash that was noted; one that has another is named by `say`."""
    if not path.is_file() or not _note(path).is_file():
        return False
    if digest(path) == _note(path).read_text():
        return True
    say(f"{path}: damaged, it does not have the hash that was noted when it was written; it is made again")
    return False


def write_sums(folder: Path, names: list[str]) -> None:
    """`SHA256SUMS` of these files, in this order."""
    lines = [f"{digest(folder / name)}  {name}\n" for name in names]
    write_beside(folder / SUMS, "".join(lines).encode())


def check_sums(folder: Path) -> Iterator[tuple[str, State]]:
    """Every file that `SHA256SUMS` names, and whether it is as it was. Raises `UserError` for a damaged list."""
    for number, line in enumerate((folder / SUMS).read_text(errors="replace").splitlines(), 1):
        noted, gap, name = line.partition("  ")
        if not gap or len(noted) != 64 or Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{folder / SUMS}, line {number}: not as sha256sum writes it; the list was changed")
        path = folder / name
        yield name, "missing" if not path.is_file() else "ok" if digest(path) == noted else "damaged"
