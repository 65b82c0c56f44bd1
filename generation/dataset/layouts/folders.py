"""Plain folders: single pictures by split and class, as `train_detector data=DIR` and everybody's own loader read them.

    {train,validation,test}/real/<person>/012-000.png
    {train,validation,test}/fake/<person>/warp-012_013-000.png     # the face of 012, the expression of 013, frame 0

A person's real pictures and the forgeries of that face lie in folders of one name, so people can be told apart.
Pictures are the very pixels of the set. There are no masks: they would be taken for pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from generation.dataset.layouts.clips import Clip, File, picture


def files(clip: Clip, name: str) -> Iterator[File]:
    for number in range(clip.frames):
        yield File(f"{known_as(clip)}-{number:03d}.png", picture(number))


def known_as(clip: Clip) -> str:
    name = f"{clip.method}-{clip.short}" if clip.label else clip.short
    return f"{clip.split}/{'fake' if clip.label else 'real'}/{quote(clip.identity, safe=' ')}/{name}"


def lists(clips: Sequence[Clip], name: str) -> Iterator[tuple[str, bytes]]:
    yield from ()
