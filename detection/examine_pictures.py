"""The pictures of an examination: where detectors look, what they hold for changed, timelines, calibration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from detection.detectors.localizer import Localizer
from detection.evaluation_pictures import heated
from detection.examine import SUSPICIOUS, Face, smoothed
from detection.examine_basis import Ensemble
from detection.examine_views import InnerFace
from detection.pictures import INK, QUIET, RULE, STYLE, canvas_of, data_address

_FORGED, _REAL = "#a8321b", "#1f5a94"
_LEAST_MAP, _SHOWN = 4, 192


def grad_cam(module: nn.Module, images: Tensor) -> np.ndarray | None:  # (B, 3, H, W) in [0, 1] -> (B, H, W) in [0, 1]
    """Where the log-odds of a forgery come from: the last convolution's maps, weighted by their mean gradient, what
    speaks for a forgery only (Selvaraju et al., ICCV 2017, arXiv 1610.02391); each picture's peak is 1.

    None for a detector without gradients or convolutions.
    """
    if isinstance(module, InnerFace):
        part = _class_activation(module.module, module.seen(images))
        maps = None if part is None else module.spread(part, images.shape[-1])
    else:
        maps = _class_activation(module, images)
    if maps is None:
        return None
    found: np.ndarray = (maps / maps.amax((-2, -1), keepdim=True).clamp_min(1e-12))[:, 0].numpy()
    return found


def _class_activation(module: nn.Module, images: Tensor) -> Tensor | None:  # (B, 3, H, W) -> (B, 1, H, W)
    windows = module.windows(images) if isinstance(module, Localizer) else None
    if windows is not None and len(windows.corners) > 1:
        parts = _class_activation(module, windows.cut(images))
        return None if parts is None else windows.joined(parts)
    seen: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.ndim == 4 and min(output.shape[-2:]) >= _LEAST_MAP and output.requires_grad:
            seen.append(output)

    hooks = [layer.register_forward_hook(note) for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.enable_grad():
            logits = module(images.detach().clone().requires_grad_())
            if not seen or not logits.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(logits.sum(), seen[-1])
    finally:
        for hook in hooks:
            hook.remove()
    maps = F.relu((gradient.mean((-2, -1), keepdim=True) * seen[-1]).sum(1, keepdim=True)).detach()
    return F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)


class Explained(dict[str, bytes]):
    """title -> JPEG of one frame: the face, and what each way of looking at it shows."""


def explained(crop: np.ndarray, ensemble: Ensemble) -> Explained:  # uint8 (S, S, 3)
    """The face, the heat map of every detector that has one, and Grad-CAM of all that have gradients."""
    images = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    found = Explained({"the face": _jpeg(crop)})
    for name, module in zip(ensemble.names, ensemble.modules, strict=True):
        locate = getattr(module, "locate", None)
        if locate is not None:
            with torch.no_grad():
                heat = torch.sigmoid(locate(images).heat)[0, 0].numpy()
            found[f"{name}: held for changed"] = _jpeg(heated(crop, heat))
        cam = grad_cam(module, images)
        if cam is not None and cam.max() > 0:
            found[f"{name}: Grad-CAM"] = _jpeg(heated(crop, cam[0]))
    return found


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).resize((_SHOWN, _SHOWN), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=88)
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


def verdict_bar(face: Face, low: float, high: float) -> str:
    """The LLR with its interval between the least and the largest that the calibration supports."""
    assert face.llr is not None and face.low is not None and face.high is not None
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas_of(5.2, 0.95)
        axes.axvspan(low, 0, color=_REAL, alpha=0.1, linewidth=0)
        axes.axvspan(0, high, color=_FORGED, alpha=0.1, linewidth=0)
        axes.axvline(0, color=QUIET, linewidth=1)
        axes.plot([face.low, face.high], [0, 0], color=INK, linewidth=4, solid_capstyle="butt")
        axes.plot(face.llr, 0, "o", color=INK, markersize=9, markeredgecolor="white")
        axes.set(xlim=(low, high), ylim=(-1, 1), yticks=[])
        axes.set_xticks([low, 0, high], [f"real\n{low:.1f}", "0", f"forged\n{high:.1f}"])
        axes.spines[:].set_visible(False)
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
