"""Attribution: which of several reenactors made a forgery, told by the traces it leaves.

The network is that of the detector `frequency` with a logit for each reenactor. Only forgeries are told apart here;
whether a face is forged is for a detector to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from detection.data import AT_ONCE, Batch, People
from detection.degradations import flip
from detection.detectors.frequency import Frequency, FrequencyOptions
from detection.training import DetectorTrainer
from generation.records import Faces, UserError


def build_attributor(reenactors: int, seed: int = 0) -> nn.Module:
    """Images (B, 3, H, W) in [0, 1] -> (B, reenactors) logits; the first weights are drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Frequency(FrequencyOptions())
        network.head = nn.Linear(network.head.in_features, reenactors)
    return network


def confusion(made_by: ArrayLike, logits: ArrayLike) -> NDArray[np.float64]:
    """Row i, column j: the share of the forgeries of reenactor i that are taken for those of j, (K, K).

    made_by: (N,) integers below K; logits: (N, K), as `detection.training.score` gives them. The accuracy is the mean
    of the diagonal, in which every reenactor counts the same; chance is 1 / K. Raises `UserError` where a reenactor has
    no forgery.
    """
    truth, score = np.asarray(made_by), np.asarray(logits)
    counts = np.zeros((score.shape[1], score.shape[1]))
    np.add.at(counts, (truth, score.argmax(axis=1)), 1)
    totals = counts.sum(axis=1, keepdims=True)
    if not totals.all():
        raise UserError(f"attribution: there is no forgery of reenactor number {int(totals.argmin())}")
    return np.asarray(counts / totals)


class _Steps(Dataset[Batch]):
    """Batch number `step`: as many forgeries of each reenactor, person by person; the same whoever asks."""

    def __init__(self, pools: Sequence[Faces], batch: int, seed: int, first: int, count: int) -> None:
        self.pools = [People(pool) for pool in pools]
        self.each, self.seed, self.first, self.count = max(1, batch // len(pools)), seed, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        generator = np.random.default_rng([self.seed, self.first + index])
        images = torch.cat([people.faces.image[people.draw(self.each, generator)] for people in self.pools])
        draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
        return Batch(flip(images.float() / 255, draws), torch.arange(len(self.pools)).repeat_interleave(self.each))


class AttributionData(pl.LightningDataModule):
    """Forgeries of several reenactors; the label of a batch is the position of its maker among `forged`."""

    def __init__(self, forged: Sequence[Faces], *, batch: int, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        self.forged, self.batch, self.steps_per_epoch, self.seed = list(forged), batch, steps_per_epoch, seed
        self._train = [pool.where("train", 1) for pool in forged]

    def held(self, split: str) -> tuple[Tensor, Tensor]:
        """All forgeries of a split, uint8 (N, 3, H, W), and who made each, (N,)."""
        pools = [pool.where(split, 1) for pool in self.forged]
        makers = torch.arange(len(pools)).repeat_interleave(torch.tensor([len(pool) for pool in pools]))
        return torch.cat([pool.image for pool in pools]), makers

    def train_dataloader(self) -> DataLoader[Batch]:
        first = (self.trainer.current_epoch if self.trainer else 0) * self.steps_per_epoch
        steps = _Steps(self._train, self.batch, self.seed, first, self.steps_per_epoch)
        return DataLoader(steps, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        images, makers = self.held("validation")
        parts = zip(torch.split(images, AT_ONCE), torch.split(makers, AT_ONCE), strict=True)
        batches = [Batch(part.float() / 255, made_by) for part, made_by in parts]
        return DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]


class AttributionTrainer(DetectorTrainer):
    """As a detector's trainer, with the cross-entropy over reenactors; logs the accuracy as `validation/score`."""

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch.image), batch.label)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.label))
        return loss

    def on_validation_epoch_end(self) -> None:
        makers, logits = (torch.cat(parts).numpy() for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        self.log("validation/score", float(np.diag(confusion(makers, logits)).mean()), prog_bar=True)
