"""Photographs to train and calibrate verdicts on: whole files, real ones and forged ones, as a verdict will meet them.

Synthetic people are rendered at 512 px, the people of the London Set photographed (CC BY 4.0, only where their photos
are at hand). Forgeries are laid into the whole frame by `generation.editing`, then real and forged files go through the
same conditions: JPEG of several qualities, smaller pictures, a few frames of H.264. A forgery that changes nothing one
could see is left out. The test split is of other people, forged by reenactors and settings that occur nowhere else.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from PIL import Image

from generation.editing.drivers import EditConfig, expression_driver
from generation.editing.editing import SYNTHETIC_SIZE, Source, edited, open_source
from generation.editing.following import Follower
from generation.editing.redrawing import Redrawer
from generation.faces.expressions import SIX_EMOTIONS, expression_bank, settled, single_actions
from generation.faces.head import load_head
from generation.faces.london import LONDON_ORIGIN
from generation.faces.people import ORIGIN, sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.motion import EXPRESSION_SIZE
from generation.records import SPLITS, UserError, cache_folder, shared_folder, write_beside
from generation.reenactors import build_reenactor, load_reenactor, shipped
from generation.workers import each

VISIBLE = 24.0
"""Grey levels by which the 99th percentile of the changed region of a forgery, at 128 px, differs from the source."""

MOST_PEOPLE = 100_000
"""Synthetic people of a split: their numbers begin at its multiples, so that who is tested does not depend on how many
are trained on."""

VERSION = 6
"""To be raised with every change of what is written."""

CONDITIONS = {
    "jpeg_95": ("jpeg", 95, 1.0),
    "jpeg_85": ("jpeg", 85, 1.0),
    "jpeg_60": ("jpeg", 60, 1.0),
    "half_85": ("jpeg", 85, 0.5),
    "quarter_85": ("jpeg", 85, 0.25),
    "h264_20": ("h264", 20, 0.75),
    "h264_27": ("h264", 27, 1.0),
}
"""name: codec, quality or constant rate factor, scale."""

_VIDEO_FRAMES = 4


@dataclass(frozen=True)
class PhotographsConfig:
    """train, validation, test: synthetic people; london: the same of the London Set, or none. expressions: photos of
    each synthetic person; forgeries: of each photo; train_expressions, train_forgeries: the same of people to train on;
    london_forgeries: of each photo of those of the London Set to train on, who are few; conditions: that each synthetic
    photo to train on is seen in, drawn, and its forgeries in one of them each (others are seen in all)."""

    train: int = 600
    validation: int = 120
    test: int = 150
    london: bool = True
    london_train: int = 40
    london_validation: int = 31
    london_test: int = 31
    expressions: int = 2
    forgeries: int = 2
    train_expressions: int = 4
    train_forgeries: int = 4
    london_forgeries: int = 8
    conditions: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Photograph:
    """One file. source: the real file that a forgery was made of, in the same condition, "" for a real one; mask: a
    PNG of what was changed, before the picture was made smaller, "" for a real one; visible: see `VISIBLE`."""

    file: str
    split: str
    identity: str
    label: int
    method: str
    condition: str
    source: str
    mask: str
    origin: str
    visible: float


class Setting(NamedTuple):
    """How a forgery is made."""

    name: str
    redrawer: Redrawer
    strengths: tuple[float, float]
    regions: tuple[tuple[str, ...], ...]
    bank: np.ndarray


def photographs(
    config: PhotographsConfig,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    splits: Sequence[str] = SPLITS,
) -> tuple[Path, list[Photograph]]:
    """The folder of the files, and what each of those of the people of some splits is; made where they are not there
    yet, person by person. workers: processes; the bytes do not depend on them."""
    plain = {**asdict(config), "version": VERSION}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder() / "photographs" / digest
    people = list(_people(config))
    wanted = [number for number, (split, _) in enumerate(people) if split in splits]
    waiting = [number for number in wanted if not _part(folder, number).is_file()]
    if waiting:
        load_head()
        jobs = [(config, folder, number, *people[number]) for number in waiting]
        for count, (job, made) in enumerate(each(_write_person, jobs, workers, preload=__name__)):
            if made is None:
                raise UserError(
                    f"photographs: the process at person {waiting[job]} was killed; the same command goes on"
                )
            if progress:
                progress(len(wanted) - len(waiting) + count + 1, len(wanted))
    found = [item for number in wanted for item in json.loads(_part(folder, number).read_bytes())]
    return folder, [Photograph(**item) for item in found]


def _part(folder: Path, number: int) -> Path:
    return folder / "people" / f"{number:04d}.json"


class _Tools(NamedTuple):
    renderer: Renderer
    follower: Follower
    settings: dict[str, list[Setting]]


@cache
def _tools() -> _Tools:
    """What a worker process works with, until it ends."""
    follower = Follower().__enter__()
    return _Tools(Renderer(SYNTHETIC_SIZE, 4), follower, {split: ways_to_forge(split) for split in SPLITS})


def _write_person(config: PhotographsConfig, folder: Path, place: int, split: str, number: int | str) -> bool:
    made = [asdict(item) for item in _of_person(split, number, config, _tools(), folder)]
    write_beside(_part(folder, place), json.dumps(made).encode())
    return True


def _people(config: PhotographsConfig) -> Iterator[tuple[str, int | str]]:
    """Splits and numbers of synthetic people, or names of people of the London Set."""
    for place, split in enumerate(SPLITS):
        for index in range(getattr(config, split)):
            yield split, place * MOST_PEOPLE + index
    if not config.london:
        return
    names = sorted({path.name.partition("_")[0] for path in _london().glob("*_neutral.jpg")})
    order = np.random.default_rng([config.seed, 31]).permutation(len(names))
    wanted = [split for split in SPLITS for _ in range(getattr(config, f"london_{split}"))]
    if len(names) < len(wanted):
        raise UserError(f"photographs.london_*: {len(wanted)} people are wanted and {len(names)} are there")
    for split, index in zip(wanted, order, strict=False):
        yield split, names[index]


def _london() -> Path:
    shared = shared_folder()
    if shared is None or not (shared / "data" / "london").is_dir():
        raise UserError(
            "photographs.london=true: needs data/london in VICIOUS_CYCLE_SHARED; or photographs.london=false"
        )
    return shared / "data" / "london"


@cache
def ways_to_forge(split: str) -> list[Setting]:
    """Reenactors and what they are asked for. Each split has its own strengths, sizes and expressions, though training
    and validation both move single actions; the reenactor `warp_64` is the test split's alone. A seventh of what
    training asks for is a smile: of what people are given, the most common and among the faintest."""
    everything: tuple[tuple[str, ...], ...] = (("eyes", "brows", "mouth"),)
    large = load_reenactor(shipped("warp_128"))[0]
    points = build_reenactor("landmark_warp")
    if split == "test":
        parts, bank = (*everything, ("mouth",), ("eyes", "mouth")), expression_bank(48, 12)
        small = load_reenactor(shipped("warp_64"))[0]
        return [
            Setting("warp", Redrawer(large, 128), (1.2, 1.5), parts, bank),
            Setting("warp", Redrawer(small, 64), (0.8, 1.2), parts, bank),
            Setting("landmark_warp", Redrawer(points, 256), (0.8, 1.2), parts, bank),
        ]
    parts = (*everything, *everything, ("mouth", "brows"))
    if split == "validation":
        bank = np.concatenate([expression_bank(48, 13), single_actions(0.85)])
        return [
            Setting("warp", Redrawer(large, 128), (1.1, 1.2), parts, bank),
            Setting("warp", Redrawer(large, 96), (0.7, 1.1), parts, bank),
            Setting("landmark_warp", Redrawer(points, 224), (0.7, 1.1), parts, bank),
        ]
    singles = np.concatenate([np.zeros((4, EXPRESSION_SIZE), np.float32), single_actions(1.0)])
    smiles = np.tile(settled(SIX_EMOTIONS["joy"]), (64, 1))
    bank = np.concatenate([expression_bank(256, 11), np.tile(singles, (4, 1)), smiles])
    parts = (*parts, ("eyes", "brows"))
    return [
        *(Setting("warp", Redrawer(large, size), (0.6, 1.1), parts, bank) for size in (112, 128, 160)),
        *(Setting("landmark_warp", Redrawer(points, size), (0.6, 1.1), parts, bank) for size in (128, 160, 192)),
    ]


def _of_person(
    split: str,
    number: int | str,
    config: PhotographsConfig,
    tools: _Tools,
    folder: Path,
) -> Iterator[Photograph]:
    synthetic, settings = isinstance(number, int), tools.settings[split]
    expressions, forgeries = config.expressions, config.forgeries
    if split == "train":
        expressions = config.train_expressions
        forgeries = config.train_forgeries if synthetic else config.london_forgeries
    draw = np.random.default_rng([config.seed, SPLITS.index(split), int(number), synthetic])
    name = f"synthetic-{number:04d}" if synthetic else f"london-{number}"
    for index, photo in enumerate(_photos(number, config.seed, expressions, draw, tools.renderer)):
        original = folder / "originals" / f"{name}-{index}.png"
        write_beside(original, _encoded(photo, "png", 0, 1.0))
        source = open_source(original, tools.follower)
        if not source.followed.people:
            continue
        made = [("", photo, 0.0, "")]
        for _ in range(forgeries):
            setting = settings[draw.integers(len(settings))]
            forged, changed, visible = _forged(source, photo, setting, draw)
            if visible >= VISIBLE:
                mask = f"masks/{name}-{index}-{len(made)}.png"
                write_beside(folder / mask, _encoded(changed, "png", 0, 1.0))
                made.append((setting.name, forged, visible, mask))
        names, drawn = list(CONDITIONS), split == "train" and synthetic
        if drawn:
            names = [names[i] for i in draw.permutation(len(names))[: config.conditions]]
        for place, condition in enumerate(names):
            codec, quality, scale = CONDITIONS[condition]
            for which, (method, image, visible, mask) in enumerate(made):
                if drawn and which and which % len(names) != place:
                    continue
                ending = "mp4" if codec == "h264" else "jpg"
                file = f"{split}/{name}-{index}-{which}-{condition}.{ending}"
                write_beside(folder / file, _encoded(image, codec, quality, scale))
                real = f"{split}/{name}-{index}-0-{condition}.{ending}"
                yield Photograph(
                    file, split, name, int(which > 0), method, condition, real if which else "", mask,
                    ORIGIN if synthetic else LONDON_ORIGIN, visible,
                )  # fmt: skip


def _photos(
    number: int | str, seed: int, expressions: int, draw: np.random.Generator, renderer: Renderer
) -> Iterator[np.ndarray]:
    if isinstance(number, str):
        for which in ("neutral", "smiling"):
            yield np.asarray(Image.open(_london() / f"{number}_{which}.jpg").convert("RGB"))
        return
    bank, key = expression_bank(48, 11), 7700 + seed
    person, scene = sample_person(key, number), sample_scene(key, number, 0)
    chosen = np.concatenate([[0], draw.integers(1, len(bank), expressions - 1)])
    shown = bank[chosen] * np.r_[0.0, np.ones(expressions - 1)][:, None].astype(np.float32)
    yield from renderer.render(person, scene, shown.astype(np.float32)).image


def _forged(
    source: Source, photo: np.ndarray, setting: Setting, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """The forged frame, the mask of what was changed, and how visible the change is."""
    regions = setting.regions[draw.integers(len(setting.regions))]
    edit = EditConfig("replace", float(draw.uniform(*setting.strengths)), regions)  # type: ignore[arg-type]
    wanted = setting.bank[draw.integers(len(setting.bank))]
    people = [person for person in source.followed.people if person.weight.any()]
    if not people:
        return photo, np.zeros(photo.shape[:2], np.uint8), 0.0
    (result,) = edited(source, people[:1], expression_driver(wanted), edit, setting.redrawer)
    return result.image, result.mask, visible_change(photo, result.image, people[0].square(0).side)


def visible_change(before: np.ndarray, after: np.ndarray, side: float) -> float:
    """Grey levels: the 99th percentile of the largest difference of a pixel, where anything was changed, seen at 128
    pixels a face.

    before, after: uint8 (H, W, 3); side: of the square around the face, pixels
    """
    factor = min(1.0, 128 / side)
    small = [cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for image in (before, after)]
    difference = np.abs(small[0].astype(int) - small[1]).max(-1)
    changed = difference[difference > 1]
    return float(np.percentile(changed, 99)) if changed.size else 0.0


def _encoded(image: np.ndarray, codec: str, quality: int, scale: float) -> bytes:
    """A file: "png", "jpeg", or "h264" in MP4, some frames in which the camera moves by a pixel each."""
    if scale != 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    if codec == "png":
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    elif codec == "jpeg":
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    else:
        height, width = (side - _VIDEO_FRAMES - (side - _VIDEO_FRAMES) % 2 for side in image.shape[:2])
        shifts = range(_VIDEO_FRAMES)
        return encoded_video(
            [image[shift // 2 : shift // 2 + height, shift : shift + width] for shift in shifts], quality
        )
    return buffer.getvalue()


def encoded_video(frames: Sequence[np.ndarray], quality: int) -> bytes:
    """H.264 in MP4 at a constant rate factor, 25 frames a second; uint8 (H, W, 3), even sides."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(quality), "preset": "medium", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()
