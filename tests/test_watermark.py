"""The watermark: not seen, found, read, found after what happens to pictures, and never found where it is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from generation.provenance import FOUND, mark_image, payload, read_watermark, realign, watermark, watermark_p
from generation.records import Faces, UserError
from tests.real_media import photos, shared

SAID = 0xC0FFEE11


@pytest.fixture(scope="module")
def face(faces: Faces) -> np.ndarray:  # uint8 (128, 128, 3)
    return cv2.resize(faces.image[0].permute(1, 2, 0).numpy(), (128, 128), interpolation=cv2.INTER_CUBIC)


def cropped(back: bool, left: int = 3, top: int = 9) -> Callable[[np.ndarray], np.ndarray]:
    """Nine tenths of height and width, in 128ths off the left and the top; `back` to the old size."""

    def again(image: np.ndarray) -> np.ndarray:
        size = np.array(image.shape[:2])
        (high, wide), (y, x) = np.round(0.9 * size).astype(int), size * (top, left) // 128
        cut = image[y : y + high, x : x + wide]
        return cv2.resize(cut, size[::-1].tolist(), interpolation=cv2.INTER_CUBIC) if back else cut

    return again


def saved(kind: str, quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def again(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return again


def resized(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def again(image: np.ndarray) -> np.ndarray:
        size = round(image.shape[1] * factor), round(image.shape[0] * factor)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

    return again


def h264(frames: list[np.ndarray], crf: int) -> list[np.ndarray]:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf)}
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("high", "wide", "least"),
    [(64, 64, 40), (64, 200, 40), (97, 131, 40), (256, 256, 43), (512, 512, 47), (720, 1280, 49), (1440, 2560, 50)],
)
def test_the_watermark_is_found_and_invisible(high: int, wide: int, least: float, faces: Faces) -> None:
    image = cv2.resize(faces.image[0].permute(1, 2, 0).numpy(), (wide, high), interpolation=cv2.INTER_CUBIC)
    marked = mark_image(image)
    assert marked.shape == image.shape and marked.dtype == np.uint8
    assert cv2.PSNR(image, marked) >= least
    assert watermark_p([marked]) < (1e-9 if min(high, wide) > 64 else FOUND)
    assert watermark_p([image]) > 1e-3


def test_the_same_frame_gives_the_same_bytes(face: np.ndarray) -> None:
    assert np.array_equal(mark_image(face), mark_image(face.copy()))


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_frame_can_be_marked(grey: int) -> None:
    image = np.full((256, 256, 3), grey, np.uint8)
    assert watermark_p([image]) > 1e-3
    assert watermark_p([mark_image(image)]) < 1e-6


ATTACKS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "JPEG 70 at 128 px": (128, saved("JPEG", 70)),
    "JPEG 50 at 128 px": (128, saved("JPEG", 50)),
    "JPEG 50 at 256 px": (256, saved("JPEG", 50)),
    "JPEG 50 at 512 px": (512, saved("JPEG", 50)),
    "WebP 80 at 256 px": (256, saved("WEBP", 80)),
    "75 % of 128 px": (128, resized(0.75)),
    "75 % of 128 px and back": (128, lambda image: cv2.resize(resized(0.75)(image), (128, 128))),
    "50 % of 256 px": (256, resized(0.5)),
    "200 % of 128 px": (128, resized(2)),
    "50 % of 512 px, then JPEG 75": (512, lambda image: saved("JPEG", 75)(resized(0.5)(image))),
    "nine tenths of 128 px": (128, cropped(back=False)),
    "nine tenths of 256 px": (256, cropped(back=False)),
    "nine tenths of 256 px, enlarged": (256, cropped(back=True)),
    "brighter": (256, lambda image: (255 * (image / 255) ** 0.8).astype(np.uint8)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_watermark_of_photos_survives(attack: str) -> None:
    size, act = ATTACKS[attack]
    readings = [read_watermark([act(mark_image(photo, SAID))]) for photo in photos(30, size)]
    assert max(reading.p for reading in readings) < FOUND
    assert {reading.payload for reading in readings} <= {SAID, None}


@pytest.mark.parametrize(("size", "act"), [(128, saved("JPEG", 90)), (256, saved("JPEG", 70)), (256, resized(0.75))])
def test_the_payload_of_photos_survives(size: int, act: Callable[[np.ndarray], np.ndarray]) -> None:
    for index, photo in enumerate(photos(40, size)):
        said = (SAID * (index + 1)) % 2**32
        assert read_watermark([act(mark_image(photo, said))]).payload == said


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("name", ["expressive/W009_front_disgusted_level3_001.mp4", "talking/d0.mp4"])
def test_the_watermark_survives_h264(name: str, size: int) -> None:
    with av.open(str(shared(f"data/{name}"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(8))]  # noqa: B905
    frames = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames]
    assert watermark_p(h264([mark_image(frame, SAID) for frame in frames], crf=23)) < FOUND
    assert watermark_p(h264(frames, crf=23)) > 1e-3


def test_unmarked_photos_and_renders_show_nothing(faces: Faces) -> None:
    renders = list(faces.image[:: len(faces) // 5].permute(0, 2, 3, 1).numpy())
    values = [watermark_p([image]) for image in photos(25) + photos(25, 64) + photos(25, 128) + renders]
    assert min(values) > 1e-4 and max(values) <= 1


@pytest.mark.parametrize("size", [128, 256])
def test_the_p_value_is_uniform_over_keys(size: int) -> None:
    """On real photos the key of another mark finds p < x as often as x says; several frames that are alike, too."""
    one, *_, last = photos(100, size)
    frames = [[one], [last], [one, np.roll(one, 1, axis=1), one]]
    for index, taken in enumerate(frames):
        evidence = watermark.gathered(taken).evidence
        values = [watermark.plain_p(evidence, f"{index}/{key}".encode()) for key in range(120)]
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.005
        assert 0.02 <= np.mean(np.less(values, 0.1)) <= 0.2


def test_the_search_counts_its_looks(face: np.ndarray) -> None:
    """Over keys, the best of all places is rarely better than all looks together allow."""
    gathered = watermark.gathered([face])
    least = []
    for key in (f"{number}".encode() for number in range(15)):
        bit, signs = watermark._bit(key)[:128, :128], watermark._signs(key)[:128, :128]
        for moved, looks in realign.candidates(gathered.whitened, np.where(bit < 0, signs, 0)):
            terms = moved / np.sqrt(np.maximum(cv2.blur(moved * moved, (9, 9)), 1e-12))
            least.append(looks * watermark.plain_p(watermark._clipped(terms, 128), key))
    assert min(least) > 1e-3
    assert len(least) == 15 * 16


def test_the_fixed_score_against_its_definition(face: np.ndarray) -> None:
    """Computed again in float64 with dense matrices."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float64)
    n = len(grey)
    basis = np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    coefficients = basis @ grey @ basis.T / n
    padded = np.pad(coefficients**2, 4, mode="reflect")
    around = np.mean([padded[i : i + n, j : j + n] for i in range(9) for j in range(9)], axis=0)
    radius = np.hypot(*np.meshgrid(np.arange(n), np.arange(n)))
    terms = np.clip(coefficients / (0.5 * np.sqrt(around + 9 / n**2)), -1, 1) * np.exp(-((radius / (0.55 * n)) ** 2))
    key = b"vicious-cycle watermark 2"
    fixed = (watermark._bit(key)[:n, :n] < 0) & (radius >= 16) & (radius < 0.9 * n)
    signs = watermark._signs(key)[:n, :n]
    score = (terms * signs)[fixed].sum() / np.sqrt((terms[fixed] ** 2).sum())
    assert watermark.fixed_score(watermark.gathered([face]).evidence) == pytest.approx(score, abs=2e-3)


def test_a_payload_is_read_out_of_noise_only_where_it_is() -> None:
    """What is there is read, at 12 standard deviations, and nothing is read out of noise."""
    draws, key = np.random.default_rng(0), b"key"
    for _ in range(60):
        said = int(draws.integers(2**32))
        word = 1 - 2.0 * payload.encode(said, key)
        for strength, least in ((0, None), (12, said)):
            values = strength * word / np.sqrt(payload.LENGTH) + draws.normal(size=payload.LENGTH)
            found = payload.decode(values, np.sqrt(payload.LENGTH), key)
            assert found == least
    with pytest.raises(ValueError, match="must lie in"):
        mark_image(np.zeros((64, 64, 3), np.uint8), 2**32)


def test_the_code_is_linear_and_every_payload_has_its_own_word() -> None:
    one, two, both = (payload.encode(said, b"key") for said in (0xF0F0, 0x0FF0, 0xF0F0 ^ 0x0FF0))
    assert np.array_equal(one ^ two, both) and not payload.encode(0, b"key").any()
    assert len({payload.encode(1 << bit, b"key").tobytes() for bit in range(32)}) == 32


def test_a_negative_of_a_marked_frame_says_nothing(face: np.ndarray) -> None:
    """It carries the mark with every sign turned: what it says is not known, and none is made up."""
    negative = 255 - mark_image(face, SAID)
    assert watermark.fixed_score(watermark.gathered([negative]).evidence) < -5
    assert read_watermark([negative]).payload is None


def test_frames_too_small(faces: Faces) -> None:
    image = faces.image[0].permute(1, 2, 0).numpy()
    with pytest.raises(UserError, match="64 x 63 pixels are too few to carry a watermark; at least 64 a side"):
        mark_image(image[:63])
    assert watermark_p([image[:16, :16]]) == 1
