"""The lesson's examples, made of people who are in none of the quiz's items, by the reenactor that made those."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detection.quiz import Example
from detection.quiz_lesson import Tried, best, facts, still_examples, trembling
from generation.motion import ACTIONS
from generation.records import Faces, UserError
from scripts.quiz_items import Forger, Plan, pixels
from scripts.quiz_media import clip, still

MOST_TRIED = 120
"""Forgeries that are tried for the lesson's stills."""

_VISIBLE = 0.8
_GAZE = [index for index, name in enumerate(ACTIONS) if name.startswith("eyeLook")]


def try_stills(
    faces: Faces, forger: Forger, seed: int, progress: Callable[[int, int], None], most: int = MOST_TRIED
) -> list[tuple[int, int, Tried]]:
    """Frames of the people with the expressions of other frames of the same clip, whose picture is then the truth.

    Returns rows of source and truth with each. Raises `UserError` where no clip has two expressions.
    """
    rng = np.random.default_rng([seed, 31])
    pairs = []
    for name in np.unique(faces.clip):
        rows = np.flatnonzero(faces.clip == name)
        change = np.abs(faces.expression[rows].numpy()[:, None] - faces.expression[rows].numpy()[None]).sum(-1)
        pairs += [(int(rows[a]), int(rows[b])) for a, b in np.argwhere(change > _VISIBLE)]
    if not pairs:
        raise UserError("these records hold no clip with two plainly different expressions, of which a lesson is made")
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:most]]
    tried = []
    for done, (a, b) in enumerate(chosen, 1):
        wanted = faces.expression[b].numpy()
        made = forger.forge(faces, a, wanted)
        before, after = (faces.landmarks[row].numpy() for row in (a, b))
        gaze = float(np.abs(wanted - faces.expression[a].numpy())[_GAZE].sum())
        one = Tried(pixels(faces, a), made.image, pixels(faces, b), made.mask, before, after, gaze)
        tried.append((a, b, one))
        progress(done, len(chosen))
    return tried


def still_lesson(
    faces: Faces, forger: Forger, seed: int, progress: Callable[[int, int], None], most: int = MOST_TRIED
) -> tuple[list[Example], dict[str, str]]:
    """Examples of all topics that show in stills, and the numbers that the lesson's text names."""
    tried = try_stills(faces, forger, seed, progress, most)
    only = [one for _, _, one in tried]
    examples = []
    for topic, chosen in [*still_examples(only), ("good", best(only))]:
        a, b, one = tried[chosen.place]
        statement = forger.statement([one.source, one.truth], str(faces.origin[a]), seed)
        media = (still(one.source)[0], still(one.forgery, statement)[0], still(pixels(faces, b))[0])
        examples.append(Example(topic, *media, chosen.figures))
    return examples, facts(only)


def clip_lesson(plans: Sequence[Plan], forger: Forger, seed: int) -> list[Example]:
    """Of some swapped clips the one that trembles most."""
    found = []
    for plan in plans:
        assert plan.expressions is not None
        rows = zip(plan.rows, plan.expressions, strict=True)
        made = [forger.forge(plan.faces, int(row), expression) for row, expression in rows]
        source, forged = np.stack([pixels(plan.faces, row) for row in plan.rows]), np.stack([one.image for one in made])
        skin = np.min([one.mask for one in made], axis=0) > 200
        found.append((trembling(source, forged, skin) if skin.any() else 0.0, plan, source, forged))
    if not found:
        return []
    value, plan, source, forged = max(found, key=lambda item: item[0])
    statement = forger.statement([source[0]], str(plan.faces.origin[plan.rows[0]]), seed)
    return [Example("timing", clip(source)[0], clip(forged, statement)[0], None, {"times": f"{value:.1f}"})]
