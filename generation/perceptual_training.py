"""Training the network of the perceptual loss on synthetic truth: landmarks, expression, identity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchmetrics.functional.classification import binary_auroc

from generation.losses import eye_distance
from generation.motion import mirror
from generation.pairs import MIRRORED_LANDMARKS, recoloured
from generation.perceptual import IDENTITY_SIZE, PerceptualNetwork, Reading
from generation.records import Faces, UserError
from generation.training import one_cycle

SIZES = (64, 96, 128)
"""Sides of the pictures that the network is trained on, as far as the records are so large."""


class Sample(NamedTuple):
    """Faces with their truth.

    image: Tensor       # (B, 3, H, W) in [0, 1]
    landmarks: Tensor   # (B, 68, 2) pixels (x, y); some may lie outside
    expression: Tensor  # (B, 52) in [0, 1]
    person: Tensor      # (B,) int64, number of the identity
    """

    image: Tensor
    landmarks: Tensor
    expression: Tensor
    person: Tensor


def resized(sample: Sample, size: int) -> Sample:
    """The pictures at `size` pixels a side, landmarks with them."""
    old = sample.image.shape[-1]
    if old == size:
        return sample
    image = F.interpolate(sample.image, size=size, mode="bilinear", antialias=True)
    return sample._replace(image=image, landmarks=sample.landmarks * (size / old))


def augmented(sample: Sample, generator: np.random.Generator) -> Sample:
    """The same faces under other conditions: mirrored, turned by up to 20 degrees, scaled and shifted, in another
    place, light and colour, blurred, with noise, partly hidden. Landmarks and expressions go with them."""
    sample = moved(_mirrored(sample, generator.random(len(sample.image)) < 0.5), generator)
    image = _elsewhere(sample, generator)
    image = recoloured(image, generator)
    image = _blurred(image, generator)
    noise = torch.from_numpy(generator.standard_normal(image.shape, dtype=np.float32))
    image = image + noise * torch.from_numpy(generator.uniform(0, 0.04, (len(image), 1, 1, 1)).astype(np.float32))
    return sample._replace(image=_hidden(image, generator).clamp(0, 1))


def _mirrored(sample: Sample, chosen: np.ndarray) -> Sample:  # chosen: (B,) bool
    pick = torch.from_numpy(chosen)
    points = sample.landmarks[:, MIRRORED_LANDMARKS]
    points = torch.stack([sample.image.shape[-1] - points[..., 0], points[..., 1]], dim=-1)
    return sample._replace(
        image=torch.where(pick[:, None, None, None], sample.image.flip(-1), sample.image),
        landmarks=torch.where(pick[:, None, None], points, sample.landmarks),
        expression=torch.where(pick[:, None], mirror(sample.expression), sample.expression),
    )


def moved(sample: Sample, generator: np.random.Generator) -> Sample:
    """Turned and scaled about the picture's centre, then shifted by up to a tenth of its side."""
    count, size = len(sample.image), sample.image.shape[-1]
    angle = torch.from_numpy(generator.uniform(-0.35, 0.35, count).astype(np.float32))
    scale = torch.from_numpy(np.exp(generator.uniform(-0.2, 0.2, count)).astype(np.float32))
    shift = torch.from_numpy(generator.uniform(-0.2, 0.2, (count, 2)).astype(np.float32))  # crop units
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    there = (sample.landmarks * (2 / size) - 1) * scale[:, None, None]
    there = torch.einsum("bij,bkj->bki", turn, there) + shift[:, None]
    back = turn.transpose(1, 2) / scale[:, None, None]
    theta = torch.cat([back, -(back @ shift[..., None])], dim=2)
    grid = F.affine_grid(theta, list(sample.image.shape), align_corners=False)
    image = F.grid_sample(sample.image, grid, padding_mode="reflection", align_corners=False)
    return sample._replace(image=image, landmarks=(there + 1) * (size / 2))


def _elsewhere(sample: Sample, generator: np.random.Generator) -> Tensor:
    """Half of the faces in the surroundings of another one: a person must not be known by the background."""
    count, size = len(sample.image), sample.image.shape[-1]
    low, high = sample.landmarks.amin(dim=1), sample.landmarks.amax(dim=1)
    centre, radius = (low + high) / 2, (high - low) * 0.72
    place = torch.arange(size) + 0.5
    across = ((place - centre[:, :1]) / radius[:, :1]).square()[:, None, None, :]
    down = ((place - centre[:, 1:]) / radius[:, 1:]).square()[:, None, :, None]
    inside = torch.sigmoid((1.2 - across - down) * 6)
    other = sample.image[torch.from_numpy(generator.permutation(count))]
    replaced = torch.lerp(other, sample.image, inside)
    return torch.where(torch.from_numpy(generator.random(count) < 0.5)[:, None, None, None], replaced, sample.image)


def _blurred(image: Tensor, generator: np.random.Generator) -> Tensor:
    """A third of the pictures blurred, by up to 1.5 pixels in 64."""
    chosen = np.flatnonzero(generator.random(len(image)) < 1 / 3)
    sigma = generator.uniform(0.3, 1.5, (len(chosen), 1)).repeat(2, axis=1) * image.shape[-1] / 64
    if len(chosen):
        image = image.clone()
        side = 2 * (image.shape[-1] // 24) + 1
        image[chosen] = gaussian_blur2d(image[chosen], side, torch.from_numpy(sigma.astype(np.float32)))
    return image


def _hidden(image: Tensor, generator: np.random.Generator) -> Tensor:
    """A third of the pictures with a rectangle of one colour, up to a third of a side."""
    count, size = len(image), image.shape[-1]
    start = torch.from_numpy(generator.uniform(0, size, (count, 2)))
    span = torch.from_numpy(generator.uniform(0.05, 0.33, (count, 2)) * size)
    span[torch.from_numpy(generator.random(count) > 1 / 3)] = 0
    place = torch.arange(size) + 0.5
    inside = (place >= start[..., None]) & (place < (start + span)[..., None])  # (B, 2, size)
    covered = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]
    colour = torch.from_numpy(generator.random((count, 3), dtype=np.float32))[..., None, None]
    return torch.where(covered, colour, image)


class _Samples(Dataset[Sample]):
    """Batch number `step` of an endless training set, the same whoever asks and whenever."""

    def __init__(self, faces: Faces, person: Tensor, batch: int, seed: int, first: int, count: int) -> None:
        self.faces, self.person, self.size, self.seed, self.first, self.count = faces, person, batch, seed, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index >= self.count:
            raise IndexError(index)
        generator = np.random.default_rng([self.seed, self.first + index])
        rows = generator.choice(len(self.faces), size=self.size, replace=False)
        size = int(generator.choice([size for size in SIZES if size <= self.faces.size]))
        return augmented(resized(sample_of(self.faces, rows, self.person), size), generator)


def sample_of(faces: Faces, rows: np.ndarray, person: Tensor) -> Sample:
    image = faces.image[rows].float() / 255
    return Sample(image, faces.landmarks[rows], faces.expression[rows], person[rows])


def whole(faces: Faces, every: int) -> Sample:
    """Every so-manieth frame of a set, people numbered in the order of their names."""
    person = torch.from_numpy(np.unique(faces.identity, return_inverse=True)[1])
    return sample_of(faces, np.arange(0, len(faces), every), person)


class PerceptualData(pl.LightningDataModule):
    """Training batches by step number; validation on every fourth frame of the validation people, augmented once."""

    def __init__(self, faces: Faces, batch: int, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        if faces.size < SIZES[0]:
            raise UserError(f"data.size={faces.size}: must be at least {SIZES[0]} pixels")
        self.batch, self.steps_per_epoch, self.seed = batch, steps_per_epoch, seed
        self._train, self._validation = faces.where(split="train"), faces.where(split="validation")
        if len(self._train) < batch:
            raise UserError(f"batch={batch}: there are only {len(self._train)} frames of people to train on")
        self.people, person = np.unique(self._train.identity, return_inverse=True)
        self._person = torch.from_numpy(person)
        self.spread = self._train.expression.std(dim=0)

    def train_dataloader(self) -> DataLoader[Sample]:
        first = (self.trainer.current_epoch if self.trainer else 0) * self.steps_per_epoch
        steps = _Samples(self._train, self._person, self.batch, self.seed, first, self.steps_per_epoch)
        return DataLoader(steps, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[Sample]:
        held = augmented(whole(self._validation, 4), np.random.default_rng([self.seed, 1]))
        return DataLoader([held], batch_size=None)  # type: ignore[arg-type]


def landmark_error(reading: Reading, sample: Sample) -> Tensor:
    """Mean |x| and |y| error over landmarks inside the picture, in eye distances."""
    inside = ((sample.landmarks > 0) & (sample.landmarks < sample.image.shape[-1])).all(dim=2, keepdim=True)
    error = (reading.landmarks - sample.landmarks).abs() / eye_distance(sample.landmarks)[:, None, None]
    return (error * inside).sum() / (2 * inside.sum()).clamp_min(1)


class PerceptualTrainer(pl.LightningModule):
    """Trains `network` (in `total_steps` steps of one-cycle cosine, Muon and AdamW as reenactors are) on landmarks, on
    the expression (each action's error in its standard deviations `spread` (52,)), and on who of `people` it is by
    CosFace (arXiv 1801.09414).

    Logs `validation/score`: AUROC of identity, plus correlation of expression, minus error of landmarks, see `judge`.
    """

    def __init__(
        self, network: PerceptualNetwork, people: int, spread: Tensor, total_steps: int, learning_rate: float
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("spread", spread.clamp_min(0.05))
        self.classes = nn.Parameter(torch.randn(people, IDENTITY_SIZE))
        self.total_steps, self.learning_rate = total_steps, learning_rate

    def training_step(self, batch: Sample, index: int) -> Tensor:
        reading = self.network(batch.image)
        cosine = reading.identity @ F.normalize(self.classes.float(), dim=1).T
        margin = 0.2 * F.one_hot(batch.person, len(self.classes))
        terms = {
            "landmarks": landmark_error(reading, batch),
            "expression": ((reading.expression - batch.expression) / self.spread).square().mean(),
            "identity": 0.1 * F.cross_entropy(16 * (cosine - margin), batch.person),
        }
        total = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def validation_step(self, batch: Sample, index: int) -> None:
        found = judge(self.network, batch)
        score = found["identity_auroc"] + found["expression_correlation"] - found["landmark_error"]
        self.log_dict({f"validation/{name}": value for name, value in found.items()}, batch_size=1)
        self.log("validation/score", score, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        hidden = [parameter for parameter in self.network.stages.parameters() if parameter.ndim == 4]
        others = [parameter for parameter in self.parameters() if all(parameter is not other for other in hidden)]
        groups: list[dict[str, Any]] = [{"params": hidden}, {"params": others, "use_fallback": True}]
        optimizer = Muon(groups, lr=self.learning_rate, weight_decay=1e-4, nesterov=True, betas=(0.9, 0.99))
        schedule = LambdaLR(optimizer, lambda step: one_cycle(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def judge(network: PerceptualNetwork, sample: Sample) -> dict[str, float]:
    """How well faces are read, by their truth. Frames of one clip share light and background, which alone tell people
    apart: `identity_auroc` says something on `augmented` samples only.

    landmark_error: mean |x| and |y| error, in eye distances
    expression_error: mean |error| over the 52 actions; expression_error_mean is that of always saying these faces' mean
    expression_correlation: of the reading with the truth over faces, averaged over the actions that vary
    identity_auroc: cosines of all pairs of one person's frames against those of two people's
    """
    training = network.training
    network.eval()
    parts = [Reading(*(value.float() for value in network(image))) for image in torch.split(sample.image, 64)]
    network.train(training)
    reading = Reading(*(torch.cat(values) for values in zip(*parts, strict=True)))
    truth, count = sample.expression, len(sample.image)
    one, other = torch.triu_indices(count, count, offset=1)
    cosine = (reading.identity @ reading.identity.T)[one, other].double()
    vary = truth.std(dim=0) > 0.01
    paired = torch.stack([reading.expression[:, vary], truth[:, vary]])
    paired = (paired - paired.mean(dim=1, keepdim=True)) / paired.std(dim=1, keepdim=True).clamp_min(1e-6)
    return {
        "landmark_error": float(landmark_error(reading, sample)),
        "expression_error": float((reading.expression - truth).abs().mean()),
        "expression_error_mean": float((truth - truth.mean(dim=0)).abs().mean()),
        "expression_correlation": float((paired[0] * paired[1]).mean()),
        "identity_auroc": float(binary_auroc((cosine + 1) / 2, (sample.person[one] == sample.person[other]).long())),
    }
