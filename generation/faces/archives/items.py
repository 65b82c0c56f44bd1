"""What an archive holds: items for the ingest, and what could not be used, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One video, photo or folder of frames of an archive.

    path: a video, an image, or a folder of frames (`frames_in` gives them in order)
    frames: the image files in order, where a list names them one by one; else None
    label: 0 real, 1 forged
    method: how it was forged, "" for a real one
    identity: the person whose video it is: of a forgery the target, into whose video the other face was put
    name: unique in the archive; method and compression are part of it, as in "Deepfakes/c23/071_054"
    split: train, validation or test; no person is in two of them
    mask: video or folder of frames of the forged region, or None
    """

    path: Path
    frames: tuple[Path, ...] | None
    label: int
    method: str
    identity: str
    name: str
    split: str
    mask: Path | None


@dataclass(frozen=True)
class Index:
    """What was read from one archive.

    archive: its name in `ARCHIVES`
    items: sorted by name
    dropped: (name, reason) of everything that cannot be used
    notes: how splits were decided where the archive itself does not say, and what else a user should know
    origin: terms and consent, for the `origin` of every row
    """

    archive: str
    items: list[Item]
    dropped: list[tuple[str, str]]
    notes: list[str]
    origin: str


@dataclass(frozen=True)
class Found:
    """One video as the archive lists it.

    people: everybody whose face went into it, the target first
    split: what the archive says, "" where it says nothing
    The rest is as in `Item`.
    """

    path: Path
    label: int
    method: str
    name: str
    people: tuple[str, ...]
    split: str = ""
    frames: tuple[Path, ...] | None = None
    mask: Path | None = None

    @property
    def media(self) -> Path:
        """The file that no other video has."""
        return self.frames[0] if self.frames else self.path


@dataclass
class Findings:
    """What a reader collects; see `Index`.

    test_people: of official test videos that are not there; they are kept out of the other splits all the same
    """

    found: list[Found] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    test_people: set[str] = field(default_factory=set)

    def drop(self, name: str, reason: object) -> None:
        self.dropped.append((name, str(reason)))


def one_line(text: str) -> str:
    """Text out of a list that may hold anything, fit for a report."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:400]) or "(no name)"
    return shown if len(text) <= 400 else f"{shown}..."
