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


class Backbone(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged."""

    mean: Tensor  # (3, 1, 1)
    deviation: Tensor  # (3, 1, 1)

    def __init__(self, options: BackboneOptions) -> None:
        super().__init__()
        self.size = options.size
        self.body = create_body(options.architecture, options.pretrained, outputs=1).to(
            memory_format=torch.channels_last
        )
        stated: Mapping[str, Any] = self.body.pretrained_cfg
        self.register_buffer("mean", torch.tensor(stated["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(stated["std"]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        seen = ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.body(seen)
        return logits.squeeze(1)


def create_body(architecture: str, pretrained: bool, outputs: int) -> Any:  # timm's networks state more than nn.Module
    """timm's network with so many outputs, 0 for its features. Raises `UserError` where there is none of this name, or
    where its weights cannot be had."""
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0)
        raise UserError(
            f"detector.options.architecture={architecture}: timm has no such network; "
            f"timm.list_models() names them, for example {', '.join(near)}"
        )
    if not pretrained:
        return timm.create_model(architecture, num_classes=outputs)
    stated = timm.get_pretrained_cfg(architecture)
    if stated is None or not stated.has_weights:
        raise UserError(f"detector.options.pretrained: timm has no weights of {architecture}; use pretrained=false")
    name = f"{stated.architecture}.{stated.tag}.safetensors" if stated.tag else f"{stated.architecture}.safetensors"
    places = [folder / "timm" / name for folder in _folders()]
    found = [path for path in places if path.is_file()]
    overlay = {"file": str(found[0])} if found else None
    try:
        return timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=outputs)
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
