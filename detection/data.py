"""Balanced batches of real and forged faces, drawn by step number.

Half of every training batch is real. Forgeries are drawn pool by pool, then person by person, then frame by frame, so a
reenactor or a person with many frames counts no more than the others. In a paired batch the real half holds the very
frames the forgeries were made from: people, light and background are the same in both halves, and only the forged
region can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detection.degradations import Degrade, flip
from generation.records import Faces, UserError

AT_ONCE = 64
"""Frames that are scored at once: more are no faster, and slower where processes share a cache."""


class Batch(NamedTuple):
    """What the trainer takes.

    image: Tensor  # (B, 3, H, W) in [0, 1]
    label: Tensor  # (B,) float, 0 real, 1 forged
    """

    image: Tensor
    label: Tensor


class People:
    """The rows of some faces by identity; `draw` picks people uniformly, then one row of each."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        self.names, person = np.unique(faces.identity, return_inverse=True)
        self._order = np.argsort(person, kind="stable")
        self._count = np.bincount(person)
        self._start = np.cumsum(self._count) - self._count

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:  # (count,) rows
        return self.of(generator.integers(len(self.names), size=count), generator)

    def of(self, people: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:  # (N,) -> (N,)
        """One row of each of these people, given as positions in `names`."""
        rows: NDArray[np.int64] = self._order[self._start[people] + generator.integers(self._count[people])]
        return rows


class Drawing:
    """Batch number `step` of an endless training set, the same whoever asks and whenever."""

    def __init__(
        self,
        real: Faces,
        pools: Sequence[Faces],
        weights: Sequence[float],
        *,
        batch: int,
        seed: int,
        degrade: Degrade | None,
        paired: bool,
    ) -> None:
        self.real, self.pools = People(real), [People(pool) for pool in pools]
        self.weights = np.asarray(weights, np.float64) / sum(weights)
        self.batch, self.seed, self.degrade, self.paired = batch, seed, degrade, paired
        frames = {key: row for row, key in enumerate(zip(real.clip.tolist(), real.frame.tolist(), strict=True))}
        self._sources = [
            np.asarray([frames.get(key, -1) for key in zip(*(ids.tolist() for ids in made_of), strict=True)])
            for made_of in ((pool.source_clip, pool.source_frame) for pool in pools)
        ]

    def rows(self, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Real rows (R,), and pool (F,) and row in that pool (F,) of the forgeries; R = F = half a batch."""
        count = self.batch // 2
        pool = generator.choice(len(self.pools), size=count, p=self.weights)
        forged = np.empty(count, np.int64)
        real = self.real.draw(count, generator)
        for index, people in enumerate(self.pools):
            here = np.flatnonzero(pool == index)
            forged[here] = people.draw(len(here), generator)
            if self.paired:
                source = self._sources[index][forged[here]]
                others = self._same_person(people, forged[here], real[here], generator)
                real[here] = np.where(source >= 0, source, others)
        return real, pool, forged

    def _same_person(
        self, people: People, forged: NDArray[np.int64], otherwise: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """A real row of each forgery's person, or `otherwise` where there is none."""
        names = people.faces.identity[forged]
        place = np.minimum(np.searchsorted(self.real.names, names), len(self.real.names) - 1)
        return np.where(self.real.names[place] == names, self.real.of(place, generator), otherwise)

    def __call__(self, step: int) -> Batch:
        generator = np.random.default_rng([self.seed, step])
        real, pool, forged = self.rows(generator)
        images = torch.cat(
            [self.real.faces.image[real]]
            + [people.faces.image[forged[pool == index]] for index, people in enumerate(self.pools)]
        )
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        image = flip(images.float() / 255, draws)
        if self.degrade is not None:
            image = self.degrade(image, draws)
        return Batch(image, torch.arange(len(image)).ge(len(real)).float())


class _Steps(Dataset[Batch]):
    def __init__(self, drawing: Drawing, first: int, count: int) -> None:
        self.drawing, self.first, self.count = drawing, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        return self.drawing(self.first + index)


class _InOrder(Dataset[Batch]):
    def __init__(self, faces: Faces, batch: int) -> None:
        self.faces, self.batch = faces, batch

    def __len__(self) -> int:
        return -(-len(self.faces) // self.batch)

    def __getitem__(self, index: int) -> Batch:
        rows = slice(index * self.batch, (index + 1) * self.batch)
        return Batch(self.faces.image[rows].float() / 255, self.faces.label[rows].float())


class DetectorData(pl.LightningDataModule):
    """Real faces and one pool of forgeries for each reenactor, in memory as 8 bits; no worker process is needed.

    weights: how often each pool is drawn from while training; None: equally often
    batch: images of a batch, an even number; steps_per_epoch: batches of an epoch
    seed: batch number `step` depends on it and on `step` alone
    degrade: done to training images after every second one was mirrored; None: nothing more
    paired: the real half of a batch holds the very frames its forgeries were made from; else any real frames

    Raises `UserError` where the train or the validation split holds one class only, or the sizes differ.
    """

    def __init__(
        self,
        real: Faces,
        forged: Sequence[Faces],
        weights: Sequence[float] | None = None,
        *,
        batch: int,
        steps_per_epoch: int,
        seed: int,
        degrade: Degrade | None = None,
        paired: bool = True,
    ) -> None:
        super().__init__()
        weights = [1.0] * len(forged) if weights is None else list(weights)
        if len(weights) != len(forged) or min(weights, default=0) < 0 or sum(weights) <= 0:
            raise UserError(
                f"data.weights={weights}: each of the {len(forged)} pools needs one >= 0, not all of them 0"
            )
        if batch < 2 or batch % 2:
            raise UserError(f"data.batch={batch}: must be even and at least 2, as half of a batch is real")
        sizes = sorted({faces.size for faces in (real, *forged)})
        if len(sizes) > 1:
            raise UserError(f"data: images of {' and '.join(map(str, sizes))} pixels; all faces must have one size")
        self.real, self.forged, self.steps_per_epoch = real, list(forged), steps_per_epoch
        self._validation = self.held("validation")
        originals, pools = real.where("train", 0), [pool.where("train", 1) for pool in forged]
        used = [index for index, weight in enumerate(weights) if weight > 0 and len(pools[index])]
        self._check("train", len(originals), len(used))
        self.drawing = Drawing(
            originals,
            [pools[index] for index in used],
            [weights[index] for index in used],
            batch=batch,
            seed=seed,
            degrade=degrade,
            paired=paired,
        )

    @staticmethod
    def _check(split: str, real: int, forged: int) -> None:
        if not real or not forged:
            kind = "forged" if real else "real"
            raise UserError(f"data: the {split} split holds no {kind} faces; a detector needs both classes in it")

    def held(self, split: str) -> Faces:
        """All frames of a split in order: the real ones, then every pool's forgeries.

        Raises `UserError` where one class is missing.
        """
        real, forged = self.real.where(split, 0), [pool.where(split, 1) for pool in self.forged]
        self._check(split, len(real), sum(map(len, forged)))
        return Faces.concatenate([real, *forged])

    def train_dataloader(self) -> DataLoader[Batch]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        steps = _Steps(self.drawing, epoch * self.steps_per_epoch, self.steps_per_epoch)
        return DataLoader(steps, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(_InOrder(self._validation, AT_ONCE), batch_size=None, shuffle=False)
