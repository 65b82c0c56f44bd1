"""An invisible watermark that says "made here" and nothing else: spread spectrum in the low frequencies of brightness.

The mark is a fixed sequence of signs, one for each coefficient (u, v) of the cosine transform of the whole frame, so a
frame that is made larger or smaller keeps it where it is (Cox, Kilian, Leighton and Shamoon 1997). Detection correlates
the signs with the coefficients, each over what is usual around it and clipped (whitened, robust to lines and borders).
Embedding knows the frame (informed embedding; Miller, Doerr and Cox 2004): it turns coefficients over where that is
cheap and leaves alone those that agree already, which takes less than half the energy for the same certainty.

The p-value is that of the signs: for any frame whatever, over all sequences that might have been drawn, the statistic
has mean 0, variance 1 and tails of at most 3.18 times the normal ones (Bentkus and Dzindzalieta 2015). Frames of a
video are pooled before the test, so it does not matter how alike they are.

The mark does not survive cropping, mirroring or rotation, and as the sequence is public, who wants to can take it out,
or put it into anything: it shows honest users what they look at, and is no evidence against anybody.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import scipy.fft
import scipy.stats

from generation.records import UserError

SMALLEST = 64
"""Pixels of the shorter side that a frame must have to be marked."""

FOUND = 1e-6
"""A p-value below it says that the mark is there."""

_KEY = b"vicious-cycle watermark 1"
_GRID = 256  # larger frames are reduced to so many pixels a side before the transform
_EDGES = (12, 48, 128)  # rings of frequency, in half periods a frame; the finer one is gone in small frames
_MARKED, _READ = 0.75, 0.9  # of the shorter side's pixels: up to which frequency a frame is marked, and is read
_NOISE = 6.0, 3.0  # grey levels that compression is expected to add: for embedding, for detection
_CLIP = 0.5  # of the usual magnitude around a coefficient: from there on it counts no more; also the margin embedded
_FEWEST = 200  # coefficients of a ring that is used


def mark_image(image: np.ndarray, payload: int = 0) -> np.ndarray:  # uint8 (H, W, 3) RGB, both
    """The frame with the watermark; the same frame always gives the same bytes.

    PSNR: 40 dB at 64 px, 45 at 256, 48 at 512, 50 from 720 on (shorter side). Raises `UserError` for a frame of less
    than `SMALLEST` pixels a side.
    """
    shorter = min(image.shape[:2])
    if shorter < SMALLEST:
        raise UserError(
            f"{image.shape[1]} x {image.shape[0]} pixels are too few to carry a watermark; at least {SMALLEST} a side"
        )
    grid = _reduced(image)
    size = math.sqrt(grid.size)
    coefficients = _transform(grid)
    here = slice(grid.shape[0]), slice(grid.shape[1])
    radius = _radius()[here]
    chosen = (radius >= _EDGES[0]) & (radius < min(_EDGES[-1], _MARKED * shorter))
    usual = _usual(coefficients, _NOISE[0])[chosen]
    sign = _signs(_KEY)[here][chosen]
    agreement = sign * coefficients[chosen]
    limit = _limit(shorter)
    gap = np.where(agreement > -_CLIP * usual, np.maximum(_CLIP * usual - agreement, 0), 0)
    wanted = np.zeros_like(grid)
    wanted[chosen] = sign * _cheapest(gap, usual, limit)
    masking = _masking(grid)
    mark = masking * _back(wanted)
    mark += masking * _back(np.where(wanted != 0, wanted - _transform(mark), 0))  # what masking took away
    mark *= min(1.0, limit / max(1e-9, float(np.linalg.norm(mark)) / size))
    if mark.shape != image.shape[:2]:
        mark = cv2.resize(mark, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    marked: np.ndarray = cv2.add(image, cv2.merge([mark] * 3), dtype=cv2.CV_8U)
    return marked


def watermark_p(frames: Iterable[np.ndarray], key: bytes = _KEY) -> float:  # each uint8 (H, W, 3) RGB
    """The p-value of "these frames do not carry the mark of this key", uniform in [0, 1] where they do not.

    frames: of one picture or one video, of any size; where they are too small to tell, the value is 1
    """
    evidence = np.zeros((_EDGES[-1],) * 2)
    for frame in frames:
        grid = _reduced(frame)
        coefficients = _transform(grid)
        terms = np.clip(coefficients / (_CLIP * _usual(coefficients, _NOISE[1])), -1, 1)[: _EDGES[-1], : _EDGES[-1]]
        high, wide = terms.shape
        evidence[:high, :wide] += np.where(_radius()[:high, :wide] < _READ * min(grid.shape), terms, 0)
    values: list[float] = []
    for inner, outer in pairwise(_EDGES):
        radius = _radius()[: _EDGES[-1], : _EDGES[-1]]
        ring = (radius >= inner) & (radius < outer)
        terms = evidence[ring]
        if np.count_nonzero(terms) >= _FEWEST:
            correlation = terms @ _signs(key)[: _EDGES[-1], : _EDGES[-1]][ring] / np.linalg.norm(terms)
            values.append(float(scipy.stats.norm.sf(correlation)))
    least = min(values, default=1.0)
    return 1.0 if least == 1 else -math.expm1(len(values) * math.log1p(-least))  # Sidak: the rings are independent


def _limit(shorter: int) -> float:
    """The mark's root mean square in grey levels; large frames are compressed less for their size, and need less."""
    return min(2.45, max(0.7, 1.4 * math.pow(_GRID / shorter, 0.7)))


def _cheapest(gap: np.ndarray, usual: np.ndarray, limit: float) -> np.ndarray:  # (N,) all
    """Changes of at most `gap`, of energy at most `limit` squared, with the greatest sum of change over `usual`."""
    low, high = 0.0, float((gap * usual).max(initial=0))
    for _ in range(16):
        middle = (low + high) / 2
        change = np.minimum(gap, middle / usual)
        low, high = (low, middle) if float(change @ change) > limit**2 else (middle, high)
    return np.asarray(np.minimum(gap, high / usual))


def _reduced(image: np.ndarray) -> np.ndarray:  # float32 (h, w), at most _GRID a side
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    high, wide = (min(side, _GRID) for side in grey.shape)
    return grey if grey.shape == (high, wide) else cv2.resize(grey, (wide, high), interpolation=cv2.INTER_AREA)


def _transform(grid: np.ndarray) -> np.ndarray:
    """Cosine transform in grey levels: the squares add up to the mean square of the frame, whatever its size."""
    made: np.ndarray = scipy.fft.dctn(grid, norm="ortho") / np.float32(math.sqrt(grid.size))
    return made


def _back(coefficients: np.ndarray) -> np.ndarray:
    made: np.ndarray = scipy.fft.idctn(coefficients, norm="ortho") * np.float32(math.sqrt(coefficients.size))
    return made


def _usual(coefficients: np.ndarray, noise: float) -> np.ndarray:
    """Root mean square of the coefficients around each one, and of white noise."""
    around = cv2.blur(coefficients * coefficients, (9, 9))
    return np.asarray(np.sqrt(np.maximum(around, 0) + np.float32(noise**2 / coefficients.size)))


def _masking(grid: np.ndarray) -> np.ndarray:
    """How much the eye misses there, about 1: less in smooth places, more in busy ones.

    In small frames, which have no certainty to spare, the difference is small.
    """
    mean = cv2.blur(grid, (5, 5))
    spread = np.sqrt(np.maximum(cv2.blur(grid * grid, (5, 5)) - mean * mean, 0)) + 2
    factor: Any = cv2.blur(np.clip(spread / spread.mean(), 0.5, 1.5) ** (min(grid.shape) / _GRID), (5, 5))
    return np.asarray(factor / np.sqrt((factor * factor).mean()))


@cache
def _signs(key: bytes) -> np.ndarray:  # float32, 1 or -1, (_GRID, _GRID)
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(key).digest(_GRID * _GRID // 8), np.uint8))
    return (bits.astype(np.float32) * 2 - 1).reshape(_GRID, _GRID)


@cache
def _radius() -> np.ndarray:  # (_GRID, _GRID)
    return np.asarray(np.hypot(*np.mgrid[:_GRID, :_GRID]))
