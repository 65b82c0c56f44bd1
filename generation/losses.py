"""What a reenactor is trained on. Images are (B, 3, H, W) in [0, 1]; every loss is a mean, so weights do not depend
on size or batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from generation.reenactors.reenactment import quantise

Critic = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged; differentiable."""

CHANGED = 0.04
"""A pixel is changed where source and target differ by more than this, averaged over the channels."""


def changed_region(source: Tensor, target: Tensor, least: float = CHANGED) -> Tensor:  # (B, 1, H, W) bool
    return (source - target).abs().mean(dim=1, keepdim=True) > least


def eye_distance(landmarks: Tensor) -> Tensor:  # (B, 68, 2) -> (B,)
    """Distance between the centres of the two eyes, in pixels."""
    between: Tensor = landmarks[:, 36:42].mean(dim=1) - landmarks[:, 42:48].mean(dim=1)
    return between.square().sum(dim=1).sqrt()


def eyes_mouth_region(landmarks: Tensor, size: tuple[int, int], reach: float = 0.2) -> Tensor:
    """Where an expression is read: an ellipse around each eye and around the mouth.

    landmarks: Tensor  # (B, 68, 2) pixels (x, y)
    size: height and width of the picture; reach: how far the ellipses go beyond the landmarks, in eye distances
    (B, 1, H, W) bool.
    """
    parts = [landmarks[:, part] for part in (slice(36, 42), slice(42, 48), slice(48, 68))]
    eyes = eye_distance(landmarks)
    low = torch.stack([part.amin(dim=1) for part in parts], dim=1)  # (B, 3, 2)
    high = torch.stack([part.amax(dim=1) for part in parts], dim=1)
    centre, radius = (low + high) / 2, (high - low) / 2 + reach * eyes.clamp_min(1)[:, None, None]
    x = torch.arange(size[1], device=landmarks.device) + 0.5
    y = torch.arange(size[0], device=landmarks.device) + 0.5
    across = ((x - centre[..., :1]) / radius[..., :1]).square()[:, :, None]  # (B, 3, 1, W)
    down = ((y - centre[..., 1:]) / radius[..., 1:]).square()[..., None]
    inside: Tensor = across + down < 1
    return inside.any(dim=1, keepdim=True)


def reconstruction(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1, weighted per pixel by `weight` (B, 1, H, W)."""
    return ((result - target).abs() * weight).mean()


def gradient(result: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """L1 between horizontal and vertical differences at `scales` octaves, summed: what keeps edges."""
    total = result.new_zeros(())
    error = result - target
    for _ in range(scales):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return total


def ssim(result: Tensor, target: Tensor) -> Tensor:
    """1 minus the structural similarity (Wang et al. 2004) that `metrics.ssim` measures: 11 x 11 Gaussian window of
    sigma 1.5, peak 1, per channel, over the pixels whose whole window lies in the picture (at least 11 x 11).

    0 for equal pictures. In single precision under autocast too: variances are small differences.
    """
    with torch.autocast(result.device.type, enabled=False):
        result, target = result.float(), target.float()
        rows, columns = _windows(result.shape[-2], result), _windows(result.shape[-1], result)
        seen = torch.cat([result, target, result.square() + target.square(), result * target], dim=1)
        mean_r, mean_t, squares, product = (rows @ seen @ columns.T).chunk(4, dim=1)
        both, means = mean_r.square() + mean_t.square(), mean_r * mean_t
        similarity = (2 * means + 1e-4) / (both + 1e-4) * (2 * (product - means) + 9e-4) / (squares - both + 9e-4)
        return 1 - similarity.mean()


def _windows(size: int, like: Tensor) -> Tensor:  # (size - 10, size)
    """The Gaussian window at every place, as the rows of a matrix: two products are faster than convolutions here."""
    place = torch.arange(size, device=like.device)
    distance = place - (place[: size - 10] + 5)[:, None]
    weight = torch.exp(-distance.square() / (2 * 1.5**2)) * (distance.abs() <= 5)
    return weight / weight.sum(dim=1, keepdim=True)


def landmark_flow(flow: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Error of the flow at the target's landmarks, where the truth is known: it must lead to the source's landmarks.

    flow: Tensor            # (B, 2, H, W) pixels, from result to source
    source, target: Tensor  # (B, 68, 2) pixels
    Mean absolute error per coordinate, as a share of the image's width.
    """
    size = flow.new_tensor([flow.shape[-1], flow.shape[-2]])
    grid = (target / size * 2 - 1)[:, None]  # (B, 1, 68, 2)
    found = F.grid_sample(flow, grid, align_corners=False, padding_mode="border")[:, :, 0].transpose(1, 2)
    return ((found - (source - target)) / size[0]).abs().mean()


def mask_truth(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the mask (B, 1, H, W) in [0, 1] against what changes by half of `CHANGED` or more, widened by
    two pixels in 64."""
    reach = max(1, source.shape[-1] // 32)
    truth = changed_region(source, target, CHANGED / 2).float()
    for across, down in ((reach, 0), (0, reach)):  # a square's maximum is that of its rows' maxima
        truth = F.max_pool2d(truth, (2 * down + 1, 2 * across + 1), stride=1, padding=(down, across))
    mask = mask.clamp(1e-4, 1 - 1e-4)
    return -(truth * mask.log() + (1 - truth) * (1 - mask).log()).mean()


def evasion(critics: Sequence[Critic], weights: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """A loss on forgeries: the weighted mean over critics of softplus(log-odds), small when they take them for real.

    The forgery is rounded to 8 bits first, as the record will be, with a straight-through gradient.
    """
    if len(critics) != len(weights) or not critics:
        raise ValueError(f"{len(critics)} critics and {len(weights)} weights; each critic needs one weight")
    total = sum(weights)

    def loss(forgery: Tensor) -> Tensor:
        seen = quantise(forgery)
        terms = [
            w / total * F.softplus(critic(seen)).mean() for critic, w in zip(critics, weights, strict=True) if w > 0
        ]
        return torch.stack(terms).sum()

    return loss
