"""Contact sheet: what was found in footage, to be looked at, person by person, and what was dropped and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MOST_CLIPS, MOST_LINES = 120, 40
_COLUMNS, _GAP, _LINE = 2, 8, 16
_PAPER, _INK, _WARNING = (250, 250, 250), (20, 20, 20), (170, 30, 20)


def contact_sheet(clips: Sequence[tuple[str, Path]], dropped: Sequence[str]) -> np.ndarray:  # uint8 (H, W, 3)
    """Strips of pictures with their labels in two columns, the first `MOST_CLIPS` of them, then what was dropped.

    clips: label and picture file, in the order in which they are shown
    """
    strips = [(label, Image.open(path).convert("RGB")) for label, path in clips[:MOST_CLIPS]]
    wide, high = max((strip.size for _, strip in strips), default=(768, 0))
    rows = -(-len(strips) // _COLUMNS)
    lines = [f"dropped: {line}" for line in dropped[:MOST_LINES]]
    for what, all_of, most in (("clips", clips, MOST_CLIPS), ("dropped", dropped, MOST_LINES)):
        if len(all_of) > most:
            lines.append(f"... and {len(all_of) - most} more {what}")
    step = high + _LINE + _GAP
    size = _COLUMNS * (wide + _GAP) + _GAP, _GAP + rows * step + len(lines) * _LINE + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (label, strip) in enumerate(strips):
        x, y = _GAP + index // rows * (wide + _GAP), _GAP + index % rows * step
        pen.text((x, y), _printable(label), fill=_INK, font=font)
        sheet.paste(strip, (x, y + _LINE))
    for index, line in enumerate(lines):
        pen.text((_GAP, _GAP + rows * step + index * _LINE), _printable(line), fill=_WARNING, font=font)
    return np.asarray(sheet)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
