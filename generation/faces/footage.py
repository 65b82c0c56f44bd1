"""Footage: real photos -> steady square crops with the Motion and landmarks that MediaPipe reads off them.

MediaPipe's Face Landmarker (https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker, Apache-2.0) finds
478 points, 51 ARKit facial actions and the head's rotation. It has no score for `tongueOut`, which is read as 0.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from generation import records
from generation.motion import ACTIONS
from generation.records import UserError

LANDMARKER_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
LANDMARKER_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"

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

EYE_DISTANCE = 0.24
"""Distance between the eye centres in a crop, as a share of its width."""

EYE_HEIGHT = 0.45
"""How far down the crop the eyes lie, as a share of its height."""

LONDON_ORIGIN = (
    "Face Research Lab London Set, DeBruine and Jones 2017, https://doi.org/10.6084/m9.figshare.5047666, CC BY 4.0, "
    "aligned, cropped and resized; consent: signed, for use in lab-based and web-based studies in original or altered "
    "form and to illustrate research"
)

PHOTOS = ("neutral", "smiling")
"""The photos of one person; the index is the row's `frame`."""


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
    """MediaPipe's model: from `VICIOUS_CYCLE_SHARED`, from the cache, or downloaded into the cache (3.7 MB).

    Raises `UserError` that names the file, its address and where to put it by hand.
    """
    shared, cache = records.shared_folder(), records.cache_folder() / "face_landmarker.task"
    places = [cache] if shared is None else [shared / "weights" / "mediapipe" / "face_landmarker.task", cache]
    for place in places:
        if place.is_file():
            return place
    try:
        with urllib.request.urlopen(LANDMARKER_URL, timeout=30) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"{cache}: the face landmarker is not there and could not be downloaded ({error}); "
            f"fetch {LANDMARKER_URL} by hand and put it there"
        ) from error
    if hashlib.sha256(content).hexdigest() != LANDMARKER_SHA256:
        raise UserError(
            f"{LANDMARKER_URL}: what was downloaded is not the known file (its sha256 differs); "
            f"fetch it by hand and put it at {cache}"
        )
    records.write_beside(cache, content)
    return cache


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
                f"{model}: not a face landmarker that MediaPipe can open; replace it by {LANDMARKER_URL}"
            ) from error
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


def face_crop(image: np.ndarray, eyes: np.ndarray, size: int) -> np.ndarray:  # -> uint8 (size, size, 3)
    """The square around a face with level eyes, `EYE_DISTANCE` apart and `EYE_HEIGHT` down.

    image: uint8 (H, W, 3); eyes: (2, 2) pixels, see `Reading`
    Every pixel is the mean over its area of the bicubic photo; what lies outside the photo repeats its edge.
    """
    across = (eyes[1] - eyes[0]) / EYE_DISTANCE
    down = np.array([-across[1], across[0]])
    samples = max(1, int(np.ceil(np.linalg.norm(across) / size)))
    steps = (np.arange(size * samples) + 0.5) / (size * samples)
    points = eyes.mean(0) + (steps[None, :, None] - 0.5) * across + (steps[:, None, None] - EYE_HEIGHT) * down
    grid = torch.from_numpy(2 * points / (image.shape[1], image.shape[0]) - 1).float()[None]
    photo = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
    fine = functional.grid_sample(photo, grid, mode="bicubic", padding_mode="border", align_corners=False)
    coarse = functional.avg_pool2d(fine, samples)
    return coarse[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class LondonConfig:
    """The Face Research Lab London Set: 102 people, `NNN_neutral.jpg` and `NNN_smiling.jpg` each.

    root: folder of the photos; None is `data/london` in `VICIOUS_CYCLE_SHARED`
    size: pixels of the square crops
    seed: draws who is in which split
    train, validation, test: people of each split
    """

    root: str | None = None
    size: int = 64
    seed: int = 0
    train: int = 62
    validation: int = 12
    test: int = 28

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("seed", 0), ("train", 1), ("validation", 1), ("test", 1)):
            if getattr(self, name) < least:
                raise UserError(f"data.{name} = {getattr(self, name)}: must be at least {least}")


def _root(config: LondonConfig) -> Path:
    shared = records.shared_folder()
    if config.root is not None:
        root = Path(config.root)
    elif shared is not None:
        root = shared / "data" / "london"
    else:
        raise UserError(
            "the London photos: set data.root to their folder, or VICIOUS_CYCLE_SHARED to one with data/london in it"
        )
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set data.root to the folder of NNN_neutral.jpg and NNN_smiling.jpg")
    return root


def _people(root: Path) -> list[str]:
    people = sorted({path.name.rpartition("_")[0] for photo in PHOTOS for path in root.glob(f"*_{photo}.jpg")})
    if not people:
        raise UserError(f"{root}: holds no NNN_neutral.jpg and NNN_smiling.jpg; set data.root to the folder that does")
    for person in people:
        for photo in PHOTOS:
            path = root / f"{person}_{photo}.jpg"
            if not path.is_file():
                raise UserError(f"{path}: missing; add it or remove this person's other photo")
    return people


def _splits(people: list[str], config: LondonConfig) -> dict[str, str]:
    """Who is in which split; people beyond the three counts are in none."""
    wanted = [split for split in records.SPLITS for _ in range(getattr(config, split))]
    if len(people) < len(wanted):
        raise UserError(
            f"data.train + data.validation + data.test = {len(wanted)} people, but the photos show {len(people)}; "
            "each split needs at least one person of its own: lower the counts or add people"
        )
    order = np.random.default_rng([config.seed, 3]).permutation(len(people))
    return {people[index]: split for index, split in zip(order, wanted, strict=False)}


def _read_photo(path: Path) -> np.ndarray:  # uint8 (H, W, 3)
    try:
        with Image.open(path) as photo:
            return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"{path}: damaged or truncated ({error}); replace it or remove both photos of this person"
        ) from error


def _read_face(reader: FaceReader, image: np.ndarray, path: Path) -> Reading:
    reading = reader.read(image)
    if reading is None:
        raise UserError(f"{path}: no face found; replace it or remove both photos of this person")
    return reading


def photo_records(config: LondonConfig, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the London photos to `folder` as records: a clip is a person, frame 0 neutral and frame 1 smiling.

    Both photos of a person are cropped with the eyes in the same place. A folder that already holds the same photos
    under the same configuration stays as it is. `progress` takes (photos done, photos in all).

    Raises `UserError` that names the folder or file: missing or empty folder, too few people, damaged photo, no face.
    """
    root = _root(config)
    splits = _splits(_people(root), config)
    paths = {(person, photo): root / f"{person}_{photo}.jpg" for person in sorted(splits) for photo in PHOTOS}
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths.values()]
    kind = {"faces": "london", **asdict(config), "photos": hashlib.sha256("".join(digests).encode()).hexdigest()}
    del kind["root"]
    if records.finished(folder, kind):
        return
    with FaceReader() as reader, records.Writer(folder, kind) as writer:
        for done, ((person, photo), path) in enumerate(paths.items(), start=1):
            image = _read_photo(path)
            eyes = _read_face(reader, image, path).eyes
            reading = _read_face(reader, face_crop(image, eyes, READING_SIZE), path)
            writer.add(
                records.row(
                    face_crop(image, eyes, config.size),
                    clip=f"london-{person}",
                    frame=PHOTOS.index(photo),
                    identity=f"london-{person}",
                    scene="studio",
                    expression=reading.expression,
                    pose=reading.pose,
                    landmarks=reading.landmarks * config.size / READING_SIZE,
                    split=splits[person],
                    origin=LONDON_ORIGIN,
                    seed=config.seed,
                )
            )
            if progress:
                progress(done, len(paths))
