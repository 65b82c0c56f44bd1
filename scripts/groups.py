"""Groups of synthetic people, by the truth that they were drawn from: skin, age, sex, and the factors of scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from generation.faces.cast import cast, people_of
from generation.faces.factors import OF_PEOPLE, OF_SCENES
from generation.faces.people import FacesConfig

Belongs = Callable[[pd.DataFrame], np.ndarray]


def groups_of(config: FacesConfig, split: str = "test") -> dict[str, Belongs]:
    """{name: rows of scores -> whether each is of that group}.

    Skin and age in thirds of the people of the split, sex by halves of Anny's axis; every factor of
    `generation.faces.factors`, with and without it.
    """
    shown = [cast(config, number, where) for number, where in people_of(config) if where == split]
    names = np.array([person.name for person, _ in shown])
    melanin = np.array([person.melanin for person, _ in shown])
    age = np.array([person.phenotype["age"] for person, _ in shown])
    gender = np.array([person.phenotype["gender"] for person, _ in shown])
    members = {
        **_thirds("skin", ("light", "medium", "dark"), melanin),
        **_thirds("age", ("young", "middle", "old"), age),
        "sex: male": gender < 0.5,
        "sex: female": gender >= 0.5,
    }
    tests = {name: np.array([test(person) for person, _ in shown]) for name, test in OF_PEOPLE.items()}
    tests |= {name: np.array([any(map(test, scenes)) for _, scenes in shown]) for name, test in OF_SCENES.items()}
    for name, has in tests.items():
        members |= {f"{name}: yes": has, f"{name}: no": ~has}
    return {name: _belongs(frozenset(names[chosen].tolist())) for name, chosen in members.items()}


def _thirds(what: str, words: tuple[str, str, str], values: np.ndarray) -> dict[str, np.ndarray]:
    third = np.argsort(np.argsort(values)) * 3 // max(1, len(values))
    return {f"{what}: {word}": third == index for index, word in enumerate(words)}


def _belongs(names: frozenset[str]) -> Belongs:
    return lambda rows: rows["identity"].isin(names).to_numpy()
