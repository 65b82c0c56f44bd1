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
from torch.optim.swa_utils import AveragedModel

from generation import losses
from generation.adversarial import AdversarialLoss, takes_part
from generation.pairs import Batch
from generation.perceptual import PerceptualLoss, load_perceptual
from generation.reenactors.reenactment import Readout, Reenactment, blend


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss's terms; one of weight 0 is not computed where it costs much. `reconstruction` is of the
    image alone, `blended` of the forgery; `changed` is how much more in both a pixel counts that differs between source
    and target, `eyes_mouth` how much more one around the target's eyes and mouth. `ssim`, `perceptual` and
    `adversarial` are of the forgery; the last is on in the last third of the steps only."""

    reconstruction: float = 1.0
    blended: float = 1.0
    changed: float = 30.0
    gradient: float = 0.1
    flow: float = 0.5
    mask: float = 0.04
    evasion: float = 0.03
    eyes_mouth: float = 0.0
    ssim: float = 0.0
    perceptual: float = 0.0
    adversarial: float = 0.0


class ReenactorTrainer(pl.LightningModule):
    """Trains `network` on pairs with exact targets for `total_steps` steps with one-cycle cosine: hidden weights with
    Muon (https://kellerjordan.github.io/posts/muon), each `Readout`, biases and norms with AdamW.

    `evasion` is a loss on forgeries (see `losses.evasion`); its critics are held outside this module and never
    trained or saved by it. Logs `validation/score`, minus the total loss on the validation pairs (without the
    adversarial term, whose scale moves).

    ema: decay of the exponential moving average of the weights, 0 for none; where there is one, `average` is what is
        validated and worth keeping, and `network` only what is trained
    compiled: train through `torch.compile`; what is validated and saved is the network itself
    landmark_noise: error of the source's landmarks that the network is given in training, as a detector would make:
        standard deviation in eye distances, half of its variance common to all landmarks of a face
    """

    def __init__(
        self,
        network: nn.Module,
        total_steps: int,
        learning_rate: float,
        weights: LossWeights,
        evasion: Callable[[Tensor], Tensor] | None = None,
        *,
        ema: float = 0.0,
        compiled: bool = False,
        landmark_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.total_steps, self.learning_rate, self.weights = total_steps, learning_rate, weights
        self.landmark_noise = landmark_noise
        self._evasion = evasion
        self._perceptual = PerceptualLoss(load_perceptual()) if weights.perceptual > 0 else None
        self._adversary = AdversarialLoss() if weights.adversarial > 0 else None
        self._averaged = averaged(network, ema) if ema > 0 else None
        self._compiled = torch.compile(network.forward) if compiled else None

    @property
    def average(self) -> nn.Module | None:
        return None if self._averaged is None else self._averaged.module

    def terms(self, batch: Batch, result: Reenactment) -> dict[str, Tensor]:
        """The weighted terms of the loss, all but the adversarial one."""
        weights, forgery = self.weights, blend(batch.source, result)
        weight = 1 + weights.changed * losses.changed_region(batch.source, batch.target)
        if weights.eyes_mouth > 0:
            height, width = batch.target.shape[-2:]
            weight = weight + weights.eyes_mouth * losses.eyes_mouth_region(batch.landmarks, (height, width))
        terms = {
            "reconstruction": weights.reconstruction * losses.reconstruction(result.image, batch.target, weight),
            "blended": weights.blended * losses.reconstruction(forgery, batch.target, weight),
            "gradient": weights.gradient * losses.gradient(result.image, batch.target),
            "flow": weights.flow * losses.landmark_flow(result.flow, batch.source_landmarks, batch.landmarks),
            "mask": weights.mask * losses.mask_truth(result.mask, batch.source, batch.target),
        }
        if weights.ssim > 0:
            terms["ssim"] = weights.ssim * losses.ssim(forgery, batch.target)
        if self._perceptual is not None:
            terms["perceptual"] = weights.perceptual * self._perceptual(forgery, batch.target)
        if self._evasion is not None:
            with torch.autocast(
                self.device.type, enabled=False
            ):  # traces of a forgery are smaller than bfloat16's steps
                terms["evasion"] = self.weights.evasion * self._evasion(forgery)
        return terms

    def training_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a training step; where the network has a `training_terms` of its own, those, and
        evasion beside them."""
        own = getattr(self.network, "training_terms", None)
        if own is not None and self._evasion is None:
            terms: dict[str, Tensor] = own(batch)
            return terms
        landmarks = batch.source_landmarks
        if self.landmark_noise > 0:
            landmarks = noisy_landmarks(landmarks, self.landmark_noise, seed=self.global_step)
        call = self._compiled or self.network
        result: Reenactment = call(batch.source, batch.source_motion, landmarks, batch.wanted_motion)
        terms = self.terms(batch, result)
        if own is not None:
            return {**own(batch), "evasion": terms["evasion"]}
        if self._adversary is not None and takes_part(self.global_step, self.total_steps):
            forgery = blend(batch.source, result)
            terms["adversarial"] = self.weights.adversarial * self._adversary(forgery, batch.target)
        return terms

    def training_step(self, batch: Batch, index: int) -> Tensor:
        terms = self.training_terms(batch)
        total = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)

    def validation_step(self, batch: Batch, index: int) -> None:
        network = self.network if self.average is None else self.average
        result = network(batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion)
        total = torch.stack(list(self.terms(batch, result).values())).sum()
        self.log("validation/score", -total, batch_size=len(batch.source), on_epoch=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._adversary is not None:
            checkpoint["adversary"] = self._adversary.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._adversary is not None:
            self._adversary.load_state_dict(checkpoint["adversary"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        readouts = [p for layer in self.network.modules() if isinstance(layer, Readout) for p in layer.parameters()]
        hidden = [p for p in self.network.parameters() if all(p is not readout for readout in readouts)]
        groups: list[dict[str, Any]] = [{"params": hidden}, {"params": readouts, "use_fallback": True}]
        optimizer = Muon(groups, lr=self.learning_rate, weight_decay=1e-4, nesterov=True, betas=(0.9, 0.99))
        schedule = LambdaLR(optimizer, lambda step: one_cycle(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the network's weights, which `update_parameters` takes one step on.

    After step t (from 0) it is d * average + (1 - d) * weights with d = min(decay, (1 + t) / (10 + t)), and the weights
    themselves at t = 0, so that a short training is not held back by where it started.
    """

    @torch.no_grad()
    def update(averages: Any, weights: Any, steps: Any) -> None:
        share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, share)

    return AveragedModel(network, multi_avg_fn=update).requires_grad_(False)


def noisy_landmarks(landmarks: Tensor, spread: float, seed: int) -> Tensor:  # (B, 68, 2) -> the same
    """The landmarks with an error of standard deviation `spread` in eye distances: one part the same for all of a
    face's, the other of each alone, of equal variance. The same seed makes the same errors."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(len(landmarks), 1, 2, generator=generator)
    alone = torch.randn(landmarks.shape, generator=generator)
    error: Tensor = ((common + alone) / 2**0.5).to(landmarks)
    return landmarks + error * (spread * losses.eye_distance(landmarks))[:, None, None]


def one_cycle(step: int, total: int, warm: float = 0.05) -> float:
    """The learning rate's factor: a linear rise over the first `warm` of the steps, then a half cosine down to 1 %."""
    rise = max(1, int(warm * total))
    if step < rise:
        return (step + 1) / rise
    through = min(1.0, (step - rise) / max(1, total - rise))
    return 0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(through * torch.pi))))
