"""autoencoder: the classic deep-fake line, a face decoded from a bottleneck.

Origin: this project, after the shared encoder and per-person decoders of the first deep fakes (faceswap; DeepFaceLab,
arXiv 2005.05535). Here one decoder serves everybody: a code of the source's identity and the motions modulate it (FiLM,
arXiv 1709.07871), and position features in the face's own frame say where it is. Nothing is warped and no skip leads
past the bottleneck, whose grid holds features and the source's mean colours, so the face inside the mask is synthesised
as a whole.

Input: images in [0, 1] of any size. The network works at `size` pixels, 64 or 128 in the presets; another input is
resized to it, and the face that comes out resized back. Output: see `Reenactment`; `flow` is 0, as nothing is warped.

Artefacts: smooth skin without pores, teeth and lashes blurred to one tone, colours that drift from the source's and a
seam along the mask; in frames larger than `size` a soft face in a sharp frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.motion import EXPRESSION_SIZE, MOTION_SIZE
from generation.reenactors.reenactment import Readout, Reenactment
from generation.reenactors.warp import PLACES, Modulated, plain, position_features


@dataclass(frozen=True)
class AutoencoderOptions:
    """size: pixels that the network works at, divisible by 2 to the power of the number of widths; widths: channels at
    1/2, 1/4, 1/8 (and so on) of it, the last one the bottleneck's grid; bottleneck: channels that pass there; identity:
    length of the identity's code; blocks: residual blocks of the decoder at the lowest resolution."""

    size: int = 64
    widths: tuple[int, ...] = (48, 96, 160)
    bottleneck: int = 48
    identity: int = 128
    motion_width: int = 128
    blocks: int = 2


class Autoencoder(nn.Module):
    """See the module's docstring."""

    def __init__(self, options: AutoencoderOptions) -> None:
        super().__init__()
        self.options = options
        widths, motion = tuple(options.widths), options.motion_width
        pairs = range(len(widths) - 1)
        self.encoder = nn.Sequential(
            plain(4 * 3, widths[0]),
            *(plain(widths[i], widths[i + 1], stride=2) for i in pairs),
            plain(widths[-1], widths[-1]),
        )
        self.squeeze = nn.Conv2d(widths[-1], options.bottleneck, 1)
        self.identity = nn.Linear(widths[-1], options.identity)
        self.condition = nn.Sequential(
            nn.Linear(2 * MOTION_SIZE + options.identity, motion),
            nn.SiLU(),
            nn.Linear(motion, motion),
            nn.LayerNorm(motion),
            nn.SiLU(),
        )
        self.expand = Modulated(options.bottleneck + PLACES, widths[-1], motion)
        self.middle = nn.ModuleList([Modulated(widths[-1] + PLACES, widths[-1], motion) for _ in range(options.blocks)])
        self.up = nn.ModuleList([Modulated(widths[i + 1] + PLACES, widths[i], motion) for i in reversed(pairs)])
        self.head = Readout(widths[0], 4 * (3 + 1))

    def encode(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> list[Tensor]:
        """All that passes of a source: the bottleneck (B, bottleneck, h, w), its colours (B, 3, h, w), and the
        identity's code (B, identity)."""
        small = _resized(source, (self.options.size, self.options.size))
        features = self.encoder(F.pixel_unshuffle(small, 2))
        colours = F.adaptive_avg_pool2d(small, (features.shape[-2], features.shape[-1]))
        return [self.squeeze(features), colours, self.identity(features.mean(dim=(-2, -1)))]

    def decode(
        self, source: Tensor, features: list[Tensor], source_motion: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        """The wanted frame from `encode`'s features; of `source` only the size is taken."""
        code, colours, identity = features
        motions = torch.cat([source_motion, wanted_motion - source_motion, identity], dim=1)
        condition, pose = self.condition(motions), wanted_motion[:, EXPRESSION_SIZE:]

        def placed(x: Tensor) -> Tensor:
            return torch.cat([x, position_features(pose, x).to(x.dtype)], dim=1)

        x = self.expand(placed(code), condition)
        for block in self.middle:
            x = x + block(placed(x), condition)
        for block in self.up:
            x = block(placed(F.interpolate(x, scale_factor=2.0, mode="nearest")), condition)
        drawn = F.pixel_shuffle(self.head(x).float(), 2)
        face = drawn[:, :3] + F.interpolate(colours, size=drawn.shape[-2:], mode="bilinear")
        frame = torch.cat([face.clamp(0, 1), torch.sigmoid(drawn[:, 3:])], dim=1)
        frame = _resized(frame, (source.shape[-2], source.shape[-1]))
        return Reenactment(frame[:, :3], frame[:, 3:], frame.new_zeros(len(frame), 2, *frame.shape[-2:]))

    def forward(
        self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        features = self.encode(source, source_motion, source_landmarks)
        return self.decode(source, features, source_motion, wanted_motion)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:  # (B, C, H, W) -> (B, C, *size)
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)
