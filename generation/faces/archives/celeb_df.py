"""Celeb-DF, both versions: v1 (408 real and 795 forged videos) and v2 (890 and 5,639).

Li et al., Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics, CVPR 2020.

    Celeb-real/id0_0000.mp4, YouTube-real/00170.mp4, Celeb-synthesis/id0_id1_0000.mp4     # target id0, source id1
    List_of_testing_videos.txt          # 1 YouTube-real/00170.mp4, where 1 is real and 0 forged

The list's numbers are the inverse of everybody else's labels, so the folder is what counts, and a line that
contradicts it is dropped. What is not in the list is for training; there is no validation split. DeepfakeBench's
`videos` and `frames` folders inside the three are read too.
"""

from __future__ import annotations

import re
from pathlib import Path

from generation.faces.archives.files import Tree, UnusableError, read_text, stem
from generation.faces.archives.items import Findings, Found
from generation.faces.archives.vocabulary import people_in
from generation.records import UserError

LIST = "List_of_testing_videos.txt"
MARKS = (LIST, "Celeb-real", "Celeb-synthesis")
LABELS = {"celeb-real": 0, "youtube-real": 0, "celeb-synthesis": 1}
_LINE = re.compile(r"([01])\s+(\S.*)")


def recognise(tree: Tree) -> bool:
    return tree.base(*MARKS) is not None


def read(tree: Tree) -> Findings:
    """Raises `UserError` without a whole test list: official test videos must not get into training."""
    findings = Findings()
    base = tree.base(*MARKS) or tree.root
    test = _test_list(tree, base, findings)
    for folder in tree.folders(base):
        label = LABELS.get(folder.name.lower())
        if label is None:
            continue
        for name, path in tree.media(folder).items():
            key = f"{folder.name}/{name}"
            said = test.pop(key.lower(), None)
            if said not in (None, label):
                findings.drop(key, f"{LIST} calls it {'forged' if said else 'real'}, its folder does not")
                continue
            findings.found.append(
                Found(
                    path,
                    label,
                    folder.name if label else "",
                    key,
                    _people(name),
                    split="train" if said is None else "test",
                )
            )
    for key in test:
        findings.drop(key, f"in {LIST}, but missing")
        findings.test_people |= {*_people(key.rpartition("/")[2])}
    return findings


def _people(name: str) -> tuple[str, ...]:
    people = people_in(name, "")
    return people if people != (name,) else (f"celeb-youtube-{name}",)


def _test_list(tree: Tree, base: Path, findings: Findings) -> dict[str, int]:
    """Video of the official test -> label, 0 real and 1 forged."""
    path = base / LIST
    if not tree.has(path):
        raise UserError(
            f"{path}: missing; it comes with Celeb-DF, and without it official test videos would get into training"
        )
    test: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{path}: line {number} is not as '1 YouTube-real/00170.mp4'; fetch the file again")
        try:
            *folders, name = tree.parts(match[2])
        except UnusableError as reason:
            findings.drop(f"{LIST}, line {number}", reason)
            continue
        test["/".join([*folders, stem(name)]).lower()] = 1 - int(match[1])
    if not test:
        raise UserError(f"{path}: empty; fetch the file again")
    return test
