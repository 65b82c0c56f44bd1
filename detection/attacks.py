"""Attacks on detectors: small changes of a picture that turn the answer. For measuring how much a detector can bear.

A victim is any callable images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged, in eval mode. An attack
takes `(victim, images, labels, ball, steps, generator)` and gives images of the same shape in [0, 1] and in the ball,
each the worst that it found: forged ones (label 1) are pushed to look real, real ones (label 0) to look forged. Every
image is attacked as if alone, whatever the batch.

All maximise the margin `(1 - 2 label) * log-odds`. With two classes and one logit that is what maximising the
cross-entropy is, without its gradient that vanishes where the detector is sure; the difference-of-logits-ratio loss of
AutoAttack is not defined for two classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from detection.degradations import Degrade
from generation.records import UserError

Victim = Callable[[Tensor], Tensor]


class Ball(NamedTuple):
    """All pictures so near to a given one: norm `linf` (the largest change of a value) or `l2` (the root of the sum of
    squared changes), of this radius, for values in [0, 1]."""

    norm: Literal["linf", "l2"]
    radius: float

    def project(self, images: Tensor, around: Tensor) -> Tensor:
        """The nearest picture of the ball around each, in [0, 1]."""
        change = images - around
        if self.norm == "linf":
            change = change.clamp(-self.radius, self.radius)
        else:
            change = change * (self.radius / _length(change).clamp_min(1e-12)).clamp(max=1)
        return (around + change).clamp(0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest step of length 1."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / _length(gradient).clamp_min(1e-12)

    def start(self, around: Tensor, generator: Generator) -> Tensor:
        """A picture drawn from the ball around each."""
        if self.norm == "linf":
            drawn = 2 * torch.rand(around.shape, generator=generator) - 1
        else:
            drawn = torch.randn(around.shape, generator=generator)
            drawn = drawn / _length(drawn) * torch.rand(len(around), 1, 1, 1, generator=generator)
        return self.project(around + self.radius * drawn.to(around), around)


def _length(change: Tensor) -> Tensor:  # (B, ...) -> (B, 1, 1, 1)
    lengths: Tensor = torch.linalg.vector_norm(change.flatten(1), dim=1)
    return lengths[:, None, None, None]


def margin(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:  # -> (B,), above 0 where the answer is wrong
    return (1 - 2 * labels.to(images)) * victim(images).to(images)


def _ascent(victim: Victim, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Margins (B,) and their gradients in the images."""
    images = images.detach().requires_grad_()
    found = margin(victim, images, labels)
    (gradient,) = torch.autograd.grad(found.sum(), images)
    return found.detach(), gradient


class _Worst:
    """The worst picture of each row so far."""

    def __init__(self, images: Tensor, margins: Tensor) -> None:
        self.images, self.margins = images.clone(), margins.clone()

    def see(self, images: Tensor, margins: Tensor) -> Tensor:  # -> (B,) bool, where it is worse than all before
        worse = margins > self.margins
        self.images[worse], self.margins[worse] = images[worse], margins[worse]
        return worse


def pgd(victim: Victim, images: Tensor, labels: Tensor, ball: Ball, steps: int, generator: Generator) -> Tensor:
    """Projected gradient ascent from a random start with steps of a quarter of the radius (Madry et al., ICLR 2018,
    arXiv 1706.06083)."""
    with torch.no_grad():
        worst = _Worst(images, margin(victim, images, labels))
    now = ball.start(images, generator)
    for _ in range(steps):
        found, gradient = _ascent(victim, now, labels)
        worst.see(now, found)
        now = ball.project(now + ball.radius / 4 * ball.direction(gradient), images)
    with torch.no_grad():
        worst.see(now, margin(victim, now, labels))
    return worst.images


def apgd(victim: Victim, images: Tensor, labels: Tensor, ball: Ball, steps: int, generator: Generator) -> Tensor:
    """Auto-PGD with the cross-entropy (Croce and Hein, ICML 2020, arXiv 2003.01690): momentum, and a step that is
    halved, from the worst picture so far, where an image no longer gets worse. Nothing to tune but `steps`."""
    with torch.no_grad():
        worst = _Worst(images, margin(victim, images, labels))
    now = before = ball.start(images, generator)
    size = torch.full((len(images), 1, 1, 1), 2 * ball.radius, device=images.device)
    found, gradient = _ascent(victim, now, labels)
    worst.see(now, found)
    rises = torch.zeros(len(images), device=images.device)
    last_worst, halved = worst.margins.clone(), torch.ones(len(images), dtype=torch.bool, device=images.device)
    marks, mark, since = _marks(steps), 0, 0
    for step in range(1, steps + 1):
        ahead = ball.project(now + size * ball.direction(gradient), images)
        share = 1.0 if step == 1 else 0.75
        after = ball.project(now + share * (ahead - now) + (1 - share) * (now - before), images)
        before, now, last = now, after, found
        found, gradient = _ascent(victim, now, labels)
        worst.see(now, found)
        rises += found > last
        since += 1
        if mark < len(marks) and step == marks[mark]:
            stuck = (rises < 0.75 * since) | (~halved & (worst.margins <= last_worst))
            size[stuck] /= 2
            now, before = now.clone(), before.clone()
            now[stuck] = before[stuck] = worst.images[stuck]
            if stuck.any():
                found, gradient = _ascent(victim, now, labels)
            halved, last_worst = stuck, worst.margins.clone()
            rises.zero_()
            mark, since = mark + 1, 0
    return worst.images


def _marks(steps: int) -> list[int]:
    """The steps at which `apgd` looks back."""
    shares, gap = [0.22], 0.22
    while shares[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    return sorted({max(1, round(share * steps)) for share in shares if share < 1})


def square(victim: Victim, images: Tensor, labels: Tensor, ball: Ball, steps: int, generator: Generator) -> Tensor:
    """Square attack (Andriushchenko et al., ECCV 2020, arXiv 1912.00049): random squares of one change each, kept where
    they help; asks for one score a step and for no gradient. For `linf` only."""
    if ball.norm != "linf":
        raise UserError(f"attack.norm={ball.norm}: the square attack is for linf only; pgd and apgd know l2 too")
    count, channels, height, width = images.shape

    def signs(*shape: int) -> Tensor:
        return torch.randint(2, shape, generator=generator).to(images) * 2 - 1

    stripes = ball.project(images + ball.radius * signs(count, channels, 1, width), images)
    with torch.no_grad():
        worst = _Worst(images, margin(victim, images, labels))
        worst.see(stripes, margin(victim, stripes, labels))
        for step in range(steps):
            side = max(1, round((_square_share(step / steps) * height * width) ** 0.5))
            side = min(side, height, width)
            tried = worst.images.clone()
            tops = torch.randint(height - side + 1, (count,), generator=generator).tolist()
            lefts = torch.randint(width - side + 1, (count,), generator=generator).tolist()
            change = ball.radius * signs(count, channels, 1, 1)
            for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
                here = (row, slice(None), slice(top, top + side), slice(left, left + side))
                tried[here] = (images[here] + change[row]).clamp(0, 1)
            worst.see(tried, margin(victim, tried, labels))
    return worst.images


def _square_share(through: float, first: float = 0.8) -> float:
    """Share of the picture that a square has at this point of the attack: the paper's schedule."""
    halvings = sum(through > share for share in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
    return first / float(2**halvings)


Attack = Callable[[Victim, Tensor, Tensor, Ball, int, Generator], Tensor]

ATTACKS: dict[str, Attack] = {"pgd": pgd, "apgd": apgd, "square": square}
BLIND = ("square",)
"""Attacks that are given scores and no gradients. A detector on which one does more harm than all others hides its
gradients: what gradients say of it is not to be relied on (Athalye et al., ICML 2018, arXiv 1802.00420)."""


def expected(victim: Victim, degrade: Degrade, draws: int, seed: int) -> Victim:
    """The victim's mean log-odds over `draws` random degradations (expectation over transformation, Athalye et al.,
    ICML 2018, arXiv 1707.07397): what is attacked so survives them. The same draws at every call."""

    def mean(images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([victim(degrade(images, generator)) for _ in range(draws)]).mean(0)

    return mean


def universal_patch(
    victim: Victim, images: Tensor, labels: Tensor, side: int, steps: int, generator: Generator
) -> Tensor:  # (3, side, side)
    """One patch for all pictures, whatever lies in it and wherever it is put (Brown et al., 2017, arXiv 1712.09665):
    sign ascent on the mean margin over pictures and places. Train it on other people than it is measured on."""
    if not 1 <= side <= min(images.shape[-2:]):
        raise UserError(f"attack.side={side}: must lie between 1 and the picture's {min(images.shape[-2:])} pixels")
    patch = torch.full((3, side, side), 0.5, device=images.device)
    for step in range(steps):
        patch.requires_grad_()
        found = margin(victim, stuck_on(images, patch, generator), labels).mean()
        (gradient,) = torch.autograd.grad(found, patch)
        rate = 0.1 * (1 - step / steps)
        patch = (patch.detach() + rate * gradient.sign()).clamp(0, 1)
    return patch.detach()


def stuck_on(images: Tensor, patch: Tensor, generator: Generator) -> Tensor:  # (B, 3, H, W), (3, s, s) -> (B, 3, H, W)
    """The pictures with the patch on each, in a place drawn for it."""
    side, (height, width) = patch.shape[-1], images.shape[-2:]
    tops = torch.randint(height - side + 1, (len(images),), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (len(images),), generator=generator).tolist()
    result = images.clone()
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        result[row, :, top : top + side, left : left + side] = patch
    return result
