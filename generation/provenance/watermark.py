"""An invisible watermark that says "made here" and 32 bits more: spread spectrum in the brightness of the whole frame.

The mark is a sequence of signs, one for each coefficient (u, v) of the cosine transform of the frame, so a frame that
is made larger or smaller keeps it where it is (Cox, Kilian, Leighton and Shamoon 1997). Some of the signs are fixed,
by them the mark is found; the others also say the bits of a code word (`payload.py`). Detection correlates the signs
with the coefficients, each over what is usual around it and clipped (whitened, robust to lines and borders), high
frequencies, which compression takes, counting less. Embedding knows the frame (informed embedding; Miller, Doerr and
Cox 2004): it turns coefficients over where that is cheap, and survives, and leaves alone those that agree already.

The p-value is that of the signs: for any frame whatever, over all sequences that might have been drawn, the correlation
has mean 0, variance 1 and tails of at most 3.18 times the normal ones (Bentkus and Dzindzalieta 2015). Frames of a
video are pooled before the test, so it does not matter how alike they are. Only where that finds nothing is the mark
looked for in a frame of which a part was cut off (`realign.py`), and every place where it was looked for is counted.

The mark does not survive mirroring or rotation, and as the sequence is public, who wants to can take it out, or put it
into anything: it shows honest users what they look at, and is no evidence against anybody.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import scipy.fft
import scipy.stats

from generation.provenance import realign
from generation.provenance.payload import LENGTH, decode, encode
from generation.records import UserError

SMALLEST = 64
"""Pixels of the shorter side that a frame must have to be marked."""

FOUND = 1e-6
"""A p-value below it says that the mark is there."""

_KEY = b"vicious-cycle watermark 2"
_GRID = 256  # larger frames are reduced to so many pixels a side before the transform
_EDGES = 16, 128  # the frequencies that are used, in half periods a frame
_MARKED, _READ = 0.75, 0.9  # of the shorter side's pixels: up to which frequency a frame is marked, and is read
_NOISE = 4.0, 3.0  # grey levels that compression is expected to add: for embedding, for detection
_LOST, _FINE = (
    0.33,
    0.55,
)  # of the shorter side's pixels: frequencies lost to compression, and counted exp(-1)
_CLIP = 0.5  # of the usual magnitude around a coefficient: from there on it counts no more; also the margin embedded
_COLOUR = 0.669, 1.313, 0.255  # of red, green, blue: the change that brightens by 1 with the least energy
_SEARCH = 0.1  # of the false alarms that are allowed: those of the search
_FEWEST = 200  # coefficients that a verdict needs
_COARSE, _SHARES = 40, (0.75, 0.5)  # below and above this frequency: the share of the signs that is fixed


@dataclass(frozen=True)
class Reading:
    """p: of "these frames do not carry the mark", uniform in [0, 1] where they do not, or greater; payload: what the
    mark says, None where it is not there, or too weak to be read"""

    p: float
    payload: int | None


def mark_image(image: np.ndarray, payload: int = 0) -> np.ndarray:  # uint8 (H, W, 3) RGB, both
    """The frame with the watermark that says `payload`, 32 bits; the same frame always gives the same bytes.

    PSNR: 40 dB at 128 px. Raises `UserError` for a frame of less than `SMALLEST` pixels a side.
    """
    shorter = min(image.shape[:2])
    if shorter < SMALLEST:
        raise UserError(
            f"{image.shape[1]} x {image.shape[0]} pixels are too few to carry a watermark; at least {SMALLEST} a side"
        )
    grid = _reduced(image)
    coefficients = _transform(grid)
    chosen, noise = _used(*grid.shape, shorter)
    sign = _saying(payload, _KEY)[chosen]
    chosen = chosen[: grid.shape[0], : grid.shape[1]]
    usual = np.sqrt(_around(coefficients)[chosen] + noise)
    agreement = sign * coefficients[chosen]
    limit = _limit(shorter)
    gap = np.where(agreement > -_CLIP * usual, np.maximum(_CLIP * usual - agreement, 0), 0)
    wanted = np.zeros_like(grid)
    wanted[chosen] = sign * _cheapest(gap, usual, limit)
    masking = _masking(grid)
    mark = masking * _back(wanted)
    mark += masking * _back(np.where(wanted != 0, wanted - _transform(mark), 0))  # what masking took away
    mark *= min(1.0, limit * math.sqrt(grid.size) / max(1e-9, float(np.linalg.norm(mark))))
    if mark.shape != image.shape[:2]:
        mark = cv2.resize(mark, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    marked: np.ndarray = cv2.add(image, cv2.merge([mark * weight for weight in _COLOUR]), dtype=cv2.CV_8U)
    return marked


def watermark_p(frames: Iterable[np.ndarray], key: bytes = _KEY) -> float:  # each uint8 (H, W, 3) RGB
    """`Reading.p` of frames."""
    return read_watermark(frames, key).p


def read_watermark(frames: Iterable[np.ndarray], key: bytes = _KEY) -> Reading:
    """Look for the mark of this key.

    frames: uint8 (H, W, 3) RGB, of one picture or one video, of any size; where they are too small to tell, p is 1
    """
    evidence, whitened, shorter = gathered(frames)
    p = plain_p(evidence, key) / (1 - _SEARCH)
    if p >= FOUND and np.count_nonzero(evidence) >= _FEWEST:
        fixed = np.where(_bit(key) < 0, _signs(key), 0)[: _EDGES[1], : _EDGES[1]]
        for moved, looks in realign.candidates(whitened, fixed):
            terms = moved / np.sqrt(np.maximum(cv2.blur(moved * moved, (9, 9)), 1e-12))
            there = _clipped(terms, shorter)
            found = looks / _SEARCH * plain_p(there, key)
            if found < p:
                p, evidence = found, there
    upright = p < FOUND and fixed_score(evidence, key) > 0  # in a negative every sign is turned
    payload = decode(*_bits(evidence, key), key) if upright else None
    return Reading(min(1.0, p), payload)


class Gathered(NamedTuple):
    """What each coefficient says before it is known which sign is looked for, all frames together, (_EDGES[1],) * 2.

    evidence: over what is usual around it, clipped, with its weight; whitened: only over what is usual; shorter: side
    of the frames, pixels
    """

    evidence: np.ndarray
    whitened: np.ndarray
    shorter: int


def gathered(frames: Iterable[np.ndarray]) -> Gathered:
    evidence, whitened = np.zeros((2, _EDGES[1], _EDGES[1]), np.float32)
    shorter = 0
    for frame in frames:
        grid, shorter = _reduced(frame), min(frame.shape[:2])
        coefficients = _transform(grid)
        usual = np.sqrt(_around(coefficients) + np.float32(_NOISE[1] ** 2 / grid.size))
        terms = (coefficients / usual)[: _EDGES[1], : _EDGES[1]]
        here = slice(terms.shape[0]), slice(terms.shape[1])
        evidence[here] += _clipped(terms, shorter)
        whitened[here] += np.where(_radius()[here] < _READ * min(grid.shape), np.clip(terms, -2, 2), 0)
    return Gathered(evidence, whitened, shorter)


def _clipped(terms: np.ndarray, shorter: int) -> np.ndarray:
    here = slice(terms.shape[0]), slice(terms.shape[1])
    return np.asarray(np.clip(terms / _CLIP, -1, 1) * _weight(shorter)[here])


@lru_cache(4)
def _weight(shorter: int) -> np.ndarray:  # float32 (_EDGES[1], _EDGES[1])
    """How much a coefficient counts in frames of so many pixels."""
    radius = _radius()[: _EDGES[1], : _EDGES[1]]
    read = (radius >= _EDGES[0]) & (radius < min(_EDGES[1], _READ * min(shorter, _GRID)))
    return np.asarray(np.where(read, np.exp(-np.square(radius / (_FINE * shorter))), 0), np.float32)


@lru_cache(4)
def _used(high: int, wide: int, shorter: int) -> tuple[np.ndarray, np.ndarray]:
    """Which coefficients of a grid are marked, (high, wide), and the square of the noise expected in each of them."""
    radius = _radius()[:high, :wide]
    chosen = (radius >= _EDGES[0]) & (radius < min(_EDGES[1], _MARKED * shorter))
    noise = _NOISE[0] ** 2 / (high * wide) * np.exp(2 * np.square(radius[chosen] / (_LOST * shorter)))
    return np.pad(chosen, ((0, _GRID - high), (0, _GRID - wide))), noise.astype(np.float32)


def plain_p(evidence: np.ndarray, key: bytes = _KEY) -> float:
    """The p-value where nothing was cut off: of the fixed signs and, whatever they may say, of the others (Fisher)."""
    fixed = evidence[_bit(key)[: _EDGES[1], : _EDGES[1]] < 0]
    if np.count_nonzero(fixed) < _FEWEST:
        return 1.0
    values, _ = _bits(evidence, key, normal=True)
    score = fixed_score(evidence, key)
    logs = scipy.stats.norm.logsf(score) + scipy.stats.chi2.logsf(values @ values, LENGTH)
    return float(scipy.stats.chi2.sf(-2 * logs, 4))


def fixed_score(evidence: np.ndarray, key: bytes = _KEY) -> float:
    """The correlation of the evidence with the fixed signs, standard normal where there is no mark."""
    fixed = _bit(key)[: _EDGES[1], : _EDGES[1]] < 0
    terms = evidence[fixed]
    return float(terms @ _signs(key)[: _EDGES[1], : _EDGES[1]][fixed] / np.linalg.norm(terms))


def _bits(evidence: np.ndarray, key: bytes, normal: bool = False) -> tuple[np.ndarray, float]:
    """Evidence that each bit of the code word is 0, (LENGTH,), each over its own standard deviation where `normal`,
    and the standard deviation of their sum."""
    bit = _bit(key)[: _EDGES[1], : _EDGES[1]]
    says = bit >= 0
    terms, which = evidence[says].astype(np.float64), bit[says]
    sums = np.bincount(which, terms * _signs(key)[: _EDGES[1], : _EDGES[1]][says], LENGTH)
    squares = np.bincount(which, terms * terms, LENGTH)
    return sums / np.sqrt(np.maximum(squares, 1e-12)) if normal else sums, math.sqrt(squares.sum())


def _limit(shorter: int) -> float:
    """The mark's root mean square in grey levels; large frames are compressed less for their size, and need less."""
    return min(3.0, max(0.8, 2.1 * math.pow(_GRID / shorter, 0.75)))


def _cheapest(gap: np.ndarray, usual: np.ndarray, limit: float) -> np.ndarray:  # (N,) all
    """Changes of at most `gap`, of energy at most `limit` squared, with the greatest sum of change over `usual`."""
    low, high = 0.0, float((gap * usual).max(initial=0))
    for _ in range(16):
        middle = (low + high) / 2
        change = np.minimum(gap, middle / usual)
        low, high = (low, middle) if np.dot(change, change) > limit**2 else (middle, high)
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


def _around(coefficients: np.ndarray) -> np.ndarray:
    """Mean square of the coefficients around each one."""
    return np.asarray(np.maximum(cv2.blur(coefficients * coefficients, (9, 9)), 0))


def _masking(grid: np.ndarray) -> np.ndarray:
    """How much the eye misses there, about 1: less in smooth places and in dark ones, more in busy ones."""
    mean = cv2.blur(grid, (5, 5))
    spread = np.sqrt(np.maximum(cv2.blur(grid * grid, (5, 5)) - mean * mean, 0)) + 2
    busy = np.clip(spread / spread.mean(), 0.5, 1.5) ** 0.7
    factor: Any = cv2.blur(busy * np.clip(mean / 80, 0.6, 1), (5, 5))
    return np.asarray(factor / np.sqrt((factor * factor).mean()))


@cache
def _signs(key: bytes) -> np.ndarray:  # float32, 1 or -1, (_GRID, _GRID)
    """What the coefficients agree with where every bit is 0."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(key).digest(_GRID * _GRID // 8), np.uint8))
    return (bits.astype(np.float32) * 2 - 1).reshape(_GRID, _GRID)


@cache
def _bit(key: bytes) -> np.ndarray:  # int16 (_GRID, _GRID)
    """Which bit of the code word a coefficient says; -1: none, its sign is fixed."""
    drawn = np.frombuffer(hashlib.shake_256(key + b"/bits").digest(_GRID * _GRID * 4), np.uint16)
    share, which = drawn.reshape(2, _GRID, _GRID)
    fixed = share < np.where(_radius() < _COARSE, *_SHARES) * 2**16
    return np.where(fixed, -1, which % LENGTH).astype(np.int16)


@lru_cache(4)
def _saying(payload: int, key: bytes) -> np.ndarray:  # float32, 1 or -1, (_GRID, _GRID)
    bit = _bit(key)
    return np.asarray(np.where((bit >= 0) & (encode(payload, key)[bit] == 1), -_signs(key), _signs(key)))


@cache
def _radius() -> np.ndarray:  # (_GRID, _GRID)
    return np.asarray(np.hypot(*np.mgrid[:_GRID, :_GRID]))
