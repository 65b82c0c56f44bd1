"""Training a reenactor: any entry of `REENACTORS`, with an optional critic. The Lightning part is thin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from generation import losses
from generation.pairs import Batch
from generation.reenactors.reenactment import Readout, Reenactment, blend


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss's terms. `reconstruction` is of the image alone, `blended` of the forgery; `changed` is how
    much more in both a pixel counts that differs between source and target."""

    reconstruction: float = 1.0
    blended: float = 1.0
    changed: float = 10.0
    gradient: float = 0.1
    flow: float = 2.0
    mask: float = 0.04
    evasion: float = 0.03


class ReenactorTrainer(pl.LightningModule):
    """Trains `network` on pairs with exact targets for `total_steps` steps with one-cycle cosine: hidden weights with
    Muon (https://kellerjordan.github.io/posts/muon), each `Readout`, biases and norms with AdamW.

    `evasion` is a loss on forgeries (see `losses.evasion`); its critics are held outside this module and never
    trained or saved by it. Logs `validation/score`, minus the total loss on the validation pairs.
    """

    def __init__(
        self,
        network: nn.Module,
        total_steps: int,
        learning_rate: float,
        weights: LossWeights,
        evasion: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.total_steps, self.learning_rate, self.weights = total_steps, learning_rate, weights
        self._evasion = evasion

    def terms(self, batch: Batch, result: Reenactment) -> dict[str, Tensor]:
        """The weighted terms of the loss."""
        forgery = blend(batch.source, result)
        weight = 1 + self.weights.changed * losses.changed_region(batch.source, batch.target)
        terms = {
            "reconstruction": self.weights.reconstruction * losses.reconstruction(result.image, batch.target, weight),
            "blended": self.weights.blended * losses.reconstruction(forgery, batch.target, weight),
            "gradient": self.weights.gradient * losses.gradient(result.image, batch.target),
            "flow": self.weights.flow * losses.landmark_flow(result.flow, batch.source_landmarks, batch.landmarks),
            "mask": self.weights.mask * losses.mask_truth(result.mask, batch.source, batch.target),
        }
        if self._evasion is not None:
            with torch.autocast(
                self.device.type, enabled=False
            ):  # traces of a forgery are smaller than bfloat16's steps
                terms["evasion"] = self.weights.evasion * self._evasion(forgery)
        return terms

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        result = self.network(batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion)
        return self.terms(batch, result)

    def training_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of a training step: the network's own where it has `training_terms`, and evasion beside them."""
        if not hasattr(self.network, "training_terms"):
            return self._step(batch)
        terms: dict[str, Tensor] = self.network.training_terms(batch)
        return terms if self._evasion is None else terms | {"evasion": self._step(batch)["evasion"]}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        terms = self.training_terms(batch)
        total = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        total = torch.stack(list(self._step(batch).values())).sum()
        self.log("validation/score", -total, batch_size=len(batch.source), on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        readouts = [p for layer in self.network.modules() if isinstance(layer, Readout) for p in layer.parameters()]
        hidden = [p for p in self.network.parameters() if all(p is not readout for readout in readouts)]
        groups: list[dict[str, Any]] = [{"params": hidden}, {"params": readouts, "use_fallback": True}]
        optimizer = Muon(groups, lr=self.learning_rate, weight_decay=1e-4, nesterov=True, betas=(0.9, 0.99))
        schedule = LambdaLR(optimizer, lambda step: one_cycle(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def one_cycle(step: int, total: int, warm: float = 0.05) -> float:
    """The learning rate's factor: a linear rise over the first `warm` of the steps, then a half cosine down to 1 %."""
    rise = max(1, int(warm * total))
    if step < rise:
        return (step + 1) / rise
    through = min(1.0, (step - rise) / max(1, total - rise))
    return 0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(through * torch.pi))))
