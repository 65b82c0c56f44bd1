"""Finding the watermark in a frame whose borders were cut off: at every place and scale, with the looks counted.

What was cut off is not known, so the frame is taken to be a part of every larger one that is not more than
`1 / LEAST` as high and as wide, at every whole pixel of a coarse grid, height and width by themselves: the frame's
whitened content, with nothing around it, is transformed as that larger frame would be, and correlated with the mark.
All hypotheses of one axis are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import scipy.fft

LEAST = 0.88
"""The share of height or width that must be left."""

_GRID = 128  # pixels a side
_HIGHEST = 96  # the frequencies by which the place is found, in half periods of the larger frame
_CANDIDATES = 16


def candidates(whitened: np.ndarray, signs: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The coefficients of the larger frames in which the mark fits best, with the number of those that were tried.

    whitened, signs: (N, N), by frequency; signs are 1, -1, or 0 where none is fixed
    """
    high, wide = (min(_GRID, int(np.flatnonzero(whitened.any(axis=axis)).max()) + 1) for axis in (1, 0))
    content = scipy.fft.idctn(whitened[:high, :wide], norm="ortho").astype(np.float32)
    rows, columns = _places(high), _places(wide)
    known = signs[:_HIGHEST, :_HIGHEST].T.astype(np.float32)
    across = _waves(wide).reshape(len(columns), -1)
    scores = np.stack([across @ (known @ (wave @ content)).ravel() for wave in _waves(high)])
    for index in np.argpartition(scores.ravel(), -_CANDIDATES)[-_CANDIDATES:]:
        row, column = rows[index // len(columns)], columns[index % len(columns)]
        yield _basis(len(signs), high, *row) @ content @ _basis(len(signs), wide, *column).T, scores.size


@cache
def _places(pixels: int) -> list[tuple[int, int]]:
    """(pixels of the larger frame, pixels cut off before this one)"""
    return [(whole, before) for whole in range(pixels, int(pixels / LEAST) + 1) for before in range(whole - pixels + 1)]


@cache
def _waves(pixels: int) -> np.ndarray:  # float32 (places, _HIGHEST, pixels)
    return np.stack([_basis(_HIGHEST, pixels, *place) for place in _places(pixels)])


def _basis(frequencies: int, pixels: int, whole: int, before: int) -> np.ndarray:  # float32 (frequencies, pixels)
    """The cosines of a frame of `whole` pixels, where this one lies in it."""
    frequency, place = np.mgrid[:frequencies, before : before + pixels]
    made = np.sqrt(2 / whole) * np.cos(np.pi * frequency * (place + 0.5) / whole)
    made[0] /= np.sqrt(2)
    made[whole:] = 0
    return np.asarray(made, np.float32)
