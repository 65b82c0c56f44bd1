"""The report of a run: one HTML page that needs nothing but itself.

Made with Jinja2, everything escaped. It loads nothing and runs no script, and its content security policy forbids both.
Every number that a chart shows stands in a table too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.arena import Payoff, RoundGame
from detection.pages import page
from detection.pictures import (
    LABEL,
    colours,
    groups,
    mixture_chart,
    number,
    payoff_picture,
    quality_chart,
    sample_grid,
    value_chart,
)
from generation.records import write_beside

__all__ = [
    "Control",
    "Grid",
    "Report",
    "duration",
    "headline",
    "number",
    "payoff_picture",
    "render",
    "sample_grid",
    "write_report",
]

QUALITY = {
    "changed_l1_ratio": ("L1 ratio", "L1 error in the changed region, 1 = copying the source; lower is better"),
    "psnr": ("PSNR, dB", "peak signal-to-noise ratio against the exact target; higher is better"),
    "ssim": ("SSIM", "structural similarity to the exact target, at most 1; higher is better"),
    "aed": (
        "AED",
        "mean difference per action between MediaPipe's readings of forgery and exact target; lower is better",
    ),
    "aed_copy": ("AED of a copy", "the same for the source in the place of the forgery"),
}
"""Column title and meaning of the quality numbers; others are shown under their own names."""


@dataclass(frozen=True)
class Control:
    """One honest comparison: what it is meant to show, its numbers, and whether it does (None: it only informs)."""

    name: str
    shows: str
    numbers: Mapping[str, float | None]
    holds: bool | None = None


@dataclass(frozen=True)
class Grid:
    """A picture of samples of one round (PNG, see `detection.pictures.sample_grid`)."""

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True, eq=False)
class Report:
    """Everything the page says. Names of reenactors and detectors are those of `payoff`.

    when: the time, in words. games: those of `detection.arena.rounds`.
    judge: the detector of the rounds that quality is plotted against; each withheld one gets a plot too.
    withheld: detectors the red team never touched. controls_named: rows and columns that are controls. The others are
        the rounds, in order.
    quality: reenactor -> name of the number -> value. seconds: phase -> wall time.
    findings, notes: sentences; what did not come out as hoped belongs there too. notes are limits of this run.
    """

    title: str
    data_name: str
    seed: int
    commit: str
    when: str
    payoff: Payoff
    games: Sequence[RoundGame]
    judge: str
    withheld: Sequence[str] = ()
    controls_named: Sequence[str] = ()
    quality: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    controls: Sequence[Control] = ()
    findings: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def duration(seconds: float) -> str:
    """Seconds as `7.4 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def headline(report: Report) -> str:
    """What happened, in sentences with their numbers, whichever way it went."""
    apart = {*report.withheld, *report.controls_named}
    red = [name for name in report.payoff.reenactors if name not in apart]
    blue = [name for name in report.payoff.detectors if name not in apart]

    def mean(reenactors: Iterable[str], detectors: Iterable[str]) -> str:
        pairs = zip(reenactors, detectors, strict=True)
        return number(float(np.mean([report.payoff.cell(*pair)[0] for pair in pairs])), 2)

    if len(red) == 1:
        text = f"{blue[0]} tells forgeries of {red[0]} from real frames with AUROC {mean(red, blue)}."
    else:
        before, fooled, after = mean(red[:-1], blue[:-1]), mean(red[1:], blue[:-1]), mean(red[1:], blue[1:])
        text = (
            f"Each new reenactor takes the AUROC of the detector before it from {before} to {fooled}; "
            f"the detector then trained on its forgeries brings it to {after}"
        ) + (f" (means of {len(red) - 1} rounds)." if len(red) > 2 else ".")
    for name in report.withheld:
        text += f" The withheld {name}, which the red team never saw, has {mean(red[-1:], [name])} on {red[-1]}."
    return text


def render(report: Report) -> str:
    """The page as text; the same report always gives the same page."""
    payoff, games, quality = report.payoff, report.games, report.quality
    ratios = {name: numbers.get("changed_l1_ratio") for name, numbers in quality.items() if name in payoff.reenactors}
    plotted = {name: ratio for name, ratio in ratios.items() if ratio is not None}

    def scatter(detector: str) -> str:
        points = {name: (ratio, 1 - payoff.cell(name, detector)[0]) for name, ratio in plotted.items()}
        return quality_chart(points, report.controls_named, detector)

    return page(
        "report.html.j2",
        {"duration": duration},
        report=report,
        headline=headline(report),
        value_chart=value_chart([game.value for game in games], [game.newest for game in games]),
        mixture_charts={
            "red": mixture_chart([game.red for game in games], "Reds"),
            "blue": mixture_chart([game.blue for game in games], "Blues"),
        },
        quality_charts={name: scatter(name) for name in (report.judge, *report.withheld) if plotted},
        rows=groups(payoff.reenactors, report.controls_named, ()),
        columns=groups(payoff.detectors, report.controls_named, report.withheld),
        colours=colours,
        scale=[colours(step / 10)[0] for step in range(11)],
        quality_keys={key: QUALITY.get(key, (key, key)) for numbers in quality.values() for key in numbers},
        label=LABEL,
    )


def write_report(path: Path, report: Report) -> None:
    """Write the page beside `path` and rename it."""
    write_beside(path, render(report).encode())
