"""What a file itself tells: quality, compressions, software, metadata."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from real_media import film

from detection.examine_container import DOUBLE, container, double_compression, jpeg_quality


def photo(seed: int = 0, size: int = 384) -> Image.Image:
    """Smooth shapes with some texture and noise: a picture with coefficients at many levels."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8).astype(np.uint8))
    pixels = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)).astype(float)
    fine = np.asarray(
        Image.fromarray(generator.integers(0, 256, (96, 96), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    )
    return Image.fromarray(
        np.clip(pixels * 0.7 + 0.25 * fine[..., None] + generator.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
    )


def compressed(image: Image.Image, *qualities: int) -> Image.Image:
    for quality in qualities:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        image = Image.open(buffer)
    return image


@pytest.mark.parametrize("quality", [5, 30, 50, 60, 75, 85, 90, 95, 99])
def test_the_quality_of_a_jpeg_is_read_off_its_tables(tmp_path: Path, quality: int) -> None:
    path = tmp_path / "a.jpg"
    photo(size=64).save(path, quality=quality)
    assert jpeg_quality(path) == quality
    assert container(path)["jpeg"]["standard_tables"]


def test_tables_of_ones_own_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    table = np.arange(64) // 4 + 3
    photo(size=64).save(path, qtables=[table.tolist(), table.tolist()])
    assert not container(path)["jpeg"]["standard_tables"] and jpeg_quality(path) is not None


def test_no_jpeg_has_no_quality(tmp_path: Path) -> None:
    photo(size=64).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    assert jpeg_quality(tmp_path / "a.png") is None and jpeg_quality(tmp_path / "b.jpg") is None


@pytest.mark.parametrize("qualities", [(50, 95), (75, 90), (60, 85)])
def test_a_second_finer_compression_is_found(qualities: tuple[int, int]) -> None:
    for seed in range(4):
        assert double_compression(compressed(photo(seed), *qualities))["strength"] > 2 * DOUBLE


@pytest.mark.parametrize("quality", [60, 75, 85, 95])
def test_a_single_compression_is_not_called_double(quality: int) -> None:
    for seed in range(4):
        assert not double_compression(compressed(photo(seed), quality))["found"]


def test_software_and_metadata_are_told(tmp_path: Path) -> None:
    image = photo(size=64)
    exif = Image.Exif()
    exif[0x0131], exif[0x010F], exif[0x0110] = "Adobe Photoshop 26.0", "Canon", "EOS R5"
    image.save(tmp_path / "edited.jpg", exif=exif)
    found = container(tmp_path / "edited.jpg")
    assert found["software"] == ["Adobe Photoshop 26.0"] and found["metadata"]["Make"] == "Canon"
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a portrait, Steps: 20, Model: stable diffusion")
    image.save(tmp_path / "made.png", pnginfo=text)
    assert "stable diffusion" in container(tmp_path / "made.png")["software"][0]
    image.save(tmp_path / "plain.png")
    bare = container(tmp_path / "plain.png")
    assert bare["software"] == [] and "no metadata" in bare["notes"][0] and bare["format"] == "PNG"


def test_a_video_tells_its_codec_and_encoder(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [np.asarray(photo(seed, 64)) for seed in range(5)])
    found = container(path)
    assert found["video"]["codec"] == "h264" and found["video"]["rate"] == 25
    assert (found["width"], found["height"], found["sound"]) == (64, 64, False)
    assert any("Lavf" in name for name in found["software"])


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff\xe0 broken"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    found = container(path)
    assert found["bytes"] == len(content) and found["software"] == []
