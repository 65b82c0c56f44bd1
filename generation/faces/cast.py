"""Who plays in a set of synthetic faces, in which scenes, and in which split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from generation import records
from generation.faces.factors import OF_PEOPLE, OF_SCENES, Factor
from generation.faces.people import FacesConfig, Person, Scene, sample_person, sample_scene
from generation.records import UserError

T = TypeVar("T")

_DRAWS = 5_000
"""How many people or scenes are drawn for a place before it counts as one that cannot be filled."""


def people_of(config: FacesConfig) -> list[tuple[int, str]]:
    """Number and split of every person, in the order of the records."""
    splits = [split for split in records.SPLITS for _ in range(getattr(config, split))]
    return list(enumerate(splits))


def cast(config: FacesConfig, number: int, split: str) -> tuple[Person, list[Scene]]:
    """Person `number` of a set and the scenes they are in.

    With `split_factors` people and scenes are drawn again until they fit: nobody in train and validation shows one of
    the factors; the people of test take turns, and each shows one of them and none of the others. Such a scene has the
    factor in its name. Raises `UserError` where the factors leave nobody.
    """
    wanted = _factor_of(config, number) if split == "test" else None
    total = config.train + config.validation + config.test

    def index(draw: int) -> int:
        return number + draw * total

    drawn = _first_fit(lambda draw: sample_person(config.seed, index(draw)), OF_PEOPLE, config, wanted)
    person = sample_person(config.seed, index(drawn))
    scenes = []
    for which in range(config.scenes):

        def scene(draw: int, which: int = which) -> Scene:
            return sample_scene(config.seed, index(drawn), which + draw * config.scenes)

        found = scene(_first_fit(scene, OF_SCENES, config, wanted))
        scenes.append(found if wanted is None else replace(found, name=f"{found.name}-{wanted}"))
    return person, scenes


def _factor_of(config: FacesConfig, number: int) -> Factor | None:
    """Which of the held-out factors a person of test shows."""
    place = number - config.train - config.validation
    return config.split_factors[place % len(config.split_factors)] if config.split_factors else None


def _first_fit(
    drawn: Callable[[int], T], tests: Mapping[Factor, Callable[[T], bool]], config: FacesConfig, wanted: Factor | None
) -> int:
    """The first draw that shows what is wanted and nothing else of what is held out."""
    held = [factor for factor in config.split_factors if factor in tests]
    for draw in range(_DRAWS):
        if not held or all(tests[factor](drawn(draw)) == (factor == wanted) for factor in held):
            return draw
    raise UserError(f"data.split_factors={list(config.split_factors)}: nothing fits in {_DRAWS} draws; hold fewer out")
