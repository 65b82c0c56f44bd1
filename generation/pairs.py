"""Pairs: which source takes whose expression, and what the exact result is.

Frames of one clip differ in expression alone (one identity, one scene), so a pair is two frames of one clip: the
source, and the target that shows the same person with the wanted expression. The driver is a frame of another person
with the target's very expression; where no other person has it, the target drives itself (self-reenactment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from generation.motion import EXPRESSION_SIZE, mirror
from generation.records import Faces, UserError

MIRRORED_LANDMARKS = torch.tensor(
    [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
        39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    ]
)  # fmt: skip
"""Which landmark of a face becomes which of its mirror image."""


class Batch(NamedTuple):
    """Pairs as the trainer takes them.

    source, target: Tensor                 # (B, 3, H, W) in [0, 1]
    source_motion, wanted_motion: Tensor   # (B, 58)
    source_landmarks, landmarks: Tensor    # (B, 68, 2) of source and target, pixels
    """

    source: Tensor
    target: Tensor
    source_motion: Tensor
    wanted_motion: Tensor
    source_landmarks: Tensor
    landmarks: Tensor


class Pairs:
    """All pairs that a set of real faces holds; `draw` picks some of them."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        _, clip = np.unique(faces.clip, return_inverse=True)
        order = np.argsort(clip, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(clip[order]) > 0])
        self._clips = [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
        if not self._clips:
            raise UserError(
                "these records hold no pair: a pair needs two frames of one identity in one scene (one `clip`); "
                "render or ingest more expressions"
            )
        wearers: dict[bytes, list[int]] = {}
        for index, expression in enumerate(faces.expression.numpy()):
            wearers.setdefault(expression.tobytes(), []).append(index)
        self._wearers = {expression: np.asarray(rows) for expression, rows in wearers.items()}

    def draw(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows (count,) of sources and of their targets; clips are drawn uniformly."""
        chosen = generator.integers(len(self._clips), size=count)
        lengths = np.asarray([len(self._clips[clip]) for clip in chosen])
        first = generator.integers(lengths)
        second = (first + 1 + generator.integers(lengths - 1)) % lengths
        rows = [(self._clips[clip][a], self._clips[clip][b]) for clip, a, b in zip(chosen, first, second, strict=True)]
        source, target = np.asarray(rows).T
        return source, target

    def drivers(self, target: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """For every target row a row of another identity with the same expression, or the target itself."""
        drivers = target.copy()
        for index, row in enumerate(target):
            wearers = self._wearers[self.faces.expression[row].numpy().tobytes()]
            others = wearers[self.faces.identity[wearers] != self.faces.identity[row]]
            if len(others):
                drivers[index] = generator.choice(others)
        return drivers

    def batch(self, source: np.ndarray, target: np.ndarray) -> Batch:
        """The pairs of these rows. What is wanted is the target's own motion: its expression, in its pose."""
        faces = self.faces
        return Batch(
            source=faces.image[source].float() / 255,
            target=faces.image[target].float() / 255,
            source_motion=faces.motion[source],
            wanted_motion=faces.motion[target],
            source_landmarks=faces.landmarks[source],
            landmarks=faces.landmarks[target],
        )


def flip(batch: Batch, chosen: Tensor) -> Batch:  # chosen: (B,) bool
    """Mirror the chosen pairs left to right, motion and landmarks with them."""
    pick = chosen[:, None, None, None]

    def image(value: Tensor) -> Tensor:
        return torch.where(pick, value.flip(-1), value)

    def motion(value: Tensor) -> Tensor:
        sign = value.new_tensor([1, -1, -1, -1, 1, 1])
        other = torch.cat([mirror(value[:, :EXPRESSION_SIZE]), value[:, EXPRESSION_SIZE:] * sign], dim=1)
        return torch.where(chosen[:, None], other, value)

    def points(value: Tensor) -> Tensor:
        other = value[:, MIRRORED_LANDMARKS]
        other = torch.stack([batch.source.shape[-1] - other[..., 0], other[..., 1]], dim=-1)
        return torch.where(chosen[:, None, None], other, value)

    return Batch(
        source=image(batch.source),
        target=image(batch.target),
        source_motion=motion(batch.source_motion),
        wanted_motion=motion(batch.wanted_motion),
        source_landmarks=points(batch.source_landmarks),
        landmarks=points(batch.landmarks),
    )


def recoloured(image: Tensor, generator: np.random.Generator) -> Tensor:  # (B, 3, H, W) near [0, 1]
    """Every picture with another tint, saturation, contrast and brightness; not clamped."""
    count = len(image)

    def drawn(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(count, -1, 1, 1)

    gain = drawn(np.exp(generator.normal(0, 0.12, (count, 3))))
    saturation = drawn(generator.uniform(0.3, 1.5, count))
    contrast = drawn(np.exp(generator.normal(0, 0.2, count)))
    light = drawn(generator.normal(0, 0.08, count))
    image = torch.lerp(image.mean(dim=1, keepdim=True), image, saturation) * gain
    return (image - 0.5) * contrast + 0.5 + light


def recolour(batch: Batch, chosen: Tensor, generator: np.random.Generator) -> Batch:  # chosen: (B,) bool
    """The chosen pairs in other colours, source and target in the same."""
    if not chosen.any():
        return batch
    both = torch.cat([batch.source[chosen], batch.target[chosen]], dim=-1)
    source, target = batch.source.clone(), batch.target.clone()
    source[chosen], target[chosen] = recoloured(both, generator).clamp(0, 1).chunk(2, dim=-1)
    return batch._replace(source=source, target=target)


class _Steps(Dataset[Batch]):
    """Batch number `step` of an endless training set, the same whoever asks and whenever.

    parts: pairs and how many of each batch are drawn from them; augment: share of the pairs in other colours
    """

    def __init__(self, parts: Sequence[tuple[Pairs, int]], augment: float, seed: int, first: int, count: int) -> None:
        self.parts, self.augment, self.seed, self.first, self.count = parts, augment, seed, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        if index >= self.count:
            raise IndexError(index)
        generator = np.random.default_rng([self.seed, self.first + index])
        drawn = [pairs.batch(*pairs.draw(count, generator)) for pairs, count in self.parts]
        batch = Batch(*(torch.cat(values) for values in zip(*drawn, strict=True)))
        size = len(batch.source)
        batch = flip(batch, torch.from_numpy(generator.random(size) < 0.5))
        if self.augment > 0:
            batch = recolour(batch, torch.from_numpy(generator.random(size) < self.augment), generator)
        return batch


def check_splits(faces: Faces, where: str, needed: tuple[str, ...] = ("train", "validation", "test")) -> None:
    """Raise `UserError` unless every needed split has people and no identity lies in two of them."""
    owner: dict[str, str] = {}
    for identity, split in sorted({*zip(faces.identity.tolist(), faces.split.tolist(), strict=True)}):
        if owner.setdefault(identity, split) != split:
            raise UserError(
                f"{where}: the identity {identity} lies in both {owner[identity]} and {split}; splits must be disjoint"
            )
    people = {split: sum(1 for other in owner.values() if other == split) for split in needed}
    missing = [split for split, count in people.items() if count == 0]
    if missing:
        raise UserError(
            f"{where}: {len(owner)} identities and none of them in {', '.join(missing)}; "
            f"each of {', '.join(needed)} needs at least one identity of its own"
        )


class PairsData(pl.LightningDataModule):
    """Training batches by step number; validation on `validation_pairs` fixed pairs of the validation identities.

    real: a second set, such as footage beside synthetic faces, of which the share `real_share` of every batch and of
        the validation pairs is drawn, at least one pair and not all; its images have the size of the first set's
    augment: share of the training pairs that are shown in other colours, source and target in the same
    """

    def __init__(
        self,
        faces: Faces,
        batch: int,
        steps_per_epoch: int,
        seed: int,
        validation_pairs: int = 256,
        *,
        real: Faces | None = None,
        real_share: float = 0.5,
        augment: float = 0.0,
    ) -> None:
        super().__init__()
        self.batch, self.steps_per_epoch, self.seed, self.augment = batch, steps_per_epoch, seed, augment
        sets = [faces] if real is None else [faces, real]
        if real is not None and real.size != faces.size:
            raise UserError(
                f"generator.real: its images have {real.size} pixels a side, those of data {faces.size}; "
                "make both of one size (data.size)"
            )
        generator = np.random.default_rng([seed, 1])
        self._train = self._parts(sets, "train", batch, real_share)
        validation = self._parts(sets, "validation", validation_pairs, real_share)
        self._held = [(pairs, *pairs.draw(count, generator)) for pairs, count in validation]

    @staticmethod
    def _parts(sets: Sequence[Faces], split: str, count: int, share: float) -> list[tuple[Pairs, int]]:
        pairs = [Pairs(faces.where(split=split)) for faces in sets]
        if len(pairs) == 1:
            return [(pairs[0], count)]
        if count < 2:
            raise UserError(f"generator.batch={count}: a batch of synthetic and real pairs needs two at least")
        real = min(max(round(count * share), 1), count - 1)
        return [(pairs[0], count - real), (pairs[1], real)]

    def train_dataloader(self) -> DataLoader[Batch]:
        first = (self.trainer.current_epoch if self.trainer else 0) * self.steps_per_epoch
        steps = _Steps(self._train, self.augment, self.seed, first, self.steps_per_epoch)
        return DataLoader(steps, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        batches = [
            pairs.batch(source[i : i + 64], target[i : i + 64])
            for pairs, source, target in self._held
            for i in range(0, len(source), 64)
        ]
        return DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]
