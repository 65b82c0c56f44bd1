"""combined: several detectors that answer as one, by the mean of their log-odds.

Origin: the logarithmic opinion pool (Genest and Zidek, Statistical Science 1986), which averages what experts hold for
likely on the scale of log-odds. Every member's log-odds are divided by its temperature first (Guo et al., ICML 2017,
arXiv 1706.04599), fitted on validation people, so that nobody is heard for being louder. Members that fail on different
forgeries make up for one another; trained together from the start they are one network with several front ends.

Normalisation: images in [0, 1]; each member sees to its own. Input: any size that every member takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from generation.records import UserError


@dataclass(frozen=True)
class CombinedOptions:
    """members: each `{name, options, temperature}`, of which only the name must be there; name: of a family of
    detectors; temperature: above 0, else 1."""

    members: tuple[dict[str, Any], ...] = ({"name": "frequency"}, {"name": "localizer"})


class Combined(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) mean log-odds that each is forged."""

    def __init__(self, options: CombinedOptions, build: Callable[[str, Mapping[str, Any]], nn.Module]) -> None:
        """build: makes a member from its family's name and options"""
        super().__init__()
        if not options.members:
            raise UserError("detector.options.members: at least one is needed, as {name: frequency}")
        for member in options.members:
            _check(member)
        self.members = nn.ModuleList([build(member["name"], member.get("options", {})) for member in options.members])
        self.temperatures = [float(member.get("temperature", 1.0)) for member in options.members]

    def forward(self, images: Tensor) -> Tensor:
        answers = zip(self.members, self.temperatures, strict=True)
        return torch.stack([member(images) / temperature for member, temperature in answers]).mean(0)


def _check(member: Mapping[str, Any]) -> None:
    for key in member:
        if key not in ("name", "options", "temperature"):
            raise UserError(f"detector.options.members: there is no {key}; a member has name, options, temperature")
    if not member.get("name") or member["name"] == "combined":
        raise UserError("detector.options.members: each needs the name of a family of detectors, and not combined")
    if not member.get("temperature", 1.0) > 0:
        raise UserError(f"detector.options.members: temperature={member['temperature']}: must be more than 0")
