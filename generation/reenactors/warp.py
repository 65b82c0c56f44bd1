"""warp: the flagship, a warp-and-refine U-Net led by explicit points.

Origin: this project, from ideas that the published evidence supports: explicit points supervised by truth and moved in
the order x = s((x_c + delta) R) + t (PerformRecast, arXiv 2603.19731; see `rig`), a flow made of them with a learned
residual (MobilePortrait, arXiv 2407.05712), the warp applied at every skip with an occlusion of its own (LIA, arXiv
2203.09043), and last blocks that see the warped pixels and add to them (TPSMM, arXiv 2203.14367). Motion enters in
three ways: as the rig's flow and as heat where its points are to lie; through FiLM (arXiv 1709.07871) at every decoder
block; and as an atlas, maps in the face's own frame that are linear in the motion, as blend shapes are.

Input: square images in [0, 1] of any size; presets from 64 to 512 pixels. All work is done in a `Window` round the
face, and its side is a multiple of the patch times four (with three widths). Features start at 1 / patch of its size,
and the last layers' channels are shuffled into patches: a patch of 4 costs at 256 pixels what one of 2 costs at 128.
Output: see `Reenactment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generation.motion import EXPRESSION_SIZE, MOTION_SIZE
from generation.reenactors import rig
from generation.reenactors.reenactment import Readout, Reenactment
from generation.reenactors.window import Window

PLACES = 14
"""Channels of `position_features`."""

ATLAS_REACH, ATLAS_CENTRE = 2.5, 0.7
"""What an atlas covers, in eye distances: so far to every side of a point so far below the middle of the eyes."""


@dataclass(frozen=True)
class WarpOptions:
    """window: share of the frame's side that the window has; widths: channels at 1/patch of its size, at half of that,
    and so on; blocks: residual blocks at the lowest resolution; refine_width: channels of the last blocks, at 2/patch;
    atlas: channels of the atlas, and atlas_size its cells across and down."""

    widths: tuple[int, ...] = (32, 64, 96)
    blocks: int = 2
    motion_width: int = 128
    atlas: int = 16
    atlas_size: int = 24
    patch: int = 2
    refine_width: int = 32
    window: float = 0.75


def pixel_grid(like: Tensor) -> Tensor:  # (H, W, 2)
    """Pixel centres (x, y) in [-1, 1] over the crop's edges: the frame of `grid_sample(align_corners=False)` and of a
    pose."""
    height, width = like.shape[-2:]
    x = (torch.arange(width, device=like.device, dtype=torch.float32) * 2 + 1) / width - 1
    y = (torch.arange(height, device=like.device, dtype=torch.float32) * 2 + 1) / height - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def warp_by(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` (B, C, H, W) at every pixel's own position plus `flow` (B, 2, H, W) in crop units; borders
    repeat."""
    grid = pixel_grid(image) + flow.permute(0, 2, 3, 1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def sample(image: Tensor, window: Window, flow: Tensor) -> Tensor:
    """`warp_by` for the pixels of a window (B, C, side, side) that the flow (B, 2, side, side), in the window's units,
    leads anywhere in the image."""
    grid = window.share * (pixel_grid(flow) + flow.permute(0, 2, 3, 1)) + window.centre[:, None, None]
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def face_coordinates(pose: Tensor, like: Tensor) -> Tensor:  # (B, 6) -> (B, 2, H, W)
    """Every pixel in the face's own frame: origin between the eyes, x along the line of the eyes, unit one eye
    distance."""
    _, _, roll, x, y, scale = pose.float().unbind(1)
    offset = pixel_grid(like)[None] - torch.stack([x, y], dim=1)[:, None, None]
    cos, sin = torch.cos(roll)[:, None, None], torch.sin(roll)[:, None, None]
    along = offset[..., 0] * cos + offset[..., 1] * sin
    down = offset[..., 1] * cos - offset[..., 0] * sin
    return torch.stack([along, down], dim=1) / scale.clamp_min(0.05)[:, None, None, None]


def position_features(pose: Tensor, like: Tensor) -> Tensor:  # (B, 6) -> (B, 14, H, W)
    """`face_coordinates` and their sines and cosines at three octaves: with these a modulated layer can move one
    place alone."""
    where = face_coordinates(pose, like)
    waves = [wave(where * (torch.pi * octave)) for octave in (0.5, 1.0, 2.0) for wave in (torch.sin, torch.cos)]
    return torch.cat([where, *waves], dim=1)


class Atlas(nn.Module):
    """Maps over the face, linear in the motions: (B, 2 * 58) -> (B, channels, size, size) in the face's own frame."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.maps = nn.Linear(2 * MOTION_SIZE, channels * size * size)
        nn.init.normal_(self.maps.weight, std=0.08)
        nn.init.zeros_(self.maps.bias)

    def forward(self, motions: Tensor, pose: Tensor, like: Tensor) -> Tensor:  # -> (B, channels, H, W)
        """The maps where the face of this pose lies in the crop; their borders repeat."""
        maps = self.maps(motions).unflatten(1, self.shape).float()
        across, down = face_coordinates(pose, like).unbind(1)
        grid = torch.stack([across, down - ATLAS_CENTRE], dim=-1) / ATLAS_REACH
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)


class Modulated(nn.Module):
    """Convolution, group norm, scale and shift by the motion, SiLU."""

    def __init__(self, inputs: int, outputs: int, motion: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)
        self.film = nn.Linear(motion, 2 * outputs)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, motion: Tensor) -> Tensor:
        scale, shift = self.film(motion)[..., None, None].chunk(2, dim=1)
        return F.silu(torch.addcmul(shift, self.norm(self.conv(x)), 1 + scale))


def plain(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.SiLU()
    )


class Warp(nn.Module):
    """See the module's docstring."""

    def __init__(self, options: WarpOptions) -> None:
        super().__init__()
        self.options = options
        widths, motion = tuple(options.widths), options.motion_width
        levels = range(len(widths) - 1)
        self.motion = nn.Sequential(
            nn.Linear(2 * MOTION_SIZE, motion), nn.SiLU(), nn.Linear(motion, motion), nn.LayerNorm(motion), nn.SiLU()
        )
        self.atlas = Atlas(options.atlas, options.atlas_size)
        places = PLACES + len(rig.PARTS) + 2 + options.atlas
        pixels = options.patch**2
        self.stem = plain(pixels * 3 + PLACES + len(rig.PARTS), widths[0])
        self.down = nn.ModuleList([plain(widths[i], widths[i + 1], stride=2) for i in levels])
        self.middle = nn.ModuleList([Modulated(widths[-1] + places, widths[-1], motion) for _ in range(options.blocks)])
        self.mix = nn.ModuleList([Modulated(widths[i + 1], widths[i], motion) for i in levels])
        self.up = nn.ModuleList([Modulated(2 * widths[i] + places, widths[i], motion) for i in levels])
        self.flow = nn.ModuleList([Readout(widths[i + 1], 2 + 1) for i in levels])
        self.last_flow = Readout(widths[0], pixels * 2)
        finer, fine = options.refine_width // 2, options.refine_width
        self.finer = nn.Conv2d(widths[0], finer * 4, 1)
        self.refine = nn.ModuleList([Modulated(finer + pixels // 4 * 3, fine, motion), Modulated(fine, fine, motion)])
        self.head = Readout(fine, pixels // 4 * (3 + 1 + 1))

    def _window(self, motion: Tensor, image: Tensor) -> Window:
        unit, size = self.options.patch * 2 ** len(self.down), image.shape[-1]
        return Window.round_face(motion, round(self.options.window * size / unit) * unit, size)

    def encode(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> list[Tensor]:
        """Features of the source's window at every scale, coarsest last, and its landmarks in crop units."""
        landmarks = source_landmarks * (2 / source.shape[-1]) - 1
        with torch.no_grad():
            window = self._window(source_motion, source)
            patches = F.pixel_unshuffle(window.cut(source), self.options.patch)
            motion = window.motion(source_motion)
            points, _ = rig.places(window.points(landmarks), motion, motion)
            pose = motion[:, EXPRESSION_SIZE:]
            where = torch.cat([position_features(pose, patches), rig.heat(points, pose[:, 5], pixel_grid(patches))], 1)
        features = [self.stem(torch.cat([patches, where], dim=1))]
        for down in self.down:
            features.append(down(features[-1]))
        return [*features, landmarks]

    def decode(
        self, source: Tensor, features: list[Tensor], source_motion: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        """The wanted frame from `encode`'s features."""
        *features, landmarks = features
        window, encoded = self._window(wanted_motion, source), self._window(source_motion, source)
        own, wanted = window.motion(source_motion), window.motion(wanted_motion)
        motions = torch.cat([own, wanted - own], dim=1)
        motion, pose, x = self.motion(motions), wanted[:, EXPRESSION_SIZE:], features[-1]
        fine = features[0]
        with torch.no_grad():
            grid = pixel_grid(fine)
            here, there = rig.places(window.points(landmarks), own, wanted)
            base = rig.spread(here - there, there, pose[:, 5], grid)
            heat = rig.heat(there, pose[:, 5], grid)
            explicit = torch.cat(
                [position_features(pose, fine), heat, base / pose[:, 5, None, None, None].clamp_min(0.05)], dim=1
            )
            between = ((window.centre - encoded.centre) / window.share)[..., None, None]
        bases = [base]
        places = [torch.cat([explicit, self.atlas(motions, pose, fine)], dim=1).to(x.dtype)]
        for _ in self.down:
            places.append(F.avg_pool2d(places[-1], 2))
            bases.append(F.avg_pool2d(bases[-1], 2))
        for block in self.middle:
            x = x + block(torch.cat([x, places[-1]], dim=1), motion)
        flow = torch.zeros((), device=source.device)
        for level in reversed(range(len(self.up))):
            change, shown = torch.split(self.flow[level](x).float(), [2, 1], dim=1)
            flow = F.interpolate(flow + change, scale_factor=2.0, mode="bilinear")
            shown = F.interpolate(torch.sigmoid(shown + 2), scale_factor=2.0, mode="bilinear")
            x = F.interpolate(self.mix[level](x, motion), scale_factor=2.0, mode="nearest")
            moved = warp_by(features[level].float(), bases[level] + flow + between) * shown
            x = self.up[level](torch.cat([x, moved.to(x.dtype), places[level]], dim=1), motion)
        patch = self.options.patch
        flow = F.interpolate(base + flow, scale_factor=float(patch), mode="bilinear")
        flow = flow + F.pixel_shuffle(self.last_flow(x).float(), patch)
        warped = sample(source.float(), window, flow)
        x = torch.cat([F.pixel_shuffle(self.finer(x), 2), F.pixel_unshuffle(warped, patch // 2).to(x.dtype)], dim=1)
        for block in self.refine:
            x = block(x, motion)
        last = F.pixel_shuffle(self.head(x).float(), patch // 2)
        colour, share, mask = torch.split(last, [3, 1, 1], dim=1)
        image = (warped + torch.sigmoid(share) * colour).clamp(0, 1)
        nothing = torch.zeros_like(source[:, :1], dtype=torch.float32)
        return Reenactment(
            window.paste(image, source.float()),
            window.paste(torch.sigmoid(mask), nothing),
            window.paste(flow * (window.side / 2), nothing.expand(-1, 2, -1, -1)),
        )

    def forward(
        self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        features = self.encode(source, source_motion, source_landmarks)
        return self.decode(source, features, source_motion, wanted_motion)
