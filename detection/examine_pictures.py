"""The pictures of an examination: where detectors look, what they hold for changed, timelines, calibration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from PIL import Image

from detection.examine import SUSPICIOUS, Face, Worst, smoothed
from detection.examine_answers import MAP, grad_cam
from detection.examine_basis import Ensemble
from detection.pictures import QUIET, RULE, STYLE, canvas_of, data_address, heated

_FORGED, _REAL = "#a8321b", "#1f5a94"


class Explained(dict[str, bytes]):
    """title -> JPEG of one frame: the face, and what each way of looking at it shows."""


def explained(worst: Worst, ensemble: Ensemble) -> Explained:
    """The face, the heat map of every detector that has one, and Grad-CAM of the others and of the one that speaks most
    for a forgery."""
    small = _small(worst.look.crop)
    found = Explained({"the face": _jpeg(small)})
    images = torch.from_numpy(worst.look.crop).permute(2, 0, 1)[None].float() / 255
    for index, (name, module) in enumerate(zip(ensemble.names, ensemble.modules, strict=True)):
        heat = worst.maps[index]
        if heat is not None:
            found[f"{name}: held for changed"] = _jpeg(heated(small, heat / 255))
        cam = grad_cam(module, images) if heat is None or index == worst.foremost else None
        if cam is not None and cam.max() > 0:
            found[f"{name}: Grad-CAM"] = _jpeg(heated(small, _small(cam[0])))
    return found


def _small(image: np.ndarray) -> np.ndarray:  # (S, S[, 3]) -> (MAP, MAP[, 3])
    return np.asarray(Image.fromarray(image).resize((MAP, MAP), Image.Resampling.BILINEAR))


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def timeline(face: Face) -> str:
    """The LLR over a video, each look and the running median, suspicious spans shaded. A data address."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(7.6, 2.3)
        axes.axhline(0, color=RULE, linewidth=1, zorder=0)
        for start, end, _ in face.spans:
            axes.axvspan(start, max(end, start + 0.04), color=_FORGED, alpha=0.15, linewidth=0)
        axes.plot(face.seconds, face.ratios, ".", color=QUIET, markersize=3)
        axes.plot(face.seconds, smoothed(face.ratios), color=_FORGED, linewidth=1.4)
        edge = max(3.0, float(np.abs(face.ratios).max()) * 1.1)
        axes.axhline(SUSPICIOUS, color=_FORGED, linewidth=0.7, linestyle=":")
        axes.set(ylim=(-edge, edge), xlabel="seconds", ylabel="LLR of each look")
        return data_address(figure)


def tippett_chart(quantiles: Mapping[str, Sequence[float]]) -> str:
    """Share of real and of forged calibration faces whose LLR is at least so large (Tippett plot). A data address."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(4, 3)
        axes.axvline(0, color=RULE, linewidth=1, zorder=0)
        for kind, colour, style in (("real", _REAL, "--"), ("forged", _FORGED, "-")):
            values = np.asarray(quantiles[kind])
            axes.plot(values, 1 - np.linspace(0, 1, len(values)), style, color=colour, label=kind)
        axes.set(xlabel="LLR at least", ylabel="share of faces", ylim=(-0.02, 1.02))
        axes.legend(frameon=False, fontsize=8)
        return data_address(figure)


def reliability_chart(shown: Mapping[str, Sequence[float | None]]) -> str:
    """Stated and true probability of a forgery, for as many real as forged faces. A data address."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(3.4, 3)
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1, zorder=0)
        pairs = [(a, b) for a, b in zip(shown["stated"], shown["true"], strict=True) if a is not None and b is not None]
        axes.plot(*zip(*pairs, strict=True), "o-", color=_REAL, markersize=4)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="stated", ylabel="true share of forged")
        return data_address(figure)
