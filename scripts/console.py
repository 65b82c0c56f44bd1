"""What a script tells the person who runs it: lines and progress bars, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""How often progress is told where there is no terminal to draw a bar on."""

_console = Console(stderr=True)


class Bar(Protocol):
    """Told how many of the steps are done; `note` is a few words beside the bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def say(text: str) -> None:
    """One line, above any progress bar."""
    if _console.is_terminal:
        _console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, shown: bool = True) -> Iterator[Bar]:
    """A bar on a terminal, gone when the work is done; elsewhere a plain line every `PLAIN_SECONDS`."""
    if not shown:
        yield lambda done, total, note="": None
    elif not _console.is_terminal:
        yield _plain(title)
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=_console, transient=True) as bars:
            task = bars.add_task(title, total=None, note="")
            yield lambda done, total, note="": bars.update(task, completed=done, total=total, note=note)


def _plain(title: str) -> Bar:
    start = told = time.monotonic()

    def tell(done: int, total: int, note: str = "") -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PLAIN_SECONDS or (done == total and now - start >= PLAIN_SECONDS):
            told = now
            say(f"{title}: {done}/{total}, {now - start:.0f} s{note and f', {note}'}")

    return tell
