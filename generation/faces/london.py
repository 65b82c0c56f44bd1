"""The Face Research Lab London Set: two photos a person -> crops with the Motion and landmarks MediaPipe reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from generation import records
from generation.faces.alignment import face_crop
from generation.faces.landmarks import READING_SIZE, FaceReader, Reading
from generation.records import UserError

LONDON_ORIGIN = (
    "Face Research Lab London Set, DeBruine and Jones 2017, https://doi.org/10.6084/m9.figshare.5047666, CC BY 4.0, "
    "aligned, cropped and resized; consent: signed, for use in lab-based and web-based studies in original or altered "
    "form and to illustrate research"
)

PHOTOS = ("neutral", "smiling")
"""The photos of one person; the index is the row's `frame`."""


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
