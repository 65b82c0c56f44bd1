"""Training any detector of `DETECTORS`. The Lightning part is thin; scoring and the threshold are plain functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from detection.attacks import Ball, pgd
from detection.data import AT_ONCE, Batch
from detection.metrics import auroc, checked
from generation.records import UserError

_WARM = 0.1


@torch.no_grad()
def score(module: nn.Module, images: Tensor, batch: int = AT_ONCE) -> NDArray[np.float64]:  # uint8 (N, 3, H, W) -> (N,)
    """Log-odds that each image is forged, in eval mode, on the module's device; on the CPU where it holds no tensor.

    The module's mode is put back afterwards.
    """
    training = module.training
    held = next(chain(module.parameters(), module.buffers()), None)
    device = torch.device("cpu") if held is None else held.device
    module.eval()
    try:
        parts = [module(part.to(device).float().div_(255)).double().cpu() for part in torch.split(images, batch)]
    finally:
        module.train(training)
    return torch.cat(parts).numpy()


def choose_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold of the best balanced accuracy; to be called with validation scores only.

    It lies halfway between two scores that occur, or on the lowest of all (everything is forged); of several equally
    good ones it is the middle one.
    """
    truth, score, _ = checked(labels, scores)
    distinct = np.unique(score)
    candidates = np.r_[distinct[0], (distinct[1:] + distinct[:-1]) / 2]
    forged, real = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    found = 1 - np.searchsorted(forged, candidates) / len(forged)
    passed = np.searchsorted(real, candidates) / len(real)
    best = np.flatnonzero(np.isclose(found + passed, (found + passed).max(), rtol=0, atol=1e-12))
    return float(candidates[best[len(best) // 2]])


@dataclass(frozen=True)
class AdversarialOptions:
    """Adversarial training (Madry et al., ICLR 2018, arXiv 1706.06083). share: of every batch that is replaced by
    examples of `attacks.pgd`, 0 for none; radius and norm: of the ball round each image, for values in [0, 1]; steps:
    of the attack, each of a quarter of the radius."""

    share: float = 0.0
    radius: float = 0.008
    norm: Literal["linf", "l2"] = "linf"
    steps: int = 5

    def __post_init__(self) -> None:
        for key, right, what in (
            ("share", 0 <= self.share <= 1, "lie in [0, 1]"),
            ("radius", self.radius > 0, "be more than 0"),
            ("norm", self.norm in ("linf", "l2"), "be linf or l2"),
            ("steps", self.steps >= 1, "be 1 or more"),
        ):
            if not right:
                raise UserError(f"training.adversarial.{key}={getattr(self, key)}: must {what}")


def with_adversarial(network: nn.Module, batch: Batch, options: AdversarialOptions, seed: int) -> Batch:
    """The batch with `options.share` of its images, drawn by `seed`, moved against the network as it is; labels and
    masks stay.

    The network is attacked in eval mode: its running statistics and its parameters' gradients are left as they are,
    and its mode is put back.
    """
    count = round(options.share * len(batch.label))
    if not count:
        return batch
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(batch.label), generator=generator)[:count].sort().values.to(batch.label.device)
    training = network.training
    network.eval()
    try:
        ball = Ball(options.norm, options.radius)
        moved = pgd(network, batch.image[chosen], batch.label[chosen], ball, options.steps, generator)
    finally:
        network.train(training)
    return batch._replace(image=batch.image.index_copy(0, chosen, moved))


class DetectorTrainer(pl.LightningModule):
    """Trains `network` for `total_steps` steps of AdamW on the logistic loss.

    The learning rate rises linearly over the first tenth, then falls by a half cosine to a hundredth.
    Logs `validation/score`, the AUROC on the validation split. Network and images are laid out channels last, which
    halves a step on a CPU.

    Where batches hold masks and the network has a `locate` (see `detectors.localizer`), the cross-entropy of its heat
    map is added, as much as the logistic loss. What `adversarial` draws depends on the number of the step alone.

    compiled: train through `torch.compile`; what is validated, attacked and saved is the network itself
    """

    def __init__(
        self,
        network: nn.Module,
        total_steps: int,
        learning_rate: float,
        weight_decay: float = 1e-2,
        adversarial: AdversarialOptions | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.total_steps, self.learning_rate, self.weight_decay = total_steps, learning_rate, weight_decay
        self.adversarial = adversarial or AdversarialOptions()
        self._loss = torch.compile(self.loss) if compiled else self.loss
        self._seen: list[tuple[Tensor, Tensor]] = []

    def loss(self, batch: Batch) -> Tensor:
        locate = getattr(self.network, "locate", None)
        if locate is None or batch.mask is None:
            return F.binary_cross_entropy_with_logits(self.network(batch.image), batch.label)
        logit, heat = locate(batch.image)
        return F.binary_cross_entropy_with_logits(logit, batch.label) + F.binary_cross_entropy_with_logits(
            heat, batch.mask
        )

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if batch.image.ndim == 4:
            batch = batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))
        loss = self._loss(with_adversarial(self.network, batch, self.adversarial, self.global_step))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.label))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        self._seen.append((batch.label.cpu(), self.network(batch.image).double().cpu()))

    def on_validation_epoch_end(self) -> None:
        labels, logits = (torch.cat(parts).numpy() for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        self.log("validation/score", auroc(labels, logits), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_factor(step: int, total: int) -> float:
    """1 at the end of the warm-up (the first tenth), .01 at `total` and beyond."""
    warm = max(1, round(_WARM * total))
    if step < warm:
        return (step + 1) / warm
    through = min(1.0, (step - warm) / max(1, total - warm))
    return 0.01 + 0.99 * (1 + math.cos(math.pi * through)) / 2
