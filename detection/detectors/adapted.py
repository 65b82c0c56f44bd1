"""adapted: a frozen foundation vision transformer of timm, of which next to nothing is trained.

Origin: two published ways, by `tuning`. `norm`: only the layer norms, and features on the unit sphere (Yermakov et al.,
"GenD", arXiv 2508.06248). `svd`: of every linear layer of the attention all but the last singular directions stay as
they are, and only those are trained (Yan et al., "Effort", ICML 2025, arXiv 2411.15633): what the network knows is
kept, and the detector lives where it knows nothing.

Normalisation: the mean and deviation that timm states for the network, applied inside. Input: resized to the network's
own size, or to `size`. Without `pretrained=true` the frozen part is random: for tests of the mechanism alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.detectors.backbone import Normalised, create_body
from generation.records import UserError

TUNINGS = ("norm", "svd")


@dataclass(frozen=True)
class AdaptedOptions:
    """architecture: a vision transformer of `timm.list_models()`; tuning: `norm` or `svd`; rank: singular directions of
    each layer that are trained; size: the side that images are resized to, 0: the network's own."""

    architecture: str = "vit_tiny_patch16_224"
    pretrained: bool = False
    tuning: str = "norm"
    rank: int = 1
    size: int = 0


class ResidualLinear(nn.Module):
    """A linear layer whose first singular directions are frozen and whose last `rank` are trained."""

    kept: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        u, s, v = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
        if not 1 <= rank < len(s):
            raise UserError(f"detector.options.rank={rank}: must lie between 1 and {len(s) - 1}")
        self.register_buffer("kept", u[:, :-rank] * s[:-rank] @ v[:-rank])
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        self.u, self.s, self.v = (nn.Parameter(part.clone()) for part in (u[:, -rank:], s[-rank:], v[-rank:]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.kept + self.u * self.s @ self.v, self.bias)


class Adapted(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged."""

    def __init__(self, options: AdaptedOptions) -> None:
        super().__init__()
        if options.tuning not in TUNINGS:
            raise UserError(f"detector.options.tuning={options.tuning}: must be one of {', '.join(TUNINGS)}")
        self.body = create_body(options.architecture, options.pretrained, num_classes=0).requires_grad_(False)
        self.size = options.size or self.body.pretrained_cfg["input_size"][-1]
        self.normalised = Normalised(self.body.pretrained_cfg)
        tuned = 0
        for name, layer in list(self.body.named_modules()):
            if options.tuning == "norm" and isinstance(layer, nn.LayerNorm):
                layer.requires_grad_(True)
                tuned += 1
            if options.tuning == "svd" and ".attn." in name and isinstance(layer, nn.Linear):
                parent, _, last = name.rpartition(".")
                setattr(self.body.get_submodule(parent), last, ResidualLinear(layer, options.rank))
                tuned += 1
        if not tuned:
            raise UserError(
                f"detector.options.architecture={options.architecture}: has no "
                f"{'layer norm' if options.tuning == 'norm' else 'attention'}; take a vision transformer, as "
                "vit_tiny_patch16_224"
            )
        self.head = nn.Linear(self.body.num_features, 1)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def features(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, C), on the unit sphere
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return F.normalize(self.body(self.normalised(images)), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.scale * self.features(images))
        return logits.squeeze(1)


def alignment(features: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance between the features (B, C), on the unit sphere, of faces of one class (Wang and Isola,
    ICML 2020, arXiv 2005.10242)."""
    distances = torch.cdist(features, features).square()
    same = labels[:, None] == labels
    same.fill_diagonal_(False)
    return distances[same].mean() if same.any() else distances.new_zeros(())


def uniformity(features: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of all pairs (the same source): low where features fill the sphere."""
    return F.pdist(features).square().mul(-2).exp().mean().log()
