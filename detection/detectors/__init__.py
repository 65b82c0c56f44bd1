"""Detectors: one file a family, one line in the table `DETECTORS`.

A detector is a plain `nn.Module`: images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged. It is
differentiable in the images, so it can serve as a critic. One with `takes_clips` takes clips (B, T, 3, H, W) too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from detection.detectors.adapted import Adapted, AdaptedOptions
from detection.detectors.backbone import Backbone, BackboneOptions
from detection.detectors.combined import Combined, CombinedOptions
from detection.detectors.external import External, ExternalOptions
from detection.detectors.frequency import Frequency, FrequencyOptions
from detection.detectors.localizer import Localizer, LocalizerOptions
from detection.detectors.mesonet import Mesonet, MesonetOptions
from detection.detectors.temporal import Temporal, TemporalOptions
from generation.records import UserError, write_beside

__all__ = [
    "DETECTORS",
    "TRAINABLE",
    "Detector",
    "Family",
    "build_detector",
    "check_trainable",
    "load_detector",
    "save_detector",
]


class Family(NamedTuple):
    """How a detector is built from its options (a frozen dataclass with defaults); `trainable`: or is it taken as it
    is."""

    build: Callable[[Any], nn.Module]
    options: type
    trainable: bool = True


def _combined(options: CombinedOptions) -> nn.Module:
    """Members are built one after the other from the same stream of draws."""

    def build(name: str, of: Mapping[str, Any]) -> nn.Module:
        member = _options(name, of)
        return DETECTORS[name].build(member)

    return Combined(options, build)


DETECTORS: dict[str, Family] = {
    "mesonet": Family(Mesonet, MesonetOptions),
    "backbone": Family(Backbone, BackboneOptions),
    "frequency": Family(Frequency, FrequencyOptions),
    "adapted": Family(Adapted, AdaptedOptions),
    "localizer": Family(Localizer, LocalizerOptions),
    "temporal": Family(Temporal, TemporalOptions),
    "combined": Family(_combined, CombinedOptions),
    "external": Family(External, ExternalOptions, trainable=False),
}

TRAINABLE = tuple(name for name, family in DETECTORS.items() if family.trainable)


@dataclass(frozen=True)
class Detector:
    """A detector read from disk: `module` in eval mode, its family's `name`, all its `options`, and what was noted.

    `meta["threshold"]` is the log-odds from which it calls a face forged, chosen on validation identities.
    """

    module: nn.Module
    name: str
    options: dict[str, Any]
    meta: dict[str, Any]


def check_trainable(name: str, key: str = "detector.name") -> None:
    """Raise `UserError` unless `name`, which `key` of the configuration asks for, is a family that can be trained."""
    if name not in DETECTORS:
        raise UserError(f"{key}={name}: there is no such detector; there are {', '.join(DETECTORS)}")
    if name not in TRAINABLE:
        raise UserError(f"{key}={name}: is taken as it is and cannot be trained; choose one of {', '.join(TRAINABLE)}")


def _options(name: str, options: Mapping[str, Any]) -> Any:
    if name not in DETECTORS:
        raise UserError(f"detector.name={name}: there is no such detector; there are {', '.join(DETECTORS)}")
    allowed = [field.name for field in fields(DETECTORS[name].options)]
    for key in options:
        if key not in allowed:
            raise UserError(f"detector.options.{key}: {name} has no such option; it has {', '.join(allowed)}")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return DETECTORS[name].options(**given)


def build_detector(name: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> nn.Module:
    """A new detector whose first weights are drawn from `seed` alone.

    An unknown name or option raises `UserError` with what is allowed.
    """
    chosen = _options(name, options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DETECTORS[name].build(chosen)


def _files(path: Path) -> tuple[Path, Path]:
    stem = path.with_suffix("") if path.suffix == ".safetensors" else path
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")


def save_detector(
    path: Path, module: nn.Module, name: str, options: Mapping[str, Any] | None, meta: Mapping[str, Any]
) -> Path:
    """Write `path`.safetensors (the ending may be given) and, beside it, .json with the family, all options and `meta`.

    Each file is written whole or not at all, the weights last. Returns the weights' path.
    """
    weights, config = _files(path)
    described = {"name": name, "options": asdict(_options(name, options or {})), "meta": dict(meta)}
    write_beside(config, json.dumps(described, indent=1).encode())
    write_beside(weights, save({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}))
    return weights


def load_detector(path: Path) -> Detector:
    """The detector of `save_detector`, from either path.

    Raises `UserError` for a missing or damaged file and for weights of another family or size.
    """
    weights, config = _files(path)
    for file in (weights, config):
        if not file.is_file():
            raise UserError(f"{file}: no such file; a detector is a .safetensors file with a .json beside it")
    try:
        described = json.loads(config.read_bytes())
        name, meta = described["name"], described["meta"]
        options = _options(name, described["options"])
        plain = replace(options, pretrained=False) if hasattr(options, "pretrained") else options
        module = DETECTORS[name].build(plain)
        module.load_state_dict(load_file(weights))
    except UserError as error:
        raise UserError(f"{config}: {error}") from error
    except (RuntimeError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{weights}: does not hold the detector that {config.name} describes ({reason})") from error
    return Detector(module.eval(), name, asdict(options), meta)
