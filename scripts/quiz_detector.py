"""What the quiz compares people with: detectors or an ensemble that were given, or a detector that is trained in a
minute and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.special import expit

from detection.data import DetectorData
from detection.degradations import LIGHT, Degrade
from detection.detectors import build_detector, load_detector, save_detector
from detection.examine import examine
from detection.examine_basis import ENSEMBLE, load_ensemble
from detection.examine_container import jpeg_quality
from detection.metrics import auroc, temperature
from detection.quiz import Media
from detection.training import DetectorTrainer, choose_threshold, score
from generation.faces.people import FacesConfig
from generation.forge import draw_swaps
from generation.records import Faces, UserError, cache_folder, load
from scripts.console import progress, say
from scripts.data import SOURCES, records_folder
from scripts.examine_faces import FaceSource
from scripts.quiz_items import Forger
from scripts.quiz_media import decoded
from scripts.trainer import LoggerConfig, TrainerConfig, fit

SIZE = 128
"""Pixels of the faces that detectors see, where their .json does not say."""

PEOPLE = FacesConfig(size=256, seed=9500, train=40, validation=12, test=1, expressions=6)
"""On whom the quick detector is trained: nobody of them is in the quiz."""

WINDOW = (0.25, 0.33, 0.5)
"""Left edge, upper edge and side of what the quick detector looks at, eyes to mouth, as shares of the picture."""

_STEPS, _BATCH, _FORGERIES = 150, 32, 5


class Advisor:
    """Detectors that give one probability together: the mean of their log-odds, each over its temperature."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._members = [load_detector(path) for path in paths]
        self.name = ", ".join(path.with_suffix("").name for path in paths)

    def __call__(self, images: np.ndarray) -> float:
        """Frames of one face, uint8 (T, H, W, 3) -> the probability that they are forged."""
        odds = []
        for member in self._members:
            size, window = int(member.meta.get("size", SIZE)), member.meta.get("window", (0, 0, 1))
            small = np.stack([_seen(image, window, size) for image in images])
            logits = score(member.module, torch.from_numpy(small).permute(0, 3, 1, 2).contiguous())
            odds.append(float(logits.mean()) / float(member.meta.get("temperature", 1.0)))
        return float(expit(np.mean(odds)))

    def of(self, media: Media) -> float:
        return self(decoded(media))


class Verdicts(FaceSource):
    """Context manager: a calibrated ensemble that looks at files as `examine` does. What it gives is the probability,
    at prior odds of 1, of the largest face; None where it finds none, or would not judge such a file."""

    def __init__(self, path: Path) -> None:
        self._ensemble = load_ensemble(path)
        self.name = f"{path.resolve().name} ({', '.join(self._ensemble.names)})"
        super().__init__(every=5)

    def of(self, media: Media) -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("video.mp4" if media.moving else "photo.jpg")
            path.write_bytes(media.content)
            return self.of_file(path)

    def of_file(self, path: Path) -> float | None:
        _, faces = examine(path, self._ensemble, self, jpeg_quality(path))
        ratio = max(faces, key=lambda face: face.side).llr if faces else None
        return None if ratio is None else float(expit(ratio))


def detector_files(given: Path) -> list[Path]:
    """The detectors at a path, a file or a folder of them. Raises `UserError` for a folder that holds none."""
    if not given.is_dir():
        return [given]
    files = sorted(path for path in given.glob("*.safetensors") if path.with_suffix(".json").is_file())
    if not files:
        raise UserError(f"adviser={given}: holds no .safetensors file with a .json beside it")
    return files


def advisor(given: Path | None, reenactor: str, workers: int) -> Advisor | Verdicts:
    """What gives advice: see conf/quiz.yaml."""
    if given is not None and (given / ENSEMBLE).is_file():
        return Verdicts(given)
    return Advisor([trained(Forger(reenactor), workers)] if given is None else detector_files(given))


def trained(forger: Forger, workers: int) -> Path:
    """`frequency`, trained on forgeries of this reenactor at full resolution, from the cache if it is there."""
    made_of = json.dumps([asdict(PEOPLE), forger.family, forger.sha256, _STEPS, _BATCH, _FORGERIES, 2], sort_keys=True)
    folder = cache_folder() / "quiz" / hashlib.sha256(made_of.encode()).hexdigest()[:12]
    path = folder / "frequency.safetensors"
    if path.is_file() and path.with_suffix(".json").is_file():
        return path
    records = records_folder("synthetic", PEOPLE)
    with progress("faces for the detector") as bar:
        SOURCES["synthetic"].make(PEOPLE, records, workers, bar)
    faces = load(records).where(label=0)
    with progress("forgeries for the detector") as bar:
        real, forged = _pools(faces, forger, bar)
    network = build_detector("frequency", {}, seed=0)
    epoch = max(1, _STEPS // 3)
    degrade = Degrade(LIGHT, probability=0.5, severity=3)
    data = DetectorData(real, [forged], batch=_BATCH, steps_per_epoch=epoch, seed=0, degrade=degrade)
    module = DetectorTrainer(network, _STEPS, learning_rate=4e-3)
    fit(module, data, folder / "training", TrainerConfig(logger=LoggerConfig("none")).with_steps(_STEPS, epoch))
    held = data.held("validation")
    logits = score(network, held.image)
    found = auroc(held.label, logits)
    meta = {
        "size": SIZE,
        "window": WINDOW,
        "threshold": choose_threshold(held.label, logits),
        "temperature": temperature(held.label, logits),
        "validation_auroc": found,
    }
    say(f"detector: AUROC {found:.3f} on faces of {PEOPLE.validation} people that it was not trained on")
    return save_detector(path, network, "frequency", {}, meta)


def _pools(faces: Faces, forger: Forger, told: Callable[[int, int], None]) -> tuple[Faces, Faces]:
    """The faces of train and validation and forgeries of them, as the detector sees them."""
    parts, total, done = [], _FORGERIES * (PEOPLE.train + PEOPLE.validation), 0
    for split in ("train", "validation"):
        own = faces.where(split=split)
        swaps = draw_swaps(own, _FORGERIES * len(set(own.identity.tolist())), seed=PEOPLE.seed)
        images, masks = [], []
        for source, driver in zip(swaps.source, swaps.driver, strict=True):
            made = forger.forge(own, int(source), own.expression[int(driver)].numpy())
            images.append(torch.from_numpy(made.image).permute(2, 0, 1))
            masks.append(torch.from_numpy(made.mask)[None])
            done += 1
            told(done, total)
        count = len(images)
        parts.append(
            replace(
                own.select(swaps.source),
                image=torch.stack(images),
                mask=torch.stack(masks),
                label=torch.ones(count, dtype=torch.int64),
                method=np.full(count, forger.family),
                source_clip=own.clip[swaps.source],
                source_frame=own.frame[swaps.source],
            )
        )
    return _window_of(faces), _window_of(Faces.concatenate(parts))


def _seen(image: np.ndarray, window: Sequence[float], size: int) -> np.ndarray:
    """What a detector sees of a picture, uint8 (H, W[, 3]) -> uint8 (size, size[, 3])."""
    left, top, side = (round(share * len(image)) for share in window)
    return np.asarray(
        cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    )


def _window_of(faces: Faces) -> Faces:
    """The faces as the quick detector sees them; their landmarks stay as they were, nobody needs them."""

    def seen(images: torch.Tensor) -> torch.Tensor:
        parts = [_seen(image.permute(1, 2, 0).numpy(), WINDOW, SIZE).reshape(SIZE, SIZE, -1) for image in images]
        return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).contiguous()

    return replace(faces, image=seen(faces.image), mask=seen(faces.mask))
