"""The pictures of an evaluation: ROC and DET curves, severities, calibration (SVG), worst errors (PNG)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import norm

from detection import metrics
from detection.pictures import INK, QUIET, RULE, STYLE, canvas_of, data_address

MOST = 8
"""Detectors in one chart: more cannot be told apart."""

_DASHES = ("-", "--", "-.", ":")


def _lines(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash for each detector, which can also be told apart in grey."""
    shades = matplotlib.colormaps["tab10"](np.arange(10))
    return {
        name: {"color": shades[i % 10], "linestyle": _DASHES[i % 4], "linewidth": 1.6} for i, name in enumerate(names)
    }


def roc_chart(faces: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """detector -> (labels, scores): true against false positive rates, the latter on a logarithmic scale from where
    one real face is a false alarm. A data address, like all charts."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4.6, 3.9)
        for (name, (truth, score)), line in zip(faces.items(), _lines(list(faces)).values(), strict=True):
            false, true = metrics.roc(truth, score)
            least = 0.5 / max(1, int((truth == 0).sum()))
            axes.step(np.maximum(false, least), true, where="post", label=name, **line)
        share = np.geomspace(1e-4, 1, 50)
        axes.plot(share, share, color=RULE, linewidth=1, zorder=0)
        axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel="false positive rate", ylabel="true positive rate")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.legend(frameon=False, fontsize=8)
        return data_address(figure)


def det_chart(faces: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Misses against false alarms on normal deviates (Martin et al., Eurospeech 1997): normal scores give a line."""
    marks = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95])
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4.6, 3.9)
        for (name, (truth, score)), line in zip(faces.items(), _lines(list(faces)).values(), strict=True):
            false, true = metrics.roc(truth, score)
            inside = (false > 0) & (true < 1)
            axes.plot(norm.ppf(false[inside]), norm.ppf(1 - true[inside]), label=name, **line)
        edge = norm.ppf([0.0007, 0.97])
        axes.plot(edge, edge, color=RULE, linewidth=1, zorder=0)
        axes.set(xlim=edge, ylim=edge, xlabel="false positive rate", ylabel="miss rate")
        axes.set_xticks(norm.ppf(marks), [f"{mark:g}" for mark in marks])
        axes.set_yticks(norm.ppf(marks), [f"{mark:g}" for mark in marks])
        axes.legend(frameon=False, fontsize=8)
        return data_address(figure)


def severity_chart(title: str, curves: Mapping[str, Mapping[int, float]]) -> str:
    """AUROC over severity for each detector; severity 0 is the clean picture."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4, 3)
        for (name, curve), line in zip(curves.items(), _lines(list(curves)).values(), strict=True):
            severities = sorted(curve)
            axes.plot(severities, [curve[severity] for severity in severities], marker="o", ms=3, label=name, **line)
        axes.axhline(0.5, color=RULE, linewidth=1, zorder=0)
        low = min(value for curve in curves.values() for value in curve.values())
        axes.set(title=title, xlabel="severity", ylabel="AUROC", ylim=(min(0.48, low - 0.02), 1.02))
        axes.legend(frameon=False, fontsize=8)
        return data_address(figure)


def calibration_chart(name: str, truth: np.ndarray, before: np.ndarray, after: np.ndarray | None) -> str:
    """Stated and true probability, before and after division by the temperature from validation faces; real and forged
    faces count the same in all."""
    weights = np.where(truth == 1, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(3.4, 3.3)
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1, zorder=0)
        given = [("before", before, QUIET, "s--")] + ([] if after is None else [("after", after, "#1f5a94", "o-")])
        for label, score, colour, style in given:
            found = metrics.reliability(truth, score, 10, weights)
            seen = found.share > 0.002
            axes.plot(found.stated[seen], found.true[seen], style, color=colour, label=label, markersize=4)
        axes.set(title=name, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="stated", ylabel="true share of forged")
        axes.legend(frameon=False, fontsize=8)
        return data_address(figure)


def face_grid(rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]], tile: int = 112) -> bytes:
    """Rows of faces as PNG: (title of the row, [(face (H, W, 3) uint8, a line below it)])."""
    gap, margin, band = 6, 130, 18
    step = tile + band + gap
    columns = max(len(faces) for _, faces in rows)
    canvas = Image.new("RGB", (margin + columns * (tile + gap), len(rows) * step + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for line, (title, faces) in enumerate(rows):
        top = gap + line * step
        draw.multiline_text((gap, top + tile / 2), title, INK, ImageFont.load_default(14), anchor="lm")
        for column, (face, below) in enumerate(faces):
            left = margin + column * (tile + gap)
            canvas.paste(Image.fromarray(face).resize((tile, tile), Image.Resampling.BICUBIC), (left, top))
            draw.text((left + tile / 2, top + tile + band / 2), below, QUIET, ImageFont.load_default(12), anchor="mm")
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def curves_of(clean: pd.DataFrame, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """detector -> (labels, scores) of the given detectors."""
    return {
        name: (part["label"].to_numpy(), part["score"].to_numpy())
        for name in names
        for part in [clean[clean["detector"] == name]]
    }
