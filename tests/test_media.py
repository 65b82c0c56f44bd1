"""Photos and videos of every kind, whole and broken, encoded here and decoded again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from generation.faces.media import LONGEST_PHOTO, Media, MediaError, read_photo

COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (220, 210, 60))


def quarters(width: int = 64, height: int = 48, shift: int = 0) -> np.ndarray:
    """Red, green, blue, yellow: upper left, upper right, lower left, lower right; `shift` darkens."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(COLOURS):
        rows = slice(0, height // 2) if index < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if index % 2 == 0 else slice(width // 2, width)
        image[rows, columns] = np.maximum(np.array(colour) - shift, 0)
    return image


def corners(image: np.ndarray) -> np.ndarray:  # (4, 3)
    """The colour in the middle of every quarter."""
    height, width = image.shape[:2]
    places = [(1, 1), (1, 3), (3, 1), (3, 3)]
    return np.array([image[height * y // 4, width * x // 4] for y, x in places], float)


def encode(
    path: Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    set_up: Callable[[Any], None] = lambda stream: None,
) -> Path:
    """A real video file; `times` are in thousandths of a second, default 25 frames a second."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if codec in ("libx264", "libx265"):
            stream.options = {"crf": "10", "preset": "ultrafast"} | (
                {"x265-params": "log-level=none"} if codec == "libx265" else {}
            )
        set_up(stream)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index * 40 if times is None else times[index]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size"),
    [
        ("a.mp4", "libx264", "yuv420p", (64, 48)),
        ("a.mkv", "libx265", "yuv420p10le", (64, 64)),
        ("a.webm", "libvpx-vp9", "yuva420p", (64, 48)),
        ("a.mov", "prores_ks", "yuv422p10le", (64, 48)),
        ("a.avi", "mjpeg", "yuvj420p", (64, 48)),
        ("odd.mkv", "ffv1", "yuv444p", (61, 47)),
        ("alpha.mkv", "ffv1", "yuva444p", (61, 47)),
        ("a.mpg", "mpeg2video", "yuv420p", (64, 48)),
    ],
)
def test_videos_of_many_kinds(tmp_path: Path, name: str, codec: str, pixels: str, size: tuple[int, int]) -> None:
    times = None if codec != "mpeg2video" else [40 * index for index in range(10)]

    def fixed_rate(stream: Any) -> None:
        if codec == "mpeg2video":
            stream.codec_context.time_base = Fraction(1, 25)

    images = [quarters(*size, shift=3 * index) for index in range(10)]
    path = encode(tmp_path / name, images, codec, pixels, times, set_up=fixed_rate)
    media = Media(path)
    frames = list(media)
    assert [frame.index for frame in frames] == list(range(10)) and not media.still and media.damage == ""
    assert np.allclose(np.diff([frame.seconds for frame in frames]), 0.04, atol=0.002)
    for frame, image in zip(frames[::9], images[::9], strict=True):
        assert (frame.width, frame.height) == size and frame.image().shape == image.shape
        assert np.abs(corners(frame.image()) - corners(image)).max() < 14
    small = frames[0].image(32)
    assert max(small.shape) == 32 and np.abs(corners(small) - corners(images[0])).max() < 14
    assert len(list(media)) == 10, "it can be gone through again"


def test_grey_video(tmp_path: Path) -> None:
    images = [np.full((32, 32, 3), value, np.uint8) for value in (30, 130, 230)]
    found = [frame.image() for frame in Media(encode(tmp_path / "grey.mkv", images, "ffv1", "gray"))]
    assert [round(float(image.mean())) for image in found] == pytest.approx([30, 130, 230], abs=3)


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_a_turned_phone(tmp_path: Path, degrees: int) -> None:
    path = encode(tmp_path / "a.mp4", [quarters()] * 3, set_up=lambda stream: stream.set_display_rotation(degrees))
    (frame, *_) = Media(path)
    upright = np.rot90(quarters(), degrees // 90)
    assert (frame.height, frame.width) == upright.shape[:2]
    assert np.abs(corners(frame.image()) - corners(upright)).max() < 14
    assert frame.image(16).shape == ((16, 12, 3) if degrees != 180 else (12, 16, 3))


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    times = [0, 40, 50, 200, 1200, 1240]
    path = encode(tmp_path / "a.mkv", [quarters(shift=index) for index in range(6)], times=times)
    assert [frame.seconds for frame in Media(path)] == pytest.approx([time / 1000 for time in times], abs=0.002)


def test_high_dynamic_range_becomes_ordinary(tmp_path: Path) -> None:
    def quantizer(stream: Any) -> None:
        stream.codec_context.color_trc = 16
        stream.codec_context.colorspace = 9

    def signal(nits: float) -> int:  # SMPTE ST 2084, the other way round
        light = (nits / 10_000) ** 0.1593017578125
        return round(255 * ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375)

    images = [np.full((64, 64, 3), signal(nits), np.uint8) for nits in (0, 20.3, 101.5, 203, 4000)]
    path = encode(tmp_path / "a.mkv", images, "libx265", "yuv420p10le", set_up=quantizer)
    found = [float(frame.image().mean()) for frame in Media(path)]
    assert found[:3] == pytest.approx([255 * (nits / 203) ** (1 / 2.2) for nits in (0, 20.3, 101.5)], abs=6)
    assert found[2] < found[3] < found[4] and found[4] > 253


def test_extracted_frames_in_their_order(tmp_path: Path) -> None:
    for index in (0, 2, 10, 9):
        Image.fromarray(quarters(shift=index)).save(tmp_path / f"{index}.png")
    (tmp_path / "note.txt").write_text("no frame")
    media = Media(tmp_path)
    assert [int(200 - frame.image()[0, 0, 0]) for frame in media] == [0, 2, 9, 10]
    (tmp_path / "9.png").write_bytes(b"no picture")
    assert [frame.index for frame in media] == [0, 1, 3] and "1 of 4 pictures cannot be read; 9.png" in media.damage
    listed = Media(tmp_path, [tmp_path / "10.png", tmp_path / "0.png"])
    assert [int(200 - frame.image()[0, 0, 0]) for frame in listed] == [10, 0]


# Photos


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(quarters())
    undo = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    if orientation in undo:
        stored = stored.transpose(Image.Transpose[undo[orientation]])
    stored.save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert np.abs(corners(read_photo(tmp_path / "a.jpg")) - corners(quarters())).max() < 14


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cmyk.jpg", lambda image: image.convert("CMYK")),
        ("palette.png", lambda image: image.quantize(16)),
        ("alpha.png", lambda image: image.convert("RGBA")),
        ("plain.bmp", lambda image: image),
        ("plain.webp", lambda image: image),
        ("plain.tif", lambda image: image),
    ],
)
def test_photos_of_many_kinds(tmp_path: Path, name: str, make: Callable[[Image.Image], Image.Image]) -> None:
    make(Image.fromarray(quarters())).save(tmp_path / name)
    media = Media(tmp_path / name)
    (frame,) = media
    assert media.still and np.abs(corners(frame.image()) - corners(quarters())).max() < 26


def test_sixteen_bits_and_transparency(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.abs(read_photo(tmp_path / "deep.png")[..., 1] - ramp / 257.0).max() < 1
    clear = Image.fromarray(quarters()).convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    assert (read_photo(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations(tmp_path: Path, name: str) -> None:
    images = [Image.fromarray(quarters(shift=20 * index)) for index in range(5)]
    kept = {"lossless": True} if name == "a.webp" else {}
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=80, loop=0, **kept)
    media = Media(tmp_path / name)
    frames = [(frame.seconds, frame.image()) for frame in media]
    assert not media.still and [seconds for seconds, _ in frames] == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    for (_, image), wanted in zip(frames, images, strict=True):
        assert np.abs(corners(image) - corners(np.asarray(wanted))).max() < 14


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "a.png")
    (frame,) = Media(tmp_path / "a.png")
    assert frame.image(384).tolist() == [[[9, 8, 7]]]


def test_huge_photos(tmp_path: Path) -> None:
    Image.new("L", (12_000, 12_000), 90).save(tmp_path / "square.jpg", quality=30)
    shrunk = read_photo(tmp_path / "square.jpg")
    assert LONGEST_PHOTO <= shrunk.shape[0] < 12_000 and abs(int(shrunk[5, 5, 0]) - 90) < 3
    Image.new("1", (12_000, 12_000)).save(tmp_path / "square.png")
    with pytest.raises(MediaError, match="12000 x 12000 pixels are too many; at most 50 million"):
        read_photo(tmp_path / "square.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match="too many pixels; at most 50 million"):
        Media(tmp_path / "bomb.png")
    Image.new("L", (12_000, 300), 90).save(tmp_path / "strip.png")
    assert read_photo(tmp_path / "strip.png").shape == (300, 12_000, 3)


# Broken files


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_truncated_anywhere(tmp_path: Path, options: dict[str, str]) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3)).astype(np.uint8)
    whole = encode(
        tmp_path / "whole.mp4", list(rough), options=options, set_up=lambda stream: setattr(stream, "gop_size", 4)
    )
    content, counts = whole.read_bytes(), []
    for cut in np.linspace(0, 0.97 * len(content), 20).astype(int):
        path = tmp_path / "cut.mp4"
        path.write_bytes(content[:cut])
        try:
            media = Media(path)
            counts.append(len(list(media)))
            assert counts[-1] == 24 or media.damage or "empty_moov" in str(options)
        except MediaError as error:
            assert str(error) and "\n" not in str(error)
            counts.append(0)
    assert counts == sorted(counts) and counts[0] == 0
    assert (max(counts) >= 20) == bool(options), "without its index, which comes last, an mp4 is lost"


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.mp4", lambda path: path.write_bytes(b""), "empty: it has no byte"),
        ("a.mp4", lambda path: path.write_text("no video at all\n" * 50), "no frame can be decoded"),
        ("a.jpg", lambda path: path.write_text("no photo at all\n" * 50), "no frame can be decoded"),
        ("a.png", lambda path: path.write_bytes(bytes(range(256)) * 40), "no frame can be decoded"),
        ("a.mp4", sound, "no picture in it, only sound"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, name: str, write: Callable[[Path], None], said: str) -> None:
    write(tmp_path / name)
    with pytest.raises(MediaError, match=said):
        list(Media(tmp_path / name))


def test_a_damaged_photo_and_an_empty_folder(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3)).astype(np.uint8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match="damaged or truncated"):
        list(Media(tmp_path / "a.jpg"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="a folder without a picture"):
        Media(tmp_path / "empty")


def test_bytes_that_were_overwritten(tmp_path: Path) -> None:
    """Damage in the middle loses the damage, not what comes after it."""
    rough = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3)).astype(np.uint8)
    path = encode(tmp_path / "a.avi", list(rough), "mjpeg", "yuvj420p")
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + 6000] = bytes(6000)
    path.write_bytes(content)
    media = Media(path)
    count = len(list(media))
    assert 20 <= count <= 30
