"""The bank of expressions that crosses all people and scenes of a factorial set."""

from __future__ import annotations

from typing import Literal

import numpy as np

from generation.motion import ACTIONS, EXPRESSION_SIZE

Actions = dict[str, float]


def _both(stem: str, value: float) -> Actions:
    return {f"{stem}Left": value, f"{stem}Right": value}


def _gaze(right: float, up: float) -> Actions:
    """Both eyes towards the person's own right and up; negative is left and down."""
    side = (
        {"eyeLookOutRight": right, "eyeLookInLeft": right}
        if right > 0
        else {"eyeLookInRight": -right, "eyeLookOutLeft": -right}
    )
    return side | _both("eyeLookUp" if up > 0 else "eyeLookDown", abs(up))


EMOTIONS: dict[str, Actions] = {
    "smile": _both("mouthSmile", 0.9) | _both("cheekSquint", 0.4) | _both("eyeSquint", 0.15),
    "laugh": _both("mouthSmile", 0.95)
    | _both("cheekSquint", 0.6)
    | _both("eyeSquint", 0.3)
    | _both("mouthUpperUp", 0.35)
    | {"jawOpen": 0.38},
    "toothy smile": _both("mouthSmile", 0.95)
    | _both("mouthUpperUp", 0.6)
    | _both("mouthLowerDown", 0.25)
    | _both("cheekSquint", 0.35),
    "surprise": _both("eyeWide", 0.75)
    | _both("browOuterUp", 0.75)
    | {"browInnerUp": 0.8, "jawOpen": 0.5, "mouthFunnel": 0.15},
    "fear": _both("eyeWide", 0.8) | _both("mouthStretch", 0.6) | {"browInnerUp": 0.8, "jawOpen": 0.25},
    "anger": _both("browDown", 0.9) | _both("eyeSquint", 0.35) | _both("mouthPress", 0.5) | _both("noseSneer", 0.35),
    "snarl": _both("browDown", 0.8)
    | _both("noseSneer", 0.7)
    | _both("mouthUpperUp", 0.6)
    | _both("mouthLowerDown", 0.3)
    | {"jawOpen": 0.12},
    "sadness": _both("mouthFrown", 0.7) | _both("eyeLookDown", 0.25) | {"browInnerUp": 0.85, "mouthShrugLower": 0.35},
    "disgust": _both("noseSneer", 0.75)
    | _both("mouthUpperUp", 0.4)
    | _both("browDown", 0.45)
    | _both("eyeSquint", 0.4),
    "contempt": {"mouthSmileLeft": 0.45, "mouthDimpleLeft": 0.6, "mouthPressLeft": 0.3},
    "doubt": {"browOuterUpLeft": 0.8, "browDownRight": 0.6, "mouthRight": 0.3, "mouthPressRight": 0.4},
    "pain": _both("eyeSquint", 0.8)
    | _both("browDown", 0.7)
    | _both("mouthStretch", 0.5)
    | _both("mouthUpperUp", 0.3)
    | {"jawOpen": 0.1},
    "pout": _both("mouthFrown", 0.3) | {"mouthPucker": 0.6, "mouthShrugLower": 0.5, "browInnerUp": 0.3},
    "kiss": {"mouthPucker": 0.85},
    "thinking": _gaze(0.5, 0.5) | {"mouthLeft": 0.35, "mouthPucker": 0.25, "browInnerUp": 0.25},
    "tired": _both("eyeBlink", 0.5) | _both("eyeLookDown", 0.3) | {"jawOpen": 0.06},
    "yawn": _both("eyeBlink", 0.85) | {"jawOpen": 0.85, "browInnerUp": 0.35},
    "puffed cheeks": _both("mouthPress", 0.3) | {"cheekPuff": 0.7},
}
"""What faces do when people feel something; strengths are scaled when drawn."""

VISEMES: dict[str, Actions] = {
    "aa": {"jawOpen": 0.6} | _both("mouthLowerDown", 0.2),
    "ah": {"jawOpen": 0.35} | _both("mouthStretch", 0.15),
    "ee": {"jawOpen": 0.12} | _both("mouthSmile", 0.3) | _both("mouthStretch", 0.35) | _both("mouthLowerDown", 0.25),
    "eh": {"jawOpen": 0.28} | _both("mouthStretch", 0.25) | _both("mouthUpperUp", 0.15),
    "oh": {"jawOpen": 0.35, "mouthFunnel": 0.6, "mouthPucker": 0.2},
    "oo": {"jawOpen": 0.12, "mouthFunnel": 0.45, "mouthPucker": 0.6},
    "ff": {"jawOpen": 0.06, "mouthRollLower": 0.55} | _both("mouthUpperUp", 0.25),
    "mm": {"mouthRollLower": 0.35, "mouthRollUpper": 0.35} | _both("mouthPress", 0.4),
    "ss": {"jawOpen": 0.05} | _both("mouthStretch", 0.3) | _both("mouthLowerDown", 0.3) | _both("mouthUpperUp", 0.2),
    "sh": {"jawOpen": 0.1, "mouthFunnel": 0.6} | _both("mouthUpperUp", 0.15),
    "th": {"jawOpen": 0.16, "tongueOut": 0.3},
    "ll": {"jawOpen": 0.2} | _both("mouthUpperUp", 0.2),
}
"""Mouth shapes of speech."""

SPEECH: dict[str, Actions] = {
    "pp": VISEMES["mm"],
    "ff": VISEMES["ff"],
    "th": VISEMES["th"],
    "dd": {"jawOpen": 0.14} | _both("mouthUpperUp", 0.15) | _both("mouthLowerDown", 0.2),
    "kk": {"jawOpen": 0.22} | _both("mouthStretch", 0.12) | _both("mouthLowerDown", 0.1),
    "ch": VISEMES["sh"],
    "ss": VISEMES["ss"],
    "nn": VISEMES["ll"],
    "rr": {"jawOpen": 0.16, "mouthFunnel": 0.35, "mouthPucker": 0.15},
    "aa": VISEMES["aa"],
    "eh": VISEMES["eh"],
    "ih": VISEMES["ee"],
    "oh": VISEMES["oh"],
    "ou": VISEMES["oo"],
}
"""The 14 visemes of MPEG-4 (ISO/IEC 14496-2) but for silence, which is neutral."""

SIX_EMOTIONS: dict[str, Actions] = {
    "joy": EMOTIONS["smile"],
    **{name: EMOTIONS[name] for name in ("surprise", "fear", "anger", "sadness", "disgust")},
}
"""The emotions that Ekman found to look alike everywhere."""

STRENGTHS = {"slight": 0.4, "clear": 0.7, "full": 1.0}

EYES: dict[str, Actions] = {
    "blink": _both("eyeBlink", 1.0),
    "half blink": _both("eyeBlink", 0.55),
    "wink left": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.4, "mouthSmileLeft": 0.25},
    "wink right": {"eyeBlinkRight": 1.0, "cheekSquintRight": 0.4, "mouthSmileRight": 0.25},
    "squint": _both("eyeSquint", 0.85),
    "wide": _both("eyeWide", 0.8),
    "look right": _gaze(0.7, 0.0),
    "look left": _gaze(-0.7, 0.0),
    "look up": _gaze(0.0, 0.6),
    "look down": _gaze(0.0, -0.6),
    "look aside": _gaze(0.6, -0.3),
    "brows up": _both("browOuterUp", 0.8) | {"browInnerUp": 0.7},
    "frown": _both("browDown", 0.85),
}
"""What the upper face does alone."""

ODD: dict[str, Actions] = {
    "jaw left": {"jawLeft": 0.6, "jawOpen": 0.1},
    "jaw right": {"jawRight": 0.6, "jawOpen": 0.1},
    "jaw forward": {"jawForward": 0.7},
    "mouth left": {"mouthLeft": 0.6},
    "mouth right": {"mouthRight": 0.6},
    "tongue": {"jawOpen": 0.35, "tongueOut": 0.9},
    "shrug": {"mouthShrugUpper": 0.5, "mouthShrugLower": 0.7},
    "closed over teeth": {"jawOpen": 0.3, "mouthClose": 0.3},
}
"""Sides and rare movements."""

_TABLES = (EMOTIONS, VISEMES, EYES, ODD)
_STRENGTHS = ((0.75, 1.25), (0.85, 1.4), (0.85, 1.05), (0.8, 1.2))
_KINDS: tuple[int | Literal["talk", "mixture"], ...] = (3, 0, 1, 0, 2, 0, "talk", "mixture")
"""What comes in turn: an entry of one of `_TABLES`, speech with a movement of the eyes, or a mixture."""

_PLAIN_FROM = 64
"""Where the bank has the emotions and visemes that are the same for every seed."""

_CONFLICTS: tuple[tuple[str, str], ...] = (
    *((f"eyeWide{side}", f"{other}{side}") for side in ("Left", "Right") for other in ("eyeBlink", "eyeSquint")),
    *((f"eyeLookUp{side}", f"eyeLookDown{side}") for side in ("Left", "Right")),
    *((f"eyeLookIn{side}", f"eyeLookOut{side}") for side in ("Left", "Right")),
    *((f"browDown{side}", f"browOuterUp{side}") for side in ("Left", "Right")),
    *((f"mouthSmile{side}", f"mouthFrown{side}") for side in ("Left", "Right")),
    *((narrow, f"{wide}{side}") for side in ("Left", "Right") for narrow in ("mouthPucker", "mouthFunnel")
      for wide in ("mouthSmile", "mouthStretch", "mouthPress")),
    *((f"mouthRoll{lip}", f"mouth{away}{side}") for side in ("Left", "Right")
      for lip, away in (("Lower", "LowerDown"), ("Upper", "UpperUp"))),
    *(("browInnerUp", f"browDown{side}") for side in ("Left", "Right")),
    ("mouthLeft", "mouthRight"), ("jawLeft", "jawRight"), ("jawForward", "jawOpen"),
    ("mouthPucker", "mouthFunnel"), ("cheekPuff", "jawOpen"), ("cheekPuff", "mouthFunnel"),
    ("mouthRollLower", "mouthFunnel"), ("mouthRollUpper", "mouthFunnel"),
    ("tongueOut", "mouthRollLower"), ("tongueOut", "mouthClose"),
)  # fmt: skip
"""Pairs that no face can do at once at full strength: their sum stays at or below 1; the weaker one gives way."""


def conflicts(expression: np.ndarray, slack: float = 0.05) -> list[tuple[str, str]]:
    """The pairs of actions in an expression (52,) that exclude one another."""
    value = dict(zip(ACTIONS, expression, strict=True))
    clashes = [(a, b) for a, b in _CONFLICTS if value[a] + value[b] > 1 + slack and min(value[a], value[b]) > slack]
    if value["mouthClose"] > value["jawOpen"] + slack:
        clashes.append(("mouthClose", "jawOpen"))
    return clashes


def _settle(actions: Actions) -> np.ndarray:  # (52,)
    """Clip to [0, 1] and let the weaker of two conflicting actions give way."""
    value = {name: float(np.clip(actions.get(name, 0.0), 0, 1)) for name in ACTIONS}
    for a, b in _CONFLICTS:
        if value[a] + value[b] > 1:
            weaker, stronger = (a, b) if value[a] < value[b] else (b, a)
            value[weaker] = max(0.0, 1 - value[stronger])
    value["mouthClose"] = min(value["mouthClose"], value["jawOpen"])
    return np.array([value[name] for name in ACTIONS], np.float32)


def _scaled(actions: Actions, strength: float) -> Actions:
    return {name: value * strength for name, value in actions.items()}


def settled(actions: Actions, strength: float = 1.0) -> np.ndarray:  # (52,) float32
    """Named actions at some strength as an expression without conflicts."""
    return _settle(_scaled(actions, strength))


def single_actions(strength: float) -> np.ndarray:  # (A, 52) float32
    """Every action alone, those of the two halves of the face together; but for gaze, and `mouthClose`, which needs an
    open jaw."""
    alone: dict[str, Actions] = {}
    for name in ACTIONS:
        if name != "mouthClose" and "Look" not in name:
            stem = name.removesuffix("Left").removesuffix("Right")
            alone.setdefault(name if stem in ("jaw", "mouth") else stem, {})[name] = strength
    return np.stack([settled(actions) for actions in alone.values()])


def yielding(below: np.ndarray, above: np.ndarray) -> np.ndarray:  # (F, 52), (F, 52) -> (F, 52)
    """What is left of expressions beside others that come first: the greater of both, action by action, is free of
    conflicts if each is. Small changes of either make small changes of it."""
    left = below.copy()
    column = {name: index for index, name in enumerate(ACTIONS)}
    for pair in _CONFLICTS:
        for one, other in (pair, pair[::-1]):
            left[:, column[one]] = np.minimum(left[:, column[one]], 1 - above[:, column[other]])
    close, jaw = column["mouthClose"], column["jawOpen"]
    left[:, close] = np.minimum(left[:, close], left[:, jaw])
    return left


def _sum(*parts: Actions) -> Actions:
    """Added up; where two parts use one action, the stronger wins."""
    total: Actions = {}
    for part in parts:
        for name, value in part.items():
            total[name] = max(total.get(name, 0.0), value)
    return total


_FREE = tuple(
    name for name in ACTIONS if not name.startswith("eyeLook") and name not in ("mouthClose", "tongueOut", "jawForward")
)


def _mixture(rng: np.random.Generator) -> Actions:
    """A few single actions; those of the face's two halves mostly go together."""
    actions: Actions = {}
    for name in rng.choice(_FREE, size=int(rng.integers(2, 6)), replace=False):
        value = float(rng.uniform(0.25, 0.85))
        actions[str(name)] = value
        for side, other in (("Left", "Right"), ("Right", "Left")):
            twin = str(name).removesuffix(side) + other
            if str(name).endswith(side) and twin in _FREE and rng.random() < 0.7:
                actions[twin] = value * float(rng.uniform(0.8, 1.0))
    return actions


def expression_bank(count: int, seed: int) -> np.ndarray:  # (count, 52) float32 in [0, 1]
    """Expression 0 is neutral; then emotions, speech, eyes, rare movements, combinations, and sparse mixtures.

    Each table is gone through in an order of its own before it starts again. The 32 from number 64 on are the same for
    every seed: six emotions at three strengths each, then 14 visemes. A longer bank of the same seed begins with the
    shorter one.
    """
    plain = [settled(actions, strength) for actions in SIX_EMOTIONS.values() for strength in STRENGTHS.values()]
    plain += [settled(actions) for actions in SPEECH.values()]
    bank = [np.zeros(EXPRESSION_SIZE, np.float32)]
    order = np.random.default_rng([seed, 4])
    decks = [order.permutation(list(table)) for table in _TABLES]
    drawn = [0] * len(_TABLES)

    def draw(table: int) -> Actions:
        name = str(decks[table][drawn[table] % len(decks[table])])
        drawn[table] += 1
        return _TABLES[table][name]

    for index in range(1, count):
        if _PLAIN_FROM <= index < _PLAIN_FROM + len(plain):
            bank.append(plain[index - _PLAIN_FROM])
            continue
        rng = np.random.default_rng([seed, 3, index])
        kind = _KINDS[index % len(_KINDS)]
        if kind == "mixture":
            actions = _mixture(rng)
        elif kind == "talk":
            actions = _sum(_scaled(draw(1), rng.uniform(0.85, 1.4)), _scaled(draw(2), rng.uniform(0.7, 1.0)))
        else:
            actions = _scaled(draw(kind), rng.uniform(*_STRENGTHS[kind]))
        if rng.random() < 0.3:
            actions = _sum(actions, _gaze(*rng.uniform(-0.45, 0.45, 2)))
        bank.append(_settle(actions))
    return np.stack(bank)
