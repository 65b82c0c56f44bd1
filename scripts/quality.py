"""The quality of a reenactor, by all judges that can be had, told line by line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from generation import metrics
from generation.records import write_beside
from scripts import clip_quality
from scripts.console import say


def judged_quality(
    reenactor: nn.Module, swaps: metrics.SwapImages, judged: int, seed: int, picture: Path
) -> dict[str, Any]:
    """Every metric of `Panel.quality` and of `clip_quality.ClipQuality` on synthetic clips.

    `judged` swaps are shown to the networks; with 0 they judge no clip either. `picture`: PNG of one forged clip.
    """
    clips = clip_quality.NOTHING
    with metrics.Panel() as panel:
        for line in panel.absent if judged else ():
            say(line)
        quality = panel.quality(swaps, judged)
        if judged and panel.reader is not None:
            clips, strip = clip_quality.clip_quality(reenactor, swaps.source.shape[-1], seed, panel.reader)
            write_beside(picture, strip)
    return told(quality, clips)


def told(quality: dict[str, Any], clips: clip_quality.ClipQuality) -> dict[str, Any]:
    """Swaps and clips in one; each number is said."""
    judges = quality["judges"] | clip_quality.JUDGES
    numbers = {name: value for name, value in quality.items() if name != "judges"} | asdict(clips)
    for name, value in numbers.items():
        say(f"{name}: {value}")
    return numbers | {"judges": judges}
