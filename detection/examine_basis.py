"""What verdicts rest on: detectors that look at one face together, their calibration, and what is usual for them.

An ensemble is a folder of detectors with `ensemble.json` beside them; a single detector has the same numbers in its own
.json. Without them a detector has scores, but no verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from detection.calibration import (
    POOLED,
    Calibration,
    Given,
    balanced,
    calibrate,
    calibrators,
    cross_fitted,
    figures,
    fusion,
    logistic,
    people_folds,
)
from detection.detectors import Detector, load_detector
from detection.examine_answers import answers
from detection.examine_familiarity import Familiarity, descriptors, familiarity
from detection.examine_views import InnerFace
from detection.folding import folded
from detection.metrics import reliability
from generation.records import Faces, UserError, write_beside

ENSEMBLE = "ensemble.json"
_QUANTILES = 41


class Observed(NamedTuple):
    """Calibration faces as the detectors see them: `Given`, and (N, 8) descriptors and (N, F) features."""

    given: Given
    described: NDArray[np.float64]
    features: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Basis:
    """size: pixels of the crops. singles: detector -> slope and offset of its score alone as an LLR."""

    size: int
    calibration: Calibration
    familiarity: Familiarity
    singles: Mapping[str, Sequence[float]]

    def plain(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "calibration": self.calibration.plain(),
            "familiarity": self.familiarity.plain(),
            "singles": {name: [round(float(value), 6) for value in values] for name, values in self.singles.items()},
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Basis:
        return Basis(
            int(plain["size"]),
            Calibration.of(plain["calibration"]),
            Familiarity.of(plain["familiarity"]),
            plain["singles"],
        )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """names: of the detectors, in the order of their scores; modules in eval mode; basis; about: what made it."""

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    basis: Basis
    about: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights and of what they were calibrated to."""
        found = hashlib.sha256(json.dumps([self.names, self.basis.plain()]).encode())
        for module in self.modules:
            for name, values in module.state_dict().items():
                found.update(name.encode() + values.cpu().numpy().tobytes())
        return found.hexdigest()


def basis_of(observed: Observed, names: Sequence[str], size: int, faces: str, seed: int = 0) -> Basis:
    """Fit everything on validation people. faces: what they are, in words."""
    given = observed.given
    calibration = calibrate(given, seed=seed)
    crossed = np.clip(cross_fitted(given, seed=seed), calibration.low, calibration.high)
    shown = reliability(given.labels, crossed, 10, balanced(given.labels))
    grid = np.linspace(0, 1, _QUANTILES)
    about = {
        **calibration.about,
        "faces": faces,
        "tippett": {
            kind: np.quantile(crossed[given.labels == label], grid).round(3).tolist()
            for label, kind in enumerate(("real", "forged"))
        },
        "reliability": {key: _numbers(getattr(shown, key)) for key in ("stated", "true", "share")},
        "calibrators": compared(given, seed),
    }
    calibration = replace(calibration, about=about)
    singles = {name: logistic(given.labels, given.scores[:, index]) for index, name in enumerate(names)}
    usual = familiarity(observed.described, observed.features, given.identities, given.conditions, seed)
    return Basis(size, calibration, usual, {name: values.tolist() for name, values in singles.items()})


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]


def compared(given: Given, seed: int = 0) -> dict[str, dict[str, float]]:
    """Figures of every calibrator on the fused score, each person judged by what was fitted on others."""
    fused = np.empty(len(given.labels))
    found = {name: np.empty(len(fused)) for name in calibrators()}
    for here in people_folds(given.identities, 5, seed):
        coefficients = fusion(given.labels[~here], given.scores[~here])
        fused = given.scores @ coefficients[:-1]
        for name, fit in calibrators().items():
            found[name][here] = fit(given.labels[~here], fused[~here])(fused[here])
    return {name: figures(given.labels, ratios) for name, ratios in found.items()}


def observed_faces(modules: Sequence[nn.Module], faces: Faces, batch: int = 64) -> Observed:
    """Of records, whose faces come from no file that is known: crops are taken to be as fine as they are large."""
    starts = range(0, len(faces), batch)
    scores, features = zip(*(answers(modules, faces.image[start : start + batch])[:2] for start in starts), strict=True)
    described = np.stack(
        [
            descriptors(image.permute(1, 2, 0).numpy(), faces.size, (float(pose[0]), float(pose[1])))
            for image, pose in zip(faces.image, faces.pose, strict=True)
        ]
    )
    given = Given(faces.label.numpy(), np.concatenate(scores), faces.identity.astype(str), np.full(len(faces), POOLED))
    return Observed(given, described, np.concatenate(features))


def basis_of_faces(name: str, module: nn.Module, faces: Faces, what: str, seed: int = 0) -> Basis:
    """Of one detector, on the real and forged faces of validation people. what: they are, in words"""
    return basis_of(observed_faces((module,), faces), (name,), faces.size, what, seed)


def save_ensemble(folder: Path, names: Sequence[str], basis: Basis, about: Mapping[str, Any]) -> Path:
    """Write `ensemble.json` beside detectors of these names, `NAME.safetensors`, which see the inner face."""
    path = folder / ENSEMBLE
    text = json.dumps({"members": list(names), **basis.plain(), "about": dict(about)})
    write_beside(path, text.encode())
    return path


def add_basis(path: Path, basis: Basis) -> None:
    """Put it into the .json of a single detector."""
    config = path.with_suffix(".json")
    described = json.loads(config.read_bytes())
    described["meta"]["verdict"] = basis.plain()
    write_beside(config, json.dumps(described, indent=1).encode())


def load_ensemble(path: Path | None = None) -> Ensemble:
    """The ensemble or the single detector at `path` (a folder or a .safetensors file), None for the shipped one.

    Raises `UserError` for what is missing or damaged, and for a detector without a calibration.
    """
    if path is None:
        path = Path(str(resources.files("detection") / "weights"))
    if not path.exists():
        raise UserError(f"detector={path}: no such file or folder; name a .safetensors file or a folder of detectors")
    if path.is_dir() and (path / ENSEMBLE).is_file():
        try:
            described = json.loads((path / ENSEMBLE).read_bytes())
            modules = load_members(path, described["members"])
            basis = Basis.of(described)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path / ENSEMBLE}: damaged ({error}); make it again with train_ensemble.py") from error
        return Ensemble(tuple(described["members"]), modules, basis, described["about"])
    found = single_detector(path)
    made: Detector = load_detector(found)
    plain = made.meta.get("verdict")
    if plain is None:
        raise UserError(
            f"{found}: has no calibration, so its scores are no evidence; make one with "
            f"python scripts/calibrate.py detector={found}"
        )
    return Ensemble((made.name,), (made.module,), Basis.of(plain), {"name": made.name})


def load_members(folder: Path, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """Detectors of a folder as the members of an ensemble: they see the inner face of what they are given."""
    return tuple(InnerFace(folded(load_detector(folder / f"{name}.safetensors").module)).eval() for name in names)


def single_detector(path: Path) -> Path:
    """The weights of the one detector that a file or folder holds."""
    if not path.is_dir():
        return path.with_suffix(".safetensors")
    files = sorted(file for file in path.glob("*.safetensors") if file.with_suffix(".json").is_file())
    if len(files) != 1:
        what = "no detector" if not files else f"{len(files)} detectors"
        named = f" ({', '.join(file.name for file in files[:5])})" if files else ""
        raise UserError(f"detector={path}: holds {what}{named}; name one .safetensors file")
    return files[0]
