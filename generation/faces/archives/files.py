"""The files of an archive, and nothing outside its folder; text and JSON that may be damaged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generation.records import UserError

VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

LAYERS = frozenset({"masks", "landmarks", "models"})
BESIDE_FRAMES = LAYERS | {"frames", "images", "videos"}
"""Folder names that say what lies in them, and are no video's; of these `LAYERS` hold no faces."""

_DRIVE = re.compile(r"[A-Za-z]:")


class UnusableError(ValueError):
    """Why one entry of an archive cannot be used: the reason that `Index.dropped` gives."""


def natural(name: str) -> list[str | int]:
    """Sort key: 2.png before 10.png."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split("([0-9]+)", name))]


def stem(name: str) -> str:
    """A video's name without folders and ending."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return Path(last).stem if Path(last).suffix.lower() in VIDEOS else last


def frames_in(folder: Path) -> tuple[Path, ...]:
    """The images of a folder, by number."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _has(entry.name, IMAGES)]
    return tuple(folder / name for name in sorted(names, key=natural))


def _has(name: str, endings: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in endings


def read_text(path: Path) -> str:
    """Raises `UserError` for what cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); fetch the file again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """Raises `UserError` for what is no JSON: truncated, not UTF-8, nested too deeply."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: damaged or truncated JSON ({error.msg}, line {error.lineno}); fetch the file again"
        ) from error
    except RecursionError as error:
        raise UserError(f"{path}: JSON nested too deeply to be a list of videos; fetch the file again") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: JSON with a number that is too long; fetch the file again") from error


class Tree:
    """The files under a folder. Links are followed as long as they stay inside; what leads out is in `refused`.

    root: Path                         # resolved
    refused: list[tuple[str, str]]     # (path from the root, reason)
    Raises `UserError` where there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; set data.root to the folder of the archive")
        self.root = root.resolve()
        self.refused: list[tuple[str, str]] = []
        self._prefixes = tuple(f"{path.as_posix()}/" for path in (self.root, root.absolute()))
        self._known: dict[Path, dict[str, bool]] = {}

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def entries(self, folder: Path) -> Mapping[str, bool]:
        """Names in a folder -> whether it is a folder itself; nothing where there is no such folder. Hidden files,
        devices and pipes are left out."""
        if folder not in self._known:
            self._known[folder] = dict(self._list(folder)) if self._inside(folder) else {}
        return self._known[folder]

    def _inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _list(self, folder: Path) -> Iterator[tuple[str, bool]]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and self._usable(folder, entry):
                        yield entry.name, entry.is_dir()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.refused.append((self.relative(folder), f"cannot be read ({error.strerror})"))

    def _usable(self, folder: Path, entry: os.DirEntry[str]) -> bool:
        reason = ""
        if entry.name != entry.name.encode("utf-8", "replace").decode():
            reason = "its name is not UTF-8"
        elif entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(self.root):
                reason = "a link that leads out of the archive's folder; give the folder that it leads to"
            elif Path(os.path.realpath(folder)).is_relative_to(target):
                reason = "a link to a folder that it lies in"
            elif not target.exists():
                reason = "a link to nothing"
        if reason:
            shown = entry.name.encode("utf-8", "replace").decode()
            self.refused.append((self.relative(folder / shown), reason))
        return not reason and (entry.is_dir() or entry.is_file())

    def folders(self, folder: Path) -> list[Path]:
        return [folder / name for name in sorted(self._named(folder, True), key=natural)]

    def files(self, folder: Path, endings: frozenset[str]) -> list[Path]:
        names = [name for name in self._named(folder, False) if _has(name, endings)]
        return [folder / name for name in sorted(names, key=natural)]

    def _named(self, folder: Path, folders: bool) -> list[str]:
        return [name for name, is_folder in self.entries(folder).items() if is_folder is folders]

    def has(self, path: Path) -> bool:
        """Whether there is such a file or folder inside."""
        return path == self.root or path.name in self.entries(path.parent)

    def holds_frames(self, folder: Path) -> bool:
        return any(_has(name, IMAGES) for name in self._named(folder, False))

    def base(self, *names: str) -> Path | None:
        """The root, or the folder in it, that holds one of these names."""
        for folder in (self.root, *self.folders(self.root)):
            if any(name in self.entries(folder) for name in names):
                return folder
        return None

    def media(self, folder: Path) -> dict[str, Path]:
        """A folder's videos by name: video files in it or in its `videos`, else folders of frames in its `frames`,
        its `images` or itself."""
        found: dict[str, Path] = {}
        for path in (*self.files(folder, VIDEOS), *self.files(folder / "videos", VIDEOS)):
            if found.setdefault(stem(path.name), path) != path:
                self.refused.append((self.relative(path), f"there is a {found[stem(path.name)].name} too"))
        for place in (folder / "frames", folder / "images", folder):
            for path in self.folders(place):
                if path.name not in BESIDE_FRAMES and self.holds_frames(path):
                    found.setdefault(stem(path.name), path)
        return found

    def parts(self, text: str) -> tuple[str, ...]:
        """A path as a list names it, from the root: either kind of separator, a leading `./` or not.

        Raises `UnusableError` for one that climbs out, or that no file can have.
        """
        path = text.replace("\\", "/")
        for prefix in self._prefixes:
            path = path.removeprefix(prefix)
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if path.startswith("/") or _DRIVE.match(path):
            raise UnusableError(f"{text!r} is an absolute path outside the archive's folder; refused")
        if ".." in parts:
            raise UnusableError(f"{text!r} climbs out of its folder; refused")
        if not parts or "\0" in path or path != path.encode("utf-8", "replace").decode():
            raise UnusableError(f"{text!r} is no path")
        return parts

    def locate(self, text: str, folder: Path | None = None) -> Path:
        """The file or folder that a list names, from the root or from `folder`.

        Raises `UnusableError` where there is none inside.
        """
        path = (folder or self.root).joinpath(*self.parts(text))
        if not self.has(path):
            raise UnusableError(
                "missing" if self._inside(path) else f"{text!r} leads out of the archive's folder; refused"
            )
        return path
