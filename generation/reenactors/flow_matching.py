"""flow_matching: the diffusion line in few steps, from a noisy source to the wanted frame.

Origin: this project, after conditional flow matching (Lipman et al., arXiv 2210.02747) along straight lines (rectified
flow, Liu et al., arXiv 2209.03003). A line does not begin in pure noise but in the source with noise added: a coupling
that depends on the data (Albergo et al., arXiv 2310.03725), so that one to eight Euler steps and minutes of training
are enough. The network predicts the end of the line, as a difference to the source, and not the velocity along it (as
in arXiv 2511.13720): what remains of the noise is then left behind with the last step.

Input: images in [0, 1] of any size divisible by `fold` and by 2 to the power of one less than the number of widths.
Pixels at 64 px; above, `fold` x `fold` pixels become one cell of channels, an orthogonal latent that nothing is lost in
and nothing need be learnt for (a learnt one costs half of the time on 2 cores). Output: see `Reenactment`; `flow` is 0,
as nothing is warped.

Artefacts: faint grain from the noise, texture painted anew where nothing should change, teeth and eyes that melt into
soft shapes; with one step it blurs as a regression does.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation import losses
from generation.motion import EXPRESSION_SIZE, MOTION_SIZE
from generation.pairs import Batch
from generation.records import UserError
from generation.reenactors.reenactment import Readout, Reenactment
from generation.reenactors.warp import PLACES, Modulated, plain, position_features

_WAVES = 4
"""Octaves of the time's sines and cosines."""

_CHANGED, _MATCHING, _MASK = 30.0, 4.0, 0.04
"""Weights of the objective: how much more a changed pixel counts; of flow matching; of the mask's cross-entropy."""


@dataclass(frozen=True)
class FlowMatchingOptions:
    """steps: of Euler's method, 1 to 8; noise: its standard deviation at the beginning, images being in [0, 1]; fold:
    pixels across a cell of the latent; widths: channels at 1, 1/2, 1/4 (and so on) of the latent's size; blocks:
    residual blocks at the lowest resolution; seed: of the noise, which depends on it and on the source alone."""

    steps: int = 4
    noise: float = 0.25
    fold: int = 2
    widths: tuple[int, ...] = (40, 80, 128)
    blocks: int = 2
    motion_width: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 8:
            raise UserError(f"reenactor.options.steps={self.steps}: allowed are 1 to 8")


class FlowMatching(nn.Module):
    """See the module's docstring."""

    def __init__(self, options: FlowMatchingOptions) -> None:
        super().__init__()
        self.options = options
        widths, motion, folded = tuple(options.widths), options.motion_width, options.fold**2
        levels = range(len(widths) - 1)
        self.condition = nn.Sequential(
            nn.Linear(2 * MOTION_SIZE + 2 * _WAVES, motion),
            nn.SiLU(),
            nn.Linear(motion, motion),
            nn.LayerNorm(motion),
            nn.SiLU(),
        )
        self.look = plain(3 * folded + PLACES, widths[0])
        self.look_down = nn.ModuleList([plain(widths[i], widths[i + 1], stride=2) for i in levels])
        self.stem = nn.Conv2d(3 * folded + widths[0], widths[0], 3, padding=1)
        self.down = nn.ModuleList([plain(widths[i], widths[i + 1], stride=2) for i in levels])
        self.middle = nn.ModuleList([Modulated(widths[-1] + PLACES, widths[-1], motion) for _ in range(options.blocks)])
        self.up = nn.ModuleList([
            Modulated(widths[i + 1] + widths[i] + PLACES, widths[i], motion) for i in reversed(levels)
        ])  # fmt: skip
        self.head = Readout(widths[0], 4 * folded)

    def encode(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> list[Tensor]:
        """Features of the source at every scale, and last its noise (B, 3, H, W)."""
        return [*self._look(source, source_motion), self._noise(source)]

    def decode(
        self, source: Tensor, features: list[Tensor], source_motion: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        """The wanted frame from `encode`'s features: `steps` Euler steps from the noisy source."""
        *features, noise = features
        motions = torch.cat([source_motion, wanted_motion - source_motion], dim=1)
        image, mask, steps = source + noise, source[:, :1], self.options.steps
        for step in range(steps):
            time = source.new_full((len(source),), step / steps)
            end, mask = self._end(image, time, source, features, motions)
            image = image + (end - image) / (steps - step)  # velocity (end - image) / (1 - time), for 1 / steps
        return Reenactment(image.clamp(0, 1), mask, image.new_zeros(len(image), 2, *image.shape[-2:]))

    def forward(
        self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        features = self.encode(source, source_motion, source_landmarks)
        return self.decode(source, features, source_motion, wanted_motion)

    def training_terms(self, batch: Batch) -> dict[str, Tensor]:
        """What this family is trained on: at a random time the squared error of the line's end, which is that of the
        velocity weighted by (1 - time) squared, and the mask's truth. Times and noise are drawn from torch's global
        generator."""
        source, target = batch.source, batch.target
        time = torch.rand(len(source), device=source.device)
        along = time[:, None, None, None]
        image = torch.lerp(source + self.options.noise * torch.randn_like(source), target, along)
        motions = torch.cat([batch.source_motion, batch.wanted_motion - batch.source_motion], dim=1)
        end, mask = self._end(image, time, source, self._look(source, batch.source_motion), motions)
        weight = 1 + _CHANGED * losses.changed_region(source, target)
        return {
            "matching": _MATCHING * ((end - target).square() * weight).mean(),
            "mask": _MASK * losses.mask_truth(mask, source, target),
        }

    def _look(self, source: Tensor, source_motion: Tensor) -> list[Tensor]:
        folded = F.pixel_unshuffle(source, self.options.fold)
        where = position_features(source_motion[:, EXPRESSION_SIZE:], folded)
        features = [self.look(torch.cat([folded, where], dim=1))]
        for down in self.look_down:
            features.append(down(features[-1]))
        return features

    def _noise(self, source: Tensor) -> Tensor:
        """Normal noise that each source has for its own, whatever else is in the batch; of 8 bits of the source."""
        drawn = []
        for image in (source.detach() * 255).round().to(torch.uint8).cpu():
            generator = torch.Generator().manual_seed(zlib.crc32(image.numpy().tobytes(), self.options.seed))
            drawn.append(torch.randn(image.shape, generator=generator))
        return self.options.noise * torch.stack(drawn).to(source)

    def _end(
        self, image: Tensor, time: Tensor, source: Tensor, features: list[Tensor], motions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where the line through `image` at `time` (B,) in [0, 1) ends, and the mask."""
        octaves = 2.0 ** torch.arange(_WAVES, device=time.device) * (torch.pi / 2)
        waves = time[:, None] * octaves
        condition = self.condition(torch.cat([motions, waves.sin(), waves.cos()], dim=1))
        pose = (motions[:, :MOTION_SIZE] + motions[:, MOTION_SIZE:])[:, EXPRESSION_SIZE:]
        x = self.stem(torch.cat([F.pixel_unshuffle(image, self.options.fold), features[0]], dim=1))
        places, skips = [position_features(pose, x)], [x]
        for down, seen in zip(self.down, features[1:], strict=True):
            skips.append(down(skips[-1]) + seen)
            places.append(F.avg_pool2d(places[-1], 2))
        x = skips.pop()
        for block in self.middle:
            x = x + block(torch.cat([x, places[-1].to(x.dtype)], dim=1), condition)
        for block, where in zip(self.up, reversed(places[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop(), where.to(x.dtype)], dim=1), condition)
        out = F.pixel_shuffle(self.head(x).float(), self.options.fold)
        return source + out[:, :3], torch.sigmoid(out[:, 3:])
