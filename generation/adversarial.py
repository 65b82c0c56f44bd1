"""A patch discriminator as a loss with an optimizer of its own, as audiocraft does it (arXiv 2306.05284): the trainer
of a reenactor sees one more term and nothing else.

Hinge loss (Geometric GAN, arXiv 1705.02894), spectral norm (arXiv 1802.05957), feature matching (pix2pixHD,
arXiv 1711.11585) on a discriminator of patches (PatchGAN, arXiv 1611.07004).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

FEATURE_MATCHING = 10.0
"""Weight of feature matching beside the hinge term."""

LAST_SHARE = 1 / 3
"""The share of a training, at its end, in which the discriminator takes part."""


def takes_part(step: int, total_steps: int) -> bool:
    """Whether the discriminator is on at this step (the first is 0)."""
    return step >= round(total_steps * (1 - LAST_SHARE))


class PatchDiscriminator(nn.Module):
    """Three convolutions: images (B, 3, H, W) in [0, 1] -> hidden features, and (B, 1, H / 4, W / 4) log-odds, each of
    a patch of 18 pixels, that it is real."""

    def __init__(self, widths: tuple[int, int] = (32, 64)) -> None:
        super().__init__()
        first, second = widths
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(3, first, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(first, second, 4, stride=2, padding=1)),
            ]
        )
        self.last = spectral_norm(nn.Conv2d(second, 1, 3, padding=1))

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        hidden, x = [], image * 2 - 1
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            hidden.append(x)
        return hidden, self.last(x)


class AdversarialLoss:
    """Each call trains the discriminator by one step on what it is given and returns the loss of the forgeries.

    Not a module: no trainer sees its weights, which `state_dict` and `load_state_dict` carry through checkpoints. In
    single precision under autocast too.
    """

    def __init__(self, seed: int = 0, learning_rate: float = 4e-4) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.discriminator = PatchDiscriminator()
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def __call__(self, forgery: Tensor, real: Tensor) -> Tensor:
        """Hinge loss and feature matching of forgeries beside their exact targets, both (B, 3, H, W) in [0, 1].

        The gradient goes into `forgery` alone.
        """
        with torch.autocast(forgery.device.type, enabled=False):
            forgery, real = forgery.float(), real.float()
            self._move(forgery.device)
            self._learn(forgery.detach(), real)
            with _frozen(self.discriminator):
                hidden, odds = self.discriminator(forgery)
                with torch.no_grad():
                    wanted, _ = self.discriminator(real)
            matching = [F.l1_loss(found, goal) for found, goal in zip(hidden, wanted, strict=True)]
            loss: Tensor = FEATURE_MATCHING * torch.stack(matching).mean() - odds.mean()
            return loss

    def _learn(self, forgery: Tensor, real: Tensor) -> None:
        self.discriminator.train()
        loss = F.relu(1 + self.discriminator(forgery)[1]).mean() + F.relu(1 - self.discriminator(real)[1]).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _move(self, device: torch.device) -> None:
        if next(self.discriminator.parameters()).device != device:
            self.discriminator.to(device)
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # which moves what it holds

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """In here the module lets gradients through and keeps none, and its norms stand still."""
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        module.train().requires_grad_(True)
