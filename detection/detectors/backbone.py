"""backbone: any network of timm with one logit, the field's usual baseline (Xception, EfficientNet-B4, ConvNeXt, ViT).

Origin: Wightman, "PyTorch Image Models" (timm), doi 10.5281/zenodo.4414861; as detectors: Roessler et al.,
"FaceForensics++", ICCV 2019 (arXiv 1901.08971). The default `resnet10t` is the smallest of timm's ResNets with
pretrained weights (He et al., arXiv 1512.03385; stem and training: arXiv 1812.01187, 2110.00476): it trains on a
laptop.

Normalisation: the mean and deviation that timm states for the network, applied inside. Input: any size that the network
takes, or `size`, to which images are resized first: vision transformers need their own, such as 224. Colours lie last
in memory: Xception is a sixth to a third faster on a CPU that way, and three to four times in bf16
(`trainer.precision=bf16-mixed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from generation.records import UserError, cache_folder, shared_folder


@dataclass(frozen=True)
class BackboneOptions:
    """architecture: a name of `timm.list_models()`; pretrained: start from timm's weights.
    size: the side that images are resized to first; 0: none.
    """

    architecture: str = "resnet10t"
    pretrained: bool = False
    size: int = 0


class Normalised(nn.Module):
    """Images in [0, 1] as timm states that a network takes them."""

    mean: Tensor  # (3, 1, 1)
    deviation: Tensor  # (3, 1, 1)

    def __init__(self, stated: Mapping[str, Any]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(stated["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(stated["std"]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


class Backbone(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged."""

    def __init__(self, options: BackboneOptions) -> None:
        super().__init__()
        self.size = options.size
        self.body = create_body(options.architecture, options.pretrained, num_classes=1).to(
            memory_format=torch.channels_last
        )
        self.normalised = Normalised(self.body.pretrained_cfg)

    def forward(self, images: Tensor) -> Tensor:
        if self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        logits: Tensor = self.body(self.normalised(images).contiguous(memory_format=torch.channels_last))
        return logits.squeeze(1)


class Pyramid(nn.Module):
    """Images (B, 3, H, W) in [0, 1], sides divisible by 16 -> features (B, C, H / 2, W / 2) to (B, C, H / 16, W / 16)
    of timm's network, of which no more than these need is kept. `widths`: their channels."""

    def __init__(self, architecture: str, pretrained: bool) -> None:
        super().__init__()
        self.body = create_body(
            architecture, pretrained, features_only=True, feature_cls="getter", out_indices=(0, 1, 2, 3)
        )
        scales = self.body.feature_info.reduction()
        if scales != [2, 4, 8, 16]:
            raise UserError(
                f"detector.options.architecture={architecture}: its first features are at 1/{scales[0]} of the size, "
                "not at 1/2; use another, such as tf_efficientnet_lite0 or resnet10t"
            )
        self.widths: tuple[int, ...] = tuple(self.body.feature_info.channels())
        self.normalised = Normalised(self.body.model.pretrained_cfg)

    def forward(self, images: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.body(self.normalised(images))
        return features


def create_body(architecture: str, pretrained: bool, **wanted: Any) -> Any:  # timm's networks state more than nn.Module
    """timm's network, as its `create_model` makes it when `wanted` is asked for: `num_classes`, 0 for one vector of
    features, or `features_only`. Raises `UserError` where there is none of this name, or where its weights cannot be
    had."""
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0)
        raise UserError(
            f"detector.options.architecture={architecture}: timm has no such network; "
            f"timm.list_models() names them, for example {', '.join(near)}"
        )
    if not pretrained:
        return timm.create_model(architecture, **wanted)
    stated = timm.get_pretrained_cfg(architecture)
    if stated is None or not stated.has_weights:
        raise UserError(f"detector.options.pretrained: timm has no weights of {architecture}; use pretrained=false")
    name = f"{stated.architecture}.{stated.tag}.safetensors" if stated.tag else f"{stated.architecture}.safetensors"
    places = [folder / "timm" / name for folder in _folders()]
    found = [path for path in places if path.is_file()]
    overlay = {"file": str(found[0])} if found else None
    try:
        return timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay, **wanted)
    except (OSError, RuntimeError, SafetensorError) as error:
        if found:
            raise UserError(f"{found[0]}: does not hold timm's weights of {architecture}; replace it") from error
        raise UserError(
            f"{name}: these weights are not there as {' or '.join(map(str, places))}, and the download of "
            f"{stated.hf_hub_id or stated.url} failed; put them there by hand, or use pretrained=false"
        ) from error


def _folders() -> list[Path]:
    shared = shared_folder()
    return ([shared / "weights"] if shared else []) + [cache_folder()]
