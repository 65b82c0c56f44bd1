"""Splits: what the archive says, drawn where it says nothing, and never one person in two of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace

from generation.faces.archives.items import Findings, Found, Item
from generation.records import SPLITS

SHARES = {"train": 0.72, "validation": 0.14, "test": 0.14}
"""Of the people, where splits are drawn: those of FaceForensics++."""

_RANK = ("test", "validation", "train")
"""Who is in several splits belongs to the first of these."""


def settle(findings: Findings) -> list[Item]:
    """Items of what was found, sorted by name. What has to go is added to `findings.dropped`, what was decided to its
    notes.

    1. A video that is listed twice is one video. Of several splits test wins, then validation; but a validation list
       that only repeats the others counts for nothing.
    2. Videos without a split are drawn, people who share a forgery together.
    3. Where an archive has training videos and no validation, validation people are drawn out of them.
    4. What shows people of two splits goes, official test videos excepted.
    """
    videos = _named_once(_listed_once(findings), findings)
    owner = dict.fromkeys(findings.test_people, "test")
    for split in _RANK:
        for video in videos:
            if video.split == split:
                for person in video.people:
                    owner.setdefault(person, split)
    _draw(videos, owner, findings)
    carved = _carve_validation(videos, owner, findings)
    items = []
    for video in videos:
        settled = _split_of(video, owner, carved)
        if settled:
            items.append(_item(video, settled))
        else:
            person = next(person for person in video.people if owner[person] != (video.split or "train"))
            findings.drop(
                video.name, f"shows {person}, who is in {owner[person]}, and others; a person is in one split only"
            )
    return sorted(items, key=lambda item: item.name)


def _item(video: Found, split: str) -> Item:
    return Item(
        path=video.path,
        frames=video.frames,
        label=video.label,
        method=video.method,
        identity=video.people[0],
        name=video.name,
        split=split,
        mask=video.mask,
    )


def _split_of(video: Found, owner: dict[str, str], carved: bool) -> str | None:
    """Where all its people are, if that is where it may be."""
    of_people = {owner[person] for person in video.people}
    if video.split == "test":
        return "test"
    allowed = {video.split} if video.split else set(SPLITS)
    if carved and video.split == "train":
        allowed.add("validation")
    return of_people.pop() if len(of_people) == 1 and of_people <= allowed else None


def _listed_once(findings: Findings) -> list[Found]:
    """Every video once, with one split."""
    listed: dict[str, list[Found]] = {}
    for video in findings.found:
        listed.setdefault(os.path.realpath(video.media), []).append(video)
    splits = {media: {video.split for video in same} - {""} for media, same in listed.items()}
    validation: dict[str, list[set[str]]] = {}
    for media, same in listed.items():
        if "validation" in splits[media]:
            validation.setdefault(same[0].name.partition("/")[0], []).append(splits[media])
    for archive, lists in validation.items():
        if all(len(those) > 1 for those in lists):
            findings.notes.append(f"{archive}: its validation list only repeats the other lists and was left out")
            for those in lists:
                those.discard("validation")
    videos = []
    for media, same in listed.items():
        if len({video.label for video in same}) > 1:
            findings.drop(same[0].name, "listed as real and as forged")
        else:
            chosen = next((split for split in _RANK if split in splits[media]), "")
            videos.append(replace(same[0], split=chosen))
    return videos


def _named_once(videos: list[Found], findings: Findings) -> list[Found]:
    names: dict[str, Found] = {}
    for video in videos:
        if not (video.name.isprintable() and "".join(video.people).isprintable()):
            findings.drop(video.name, "its name holds characters that cannot be printed")
        elif names.setdefault(video.name, video) is not video:
            findings.drop(video.name, f"another video has this name: {names[video.name].media.name}")
    return list(names.values())


def _groups(videos: Iterable[Found]) -> tuple[list[set[str]], list[set[str]]]:
    """People who stay together because a forgery shows both: groups with forgeries, and groups without, each in an
    order that depends on their names alone.

    A group larger than a split should be, where nearly everybody is connected to everybody, falls apart: people stand
    alone, and forgeries across splits are lost.
    """
    group: dict[str, set[str]] = {}
    forged: set[str] = set()
    for video in videos:
        joined = set().union(*(group.get(person, {person}) for person in video.people))
        for person in joined:
            group[person] = joined
        if video.label:
            forged.update(video.people)
    groups: list[set[str]] = []
    for those in {min(those): those for those in group.values()}.values():
        too_large = len(those) > max(3, SHARES["test"] * len(group))
        groups.extend([{person} for person in those] if too_large else [those])
    groups.sort(key=lambda those: hashlib.sha256(min(those).encode()).digest())
    return [those for those in groups if those & forged], [those for those in groups if not those & forged]


def _draw(videos: list[Found], owner: dict[str, str], findings: Findings) -> None:
    """Give everybody a split who has none; a group with people in a split follows them."""
    undecided = [video for video in videos if not video.split]
    if not undecided:
        return
    total = dict.fromkeys(SPLITS, 0)
    for groups in _groups(undecided):
        people = sum(len(those) for those in groups)
        counts = dict.fromkeys(SPLITS, 0)
        order = iter(SPLITS)  # one group for each split first, then whatever lacks most
        for those in groups:
            placed = {owner[person] for person in those if person in owner}
            split = next((split for split in _RANK if split in placed), None)
            if split is None:
                lack = {split: SHARES[split] * people - counts[split] for split in SPLITS}
                split = next(order, None) or max(SPLITS, key=lack.__getitem__)
                counts[split] += len(those)
                total[split] += len(those)
            for person in those:
                owner.setdefault(person, split)
    findings.notes.append(
        f"{len(undecided)} videos have no official split: their people were drawn by name, "
        + ", ".join(f"{split} {count}" for split, count in total.items())
        + "; the two of a forgery stay together where that is possible"
    )


def _carve_validation(videos: list[Found], owner: dict[str, str], findings: Findings) -> bool:
    """Whether validation people were drawn out of train, because the archive has none."""
    if "validation" in owner.values():
        return False
    people = {person for person, split in owner.items() if split == "train"}
    train = [video for video in videos if video.split == "train" and people.issuperset(video.people)]
    chosen: set[str] = set()
    for groups in _groups(train):
        wanted = SHARES["validation"] / (1 - SHARES["test"]) * sum(len(those) for those in groups)
        drawn: set[str] = set()
        for those in groups[:-1]:
            if not drawn or len(drawn | those) <= wanted:
                drawn |= those
        chosen |= drawn
    if not chosen:
        return False
    owner.update(dict.fromkeys(chosen, "validation"))
    findings.notes.append(
        f"the archive has no validation split of its own: {len(chosen)} of {len(people)} training people were drawn "
        "for it by name"
    )
    return True
