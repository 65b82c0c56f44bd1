"""The expression sheet: one face in twelve expressions, with their names, beside the source."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from generation.editing.drivers import EditConfig, expression_driver
from generation.editing.editing import Source, edited
from generation.editing.following import Person
from generation.editing.redrawing import Redrawer
from generation.faces.expressions import EMOTIONS, EYES, VISEMES, settled

EXPRESSIONS = (
    "smile", "laugh", "surprise", "anger", "sadness", "disgust", "fear", "kiss", "blink", "wink left", "aa", "oh",
)  # fmt: skip
"""Names of `EMOTIONS`, `EYES` and `VISEMES`."""

_TABLE = EMOTIONS | EYES | VISEMES
_TILE, _COLUMNS, _LABEL, _AROUND = 256, 6, 24, 0.85
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


def expression_sheet(source: Source, person: Person, redrawer: Redrawer, family: str) -> np.ndarray:  # uint8 (H, W, 3)
    """The source in large, and two rows of tiles, each the named expression alone. source: a photo"""
    assert source.photo is not None
    half = _AROUND * person.side / 2
    x, y = person.squares[0, :2]
    box = (x - half, y - half, x + half, y + half)
    rows = -(-len(EXPRESSIONS) // _COLUMNS)
    step = _TILE + _LABEL
    size = (_COLUMNS + 2) * _TILE, rows * step + _LABEL
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)

    def put(image: np.ndarray, left: int, top: int, side: int, label: str) -> None:
        tile = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS, box=_inside(box, image.shape))
        sheet.paste(tile, (left, top))
        pen.text((left + 6, top + side + 3), label, fill=_INK, font=font)

    put(source.photo, 0, _LABEL, 2 * _TILE, "the source")
    for index, name in enumerate(EXPRESSIONS):
        driver = expression_driver(settled(_TABLE[name]))
        (frame,) = edited(source, [person], driver, EditConfig(), redrawer)
        put(frame.image, (index % _COLUMNS + 2) * _TILE, _LABEL + index // _COLUMNS * step, _TILE, name)
    pen.text((6, 4), f"AI generated: one face in {len(EXPRESSIONS)} expressions, by {family}", fill=_INK, font=font)
    return np.asarray(sheet)


def _inside(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The square moved, and if it must be shrunk, into the picture."""
    side = min(box[2] - box[0], *shape[:2])
    left = min(max(0.0, (box[0] + box[2] - side) / 2), shape[1] - side)
    top = min(max(0.0, (box[1] + box[3] - side) / 2), shape[0] - side)
    return left, top, left + side, top + side
