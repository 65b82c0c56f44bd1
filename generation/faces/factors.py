"""Factors that people or scenes have or have not, by which a test split may be set apart from the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from generation.faces.people import Person, Scene

Factor = Literal[
    "old", "beard", "long_hair", "dark_skin", "freckles", "makeup", "glasses",
    "side_light", "rim_light", "large_yaw", "blurred_room",
]  # fmt: skip

OF_PEOPLE: dict[Factor, Callable[[Person], bool]] = {
    "old": lambda person: person.phenotype["age"] > 0.80,
    "beard": lambda person: person.beard > 0,
    "long_hair": lambda person: person.hair.length > 0,
    "dark_skin": lambda person: person.melanin > 0.6,
    "freckles": lambda person: person.freckles > 0,
    "makeup": lambda person: person.makeup > 0,
    "glasses": lambda person: person.glasses is not None,
}

OF_SCENES: dict[Factor, Callable[[Scene], bool]] = {
    "side_light": lambda scene: abs(scene.key[0]) > 0.6,  # the key light more than 37 degrees to one side
    "rim_light": lambda scene: max(scene.rim_colour) > 0.3,
    "large_yaw": lambda scene: abs(scene.pose[1]) > 0.3,  # more than 17 degrees
    "blurred_room": lambda scene: scene.background == "blur",
}
