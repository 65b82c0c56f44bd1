from __future__ import annotations

import pytest
import torch
from test_detectors import OPTIONS
from torch import Tensor, nn

from detection.attacks import ATTACKS, BLIND, Ball, apgd, expected, margin, pgd, square, stuck_on, universal_patch
from detection.degradations import DEGRADATIONS, Degrade
from detection.detectors import DETECTORS, build_detector
from generation.records import UserError

BALLS = [Ball("linf", 2 / 255), Ball("linf", 0.3), Ball("l2", 0.5), Ball("l2", 8.0)]
CASES = [(name, ball) for name in ATTACKS for ball in BALLS if ball.norm == "linf" or name != "square"]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 4, size: int = 32) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, size, size, generator=draws(7)) * 0.4 + 0.3, torch.arange(count) % 2


class Linear(nn.Module):
    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.weight = torch.randn(3, size, size, generator=draws(3)) / 10

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.weight).sum((1, 2, 3)) + 40


@pytest.mark.parametrize(("name", "ball"), CASES)
@pytest.mark.parametrize("family", DETECTORS)
def test_no_attack_leaves_its_ball_or_helps_the_detector(family: str, name: str, ball: Ball) -> None:
    victim = build_detector(family, OPTIONS.get(family)).eval()
    images, labels = pictures()
    given = images.clone()
    found = ATTACKS[name](victim, images, labels, ball, 6, draws())
    change = (found - images).flatten(1)
    length = change.abs().amax(1) if ball.norm == "linf" else change.norm(dim=1)
    assert torch.equal(images, given) and found.min() >= 0 and found.max() <= 1
    assert (length <= ball.radius * (1 + 1e-5)).all() and not found.requires_grad
    with torch.no_grad():
        assert (margin(victim, found, labels) >= margin(victim, images, labels) - 1e-5).all()
    assert all(weight.grad is None for weight in victim.parameters())


@pytest.mark.parametrize("attack", [pgd, apgd])
@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 1.0)])
def test_on_a_linear_model_the_closed_form_is_reached(attack: object, ball: Ball) -> None:
    victim = Linear()
    images, labels = pictures()
    found = attack(victim, images, labels, ball, 40, draws())  # type: ignore[operator]
    length = victim.weight.abs().sum() if ball.norm == "linf" else victim.weight.norm()
    gained = margin(victim, found, labels) - margin(victim, images, labels)
    torch.testing.assert_close(gained, (ball.radius * length).expand(4), rtol=2e-3, atol=0)


def test_a_sure_detector_is_attacked_all_the_same() -> None:
    """The gradient of the cross-entropy is 0 in single precision where log-odds are beyond 104."""

    def sure(images: Tensor) -> Tensor:
        return 1e5 * (images.mean((1, 2, 3)) - 0.55)

    images = torch.full((2, 3, 8, 8), 0.6)
    assert (sure(images) > 4000).all()
    assert (margin(sure, pgd(sure, images, torch.ones(2), Ball("linf", 0.1), 10, draws()), torch.ones(2)) > 0).all()


def test_auto_pgd_does_no_less_harm_than_pgd_and_square_no_more() -> None:
    victim = build_detector("mesonet").eval()
    images, labels = pictures(8)
    ball = Ball("linf", 4 / 255)
    harm = {
        name: margin(victim, ATTACKS[name](victim, images, labels, ball, 60, draws()), labels).mean()
        for name in ATTACKS
    }
    assert harm["apgd"] >= 0.98 * harm["pgd"] > margin(victim, images, labels).mean()
    assert all(harm[name] <= max(harm["pgd"], harm["apgd"]) for name in BLIND)


def test_square_needs_no_gradient_and_sees_through_a_hidden_one() -> None:
    def hidden(images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3)) * 500).round() / 500 * 20 - 10 + 0 * images.sum((1, 2, 3))

    images, labels = pictures()
    ball = Ball("linf", 0.05)
    start = margin(hidden, images, labels)
    by_gradient = margin(hidden, apgd(hidden, images, labels, ball, 20, draws()), labels)
    by_score = margin(hidden, square(hidden, images, labels, ball, 60, draws()), labels)
    assert by_score.mean() > by_gradient.mean() + 0.2 and (by_score >= start).all()


def test_square_is_refused_where_it_is_not_defined() -> None:
    with pytest.raises(UserError, match="linf only"):
        square(Linear(), *pictures(), Ball("l2", 1), 1, draws())


def test_the_same_seed_makes_the_same_attack_and_a_row_does_not_depend_on_the_others() -> None:
    victim, (images, labels) = build_detector("frequency").eval(), pictures()
    for attack in (pgd, apgd):
        first = attack(victim, images, labels, BALLS[0], 5, draws(1))
        assert torch.equal(first, attack(victim, images, labels, BALLS[0], 5, draws(1)))
    other = torch.cat([images[:2], torch.rand(2, 3, 32, 32)])
    torch.testing.assert_close(
        pgd(victim, other, labels, BALLS[0], 5, draws(1))[:2],
        pgd(victim, images, labels, BALLS[0], 5, draws(1))[:2],
        atol=1e-4,
        rtol=0,
    )


def test_an_expected_attack_survives_what_a_plain_one_does_not() -> None:
    """The victim reads the finest grain alone, and blur takes it away: what is left of it has to be turned."""
    victim, (images, labels) = build_detector("frequency").eval(), pictures(8)
    degrade = Degrade(("blur",), probability=1, severity=5)
    mean = expected(victim, degrade, draws=4, seed=0)
    assert torch.equal(mean(images), mean(images))
    ball = Ball("linf", 8 / 255)
    plain, robust = (apgd(attacked, images, labels, ball, 30, draws()) for attacked in (victim, mean))
    unseen = expected(victim, degrade, draws=2, seed=99)
    assert margin(unseen, robust, labels).mean() > margin(unseen, plain, labels).mean()


def test_a_universal_patch_turns_pictures_that_it_was_not_made_on() -> None:
    victim = build_detector("mesonet").eval()
    images, _ = pictures(16)
    forged = torch.ones(16)
    patch = universal_patch(victim, images[:8], forged[:8], 12, 30, draws())
    assert patch.shape == (3, 12, 12) and patch.min() >= 0 and patch.max() <= 1
    grey = torch.full_like(patch, 0.5)
    with torch.no_grad():
        turned, covered = (margin(victim, stuck_on(images[8:], one, draws(5)), forged[8:]) for one in (patch, grey))
    assert turned.mean() > covered.mean()
    with pytest.raises(UserError, match=r"attack\.side=33"):
        universal_patch(victim, images, forged, 33, 1, draws())


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_gradient_passes_through_every_degradation(name: str) -> None:
    images = pictures()[0].requires_grad_()
    degraded = DEGRADATIONS[name](images, 3, draws())
    (gradient,) = torch.autograd.grad(degraded.square().sum(), images)
    assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.9
