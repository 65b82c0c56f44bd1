"""Degradations: what happens to pictures on their way, done to real and forged faces alike.

A degradation is a pure function `(images, severity, generator) -> images` on (B, 3, H, W) in [0, 1], or on clips
(B, T, 3, H, W), severity 1 (hardly visible) to 5 (plain to see); the result has the same shape and range. Random draws
come from `generator` alone. All frames of a clip are treated alike; what is noise is drawn anew for each.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps

import av
import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Generator, Tensor

from generation.records import UserError

SEVERITIES = (1, 2, 3, 4, 5)

_JPEG_QUALITY = (95, 85, 70, 50, 30)
_RESIZE_FACTOR = (0.9, 0.75, 0.65, 0.5, 0.35)
_BLUR_SIGMA = (0.3, 0.5, 0.7, 1.0, 1.4)  # pixels
_NOISE_DEVIATION = (0.005, 0.01, 0.02, 0.035, 0.05)
_GAMMA_SPREAD = (0.05, 0.1, 0.2, 0.35, 0.5)  # of log2 gamma
_CHROMA_FACTOR = (1.5, 2, 3, 4, 6)
_CRF = (18, 23, 28, 34, 40)
_SCREEN_SPREAD = (0.05, 0.1, 0.15, 0.25, 0.35)  # by how much smaller a viewer shows a picture, at most
_MESSENGER_FACTOR = (0.95, 0.85, 0.75, 0.6, 0.5)

Degradation = Callable[[Tensor, int, Generator], Tensor]


def _frame_by_frame(degradation: Degradation) -> Degradation:
    @wraps(degradation)
    def whole(images: Tensor, severity: int, generator: Generator) -> Tensor:
        return degradation(images.flatten(0, -4), severity, generator).view_as(images)

    return whole


@_frame_by_frame
def jpeg(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Through a real JPEG encoder and back, quality 95 to 30, chroma at half resolution as in cameras and browsers.

    Pillow's encoder takes 0.14 ms for 64 x 64 pixels on one core, kornia's differentiable imitation 0.52 ms.
    """
    return _through_jpeg(images, _JPEG_QUALITY[severity - 1])


def _eight_bits(images: Tensor) -> np.ndarray:  # (B, 3, H, W) in [0, 1] -> (B, H, W, 3) uint8
    return (images.detach().cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _like(pixels: Sequence[np.ndarray], images: Tensor) -> Tensor:
    """Decoded pixels as images; their gradient is taken to be that of the images before (backward pass differentiable
    approximation, arXiv 1802.00420)."""
    decoded = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(images) / 255
    return decoded if not images.requires_grad else images + (decoded - images).detach()


def _through_jpeg(images: Tensor, quality: int) -> Tensor:
    decoded = []
    for image in _eight_bits(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(buffer)))
    return _like(decoded, images)


@_frame_by_frame
def resize(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Down by a factor of .9 to .35 with anti-aliasing and back up, bilinear; the edges stay where they are."""
    height, width = images.shape[-2:]
    factor = _RESIZE_FACTOR[severity - 1]
    smaller = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = F.interpolate(images, smaller, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(small, (height, width), mode="bilinear", align_corners=False).clamp(0, 1)


@_frame_by_frame
def blur(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Gaussian blur, sigma .3 to 1.4 pixels."""
    sigma = _BLUR_SIGMA[severity - 1]
    return gaussian_blur2d(images, 2 * round(3 * sigma) + 1, (sigma, sigma)).clamp(0, 1)


def noise(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Independent normal noise at every pixel and colour, deviation .005 to .05."""
    drawn = torch.randn(images.shape, generator=generator).to(images)
    return (images + _NOISE_DEVIATION[severity - 1] * drawn).clamp(0, 1)


def _for_each(images: Tensor) -> tuple[int, ...]:
    """The shape of one number for each image or clip."""
    return len(images), *(1,) * (images.ndim - 1)


def gamma(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Brighter or darker by a power drawn for each image or clip: log2 of it is uniform within +-.05 to +-.5."""
    drawn = 2 * torch.rand(_for_each(images), generator=generator) - 1
    return images.clamp(0, 1) ** torch.exp2(_GAMMA_SPREAD[severity - 1] * drawn).to(images)


@_frame_by_frame
def chroma(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Colour at a lower resolution than brightness, as in every camera's files: by 1.5 to 6 (4:2:0 is 2)."""
    height, width = images.shape[-2:]
    factor = _CHROMA_FACTOR[severity - 1]
    luma, colour = torch.split(rgb_to_ycbcr(images), [1, 2], dim=1)
    smaller = (max(1, round(height / factor)), max(1, round(width / factor)))
    small = F.interpolate(colour, smaller, mode="bilinear", align_corners=False, antialias=True)
    colour = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    return ycbcr_to_rgb(torch.cat([luma, colour], dim=1)).clamp(0, 1)


def h264(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Through a real H.264 encoder and back (x264, constant rate factor 18 to 40, 4:2:0), every clip, or picture, a
    video of its own. Sides must be even; an odd one is repeated at its end and cut off again."""
    height, width = images.shape[-2:]
    frames = images.flatten(0, -4)
    padded = _eight_bits(F.pad(frames, (0, width % 2, 0, height % 2), mode="replicate"))
    clips = padded.reshape(len(images), -1, *padded.shape[1:])
    decoded = [frame[:height, :width] for clip in clips for frame in _through_h264(clip, _CRF[severity - 1])]
    return _like(decoded, frames).view_as(images)


def _through_h264(clip: np.ndarray, crf: int) -> list[np.ndarray]:  # (T, H, W, 3) uint8
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
        for frame in (*(av.VideoFrame.from_ndarray(image, format="rgb24") for image in clip), None):
            out.mux(stream.encode(frame))
    buffer.seek(0)
    with av.open(buffer, "r") as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@_frame_by_frame
def screenshot(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Shown somewhat smaller, taken off the screen, and brought back: two interpolations and 8 bits."""
    height, width = images.shape[-2:]
    factor = 1 - _SCREEN_SPREAD[severity - 1] * (0.5 + 0.5 * torch.rand((), generator=generator).item())
    shown = (max(1, round(height * factor)), max(1, round(width * factor)))
    seen = F.interpolate(images, shown, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    seen = seen + ((seen * 255).round() / 255 - seen).detach()
    return F.interpolate(seen, (height, width), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


@_frame_by_frame
def messenger(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """What a message service does: made smaller, JPEG, made larger by whoever looks, and JPEG again when passed on."""
    height, width = images.shape[-2:]
    factor = _MESSENGER_FACTOR[severity - 1]
    smaller = (max(1, round(height * factor)), max(1, round(width * factor)))
    sent = F.interpolate(images, smaller, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    sent = _through_jpeg(sent, _JPEG_QUALITY[severity - 1])
    shown = F.interpolate(sent, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return _through_jpeg(shown, _JPEG_QUALITY[severity - 1])


DEGRADATIONS: dict[str, Degradation] = {
    "jpeg": jpeg,
    "resize": resize,
    "blur": blur,
    "noise": noise,
    "gamma": gamma,
    "chroma": chroma,
    "h264": h264,
    "screenshot": screenshot,
    "messenger": messenger,
}


def degraded(images: Tensor, chain: Sequence[tuple[str, int]], seed: int) -> Tensor:
    """Images or clips through one degradation after the other, names with severities; all draws come from `seed`."""
    generator = Generator().manual_seed(seed)
    for name, severity in chain:
        images = DEGRADATIONS[name](images, severity, generator)
    return images


LIGHT = ("jpeg", "resize", "blur", "noise", "gamma")
"""Those that cost little: what training draws from where nobody says otherwise."""


class Degrade:
    """Draws, for every image or clip of a batch alone, whether it is degraded, how, and how strongly up to `severity`.

    The draws know nothing of labels, so both classes are degraded alike. The default is light: one in five,
    severity 1 or 2.
    """

    def __init__(self, names: Sequence[str] = LIGHT, probability: float = 0.2, severity: int = 2) -> None:
        for name in names:
            if name not in DEGRADATIONS:
                raise UserError(f"degrade.names: there is no degradation {name!r}; there are {', '.join(DEGRADATIONS)}")
        if not 0 <= probability <= 1:
            raise UserError(f"degrade.probability={probability}: must lie in [0, 1]")
        if severity not in SEVERITIES:
            raise UserError(f"degrade.severity={severity}: must be one of {', '.join(map(str, SEVERITIES))}")
        self.names, self.probability, self.severity = tuple(names), probability, severity

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], or clips (B, T, 3, H, W) -> the same shape and range; what is not chosen
        stays bit for bit."""
        result = images.clone()
        self.in_place(result, generator)
        return result

    def in_place(self, images: Tensor, generator: Generator) -> None:
        """The same where nobody else holds the images: they are changed, and not copied."""
        count = len(images)
        chosen = torch.rand(count, generator=generator) < self.probability
        if not self.names or not chosen.any():
            return
        kind = torch.randint(len(self.names), (count,), generator=generator)
        strength = torch.randint(1, self.severity + 1, (count,), generator=generator)
        for index, name in enumerate(self.names):
            for severity in range(1, self.severity + 1):
                rows = torch.nonzero(chosen & (kind == index) & (strength == severity)).flatten().to(images.device)
                if len(rows):
                    images[rows] = DEGRADATIONS[name](images[rows], severity, generator)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror every image or clip left to right with probability one half."""
    mirrored = (torch.rand(_for_each(images), generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored, images.flip(-1), images)
