"""Balanced batches of real and forged faces, drawn by step number.

Half of every training batch is real; the other half holds forgeries, self-blended images of real faces, or both.
Forgeries are drawn pool by pool, then person by person, then frame by frame, so a reenactor or a person with many
frames counts no more than the others. In a paired batch the real half holds the very frames the forgeries were made
from: people, light and background are the same in both halves, and only the forged region can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detection.degradations import Degrade, flip
from detection.selfblend import self_blend
from generation.records import Faces, UserError

AT_ONCE = 64
"""Frames that are scored at once: more are no faster, and slower where processes share a cache."""


class Batch(NamedTuple):
    """What the trainer takes.

    image: Tensor  # (B, 3, H, W) in [0, 1], or clips (B, T, 3, H, W)
    label: Tensor  # (B,) float, 0 real, 1 forged
    mask: Tensor   # (B, 1, H, W) in [0, 1], what was changed; None where nobody asked for it
    """

    image: Tensor
    label: Tensor
    mask: Tensor | None = None


class People:
    """Some faces by identity; `draw` picks people uniformly, then one item of each: a row, or the rows of a clip.

    rows: the rows of every item, (N,) or (N, T); None: every row is one. Identity and label are those of its first row.
    """

    def __init__(self, faces: Faces, rows: NDArray[np.int64] | None = None) -> None:
        self.faces, self.rows = faces, np.arange(len(faces)) if rows is None else rows
        self.first = self.rows if self.rows.ndim == 1 else self.rows[:, 0]
        self.identity, self.label = faces.identity[self.first], faces.label[self.first]
        self.names, person = np.unique(self.identity, return_inverse=True)
        self._order = np.argsort(person, kind="stable")
        self._count = np.bincount(person)
        self._start = np.cumsum(self._count) - self._count

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:  # (count,) items
        return self.of(generator.integers(len(self.names), size=count), generator)

    def of(self, people: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:  # (N,) -> (N,)
        """One item of each of these people, given as positions in `names`."""
        items: NDArray[np.int64] = self._order[self._start[people] + generator.integers(self._count[people])]
        return items

    def images(self, items: NDArray[np.int64] | slice) -> Tensor:  # uint8 (B, 3, H, W) or (B, T, 3, H, W)
        return self._taken(self.faces.image, items)

    def masks(self, items: NDArray[np.int64] | slice) -> Tensor:  # uint8 (B, 1, H, W) or (B, T, 1, H, W)
        return self._taken(self.faces.mask, items)

    def _taken(self, pixels: Tensor, items: NDArray[np.int64] | slice) -> Tensor:
        rows = torch.from_numpy(self.rows[items])
        return pixels.index_select(0, rows.flatten()).view(*rows.shape, *pixels.shape[1:])


class Drawing:
    """Batch number `step` of an endless training set, the same whoever asks and whenever."""

    def __init__(
        self,
        real: People,
        pools: Sequence[People],
        weights: Sequence[float],
        *,
        batch: int,
        seed: int,
        degrade: Degrade | None,
        paired: bool,
        self_blended: float = 0.0,
        masks: bool = False,
        window: int = 0,
    ) -> None:
        self.real, self.pools = real, list(pools)
        self.weights = np.asarray(weights, np.float64) / max(sum(weights), 1e-12)
        self.batch, self.seed, self.degrade, self.paired, self.masks = batch, seed, degrade, paired, masks
        self.window = window
        self.blended = round(batch // 2 * self_blended) if pools else batch // 2
        frames = {key: item for item, key in enumerate(_ids(real.faces.clip[real.first], real.faces.frame[real.first]))}
        made_of = [_ids(pool.faces.source_clip[pool.first], pool.faces.source_frame[pool.first]) for pool in self.pools]
        self._sources = [np.asarray([frames.get(key, -1) for key in keys]) for keys in made_of]

    def rows(self, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Real items (R,), and pool (F,) and item in that pool (F,) of the forgeries: half a batch each, but what is
        self-blended."""
        count = self.batch // 2 - self.blended
        pool = generator.choice(len(self.pools), size=count, p=self.weights) if count else np.empty(0, np.int64)
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
        """A real item of each forgery's person, or `otherwise` where there is none."""
        names = people.identity[forged]
        place = np.minimum(np.searchsorted(self.real.names, names), len(self.real.names) - 1)
        return np.where(self.real.names[place] == names, self.real.of(place, generator), otherwise)

    def __call__(self, step: int) -> Batch:
        generator = np.random.default_rng([self.seed, step])
        real, pool, forged = self.rows(generator)
        chosen = [(self.real, real), *((people, forged[pool == index]) for index, people in enumerate(self.pools))]
        base = self.real.draw(self.blended, generator)
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        drawn = torch.cat([self._with_mask(people.images(items), people.masks(items)) for people, items in chosen])
        drawn = self._windows(drawn, np.argsort(pool, kind="stable"), generator)
        if self.blended:
            blend = self_blend(_unit(self.real.images(base)), self.real.faces.landmarks[base], draws)
            none = torch.zeros_like(blend.mask)
            both = torch.cat([self._with_mask(blend.real, none), self._with_mask(blend.forged, blend.mask)])
            halves = self._windows(both, np.arange(self.blended), generator).chunk(2)
            pixels = flip(torch.cat([halves[0], _unit(drawn), halves[1]]), draws)
        else:
            pixels = _unit(flip(drawn, draws))  # mirrored as 8 bits, a quarter of the memory
        image, mask = pixels[..., :3, :, :], pixels[..., 3:, :, :]
        if self.degrade is not None:
            self.degrade.in_place(image, draws)
        label = torch.arange(len(image)).ge(self.blended + len(real)).float()
        return Batch(image, label, mask if self.masks else None)

    def _windows(self, pixels: Tensor, order: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        """A window of each picture, the same of both of a pair; one that would show nothing of what was changed is
        moved to the middle of it. All of the pictures where there is no window.

        pixels: real ones, then forged ones; order: the real one that each forgery belongs to
        """
        size, most = self.window, pixels.shape[-1] - self.window
        if not size or most <= 0:
            return pixels
        corners = generator.integers(most + 1, size=(len(order), 2))
        for corner, mask in zip(corners, pixels[len(order) :, 3:], strict=True):
            least = mask.max() / 2 if len(mask) else 0
            if len(mask) and not (_cut(mask, corner, size) > least).any():
                middle = (mask[0] > least).nonzero().float().mean(0).numpy() - size / 2
                corner[:] = np.nan_to_num(middle).round().clip(0, most)
        real = np.empty_like(corners)
        real[order] = corners
        return torch.stack(
            [_cut(one, corner, size) for one, corner in zip(pixels, np.concatenate([real, corners]), strict=True)]
        )

    def _with_mask(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.cat([images, masks], dim=-3) if self.masks else images


def _cut(pixels: Tensor, corner: NDArray[np.int64], size: int) -> Tensor:  # (C, H, W) -> (C, size, size)
    top, left = corner
    return pixels[:, top : top + size, left : left + size]


def _unit(images: Tensor) -> Tensor:
    return images.float().div_(255)


def _ids(clips: NDArray[Any], frames: NDArray[Any]) -> Iterator[tuple[str, int]]:
    return zip(clips.tolist(), frames.tolist(), strict=True)


def self_blended(faces: Faces, seed: int, at_once: int = 256) -> Faces:
    """One self-blended image of each of these real faces, as forgeries; on 8 bits as all others."""
    draws = torch.Generator().manual_seed(seed)
    parts = [
        self_blend(_unit(image), landmarks, draws)
        for image, landmarks in zip(
            torch.split(faces.image, at_once), torch.split(faces.landmarks, at_once), strict=True
        )
    ]
    image, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("forged", "mask"))
    return replace(
        faces,
        image=(image * 255).round().to(torch.uint8),
        mask=(mask * 255).round().to(torch.uint8),
        label=torch.ones_like(faces.label),
        method=np.full(len(faces), "self_blended"),
        source_clip=faces.clip,
        source_frame=faces.frame,
    )


class _Steps(Dataset[Batch]):
    def __init__(self, drawing: Drawing, first: int, count: int) -> None:
        self.drawing, self.first, self.count = drawing, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        return self.drawing(self.first + index)


class InOrder(Dataset[Batch]):
    def __init__(self, people: People, batch: int) -> None:
        self.people, self.batch = people, batch

    def __len__(self) -> int:
        return -(-len(self.people) // self.batch)

    def __getitem__(self, index: int) -> Batch:
        items = slice(index * self.batch, (index + 1) * self.batch)
        return Batch(_unit(self.people.images(items)), self.people.label[items].float())


class DetectorData(pl.LightningDataModule):
    """Real faces and one pool of forgeries for each reenactor, in memory as 8 bits; no worker process is needed.

    weights: how often each pool is drawn from while training; None: equally often
    batch: images of a batch, an even number; steps_per_epoch: batches of an epoch
    seed: batch number `step` depends on it and on `step` alone
    degrade: done to training images after every second one was mirrored; None: nothing more
    paired: the real half of a batch holds the very frames its forgeries were made from; else any real frames
    self_blended: share of the forged half that is self-blended images (see `selfblend`) in place of forgeries; where
        `forged` is empty all of it is, and so are the forged faces of validation
    masks: batches hold what was changed
    window: pixels a side of what batches show of each picture, drawn anew every time; 0 for all of it
    gather: what one item of a batch is: `People`, an image

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
        self_blended: float = 0.0,
        masks: bool = False,
        window: int = 0,
        gather: Callable[[Faces], People] = People,
    ) -> None:
        super().__init__()
        if not 0 <= self_blended <= 1:
            raise UserError(f"data.self_blended={self_blended}: must lie in [0, 1]")
        self._seed = seed
        weights = [1.0] * len(forged) if weights is None else list(weights)
        if len(weights) != len(forged) or min(weights, default=0) < 0 or (forged and sum(weights) <= 0):
            raise UserError(
                f"data.weights={weights}: each of the {len(forged)} pools needs one >= 0, not all of them 0"
            )
        if batch < 2 or batch % 2:
            raise UserError(f"data.batch={batch}: must be even and at least 2, as half of a batch is real")
        sizes = sorted({faces.size for faces in (real, *forged)})
        if len(sizes) > 1:
            raise UserError(f"data: images of {' and '.join(map(str, sizes))} pixels; all faces must have one size")
        self.real, self.forged, self.steps_per_epoch = real, list(forged), steps_per_epoch
        self._validation = gather(self.held("validation"))
        originals, pools = gather(real.where("train", 0)), [gather(pool.where("train", 1)) for pool in forged]
        used = [index for index, weight in enumerate(weights) if weight > 0 and len(pools[index])]
        self._check("train", len(originals), len(used) if forged else len(originals))
        self.drawing = Drawing(
            originals,
            [pools[index] for index in used],
            [weights[index] for index in used],
            batch=batch,
            seed=seed,
            degrade=degrade,
            paired=paired,
            self_blended=self_blended,
            masks=masks,
            window=window,
        )

    @staticmethod
    def _check(split: str, real: int, forged: int) -> None:
        if not real or not forged:
            kind = "forged" if real else "real"
            raise UserError(f"data: the {split} split holds no {kind} faces; a detector needs both classes in it")

    def held(self, split: str) -> Faces:
        """All frames of a split in order: the real ones, then every pool's forgeries; without a pool, as many
        self-blended ones.

        Raises `UserError` where one class is missing.
        """
        real, forged = self.real.where(split, 0), [pool.where(split, 1) for pool in self.forged]
        if not forged and len(real):
            forged = [self_blended(real, self._seed)]
        self._check(split, len(real), sum(map(len, forged)))
        return Faces.concatenate([real, *forged])

    def train_dataloader(self) -> DataLoader[Batch]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        steps = _Steps(self.drawing, epoch * self.steps_per_epoch, self.steps_per_epoch)
        return DataLoader(steps, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(InOrder(self._validation, AT_ONCE), batch_size=None, shuffle=False)
