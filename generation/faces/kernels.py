"""Warp kernels of the renderer: place vertices, fill a depth buffer, light vertices. `shading.py` colours the pixels.

They run on "cpu" (one thread) and on CUDA. Axes are those of the view: x right, y down, z away from the camera. A depth
buffer holds, for each sample, the nearest triangle: inverse depth in the upper bits, the triangle's number in the lower
20, so that the result does not depend on the order of the triangles. Colours are linear RGB.

The functions are Warp's, which looks like Python with types of its own: https://nvidia.github.io/warp
"""
# Warp checks these types itself, when it compiles.
# mypy: disable-error-code="valid-type, operator, arg-type, assignment, call-overload, no-any-return, misc"
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import warp as wp

wp.config.log_level = wp.LOG_ERROR

ID_BITS = wp.constant(wp.int64(1 << 20))
_DEPTH_STEPS = wp.constant(1.0e8)

SKIN = wp.constant(0)
CHEEK = wp.constant(1)
EYE = wp.constant(2)
LASH = wp.constant(3)
UPPER_TEETH = wp.constant(4)
LOWER_TEETH = wp.constant(5)
TONGUE = wp.constant(6)
HAIR = wp.constant(7)
CURTAIN = wp.constant(8)
GLASSES = wp.constant(9)


@wp.struct
class Camera:
    """turn, lean: turns of the head, and of the shoulders about `neck`; at: the eyes' midpoint; focal: in half widths.

    size: pixels of the image; side: samples of a pixel in a row
    """

    turn: wp.mat33
    lean: wp.mat33
    neck: wp.vec3
    at: wp.vec3
    focal: float
    size: int
    side: int


@wp.struct
class Light:
    """key, rim: directions to two lights; ambient + sum(slope_i n_i): light from everywhere onto a normal n.

    reach: metres around the head that the shadow map of `map_size` cells covers
    """

    key: wp.vec3
    key_colour: wp.vec3
    rim: wp.vec3
    rim_colour: wp.vec3
    ambient: wp.vec3
    slope_x: wp.vec3
    slope_y: wp.vec3
    slope_z: wp.vec3
    reach: float
    map_size: int


@wp.struct
class Mesh:
    """What does not change with the expression; V vertices, T triangles.

    neutral, actions: (V,) and (52, V) positions and their changes; faces, kind: (T,) corners and part; uv: place in the
    textures; open: share of the surroundings that light comes from; bound: 1 turns with the head, 0 with the shoulders
    region: (lips, cloth, mouth or minus lid rim), for eyes (which eye, -, -); face: above 0 on the face
    layer: of hair, 0 root to 1 tip; ring, ring_start: neighbours of each vertex
    """

    neutral: wp.array(dtype=wp.vec3)
    actions: wp.array2d(dtype=wp.vec3)
    faces: wp.array(dtype=wp.vec3i)
    kind: wp.array(dtype=int)
    uv: wp.array(dtype=wp.vec2)
    open: wp.array(dtype=float)
    bound: wp.array(dtype=float)
    region: wp.array(dtype=wp.vec3)
    face: wp.array(dtype=float)
    layer: wp.array(dtype=float)
    ring: wp.array(dtype=int)
    ring_start: wp.array(dtype=int)


@wp.struct
class Paint:
    """Textures (H, W), see `paint.py`, and what is coloured without one; radii in radii of the eyeball."""

    skin: wp.array2d(dtype=wp.vec4)
    folds: wp.array2d(dtype=wp.vec4)
    hair: wp.array2d(dtype=wp.vec4)
    cut: wp.array2d(dtype=wp.vec2)
    iris: wp.vec3
    iris_edge: wp.vec3
    sclera: wp.vec3
    teeth: wp.vec3
    lash: wp.vec3
    lips: wp.vec3
    cloth: wp.vec3
    cloth_stripe: wp.vec3
    iris_radius: float
    pupil_radius: float
    lash_length: float
    lid_line: float
    fold_tint: wp.vec3
    glasses: wp.vec3
    stripe: float
    oil: float


@wp.kernel
def place(
    weights: wp.array2d(dtype=float),
    mesh: Mesh,
    camera: Camera,
    view: wp.array2d(dtype=wp.vec3),
    screen: wp.array2d(dtype=wp.vec3),
) -> None:
    """Blend the actions, rotate and project: `view` in metres, `screen` in samples and inverse depth."""
    e, v = wp.tid()
    p = mesh.neutral[v]
    for action in range(weights.shape[1]):
        weight = weights[e, action]
        if weight != 0.0:
            p += mesh.actions[action, v] * weight
    head = camera.turn * p
    body = camera.turn * camera.neck + camera.lean * (p - camera.neck)
    q = wp.lerp(body, head, mesh.bound[v]) + camera.at
    view[e, v] = q
    half = 0.5 * float(camera.size * camera.side)
    inverse = 1.0 / q[2]
    screen[e, v] = wp.vec3(
        half * (1.0 + camera.focal * q[0] * inverse), half * (1.0 + camera.focal * q[1] * inverse), inverse
    )


@wp.kernel
def project_parallel(
    view: wp.array2d(dtype=wp.vec3),
    origin: wp.vec3,
    directions: wp.array(dtype=wp.vec3),
    reach: float,
    size: int,
    screen: wp.array2d(dtype=wp.vec3),
) -> None:
    """As a light far away sees it: `directions[e]` points to the light; `reach` metres around `origin` fill the map."""
    e, v = wp.tid()
    source = wp.min(e, view.shape[0] - 1)
    screen[e, v] = light_space(view[source, v] - origin, directions[wp.min(e, directions.shape[0] - 1)], reach, size)


@wp.func
def light_space(q: wp.vec3, to_light: wp.vec3, reach: float, size: int) -> wp.vec3:
    side = wp.normalize(wp.cross(to_light, wp.vec3(0.13, 1.0, 0.11)))
    up = wp.cross(to_light, side)
    half = 0.5 * float(size)
    return wp.vec3(
        half * (1.0 + wp.dot(q, side) / reach), half * (1.0 + wp.dot(q, up) / reach), 2.0 + wp.dot(q, to_light)
    )


@wp.func
def cell(length: int, at: float) -> int:
    return wp.clamp(int(at * float(length)), 0, length - 1)


@wp.func
def kept(kind: int, uv: wp.vec2, layer: float, paint: Paint) -> bool:
    """Whether hair or a lash is there; everything else is."""
    if kind < HAIR:
        return kind != LASH or uv[1] < paint.lash_length
    if kind == GLASSES:
        return True
    cut = paint.cut[cell(paint.cut.shape[0], uv[1]), cell(paint.cut.shape[1], uv[0])]
    if kind == HAIR:
        return cut[0] > layer
    return cut[1] > layer


@wp.kernel
def rasterize(screen: wp.array2d(dtype=wp.vec3), mesh: Mesh, paint: Paint, nearest: wp.array3d(dtype=wp.int64)) -> None:
    """The nearest triangle at the centre of each sample."""
    e, t = wp.tid()
    face = mesh.faces[t]
    a = screen[e, face[0]]
    b = screen[e, face[1]]
    c = screen[e, face[2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    kind = mesh.kind[t]
    if wp.abs(area) < 1.0e-9 or (area > 0.0 and kind == SKIN):
        return
    x0 = wp.max(int(wp.ceil(wp.min(wp.min(a[0], b[0]), c[0]) - 0.5)), 0)
    x1 = wp.min(int(wp.floor(wp.max(wp.max(a[0], b[0]), c[0]) - 0.5)), nearest.shape[2] - 1)
    y0 = wp.max(int(wp.ceil(wp.min(wp.min(a[1], b[1]), c[1]) - 0.5)), 0)
    y1 = wp.min(int(wp.floor(wp.max(wp.max(a[1], b[1]), c[1]) - 0.5)), nearest.shape[1] - 1)
    scale = 1.0 / area
    for y in range(y0, y1 + 1):
        py = float(y) + 0.5
        for x in range(x0, x1 + 1):
            px = float(x) + 0.5
            wa = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) * scale
            wb = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) * scale
            wc = 1.0 - wa - wb
            if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                there = wp.bool(True)
                if kind == LASH or kind >= HAIR:
                    uv = wa * mesh.uv[face[0]] + wb * mesh.uv[face[1]] + wc * mesh.uv[face[2]]
                    layer = wa * mesh.layer[face[0]] + wb * mesh.layer[face[1]] + wc * mesh.layer[face[2]]
                    there = kept(kind, uv, layer, paint)
                if there:
                    depth = wp.int64((wa * a[2] + wb * b[2] + wc * c[2]) * _DEPTH_STEPS)
                    wp.atomic_max(nearest, e, y, x, depth * ID_BITS + wp.int64(t))


@wp.kernel
def add_normals(view: wp.array2d(dtype=wp.vec3), mesh: Mesh, normals: wp.array2d(dtype=wp.vec3)) -> None:
    """Sum of the triangles' area vectors at each vertex."""
    e, t = wp.tid()
    face = mesh.faces[t]
    a = view[e, face[0]]
    across = wp.cross(view[e, face[1]] - a, view[e, face[2]] - a)
    for corner in range(3):
        wp.atomic_add(normals, e, face[corner], across)


@wp.func
def depth_at(nearest: wp.array3d(dtype=wp.int64), e: int, x: int, y: int) -> float:
    return (
        float(nearest[e, wp.clamp(y, 0, nearest.shape[1] - 1), wp.clamp(x, 0, nearest.shape[2] - 1)] / ID_BITS)
        / _DEPTH_STEPS
    )


@wp.func
def lit(nearest: wp.array3d(dtype=wp.int64), e: int, at: wp.vec3, slack: float) -> float:
    """Share of the neighbourhood in the shadow map that lies in the light: 3 x 3 cells, interpolated."""
    x = int(wp.floor(at[0] - 0.5))
    y = int(wp.floor(at[1] - 0.5))
    fx = at[0] - 0.5 - float(x)
    fy = at[1] - 0.5 - float(y)
    total = wp.float32(0.0)
    for j in range(-1, 3):
        wy = wp.float32(1.0)
        if j == -1:
            wy = 1.0 - fy
        if j == 2:
            wy = fy
        for i in range(-1, 3):
            wx = wp.float32(1.0)
            if i == -1:
                wx = 1.0 - fx
            if i == 2:
                wx = fx
            if depth_at(nearest, e, x + i, y + j) <= at[2] + slack:
                total += wx * wy
    return total / 9.0


@wp.kernel
def add_openness(
    normals: wp.array2d(dtype=wp.vec3),
    screen: wp.array2d(dtype=wp.vec3),
    nearest: wp.array3d(dtype=wp.int64),
    directions: wp.array(dtype=wp.vec3),
    open: wp.array(dtype=float),
    most: wp.array(dtype=float),
) -> None:
    """Ambient occlusion: sums how much of each direction's light reaches a vertex, and how much could."""
    e, v = wp.tid()
    facing = wp.dot(wp.normalize(normals[0, v]), directions[e])
    if facing > 0.0:
        wp.atomic_add(open, v, facing * lit(nearest, e, screen[e, v], 0.004))
        wp.atomic_add(most, v, facing)


@wp.func
def ambient_light(light: Light, n: wp.vec3) -> wp.vec3:
    sum = light.ambient + light.slope_x * n[0] + light.slope_y * n[1] + light.slope_z * n[2]
    return wp.vec3(wp.max(sum[0], 0.02), wp.max(sum[1], 0.02), wp.max(sum[2], 0.02))


@wp.kernel
def light_vertices(
    view: wp.array2d(dtype=wp.vec3),
    mesh: Mesh,
    light: Light,
    origin: wp.vec3,
    nearest: wp.array3d(dtype=wp.int64),
    normals: wp.array2d(dtype=wp.vec3),
    diffuse: wp.array2d(dtype=wp.vec3),
    shadow: wp.array2d(dtype=float),
) -> None:
    """Irradiance at each vertex: environment, darkened where it cannot come in, and the key light with its cast shadow.

    The key light wraps around skin, red most: a cheap stand-in for light that travels under the skin.
    """
    e, v = wp.tid()
    n = wp.normalize(normals[e, v])
    normals[e, v] = n
    p = view[e, v]
    first = mesh.ring_start[v]
    last = mesh.ring_start[v + 1]
    crease = wp.float32(1.0)
    if last > first:
        mean = wp.vec3()
        length = wp.float32(0.0)
        for i in range(first, last):
            q = view[e, mesh.ring[i]] - p
            mean += q
            length += wp.length(q)
        crease = wp.clamp(1.0 - 1.1 * wp.dot(mean, n) / (length + 1.0e-9), 0.68, 1.12)
    free = lit(nearest, e, light_space(p - origin, light.key, light.reach, light.map_size), 0.0035)
    shadow[e, v] = free
    facing = wp.dot(n, light.key)
    red = wp.clamp((facing + 0.22) / 1.22, 0.0, 1.0)
    green = wp.clamp((facing + 0.14) / 1.14, 0.0, 1.0)
    blue = wp.clamp((facing + 0.08) / 1.08, 0.0, 1.0)
    soft = wp.vec3(red * wp.pow(free, 0.75), green * free, blue * wp.pow(free, 1.1))
    edge = wp.max(wp.dot(n, light.rim), 0.0) * mesh.open[v]
    diffuse[e, v] = (
        wp.cw_mul(light.key_colour, soft) * crease
        + ambient_light(light, n) * (mesh.open[v] * crease)
        + light.rim_colour * edge
    )
