"""Reenactors: one file a family, one line in the table `REENACTORS`.

A reenactor is an `nn.Module` called as
`reenactor(source, source_motion, source_landmarks, wanted_motion) -> Reenactment`:

    source: Tensor            # (B, 3, H, W) in [0, 1]
    source_motion: Tensor     # (B, 58), `generation.motion.Motion.vector`
    source_landmarks: Tensor  # (B, 68, 2) iBUG landmarks, pixels (x, y)
    wanted_motion: Tensor     # (B, 58)

It does its work in two steps, so that a source is looked at once for many frames: `encode(source, source_motion,
source_landmarks)` gives features, a list of tensors (B, ...), and `decode(source, features, source_motion,
wanted_motion)` the frame. A family with an objective of its own has `training_terms(batch)`, the weighted terms of its
loss by name. A family without parameters is not trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from generation.records import UserError, write_beside
from generation.reenactors.autoencoder import Autoencoder, AutoencoderOptions
from generation.reenactors.flow_matching import FlowMatching, FlowMatchingOptions
from generation.reenactors.landmark_warp import LandmarkWarp, LandmarkWarpOptions
from generation.reenactors.reenactment import Reenactment
from generation.reenactors.warp import Warp, WarpOptions

__all__ = ["REENACTORS", "Family", "Reenactment", "build_reenactor", "load_reenactor", "save_reenactor", "shipped"]


class Family(NamedTuple):
    """How a reenactor is built from its options (a frozen dataclass with defaults)."""

    build: Callable[[Any], nn.Module]
    options: type


REENACTORS: dict[str, Family] = {
    "warp": Family(Warp, WarpOptions),
    "autoencoder": Family(Autoencoder, AutoencoderOptions),
    "flow_matching": Family(FlowMatching, FlowMatchingOptions),
    "landmark_warp": Family(LandmarkWarp, LandmarkWarpOptions),
}


def build_reenactor(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A freshly initialised reenactor. An unknown name or option raises `UserError` with what is allowed."""
    if name not in REENACTORS:
        raise UserError(f"reenactor.name={name}: there is no such reenactor; there are {', '.join(REENACTORS)}")
    family = REENACTORS[name]
    allowed = [field.name for field in fields(family.options)]
    for key in options or {}:
        if key not in allowed:
            raise UserError(
                f"reenactor.options.{key}: the reenactor {name} has no such option; it has {', '.join(allowed)}"
            )
    return family.build(family.options(**(options or {})))


def save_reenactor(path: Path, reenactor: nn.Module, name: str, meta: Mapping[str, Any]) -> None:
    """Write `path` (.safetensors) and, beside it, the same name with .json: family, options and `meta`."""
    options: Any = reenactor.options
    config = {"name": name, "options": asdict(options), "meta": dict(meta)}
    write_beside(path.with_suffix(".json"), json.dumps(config, indent=1).encode())
    write_beside(path, save({key: value.contiguous() for key, value in reenactor.state_dict().items()}))


def load_reenactor(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A reenactor in eval mode and its config {"name", "options", "meta"}.

    Raises `UserError` for a missing file, weights of another family or size, or a damaged file.
    """
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise UserError(f"{file}: no such file; a reenactor is a .safetensors file with a .json beside it")
    try:
        config = json.loads(path.with_suffix(".json").read_bytes())
        reenactor = build_reenactor(config["name"], config["options"])
        reenactor.load_state_dict(load_file(path))
    except UserError:
        raise
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: does not hold the reenactor that its .json describes ({reason})") from error
    return reenactor.eval(), config


def shipped(name: str) -> Path:
    """The checkpoint of this name in the package, or the path itself."""
    path = Path(str(resources.files("generation.reenactors") / "weights" / f"{name}.safetensors"))
    return path if path.is_file() else Path(name)
