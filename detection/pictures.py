"""The pictures of a report: its charts (SVG), the payoff matrix (PNG, for other pages), grids of samples (PNG); and
heat on faces.

The same input always gives the same bytes. Charts are drawn small, so that they can still be read on a telephone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, rgb2hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from detection.arena import Payoff

LABEL = "AI GENERATED"
KINDS = ("source", "driver", "forgery", "target")

INK, QUIET, RULE = "#1c1f23", "#565d66", "#d5d9de"
_RED, _BLUE = "#a8321b", "#1f5a94"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vicious cycle",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


def number(value: Any, digits: int = 3) -> str:
    """A number for a reader: fixed digits for fractions, a true minus sign, a dash for what there is none of."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "\u2013"
    if not isinstance(value, float):
        return str(value)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def heated(face: np.ndarray, probability: np.ndarray) -> np.ndarray:  # (H, W, 3) uint8, (H, W) -> (H, W, 3) uint8
    """A face in grey with what a detector holds for changed in red."""
    grey = np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2) * 0.6
    red = np.array([230.0, 40.0, 20.0])
    mixed: np.ndarray = grey + probability[..., None] * (red - grey) * 0.8
    return mixed.round().clip(0, 255).astype(np.uint8)


def groups(names: Sequence[str], controls: Sequence[str], withheld: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Names in their order under `rounds`, `withheld` and `controls`; empty groups are left out."""
    kind = {name: "controls" if name in controls else "withheld" if name in withheld else "rounds" for name in names}
    found = [(title, [name for name in names if kind[name] == title]) for title in ("rounds", "withheld", "controls")]
    return [(title, group) for title, group in found if group]


def colours(auroc: float) -> tuple[str, str]:
    """Background and text of a payoff cell, as #rrggbb.

    One hue from light (1, all forgeries caught) to dark (0, all pass), which also orders in grey; text black or white,
    whichever has the higher contrast (WCAG 2).
    """
    rgb = matplotlib.colormaps["OrRd"](1 - auroc)[:3]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    luminance = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return rgb2hex(rgb), "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def canvas_of(width: float, height: float) -> tuple[Figure, Axes]:  # inches
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    return figure, figure.add_subplot()


def data_address(figure: Figure) -> str:
    """The figure as a data address for an image: what is drawn there can neither run nor clash with the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode()


def value_chart(values: Sequence[float], newest: Sequence[float]) -> str:
    """Evasion per round: at equilibrium (`values`), of the newest detector alone. A data address, like all charts."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4, 3)
        axes.axhline(0.5, color=RULE, linewidth=1, zorder=0)
        axes.plot(newest, "s--", color=QUIET, label="newest detector alone")
        axes.plot(values, "o-", color=_BLUE, label="best mixture of all so far")
        axes.set(ylim=(-0.03, 1.03), xlim=(-0.3, len(values) - 0.7), xlabel="round", ylabel="evasion (1 \u2212 AUROC)")
        axes.set_xticks(range(len(values)))
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
        return data_address(figure)


def mixture_chart(mixtures: Sequence[Mapping[str, float]], colour_map: str) -> str:
    """One stacked bar per round: how often each of the pool (name -> probability) is played, darker for newer."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4, 3)
        shades = matplotlib.colormaps[colour_map](np.linspace(0.2, 0.75, len(mixtures[-1])))
        for at, mixture in enumerate(mixtures):
            left = 0.0
            for shade, (name, weight) in zip(shades, mixture.items(), strict=False):
                axes.barh(at, weight, left=left, color=shade, edgecolor="white", height=0.62)
                if weight > 0.09:
                    ink, middle = "white" if shade[:3].mean() < 0.5 else INK, left + weight / 2
                    axes.text(middle, at, f"{name}\n{weight:.2f}", ha="center", va="center", color=ink, fontsize=9)
                left += weight
        axes.set(xlim=(0, 1), ylabel="round", xlabel="share of play")
        axes.set_yticks(range(len(mixtures)))
        axes.invert_yaxis()
        return data_address(figure)


def _beside(points: np.ndarray, names: Sequence[str], left: float, right: float) -> list[tuple[float, float]]:
    """Offsets of labels from their points, such that they cover neither a point nor each other where that can be had.

    points: np.ndarray  # (N, 2) in typographic points, like the offsets (dx, dy) of the middle of a label's left end
    left, right: between which labels must stay
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    offsets = []
    for (x, y), name in zip(points, names, strict=True):
        wide, tall = 5.6 * len(name) + 2, 11.0
        sides = [(9.0, 0.0), (-9 - wide, 0.0)]
        for dy in (13, -13, 25, -25, 37, -37):
            sides += [(dx, float(dy)) for dx in (-wide / 2, 6.0, -6 - wide)]
        boxes = [(x + dx, y + dy - tall / 2, x + dx + wide, y + dy + tall / 2) for dx, dy in sides]
        free = [
            left <= a[0]
            and a[2] <= right
            and not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken)
            for a in boxes
        ]
        best = free.index(True) if any(free) else 0
        taken.append(boxes[best])
        offsets.append(sides[best])
    return offsets


def quality_chart(points: Mapping[str, tuple[float, float]], hollow: Sequence[str], detector: str) -> str:
    """Quality against evasion of one detector: name -> (changed_l1_ratio, evasion); the `hollow` ones are controls."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4.4, 3.5)
        places = np.array(list(points.values()))  # (N, 2)
        low, high = places[:, 0].min(), places[:, 0].max()
        margin = 0.3 * max(high - low, 0.02)
        axes.set(xlim=(low - margin, high + margin), ylim=(-0.06, 1.06))
        axes.set_xlabel("L1 in the changed region (1 = copying; left is better)")
        axes.set_ylabel(f"evasion of {detector} (1 \u2212 AUROC)")
        axes.axhline(0.5, color=RULE, linewidth=1, zorder=0)
        figure.draw_without_rendering()
        unit, inside = 72 / figure.dpi, axes.get_window_extent()
        offsets = _beside(axes.transData.transform(places) * unit, list(points), inside.x0 * unit, inside.x1 * unit)
        for (name, point), offset in zip(points.items(), offsets, strict=True):
            face = "white" if name in hollow else _RED
            axes.plot(*point, "o", markersize=8, markerfacecolor=face, markeredgecolor=_RED, markeredgewidth=1.6)
            axes.annotate(name, point, offset, textcoords="offset points", va="center", fontsize=9)
        return data_address(figure)


def pareto_picture(
    points: Mapping[str, tuple[float, float | None, float | None]], kinds: Mapping[str, str], detector: str
) -> bytes:
    """What evasion cost, as PNG: evasion of a detector against CSIM (left panel) and AED (right panel).

    points: name -> (evasion, CSIM, AED); a point without a number is left out of that panel
    kinds: name -> its kind; one colour and one marker a kind, in the order of their first names
    """
    order = list(dict.fromkeys(kinds[name] for name in points))
    colour = dict(zip(order, matplotlib.colormaps["tab10"](np.linspace(0, 1, 10)), strict=False))
    marker = dict(zip(order, "osD^v<>P", strict=False))
    titles = ("CSIM to the source (right is better)", "AED to the exact target (left is better)")
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.8), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        both = figure.subplots(1, 2, sharey=True)
        for panel, (axes, title) in enumerate(zip(both, titles, strict=True), 1):
            shown = {name: (point[panel], point[0]) for name, point in points.items() if point[panel] is not None}
            axes.set(xlabel=title, ylim=(-0.06, 1.06))
            axes.axhline(0.5, color=RULE, linewidth=1, zorder=0)
            if not shown:
                continue
            places = np.array(list(shown.values()), float)  # (N, 2)
            low, high = places[:, 0].min(), places[:, 0].max()
            margin = 0.35 * max(high - low, 0.002)
            axes.set_xlim(low - margin, high + margin)
            figure.draw_without_rendering()
            unit, inside = 72 / figure.dpi, axes.get_window_extent()
            offsets = _beside(axes.transData.transform(places) * unit, list(shown), inside.x0 * unit, inside.x1 * unit)
            for (name, place), offset in zip(shown.items(), offsets, strict=True):
                kind = kinds[name]
                axes.plot(*place, marker[kind], markersize=8, color=colour[kind], markeredgecolor=INK)
                axes.annotate(name, place, offset, textcoords="offset points", va="center", fontsize=8)
        both[0].set_ylabel(f"evasion of {detector} (1 \u2212 AUROC)")
        figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()


def _places(grouped: Sequence[tuple[str, list[str]]]) -> tuple[dict[str, float], list[str]]:
    """Where each name's row or column begins, in cells, with a gap between groups; and the names with their group."""
    order = [(number, title, name) for number, (title, group) in enumerate(grouped) for name in group]
    below = {"rounds": "", "withheld": "\nwithheld", "controls": "\ncontrol"}
    at = {name: index + 0.16 * number for index, (number, _, name) in enumerate(order)}
    return at, [name + below[title] for _, title, name in order]


def payoff_picture(payoff: Payoff, controls_named: Sequence[str] = (), withheld: Sequence[str] = ()) -> bytes:
    """The payoff matrix as PNG: number and interval in every cell; what is withheld or a control stands apart."""
    y, row_titles = _places(groups(payoff.reenactors, controls_named, ()))
    x, column_titles = _places(groups(payoff.detectors, controls_named, withheld))
    wide, tall = 0.97, 0.96
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(2.8 + 1.05 * len(x), 1.4 + 0.62 * len(y))
        for row, top in y.items():
            for column, left in x.items():
                value, low, high = payoff.cell(row, column)
                back, ink = colours(value)
                axes.add_patch(Rectangle((left, top), wide, tall, facecolor=back, edgecolor=RULE, linewidth=0.6))
                text: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
                axes.text(left + wide / 2, top + 0.38, number(value), fontsize=11, weight="bold", **text)
                interval = f"{number(low, 2)}\u2013{number(high, 2)}"
                axes.text(left + wide / 2, top + 0.72, interval, fontsize=8, **text)
        axes.set(xlim=(0, max(x.values()) + 1), ylim=(max(y.values()) + 1, 0), xlabel="detectors", ylabel="reenactors")
        axes.set_xticks([at + wide / 2 for at in x.values()], column_titles)
        axes.set_yticks([at + tall / 2 for at in y.values()], row_titles)
        axes.tick_params(length=0, labelcolor=INK)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.spines[:].set_visible(False)
        scale = ScalarMappable(Normalize(0, 1), matplotlib.colormaps["OrRd_r"])
        bar = figure.colorbar(scale, ax=axes, fraction=0.05, pad=0.03, ticks=[0, 0.5, 1])
        bar.ax.set_yticklabels(["0 all pass", ".5 a guess", "1 all caught"])
        bar.ax.axhline(0.5, color=INK, linewidth=1)
        bar.ax.spines[:].set_visible(False)
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def sample_grid(
    source: np.ndarray, driver: np.ndarray, forgery: np.ndarray, target: np.ndarray, tile: int = 128
) -> bytes:
    """Samples as PNG, one a row: source, driver, forgery and target; under each forgery a band says "AI GENERATED".

    source, driver, forgery, target: np.ndarray  # (N, H, W, 3) uint8, square
    Faces smaller than `tile` pixels are enlarged (bicubic), larger ones shown as they are.
    """
    tile = max(tile, source.shape[1])
    gap, head, band = tile // 20, round(0.2 * tile), round(0.18 * tile)
    step = tile + band + gap
    canvas = Image.new("RGB", (4 * tile + 5 * gap, head + len(source) * step), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (kind, faces) in enumerate(zip(KINDS, (source, driver, forgery, target), strict=True)):
        left = gap + column * (tile + gap)
        draw.text((left + tile / 2, head / 2), kind, INK, ImageFont.load_default(0.6 * head), anchor="mm")
        for index, face in enumerate(faces):
            top = head + index * step
            canvas.paste(Image.fromarray(face).resize((tile, tile), Image.Resampling.BICUBIC), (left, top))
            if kind == "forgery":
                below = top + tile
                draw.rectangle((left, below, left + tile - 1, below + band - 1), fill=_RED)
                spaced, font = LABEL.replace(" ", "  "), ImageFont.load_default(0.62 * band)
                draw.text((left + tile / 2, below + band / 2), spaced, "white", font, anchor="mm")
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
