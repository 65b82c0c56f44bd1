"""What networks that know real faces say of the synthetic people: the figures and pictures of a survey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from generation.faces.judges import FINDERS, UNREAD, correlations, own_response_strongest, separation
from generation.faces.survey import MOVEMENTS, Survey, SurveyConfig, survey
from generation.motion import ACTIONS
from generation.records import encode_png, write_beside
from scripts.console import progress, say
from scripts.face_sheets import COLUMNS


def report(settings: SurveyConfig, folder: Path, workers: int) -> dict[str, Any]:
    """What the judges say of random people, as figures and pictures."""
    with progress("people judged") as bar:
        said = survey(settings, folder / "judged", workers, bar)
    write_beside(folder / "people.png", encode_png(tiled(said.sheet, COLUMNS)))
    movement_of = {action: name for name, actions in MOVEMENTS.items() for action in actions}
    order = list(MOVEMENTS)
    for index, action in enumerate(ACTIONS):
        who = [(2 * index + k) % len(said.strips) for k in range(2)]  # left and right show different people
        strips = said.strips[who, order.index(movement_of[action])]
        write_beside(
            folder / "sweeps" / f"{action}.png", encode_png(tiled(np.concatenate(strips), said.strips.shape[2]))
        )
    judges = judgements(said)
    for action in ACTIONS:
        r, change = (_shown(judges["mediapipe"][kind][action]) for kind in ("r", "r_of_change"))
        sweep = judges["mediapipe"]["sweep"][movement_of[action]]
        say(
            f"{action:<20} r {r}  of the change {change}  0 -> 1: {sweep['response'][action]:5.2f}"
            f"  strongest {sweep['strongest']} {sweep['response'][sweep['strongest']]:.2f}"
        )
    found = ", ".join(f"{name} {judges[name]['found']:.2%}" for name in FINDERS)
    identity = ", ".join(f"{key} {judges['identity'][key]:.4f}" for key in ("auroc", "same", "different"))
    read = judges["mediapipe"]
    say(f"found by {found}; r: mean {read['mean_r']:.3f}, of the change {read['mean_r_of_change']:.3f}")
    say(f"own response strongest in {judges['mediapipe']['strongest']} of {judges['mediapipe']['read']} actions")
    say(f"identity: {identity}")
    return {"faces": len(said.identity), "people": len(set(said.identity.tolist())), "judges": judges}


def _shown(r: float | None) -> str:
    return "    -" if r is None else f"{r:5.2f}"


def judgements(said: Survey) -> dict[str, Any]:
    """The figures of a survey; means of r and `strongest` leave out `UNREAD`.

    r: between the truth and the reading; r_of_change: the reading less that of the same person at rest
    """
    r, r_of_change = (correlations(said.truth, reading) for reading in (said.reading, said.reading - said.rest))
    response = np.nanmean(said.responses, axis=0)
    own = [name for row, (name, moved) in enumerate(MOVEMENTS.items()) if own_response_strongest(moved, response[row])]
    read = [action for action in ACTIONS if action not in UNREAD]
    found = {name: {"found": float(said.found[:, column].mean())} for column, name in enumerate(FINDERS)}
    apart = separation(said.embedding, said.identity)
    return {
        **found,
        "mediapipe": {
            **found["mediapipe"],
            "r": r,
            "r_of_change": r_of_change,
            "mean_r": float(np.mean([r[action] or 0.0 for action in read])),
            "mean_r_of_change": float(np.mean([r_of_change[action] or 0.0 for action in read])),
            "read": len(read),
            "strongest": sum(action in MOVEMENTS[name] for name in own for action in read),
            "sweep": {
                name: {
                    "strongest": ACTIONS[int(np.argmax(response[row]))],
                    "response": dict(zip(ACTIONS, response[row].tolist(), strict=True)),
                }
                for row, name in enumerate(MOVEMENTS)
            },
        },
        "identity": {
            "network": said.network,
            "auroc": apart.auroc,
            "same": apart.same,
            "different": apart.different,
        },
    }


def tiled(images: np.ndarray, columns: int) -> np.ndarray:  # (n, h, w, 3) -> (rows * h, columns * w, 3)
    """Pictures in lines of `columns`, the last one filled up with black."""
    rows = -(-len(images) // columns)
    whole = np.zeros((rows * columns, *images.shape[1:]), images.dtype)
    whole[: len(images)] = images
    return np.concatenate(
        [np.concatenate(list(row), axis=1) for row in whole.reshape(rows, columns, *images.shape[1:])]
    )
