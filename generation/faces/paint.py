"""Paint: the textures of one person, on the unrolled cylinder of `head.atlas`. Colours are linear RGB.

Drawn in metres on the face: `across` is the azimuth times `FACE_RADIUS`, `down` the height below the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generation.faces.hair import hairline
from generation.faces.head import ATLAS_TOP, u_to_azimuth, v_to_height
from generation.faces.people import Person

FACE_RADIUS = 0.108

_SKIN_STEPS = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
_SKIN_SRGB = (
    np.array([(238, 206, 191), (224, 183, 161), (200, 154, 127), (158, 112, 87), (112, 75, 57), (70, 47, 38)]) / 255
)
"""Skin from least to most melanin."""


@dataclass(frozen=True)
class Textures:
    """Textures of one person.

    skin: (H, W, 4) RGB and gloss; hair: (H, W, 4) RGB and shine
    folds: (H, W, 4) in [0, 1], lines that come with expressions, see `folds`
    cut: (H, W, 2) in [0, 1], length of the strands of the shells and of the curtain
    """

    skin: np.ndarray
    folds: np.ndarray
    hair: np.ndarray
    cut: np.ndarray


def linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def skin_colour(melanin: float, warmth: float) -> np.ndarray:  # (3,)
    srgb = np.array([np.interp(melanin, _SKIN_STEPS, _SKIN_SRGB[:, channel]) for channel in range(3)])
    return linear(srgb) * (1 + 0.05 * warmth * np.array([0.4, 0.0, -1.0]))


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise in about [-1, 1] with so many cells down and across."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    lines = np.linspace(0, cells[0] - 1, shape[0], dtype=np.float32)
    columns = np.linspace(0, cells[1] - 1, shape[1], dtype=np.float32)
    return _interpolate(_interpolate(coarse, lines, 0), columns, 1)


def _interpolate(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    first = np.minimum(at.astype(int), values.shape[axis] - 2)
    share = at - first
    share = share * share * (3 - 2 * share)
    share = share[:, None] if axis == 0 else share[None, :]
    return np.asarray(np.take(values, first, axis) * (1 - share) + np.take(values, first + 1, axis) * share)


def _blob(across: np.ndarray, down: np.ndarray, x: float, y: float, wide: float, tall: float) -> np.ndarray:
    """A soft spot on both sides of the face."""
    return np.asarray(np.exp(-(((np.abs(across) - x) / wide) ** 2) - ((down - y) / tall) ** 2))


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def paint(person: Person, size: int) -> Textures:
    """Textures of `size` x `size` texels."""
    rng = np.random.default_rng([person.seed, 5])
    texel = (np.arange(size, dtype=np.float32) + 0.5) / size
    azimuth = u_to_azimuth(texel)[None, :] + np.zeros((size, 1), np.float32)
    across = azimuth * FACE_RADIUS
    down = v_to_height(texel)[:, None] + np.zeros((1, size), np.float32)
    inside = hairline(azimuth, person.hair) - down
    hair, cut, cover = _hair(person, rng, azimuth, down, inside)
    skin = _skin(person, rng, across, down)
    lines = folds(across, down)
    skin[..., :3] *= 1 - (0.3 * person.wrinkles * lines @ _AT_REST)[..., None] * FOLD_TINT
    _lids(skin, person, across, down)
    _moles(skin, person, rng, across, down)
    _brows(skin, person, rng, across, down)
    _beard(skin, person, rng, across, down)
    root = cover[..., None] * np.clip(0.35 + 25 * max(person.hair.top, person.hair.side), 0.4, 0.96)
    skin[..., :3] = skin[..., :3] * (1 - root) + hair[..., :3] * 0.7 * root
    skin[..., 3] *= 1 - 0.8 * root[..., 0]
    return Textures(skin.astype(np.float32), lines, hair.astype(np.float32), cut.astype(np.float32))


def _skin(person: Person, rng: np.random.Generator, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    shape = across.shape
    base = skin_colour(person.melanin, person.warmth)
    pale = 1 - person.melanin
    blood = (
        person.redness
        * (
            0.55 * _blob(across, down, 0.045, 0.035, 0.022, 0.020)
            + 0.60 * _blob(across, down, 0.0, 0.040, 0.014, 0.013)
            + 0.30 * _blob(across, down, 0.0, 0.105, 0.02, 0.012)
            + 0.6 * _blob(across, down, 0.180, 0.0, 0.03, 0.03)
            + 0.15
        )
        + 0.30 * noise(rng, shape, (9, 12)) * person.redness
    )
    shadow = (
        0.50 * _blob(across, down, 0.033, 0.015, 0.017, 0.007)
        + 0.30 * _blob(across, down, 0.017, 0.002, 0.008, 0.010)
        + 0.25 * _blob(across, down, 0.035, -0.010, 0.018, 0.006)
        + 0.20 * _blob(across, down, 0.030, 0.066, 0.012, 0.016)
        + 0.40 * person.bags * _blob(across, down, 0.031, 0.0110, 0.013, 0.0040)
    )
    uneven = person.blotches * (
        0.06 * noise(rng, shape, (6, 8)) + 0.05 * noise(rng, shape, (18, 24)) + 0.03 * noise(rng, shape, (50, 70))
    )
    fine = 0.05 * person.pores * noise(rng, shape, (shape[0] // 3, shape[1] // 3))
    shade = np.exp(uneven + fine)[..., None] * base
    red = np.clip(blood, 0, 1.2)[..., None] * (0.25 + 0.75 * pale)
    shade = shade * (1 - red * np.array([0.02, 0.24, 0.22]))
    shade = shade * (1 - shadow[..., None] * np.array([0.22, 0.28, 0.24]))
    if person.freckles:
        spots = noise(rng, shape, (90, 120)) - 0.45 - 0.5 * (1 - _blob(across, down, 0.03, 0.035, 0.05, 0.035))
        shade = shade * (1 - np.clip(spots * 2.2, 0, 0.5)[..., None] * person.freckles * np.array([0.45, 0.75, 0.9]))
    if person.makeup:
        lid = _blob(across, down, 0.034, -0.009, 0.018, 0.006)[..., None] * person.makeup
        shade = shade * (1 - 0.45 * lid * np.array([0.8, 1.0, 0.9]))
    gloss = 0.55 + 0.45 * (
        _blob(across, down, 0.0, -0.045, 0.040, 0.022) + 1.2 * _blob(across, down, 0.0, 0.03, 0.008, 0.025)
        + 0.7 * _blob(across, down, 0.043, 0.025, 0.014, 0.010) + 0.5 * _blob(across, down, 0.0, 0.1, 0.012, 0.009)
    )  # fmt: skip
    return np.concatenate([shade, (gloss * (1 + fine))[..., None]], axis=-1)


def _hair_colour(person: Person) -> np.ndarray:  # (3,)
    return np.array(person.hair.colour) * (1 - person.hair.grey) + np.array([0.38, 0.37, 0.36]) * person.hair.grey


_AT_REST = np.array([0.8, 0.8, 1.0, 0.8], np.float32)
"""Share of each of `folds` that age leaves at rest."""

FOLD_TINT = np.array([0.70, 0.85, 0.85], np.float32)
"""How much of each colour the deepest line takes away."""


def _line(along: np.ndarray, place: np.ndarray, low: float, high: float, wide: float) -> np.ndarray:
    """A soft line at `place` = 0 from `low` to `high` along it, fading at its ends."""
    ends = _step(low, low + 0.4 * (high - low), along) * (1 - _step(high - 0.4 * (high - low), high, along))
    return np.asarray(ends * np.exp(-((place / wide) ** 2)))


def folds(across: np.ndarray, down: np.ndarray) -> np.ndarray:  # (H, W, 4) float32 in [0, 1]
    """Lines of the raised brow, of the frown, of the smile (from the nose's wings down), and at the eyes' corners."""
    x = np.abs(across)
    raised = sum(
        _line(across, down + height + 0.0012 * np.cos(across * 90) + 0.0008 * np.sin(across * 150 + 70 * height),
              -0.050, 0.050, 0.0016)
        for height in (0.041, 0.050, 0.059)
    )  # fmt: skip
    frown = _line(down, x - 0.0055 - 0.05 * np.abs(down + 0.012), -0.034, -0.008, 0.0014)
    nasolabial = np.interp(down, [0.040, 0.046, 0.054, 0.062, 0.072], [0.0165, 0.0205, 0.0260, 0.0300, 0.0320])
    smile = _line(down, x - nasolabial, 0.038, 0.076, 0.0020)
    corners = sum(_line(x, down - slope * (x - 0.044) - 0.001, 0.046, 0.062, 0.0010) for slope in (-0.4, 0.0, 0.4))
    return np.asarray(np.clip(np.stack([raised, frown, smile, corners], axis=-1), 0, 1), np.float32)


def _lids(skin: np.ndarray, person: Person, across: np.ndarray, down: np.ndarray) -> None:
    """The fold above each eye."""
    bow = ((np.abs(across) - 0.0310) / 0.0145) ** 2
    fold = down + 0.0092 - 0.0075 * bow
    dark = person.crease * (1 - _step(0.9, 1.5, bow)) * np.exp(-((fold / 0.0009) ** 2))
    skin[..., :3] *= 1 - 0.25 * dark[..., None] * np.array([0.70, 0.80, 0.80])


def _moles(skin: np.ndarray, person: Person, rng: np.random.Generator, across: np.ndarray, down: np.ndarray) -> None:
    for _ in range(person.moles):
        x, y, wide = rng.uniform(-0.075, 0.075), rng.uniform(-0.05, 0.11), rng.uniform(0.0008, 0.0018)
        lines = np.abs(down[:, 0] - y) < 3 * wide
        spot = np.exp(-((((across[lines] - x) ** 2 + (down[lines] - y) ** 2) / wide**2) ** 2))[..., None]
        skin[lines, :, :3] *= 1 - spot * rng.uniform(0.3, 0.7) * np.array([0.7, 0.85, 0.95])


def brow_map(person: Person, size: int) -> np.ndarray:  # (size, size) in [0, 1]
    """How dense brow hairs may grow at each texel of the skin's texture."""
    texel = (np.arange(size, dtype=np.float32) + 0.5) / size
    across = u_to_azimuth(texel)[None, :] * FACE_RADIUS + np.zeros((size, 1), np.float32)
    return _brow_density(person, across, v_to_height(texel)[:, None] + np.zeros((1, size), np.float32))


def _brow_density(person: Person, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """A curve above each eye: level with its inner end but for the arch, and lower at the tail."""
    x = np.abs(across)
    start, end = 0.0110 + person.brow_gap, 0.0545 + 0.4 * person.brow_gap
    t = np.clip((x - start) / (end - start), 0, 1)
    middle = (
        -0.0180
        - 0.0010 * person.brow_height
        - person.brow_arch * np.exp(-(((t - 0.60) / 0.38) ** 2))
        + person.brow_tail * np.clip((t - 0.55) / 0.45, 0, 1) ** 1.5
    )
    half = 0.0050 * person.brow_thickness * (1 - 0.65 * t**1.6) * (0.75 + 0.25 * _step(0, 0.2, t))
    offset = (down - middle) / half
    return np.asarray(
        (1 - _step(0.35, 1.15, np.abs(offset)))
        * _step(start - 0.004, start + 0.006, x)
        * (1 - _step(end - 0.008, end + 0.003, x))
    )


def _brows(skin: np.ndarray, person: Person, rng: np.random.Generator, across: np.ndarray, down: np.ndarray) -> None:
    """Hairs along the brows' arches."""
    shape = across.shape
    hairs = 0.80 + 0.30 * noise(rng, shape, (shape[0] // 3, shape[1] // 4)) + 0.20 * noise(rng, shape, (60, 90))
    density = _brow_density(person, across, down)
    colour = np.minimum(_hair_colour(person) * (1 - 0.35 * (1 - person.hair.grey)), 0.16)
    amount = np.clip(density * hairs * person.brows, 0, 0.93)[..., None]
    skin[..., :3] = skin[..., :3] * (1 - amount) + colour * amount
    skin[..., 3] *= 1 - 0.7 * amount[..., 0]


BEARDS = {"full": ("cheek", "lip"), "goatee": ("chin", "lip"), "moustache": ("lip",), "chin": ("chin",)}
"""Where hair is left to grow."""


def _beard(skin: np.ndarray, person: Person, rng: np.random.Generator, across: np.ndarray, down: np.ndarray) -> None:
    if not person.beard:
        return
    x = np.abs(across)
    lip = _blob(across, down, 0.0, 0.052, 0.026, 0.007)
    jaw_top = np.interp(
        x, [0.0, 0.020, 0.032, 0.050, 0.085, 0.115, 0.13], [0.082, 0.083, 0.064, 0.066, 0.040, 0.002, -0.01]
    )
    cheek = _step(-0.006, 0.010, down - jaw_top) * (1 - _step(0.122, 0.134, x)) * (1 - _step(0.118, 0.140, down))
    bare = 1 - 0.9 * np.exp(-((x / 0.020) ** 4) - ((down - 0.0695) / 0.0105) ** 4)
    chin = cheek * (1 - _step(0.026, 0.036, x))
    places = {"cheek": cheek, "chin": chin, "lip": lip}
    zone = np.clip(np.max([places[name] for name in BEARDS[person.beard_style]], axis=0), 0, 1) * bare
    shape = across.shape
    grain = np.clip(
        0.65 + 0.5 * noise(rng, shape, (shape[0] // 2, shape[1] // 2)) + 0.3 * noise(rng, shape, (14, 20)), 0, 1.4
    )
    amount = np.clip(zone * person.beard * (0.22 + 0.70 * person.stubble) * grain, 0, 0.9)[..., None]
    colour = _hair_colour(person) * 0.8 + 0.12 * skin[..., :3] * (1 - person.stubble)
    skin[..., :3] = skin[..., :3] * (1 - amount) + colour * amount
    skin[..., 3] *= 1 - 0.6 * amount[..., 0]


def _hair(
    person: Person, rng: np.random.Generator, azimuth: np.ndarray, down: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour and shine, cut, and how much of the scalp is covered at the roots."""
    hair, shape = person.hair, azimuth.shape
    columns = shape[1]
    straight = 0.6 * noise(rng, shape, (5, columns // 4)) + 0.4 * noise(rng, shape, (8, columns // 9))
    curls = 0.6 * noise(rng, shape, (columns // 7, columns // 7)) + 0.4 * noise(
        rng, shape, (columns // 4, columns // 4)
    )
    calm = _step(0.0, 0.16, (down - ATLAS_TOP) / 0.25)
    strand = (straight * (1 - hair.curl) * (0.35 + 0.65 * calm) + curls * hair.curl).astype(np.float32)
    hanging = float(np.clip(hair.fringe / 0.015, 0, 1))
    fringe = 0.0040 * strand + 0.0035 * noise(rng, shape, (24, 50))
    fine = 0.0035 * noise(rng, shape, (columns // 3, columns // 3)) + 0.0025 * noise(rng, shape, (12, 30))
    ragged = inside + hanging * fringe + (1 - hanging) * fine
    cover = _step(-0.004, 0.014, ragged)
    if hair.style == "bald":
        cover = cover * 0.35 * person.beard
    if hair.recession > 0.8:
        cover = cover * (1 - 0.6 * _step(-0.085, -0.115, down) * (hair.recession - 0.8))
    length = np.clip(0.72 + 0.42 * strand, 0.15, 1.05) * _step(-0.002, 0.030 - 0.016 * hanging, ragged)
    tips = down < hair.length * (0.90 + 0.10 * noise(rng, shape, (2, columns // 5)))
    inner = np.abs(azimuth) - hair.opening - 0.04 * noise(rng, shape, (6, columns // 6)) > 0.02
    curtain = (tips & inner).astype(np.float32)
    grey = 1 + 1.2 * hair.grey * np.clip(noise(rng, shape, (4, columns // 3)), 0, 1)
    tone = np.exp(0.42 * strand + 0.15 * noise(rng, shape, (4, 12))) * grey
    colour = tone[..., None] * _hair_colour(person)
    shine = np.clip(hair.shine * (1 + 0.5 * strand), 0, 1)
    return (
        np.concatenate([np.clip(colour, 0.003, 0.8), shine[..., None]], axis=-1),
        np.stack([length, curtain], axis=-1),
        cover,
    )


def backdrop(
    kind: str, colour: tuple[float, float, float], seed: int, size: int
) -> np.ndarray:  # (size, size, 3) linear
    """A wall, a gradient, or a room out of focus."""
    rng = np.random.default_rng([seed, 6])
    shape = (size, size)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    base = np.array(colour)
    vignette = 1 - 0.15 * (x**2 + y**2) + 0.10 * rng.normal() * x - 0.10 * rng.random() * y
    picture = vignette[..., None] * base
    if kind == "plain":
        grain = 0.02 * noise(rng, shape, (size // 2, size // 2)) + 0.03 * noise(rng, shape, (5, 5))
        picture = picture * np.exp(grain)[..., None]
    elif kind == "gradient":
        other = base * np.exp(rng.normal(0, 0.5) + rng.normal(0, 0.2, 3))
        angle = rng.uniform(0, 2 * np.pi)
        t = _step(-1.0, 1.0, x * np.cos(angle) + y * np.sin(angle) + 0.3 * noise(rng, shape, (4, 4)))[..., None]
        picture = picture * (1 - t) + other * t
    else:
        picture = ndimage.gaussian_filter(_boxes(rng, picture, base, x, y), (size / 64, size / 64, 0))
    return np.asarray(np.clip(picture, 0.003, 1.2))


def _boxes(rng: np.random.Generator, picture: np.ndarray, base: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft upright rectangles, as furniture and windows look out of focus."""
    for _ in range(int(rng.integers(5, 12))):
        place, wide, tall = rng.uniform(-1.2, 1.2, 2), rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.9)
        soft = rng.uniform(0.04, 0.2)
        inside = (
            1 / (1 + np.exp((np.abs(x - place[0]) - wide) / soft)) / (1 + np.exp((np.abs(y - place[1]) - tall) / soft))
        )
        shade = base * np.exp(rng.normal(-0.2, 0.6) + rng.normal(0, 0.16, 3))
        picture = picture * (1 - inside[..., None]) + shade * inside[..., None]
    return picture
