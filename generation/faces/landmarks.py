"""Landmarks and Motion: what MediaPipe reads off a face, and landmarks as the field's reference, FAN, reads them.

MediaPipe's Face Landmarker (https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker, Apache-2.0) finds
478 points, 51 ARKit facial actions and the head's rotation. It has no score for `tongueOut`, which is read as 0.
FAN (Bulat and Tzimiropoulos 2017) comes with the package face_alignment.
"""

from __future__ import annotations

import pickle
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from generation.faces.weights import LANDMARKER, YUNET, weights_file
from generation.motion import ACTIONS
from generation.records import UserError

IBUG_68 = (
    127, 234, 93, 132, 58, 136, 149, 148, 152, 377, 378, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 1, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Which of MediaPipe's 478 points stands for which iBUG landmark: jaw, brows, nose, eyes, outer lips, inner lips."""

_EYE_CORNERS = ((33, 133), (362, 263))
"""Both corners of the eye on the image's left (the person's right), then of the other one."""

READING_SIZE = 256
"""Motion is read off faces of about this many pixels; smaller ones are read less well."""


@dataclass(frozen=True)
class Reading:
    """What MediaPipe reads off one face.

    expression: np.ndarray  # (52,) float32 in [0, 1], the order of `ACTIONS`; tongueOut is always 0
    pose: np.ndarray        # (6,) float32, see `generation.motion`; of the square that was read, or of its longer side
    landmarks: np.ndarray   # (68, 2) float32 pixels (x, y); pixel centres at integer + 0.5
    eyes: np.ndarray        # (2, 2) float32 pixels: centre of the eye on the image's left, then of the other one
    """

    expression: np.ndarray
    pose: np.ndarray
    landmarks: np.ndarray
    eyes: np.ndarray


def landmarker_file() -> Path:
    """MediaPipe's model; raises `UserError` where it cannot be had, see `weights_file`."""
    return weights_file(LANDMARKER)


class FaceReader:
    """Context manager around MediaPipe's Face Landmarker, on the CPU: about 10 ms a face.

    Entering raises `UserError` where the model cannot be had or is damaged, or a system library is missing.
    """

    def __init__(self, model: Path | None = None) -> None:
        self._model = model
        self._landmarker: Any = None

    def __enter__(self) -> Self:
        model = self._model or landmarker_file()
        try:
            from mediapipe.tasks.python import vision
            from mediapipe.tasks.python.core.base_options import BaseOptions

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(model)),
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (ImportError, OSError) as error:  # which of the two depends on who loads the library
            raise UserError(
                f"MediaPipe cannot be loaded ({error}); on Debian or Ubuntu: apt-get install libgl1 libegl1 libgles2"
            ) from error
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{model}: not a face landmarker that MediaPipe can open; replace it by {LANDMARKER.url}"
            ) from error
        _ignore_profiling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()

    def read(self, image: np.ndarray) -> Reading | None:  # uint8 (H, W, 3)
        """The most prominent face, or None where none is found. Faces read best at `READING_SIZE` px and above."""
        import mediapipe

        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        found = self._landmarker.detect(picture)
        if not found.face_landmarks:
            return None
        height, width = image.shape[:2]
        points = np.array([(point.x * width, point.y * height) for point in found.face_landmarks[0]])
        eyes = np.stack([points[list(corners)].mean(0) for corners in _EYE_CORNERS])
        scores = {score.category_name: score.score for score in found.face_blendshapes[0]}
        return Reading(
            expression=np.array([scores.get(name, 0.0) for name in ACTIONS], np.float32),
            pose=pose_of(found.facial_transformation_matrixes[0][:3, :3], eyes, width, height).astype(np.float32),
            landmarks=points[list(IBUG_68)].astype(np.float32),
            eyes=eyes.astype(np.float32),
        )


def _ignore_profiling() -> None:
    """Ignore SIGPROF for Python too, where nobody handles it.

    MediaPipe's threads have timers that send it, and MediaPipe ignores it behind Python's back. Lightning, when a
    training ends, sets every signal to what Python knows of it: to the default, by which a tick ends the process.
    """
    if not hasattr(signal, "SIGPROF") or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGPROF) is signal.SIG_DFL:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)


def pose_of(matrix: np.ndarray, eyes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pose (6,) in the frame of `generation.motion`.

    matrix: (3, 3) face -> camera, in MediaPipe's axes: x to the viewer's right, y up, z to the viewer. It is read as
    roll after yaw after pitch, so that the roll is the slope of the line through the eyes.
    eyes: (2, 2) pixels; image: `width` x `height` pixels, of which the crop is the central square on the longer side.
    """
    rotation = matrix / np.linalg.norm(matrix, axis=0)
    foreshortening = np.hypot(rotation[0, 0], rotation[1, 0])
    pitch = -np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arctan2(-rotation[2, 0], foreshortening)
    roll = np.arctan2(-rotation[1, 0], rotation[0, 0])
    half = max(width, height) / 2
    x, y = (eyes.mean(0) - (width / 2, height / 2)) / half
    scale = np.linalg.norm(eyes[1] - eyes[0]) / half / foreshortening
    return np.array([pitch, yaw, roll, x, y, scale])


class FanReader:
    """FAN's 68 landmarks through the package face_alignment, its own face detector being YuNet: about a second a face
    on the CPU.

    Making one raises `UserError` where the package or its weights (96 MB) cannot be had.
    """

    def __init__(self) -> None:
        try:
            import face_alignment
            from face_alignment.api import models_urls
        except ImportError as error:
            raise UserError(
                f"data.landmarks=face_alignment needs that package ({error}); pip install 'vicious-cycle[footage]'"
            ) from error
        url = models_urls["2DFAN-4"]
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        detector = str(weights_file(YUNET))
        try:
            self._network = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D,
                device="cuda" if torch.cuda.is_available() else "cpu",
                compile=False,
                face_detector="yunet",
                face_detector_kwargs={"path_to_detector": detector},
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(
                f"{path}: the weights of face_alignment's FAN are not there (or damaged) and could not be downloaded "
                f"({error}); fetch {url} by hand and put it there, or use data.landmarks=mediapipe"
            ) from error

    def read(self, image: np.ndarray, eyes: np.ndarray) -> np.ndarray | None:  # uint8 (H, W, 3) -> (68, 2) float32
        """Landmarks of the face whose box is nearest around the midpoint of the eyes, None where none lies around it.

        eyes: (2, 2) pixels, see `Reading`
        """
        middle = eyes.mean(0)
        boxes = [np.asarray(box) for box in self._network.face_detector.detect_from_image(image.copy())]
        around = [box for box in boxes if (box[:2] <= middle).all() and (middle <= box[2:4]).all()]
        if not around:
            return None
        box = min(around, key=lambda box: float(np.linalg.norm((box[:2] + box[2:4]) / 2 - middle)))
        (points,) = self._network.get_landmarks_from_image(image, detected_faces=[box])
        return np.asarray(points, np.float32)
