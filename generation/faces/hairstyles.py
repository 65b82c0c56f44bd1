"""Draws of a person's hair, and small helpers of all draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hair:
    """One head of hair; lengths in metres.

    style: see `STYLES`; top, side: thickness; fringe: how far the front hangs down; sweep: how far the top leans
    length: of the curtain below the eyes, 0 for none; opening: azimuth where the curtain begins
    drape: how far it hangs over the forehead
    part: azimuth of the parting; line: how far the hairline is moved up; recession: the same for its corners
    """

    style: str
    top: float
    side: float
    fringe: float
    sweep: float
    length: float
    opening: float
    part: float
    drape: float
    wave: float
    curl: float
    line: float
    recession: float
    colour: tuple[float, float, float]
    grey: float
    shine: float


def one_of(rng: np.random.Generator, table: dict[str, float]) -> str:
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


STYLES = ("bald", "buzz", "short", "side", "quiff", "fringe", "back", "afro", "bob", "long")


def sample_hair(rng: np.random.Generator, male: bool, old: float, african: float, colour: np.ndarray) -> Hair:
    curly = rng.random() < african
    if male:
        chances = {
            "bald": 0.03 + 0.15 * old,
            "buzz": 0.2,
            "short": 0.25,
            "side": 0.2,
            "quiff": 0.17,
            "fringe": 0.12,
            "back": 0.05,
            "long": 0.02,
        }
        if curly:
            chances = {"bald": 0.07, "buzz": 0.5, "short": 0.22, "afro": 0.18}
    else:
        chances = {"back": 0.24, "bob": 0.24, "long": 0.36, "fringe": 0.06, "side": 0.08, "short": 0.02}
        if curly:
            chances = {"back": 0.3, "buzz": 0.1, "afro": 0.35, "bob": 0.1, "long": 0.15}
    style = one_of(rng, chances)
    top, side, fringe, sweep, length = {
        "bald": (0.0, 0.0, 0.0, 0.0, 0.0),
        "buzz": (0.005, 0.003, 0.0, 0.0, 0.0),
        "short": (0.018, 0.008, 0.004, 0.0, 0.0),
        "side": (0.024, 0.010, 0.006, 0.014, 0.0),
        "quiff": (0.034, 0.009, -0.012, 0.004, 0.0),
        "fringe": (0.022, 0.013, 0.030, 0.004, 0.0),
        "back": (0.011, 0.008, -0.006, 0.0, 0.0),
        "afro": (0.045, 0.036, 0.0, 0.0, 0.0),
        "bob": (0.022, 0.018, 0.002, 0.0, 0.115),
        "long": (0.021, 0.018, 0.002, 0.0, 0.26),
    }[style]
    scale = between(rng, 0.8, 1.25)
    grey = float(np.clip(old * rng.uniform(0.2, 1.5) - 0.35, 0, 1))
    return Hair(
        style=style,
        top=top * scale,
        side=side * between(rng, 0.8, 1.2),
        fringe=fringe * between(rng, 0.6, 1.2),
        sweep=sweep * float(rng.choice([-1, 1])),
        length=length * between(rng, 0.85, 1.15),
        opening=between(rng, 0.95, 1.30),
        part=between(rng, -0.35, 0.35),
        drape=between(rng, 0.015, 0.045) if length > 0 else 0.0,
        wave=between(rng, 0.0, 1.0),
        curl=between(rng, 0.7, 1.0) if curly else between(rng, 0.0, 0.45),
        line=between(rng, -0.006, 0.006),
        recession=between(rng, 0.0, 0.6) + old * between(rng, 0, 0.9) if male else 0.0,
        colour=triple(colour * rng.uniform(0.75, 1.3)),
        grey=grey,
        shine=between(rng, 0.3, 0.8) * (0.4 if curly else 1.0),
    )
