"""Clips: windows of consecutive frames, drawn in balance for training and taken in order for scoring.

A window lies in one clip of one method, and its frames' numbers rise by one. In a forgery's window its source and its
driver move on by a frame at a time too, or stand still: frames that were forged in another order than they were filmed
in would be told by that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from detection.data import AT_ONCE, Batch, DetectorData, InOrder, People
from detection.degradations import Degrade
from detection.training import score
from generation.records import Faces, UserError


def windows(faces: Faces, length: int, every: int = 1) -> NDArray[np.int64]:
    """Rows (W, `length`) of windows, a new one beginning `every` frames; sorted by label, method, clip and frame.

    Where a frame is there twice, as in two sets of forgeries by the same method, each copy is a clip of its own.
    Raises `UserError` for a length below 1, and where there are faces but no clip of so many frames.
    """
    if length < 1:
        raise UserError(f"length={length}: must be at least 1 frame")
    if not len(faces):
        return np.empty((0, length), np.int64)
    keys = [faces.clip, faces.method, faces.label.numpy()]
    order = np.lexsort((faces.frame, *keys))
    new = _changes(order, [faces.frame, *keys])
    copy = np.empty(len(faces), np.int64)
    copy[order] = np.arange(len(faces)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    order = np.lexsort((faces.frame, copy, *keys))
    begins = _changes(order, [*keys, copy, faces.source_clip, faces.driver_clip])
    begins[1:] |= np.diff(faces.frame[order]) != 1
    for made_of in (faces.source_frame, faces.driver_frame):
        begins[1:] |= ~np.isin(np.diff(made_of[order]), (0, 1))
    starts = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    place = np.arange(len(faces)) - starts[run]
    left = np.r_[starts[1:], len(faces)][run] - np.arange(len(faces))
    first = np.flatnonzero((left >= length) & (place % every == 0))
    if not len(first):
        raise UserError(
            f"length={length}: no clip has so many consecutive frames, the longest has {int(left.max())}; take a "
            "shorter length, or records of clips of motion"
        )
    rows: NDArray[np.int64] = order[first[:, None] + np.arange(length)]
    return rows


def _changes(order: NDArray[np.int64], keys: Sequence[NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Where, in this order, any key differs from that of the row before; the first row does."""
    changed = np.ones(len(order), bool)
    changed[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    return changed


class Clips(People):
    """The `windows` of some faces by identity, as `People` has single rows."""

    def __init__(self, faces: Faces, length: int, every: int = 1) -> None:
        super().__init__(faces, windows(faces, length, every))


class ClipData(DetectorData):
    """Batches of clips, real ones and a pool of forged ones for each reenactor.

    length: frames of a clip. All else is as in `DetectorData`, with a clip in place of an image: it is mirrored and
    degraded as one, and the real half of a paired batch holds the windows that begin where the forgeries' sources do.
    Training windows begin at any frame, those of validation follow one another without overlap.
    """

    def __init__(
        self,
        real: Faces,
        forged: Sequence[Faces],
        weights: Sequence[float] | None = None,
        *,
        length: int,
        batch: int,
        steps_per_epoch: int,
        seed: int,
        degrade: Degrade | None = None,
        paired: bool = True,
    ) -> None:
        if not forged:
            raise UserError("data.forged=[]: clips need forged ones; only single images can be self-blended")
        super().__init__(
            real,
            forged,
            weights,
            batch=batch,
            steps_per_epoch=steps_per_epoch,
            seed=seed,
            degrade=degrade,
            paired=paired,
            gather=lambda faces: Clips(faces, length),
        )
        self.length = length
        self._validation = Clips(self.held("validation"), length, every=length)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(InOrder(self._validation, _at_once(self.length)), batch_size=None, shuffle=False)


def _at_once(length: int) -> int:
    return max(1, AT_ONCE // length)


class ClipScores(NamedTuple):
    """Of windows in order (see `windows`), arrays (W,).

    score: log-odds that it is forged; label: 0 real, 1 forged; clip, identity: whose it is
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]
    clip: NDArray[np.str_]
    identity: NDArray[np.str_]


def takes_clips(module: nn.Module) -> bool:
    """Whether a detector is one of clips."""
    return bool(getattr(module, "takes_clips", False))


def score_clips(module: nn.Module, faces: Faces, length: int) -> ClipScores:
    """Scores of all windows of `length` frames, without overlap; a clip's last frames that fill none are left out.

    A detector with `takes_clips` sees the window; of any other, the score is the mean log-odds of its frames. Raises
    `UserError` where no clip has so many frames.
    """
    rows = windows(faces, length, every=length)
    if takes_clips(module):
        logits = score(module, faces.image[rows], batch=_at_once(length))
    else:
        logits = score(module, faces.image[rows.ravel()]).reshape(rows.shape).mean(axis=1)
    first = rows[:, 0]
    return ClipScores(logits, faces.label.numpy()[first], faces.clip[first], faces.identity[first])
