"""The words that the archives use for labels, splits, methods and people."""

from __future__ import annotations

import re

from generation.faces.archives.files import UnusableError

COMPRESSIONS = ("raw", "c0", "c23", "c40")
"""Folders of FaceForensics++: untouched, and H.264 with that rate factor."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

METHODS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "FF-SH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
}
"""DeepfakeBench's label of a forgery -> the method's own name; others carry their method in the label."""

_FORGED = {name.lower() for names in METHODS.items() for name in names}
_REAL = {"original", "pristine"}

_ENDING = re.compile(r"[_\- ]?(real|fake)[a-z]?$", re.IGNORECASE)


def label_of(value: object) -> int:
    """0 real, 1 forged, as `label_if_said`; raises `UnusableError` for a label that says neither: a guess would be
    worse than a loss."""
    label = label_if_said(value)
    if label is None:
        raise UnusableError(
            f"label {value!r}: says neither real nor forged; allowed are 0, 1, and names with real or fake"
        )
    return label


def label_if_said(value: object) -> int | None:
    """0 real, 1 forged, from 0, 1, "REAL", "FF-DF", "simswap_Fake", ...

    A label's ending says more than its middle: a method may have "real" in its name.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("0", "1"):
            return int(word)
        if word in _FORGED or word in _REAL:
            return int(word in _FORGED)
        ending = _ENDING.search(word)
        said = {ending[1]} if ending else {name for name in ("real", "fake") if name in word}
        if len(said) == 1:
            return int(said == {"fake"})
    return None


def method_of(label: str, archive: str) -> str:
    """The method that a forgery's label names, or the archive where it names none."""
    if label in METHODS:
        return METHODS[label]
    short = re.sub(r"[_\- ]?fake$", "", label, flags=re.IGNORECASE)
    return short if short not in ("", "1") else archive


_FACEFORENSICS = re.compile(
    r"faceforensics|original_sequences|manipulated_sequences|df40|(?<![a-z0-9])ff(?![a-z0-9])", re.IGNORECASE
)
_PEOPLE = (
    ("celeb", re.compile(r"(id[0-9]+)_(?:(id[0-9]+)_)?[0-9]{4,}")),
    ("dfd", re.compile(r"([0-9]{2})(?:_([0-9]{2}))?__.+")),
)
_PAIR = re.compile(r"(?:[A-Za-z_][\w-]*-)?([0-9]{3,4})(?:_([0-9]{3,4}))?")


def people_in(name: str, where: str) -> tuple[str, ...]:
    """Who is in a video, the target first, as the known archives write it into its name.

    FaceForensics++ `TTT_SSS` (where the path `where` or the archive's name says that it is one; with four digits and
    `method-` before it in larger sets of that shape), Celeb-DF
    `idX_idY_NNNN`, DeepFakeDetection `TT_SS__scene__...`; any other video is a person of its own, its name.
    """
    patterns = (*_PEOPLE, ("ff", _PAIR)) if _FACEFORENSICS.search(where) else _PEOPLE
    for archive, pattern in patterns:
        if match := pattern.fullmatch(name):
            return tuple(dict.fromkeys(f"{archive}-{person}" for person in match.groups() if person))
    return (name,)
