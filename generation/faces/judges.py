"""Judges: networks that have only ever seen real faces, asked what they make of a picture.

- MediaPipe's Face Landmarker (Apache-2.0): is there a face, and which expression does it wear;
- SCRFD (Guo et al. 2022, "Sample and Computation Redistribution for Efficient Face Detection") and YuNet (Wu et al.
  2023, "YuNet: A Tiny Millisecond-level Face Detector", MIT): is there a face;
- a face-recognition network of an insightface model pack (non-commercial research): whose face it is.

Beside them the statistics that turn their answers about many pictures into figures.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from scipy import stats

from generation.faces.identities import insight_models
from generation.faces.landmarks import FaceReader
from generation.faces.weights import YUNET, weights_file
from generation.motion import ACTIONS
from generation.records import UserError

FINDERS = ("mediapipe", "scrfd", "yunet")
"""The judges that say where a face is."""

UNREAD = frozenset(
    ["cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "mouthDimpleLeft",
     "mouthDimpleRight", "mouthLeft", "mouthRight", "jawForward", "jawLeft", "jawRight", "tongueOut"]
)  # fmt: skip
"""Actions that no mean counts: on a first, plainer renderer MediaPipe never moved them. On these people it does read
`mouthLeft` and `mouthRight`."""

_OVERLAP = 0.3
"""A box is on the face where intersection over union with the box around its 68 landmarks is at least this. Boxes that
reach from the chin to the hairline have about 0.7."""

_NOTHING = np.full(len(ACTIONS), np.nan, np.float32)


@dataclass(frozen=True)
class Judgement:
    """What the judges make of one picture.

    found: (3,) bool, whether each of `FINDERS` finds the face where it is
    reading: (52,) float32 in [0, 1], MediaPipe's expression; NaN where it finds no face
    embedding: (D,) float32 of unit length, from the recognition network; NaN where SCRFD finds no face
    """

    found: np.ndarray
    reading: np.ndarray
    embedding: np.ndarray


class Judges:
    """Context manager around all judges, on the CPU: about 80 ms a picture of 256 px.

    Making one raises `UserError` where a model or a package cannot be had. network: file of the recognition network,
    to be named with every figure it gives
    """

    def __init__(self) -> None:
        self._app: Any = insight_models()
        self._reader = FaceReader()
        self._yunet: Any = _yunet(weights_file(YUNET))
        self.network = Path(self._app.models["recognition"].model_file).name

    def __enter__(self) -> Self:
        with contextlib.redirect_stdout(sys.stderr):
            self._app.prepare(ctx_id=-1)
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def read(self, image: np.ndarray) -> np.ndarray:  # uint8 (H, W, 3) -> (52,) float32
        """MediaPipe's reading alone, NaN where it finds no face."""
        reading = self._reader.read(image)
        return _NOTHING if reading is None else reading.expression

    def judge(self, image: np.ndarray, landmarks: np.ndarray) -> Judgement:
        """Ask all judges about one face.

        image: uint8 (H, W, 3) RGB; landmarks: (68, 2) pixels, where the face truly is
        """
        truth = _box(landmarks)
        reading = self._reader.read(image)
        bgr = np.ascontiguousarray(image[..., ::-1])
        self._yunet.setInputSize(image.shape[1::-1])
        _, boxes = self._yunet.detect(bgr)
        yunet = [np.array([x, y, x + wide, y + tall]) for x, y, wide, tall in (() if boxes is None else boxes[:, :4])]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`estimate` is deprecated", FutureWarning)  # in insightface
            faces = [face for face in self._app.get(bgr) if _overlap(face.bbox, truth) >= _OVERLAP]
        size = self._app.models["recognition"].output_shape[-1]
        return Judgement(
            found=np.array(
                [
                    reading is not None and _overlap(_box(reading.landmarks), truth) >= _OVERLAP,
                    bool(faces),
                    any(_overlap(box, truth) >= _OVERLAP for box in yunet),
                ]
            ),
            reading=_NOTHING if reading is None else reading.expression,
            embedding=faces[0].normed_embedding if faces else np.full(size, np.nan, np.float32),
        )


def _yunet(path: Path) -> Any:
    import cv2

    try:
        return cv2.FaceDetectorYN.create(str(path), "", (320, 320))
    except cv2.error as error:
        raise UserError(f"{path}: not a network that OpenCV can open; replace it by {YUNET.url}") from error


def _box(points: np.ndarray) -> np.ndarray:  # (n, 2) -> (4,) left, top, right, bottom
    return np.concatenate([points.min(0), points.max(0)])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(sides.clip(0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def correlations(truth: np.ndarray, reading: np.ndarray) -> dict[str, float | None]:
    """Pearson's r between true and read strength of every action; None where one of them never changes.

    truth, reading: (N, 52); rows of NaN, faces that were not found, do not count
    """
    read = ~np.isnan(reading).any(axis=1)
    result: dict[str, float | None] = {}
    for index, name in enumerate(ACTIONS):
        x, y = truth[read, index].astype(np.float64), reading[read, index].astype(np.float64)
        result[name] = float(stats.pearsonr(x, y).statistic) if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else None
    return result


def own_response_strongest(actions: tuple[str, ...], response: np.ndarray) -> bool:
    """Whether the change of MediaPipe's reading (52,) is greatest in one of the actions that were moved."""
    return ACTIONS[int(np.nanargmax(response))] in actions


@dataclass(frozen=True)
class Separation:
    """How well the recognition network keeps people apart.

    auroc: probability that two pictures of one person are more alike than two of different people, 1 is perfect
    same, different: mean cosine between embeddings of one person's pictures, and of different people's
    """

    auroc: float
    same: float
    different: float


def separation(embedding: np.ndarray, identity: np.ndarray) -> Separation:
    """From embeddings (N, D) of unit length and identities (N,), over all pairs; rows of NaN do not count.

    Raises `ValueError` where there are no two pictures of one person, or no two people.
    """
    kept = ~np.isnan(embedding).any(axis=1)
    embedding, identity = embedding[kept].astype(np.float64), identity[kept]
    first, second = np.triu_indices(len(embedding), 1)
    cosine = (embedding @ embedding.T)[first, second]
    alike = identity[first] == identity[second]
    same, different = cosine[alike], cosine[~alike]
    if not len(same) or not len(different):
        raise ValueError("two pictures of one person and two people are needed")
    wins = stats.mannwhitneyu(same, different).statistic
    return Separation(float(wins / (len(same) * len(different))), float(same.mean()), float(different.mean()))
