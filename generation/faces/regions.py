"""Warp kernel that names the part of the picture each sample belongs to. Axes and buffers are those of `kernels.py`."""
# Warp checks these types itself, when it compiles.
# mypy: disable-error-code="valid-type, operator, arg-type, assignment, no-any-return, misc, no-untyped-call"

from __future__ import annotations

import warp as wp

from generation.faces.kernels import (
    CHEEK,
    GLASSES,
    ID_BITS,
    LASH,
    LOWER_TEETH,
    TONGUE,
    Mesh,
    cell,
)

REGIONS = ("background", "skin", "brows", "eyes", "lips", "teeth", "mouth", "hair", "clothes")
"""What a picture is divided into. `eyes` are eyeballs and lashes; `mouth` is what lies behind the lips but the teeth:
gums, tongue and cavity; a beard and the scalp's stubble are painted on `skin` and belong to it; `clothes` are
cloth and the frames of glasses."""

BACKGROUND, SKIN, BROWS, EYES, LIPS, TEETH, MOUTH, HAIRS, CLOTHES = (
    wp.constant(index) for index in range(len(REGIONS))
)


@wp.func
def region_of(kind: int, behind: bool, region: wp.vec3, uv: wp.vec2, brows: wp.array2d(dtype=float)) -> int:
    """The region of a point on a triangle of part `kind`; `region` and `uv` as in `kernels.Mesh`."""
    if kind <= CHEEK:
        if region[2] > 0.5 or behind:
            return MOUTH
        if region[1] > 0.0:
            return CLOTHES
        if region[0] > 0.5:
            return LIPS
        if brows[cell(brows.shape[0], uv[1]), cell(brows.shape[1], uv[0])] > 0.5:
            return BROWS
        return SKIN
    if kind <= LASH:
        return EYES
    if kind <= LOWER_TEETH:
        if uv[1] > 1.0:  # the gum
            return MOUTH
        return TEETH
    if kind == TONGUE:
        return MOUTH
    if kind == GLASSES:
        return CLOTHES
    return HAIRS


@wp.kernel
def count_regions(
    nearest: wp.array3d(dtype=wp.int64),
    screen: wp.array2d(dtype=wp.vec3),
    mesh: Mesh,
    brows: wp.array2d(dtype=float),
    side: int,
    count: wp.array4d(dtype=wp.uint8),
) -> None:
    """How many of a pixel's side x side samples lie in each region."""
    e, line, column = wp.tid()
    for index in range(side * side):
        y = line * side + index / side
        x = column * side + index % side
        key = nearest[e, y, x]
        which = wp.int32(BACKGROUND)
        if key != wp.int64(0):
            t = int(key % ID_BITS)
            face = mesh.faces[t]
            a = screen[e, face[0]]
            b = screen[e, face[1]]
            c = screen[e, face[2]]
            px = float(x) + 0.5
            py = float(y) + 0.5
            area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
            wa = wp.max(((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area, 0.0) * a[2]
            wb = wp.max(((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area, 0.0) * b[2]
            wc = wp.max(((a[0] - px) * (b[1] - py) - (a[1] - py) * (b[0] - px)) / area, 0.0) * c[2]
            total = wa + wb + wc
            uv = (mesh.uv[face[0]] * wa + mesh.uv[face[1]] * wb + mesh.uv[face[2]] * wc) / total
            region = (mesh.region[face[0]] * wa + mesh.region[face[1]] * wb + mesh.region[face[2]] * wc) / total
            which = region_of(mesh.kind[t], area > 0.0, region, uv, brows)
        count[e, line, column, which] = count[e, line, column, which] + wp.uint8(1)
