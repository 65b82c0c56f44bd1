"""The code of the watermark's payload: 32 bits, spread over `LENGTH` by a random linear code, decoded from soft values.

A random code is as good as any at this length; what it lacks is an algebraic decoder. Ordered statistics decoding needs
none (Fossorier and Lin 1995): the 32 most reliable independent bits name a code word, as does every change of a few of
them, and the one that fits all values best is taken. That is within a fraction of a decibel of the best possible.

No check sum is spent on telling a payload from noise: of all 2^32 code words one that is not there agrees with noise
beyond a given score with a probability that is known.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import combinations

import numpy as np
import scipy.stats

BITS = 32
LENGTH = 96
_ORDER = 3  # bits of the most reliable that may be wrong
_DOUBT = 1e-3  # of finding a code word where there is none, or a wrong one


@cache
def generator(key: bytes) -> np.ndarray:  # uint8 (BITS, LENGTH)
    """The bits of the code words of single payload bits."""
    drawn = np.frombuffer(hashlib.shake_256(key + b"/code").digest(BITS * LENGTH // 8), np.uint8)
    return np.unpackbits(drawn).reshape(BITS, LENGTH)


def encode(payload: int, key: bytes) -> np.ndarray:  # uint8 (LENGTH,)
    """Raises `ValueError` for a payload that does not fit."""
    if not 0 <= payload < 2**BITS:
        raise ValueError(f"payload {payload}: must lie in [0, 2^{BITS})")
    bits = np.unpackbits(np.frombuffer(payload.to_bytes(BITS // 8, "big"), np.uint8))
    return np.asarray(bits @ generator(key) % 2, np.uint8)


def decode(values: np.ndarray, scale: float, key: bytes) -> int | None:
    """The payload that fits best; None where that may be chance, or another one fits nearly as well.

    values: (LENGTH,), sums of evidence that a bit is 0; scale: the standard deviation of what they add up to
    """
    if scale <= 0:
        return None
    words, scores = candidates(values / scale, key)
    first = int(scores.argmax())
    others = np.exp(scores[first] * (np.delete(scores, first) - scores[first])).sum()  # how likely, the first being 1
    if 2.0**BITS * float(scipy.stats.norm.sf(scores[first])) >= _DOUBT or others >= _DOUBT:
        return None
    return int.from_bytes(np.packbits(words[first]).tobytes(), "big")


def candidates(values: np.ndarray, key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Payloads that may fit, as bits, uint8 (N, BITS), and for each the sum of values, signs as its code word says."""
    order = np.argsort(-np.abs(values), kind="stable")
    code, change, chosen = _systematic(generator(key)[:, order])
    ordered = values[order]
    words = ((_patterns() + (ordered < 0)[chosen]) % 2).astype(np.float32)  # products of integers are slow
    signs = 1 - 2 * (words @ code.astype(np.float32) % 2)
    return np.asarray(words @ change.astype(np.float32) % 2, np.uint8), signs @ ordered.astype(np.float32)


def _systematic(code: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The code with its first independent columns made those of the identity: (code, the rows that were added up to
    make it, (BITS, BITS), those columns)."""
    rows = np.concatenate([code, np.eye(BITS, dtype=np.uint8)], axis=1)
    chosen: list[int] = []
    for column in range(LENGTH):
        row = len(chosen)
        below = np.flatnonzero(rows[row:, column])
        if len(below):
            rows[[row, row + below[0]]] = rows[[row + below[0], row]]
            others = rows[:, column].astype(bool)
            others[row] = False
            rows[others] ^= rows[row]
            chosen.append(column)
            if len(chosen) == BITS:
                break
    return rows[:, :LENGTH], rows[:, LENGTH:], np.array(chosen)


@cache
def _patterns() -> np.ndarray:  # uint8 (N, BITS)
    """All changes of at most `_ORDER` bits."""
    found = [[*which] for count in range(_ORDER + 1) for which in combinations(range(BITS), count)]
    patterns = np.zeros((len(found), BITS), np.uint8)
    for pattern, which in zip(patterns, found, strict=True):
        pattern[which] = 1
    return patterns
