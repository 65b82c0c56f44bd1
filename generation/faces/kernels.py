"""Warp kernels of the renderer: place vertices, fill a depth buffer, light vertices, shade pixels.

They run on "cpu" (one thread) and on CUDA. Axes are those of the view: x right, y down, z away from the camera. A depth buffer holds, for
each sample, the nearest triangle: inverse depth in the upper bits, the triangle's number in the lower 20, so that the result
does not depend on the order of the triangles. Colours are linear RGB.
"""
# mypy: disable-error-code="valid-type"

from __future__ import annotations

import warp as wp

wp.config.quiet = True

_ID_BITS = wp.constant(wp.int64(1 << 20))
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


@wp.struct
class Camera:
    """turn: the head's rotation; lean: the shoulders' rotation about `neck`; at: where the eyes' midpoint lies; focal in half image widths."""

    turn: wp.mat33
    lean: wp.mat33
    neck: wp.vec3
    at: wp.vec3
    focal: float
    size: int
    side: int


@wp.struct
class Light:
    """key: direction to the key light and its colour; ambient + sum(slope_i n_i): light from everywhere onto a normal n."""

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
    """What does not change with the expression; V vertices, T triangles."""

    neutral: wp.array(dtype=wp.vec3)
    actions: wp.array2d(dtype=wp.vec3)
    faces: wp.array(dtype=wp.vec3i)
    kind: wp.array(dtype=int)
    uv: wp.array(dtype=wp.vec2)
    open: wp.array(dtype=float)
    bound: wp.array(dtype=float)
    tint: wp.array(dtype=wp.vec3)
    face: wp.array(dtype=float)
    layer: wp.array(dtype=float)
    ring: wp.array(dtype=int)
    ring_start: wp.array(dtype=int)


@wp.struct
class Paint:
    """skin: RGB and gloss; hair: RGB and shine; cut: how long the hair is, of the shells and of the curtain; both (H, W)."""

    skin: wp.array2d(dtype=wp.vec4)
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
    stripe: float
    oil: float


@wp.kernel
def place(weights: wp.array2d(dtype=float), mesh: Mesh, camera: Camera, view: wp.array2d(dtype=wp.vec3), screen: wp.array2d(dtype=wp.vec3)):
    """Blend the actions, rotate and project: `view` in metres from the camera, `screen` (x, y) in samples and inverse depth."""
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
    screen[e, v] = wp.vec3(half * (1.0 + camera.focal * q[0] * inverse), half * (1.0 + camera.focal * q[1] * inverse), inverse)


@wp.kernel
def project_parallel(view: wp.array2d(dtype=wp.vec3), origin: wp.vec3, directions: wp.array(dtype=wp.vec3), reach: float, size: int, screen: wp.array2d(dtype=wp.vec3)):
    """As a light far away sees it: `directions[e]` points to the light; `reach` metres around `origin` fill the map."""
    e, v = wp.tid()
    source = wp.min(e, view.shape[0] - 1)
    screen[e, v] = light_space(view[source, v] - origin, directions[wp.min(e, directions.shape[0] - 1)], reach, size)


@wp.func
def light_space(q: wp.vec3, to_light: wp.vec3, reach: float, size: int) -> wp.vec3:
    side = wp.normalize(wp.cross(to_light, wp.vec3(0.13, 1.0, 0.11)))
    up = wp.cross(to_light, side)
    half = 0.5 * float(size)
    return wp.vec3(half * (1.0 + wp.dot(q, side) / reach), half * (1.0 + wp.dot(q, up) / reach), 2.0 + wp.dot(q, to_light))


@wp.func
def cell(length: int, at: float) -> int:
    return wp.clamp(int(at * float(length)), 0, length - 1)


@wp.func
def kept(kind: int, uv: wp.vec2, layer: float, paint: Paint) -> bool:
    """Whether hair or a lash is there; everything else is."""
    if kind < HAIR:
        return kind != LASH or uv[1] < paint.lash_length
    cut = paint.cut[cell(paint.cut.shape[0], uv[1]), cell(paint.cut.shape[1], uv[0])]
    if kind == HAIR:
        return cut[0] > layer
    return cut[1] > layer


@wp.kernel
def rasterize(screen: wp.array2d(dtype=wp.vec3), mesh: Mesh, paint: Paint, nearest: wp.array3d(dtype=wp.int64)):
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
                there = bool(True)
                if kind == LASH or kind >= HAIR:
                    uv = wa * mesh.uv[face[0]] + wb * mesh.uv[face[1]] + wc * mesh.uv[face[2]]
                    layer = wa * mesh.layer[face[0]] + wb * mesh.layer[face[1]] + wc * mesh.layer[face[2]]
                    there = kept(kind, uv, layer, paint)
                if there:
                    depth = wp.int64((wa * a[2] + wb * b[2] + wc * c[2]) * _DEPTH_STEPS)
                    wp.atomic_max(nearest, e, y, x, depth * _ID_BITS + wp.int64(t))


@wp.kernel
def add_normals(view: wp.array2d(dtype=wp.vec3), mesh: Mesh, normals: wp.array2d(dtype=wp.vec3)):
    """Sum of the triangles' area vectors at each vertex."""
    e, t = wp.tid()
    face = mesh.faces[t]
    a = view[e, face[0]]
    across = wp.cross(view[e, face[1]] - a, view[e, face[2]] - a)
    for corner in range(3):
        wp.atomic_add(normals, e, face[corner], across)


@wp.func
def depth_at(nearest: wp.array3d(dtype=wp.int64), e: int, x: int, y: int) -> float:
    return float(nearest[e, wp.clamp(y, 0, nearest.shape[1] - 1), wp.clamp(x, 0, nearest.shape[2] - 1)] / _ID_BITS) / _DEPTH_STEPS


@wp.func
def lit(nearest: wp.array3d(dtype=wp.int64), e: int, at: wp.vec3, slack: float) -> float:
    """Share of the neighbourhood in the shadow map that lies in the light: 3 x 3 cells, interpolated."""
    x = int(wp.floor(at[0] - 0.5))
    y = int(wp.floor(at[1] - 0.5))
    fx = at[0] - 0.5 - float(x)
    fy = at[1] - 0.5 - float(y)
    total = float(0.0)
    for j in range(-1, 3):
        wy = float(1.0)
        if j == -1:
            wy = 1.0 - fy
        if j == 2:
            wy = fy
        for i in range(-1, 3):
            wx = float(1.0)
            if i == -1:
                wx = 1.0 - fx
            if i == 2:
                wx = fx
            if depth_at(nearest, e, x + i, y + j) <= at[2] + slack:
                total += wx * wy
    return total / 9.0


@wp.kernel
def add_openness(normals: wp.array2d(dtype=wp.vec3), screen: wp.array2d(dtype=wp.vec3), nearest: wp.array3d(dtype=wp.int64), directions: wp.array(dtype=wp.vec3), open: wp.array(dtype=float), most: wp.array(dtype=float)):
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
def light_vertices(view: wp.array2d(dtype=wp.vec3), mesh: Mesh, light: Light, origin: wp.vec3, nearest: wp.array3d(dtype=wp.int64), normals: wp.array2d(dtype=wp.vec3), diffuse: wp.array2d(dtype=wp.vec3), shadow: wp.array2d(dtype=float)):
    """Irradiance at each vertex: environment, darkened where it cannot come in, and the key light with its cast shadow.

    The key light wraps around skin, red most: a cheap stand-in for light that travels under the skin.
    """
    e, v = wp.tid()
    n = wp.normalize(normals[e, v])
    normals[e, v] = n
    p = view[e, v]
    first = mesh.ring_start[v]
    last = mesh.ring_start[v + 1]
    crease = float(1.0)
    if last > first:
        mean = wp.vec3()
        length = float(0.0)
        for i in range(first, last):
            q = view[e, mesh.ring[i]] - p
            mean += q
            length += wp.length(q)
        crease = wp.clamp(1.0 - 1.1 * wp.dot(mean, n) / (length + 1.0e-9), 0.55, 1.12)
    free = lit(nearest, e, light_space(p - origin, light.key, light.reach, light.map_size), 0.0035)
    shadow[e, v] = free
    facing = wp.dot(n, light.key)
    red = wp.clamp((facing + 0.22) / 1.22, 0.0, 1.0)
    green = wp.clamp((facing + 0.14) / 1.14, 0.0, 1.0)
    blue = wp.clamp((facing + 0.08) / 1.08, 0.0, 1.0)
    soft = wp.vec3(red * wp.pow(free, 0.75), green * free, blue * wp.pow(free, 1.1))
    edge = wp.max(wp.dot(n, light.rim), 0.0) * mesh.open[v]
    diffuse[e, v] = wp.cw_mul(light.key_colour, soft) * crease + ambient_light(light, n) * (mesh.open[v] * crease) + light.rim_colour * edge


@wp.func
def power_of_two(x: float, times: int) -> float:
    y = x
    for _i in range(times):
        y = y * y
    return y


@wp.func
def fresnel(cosine: float) -> float:
    k = 1.0 - wp.clamp(cosine, 0.0, 1.0)
    k2 = k * k
    return 0.03 + 0.97 * k2 * k2 * k


@wp.func
def gleam(light: Light, n: wp.vec3, to_eye: wp.vec3, times: int, free: float) -> wp.vec3:
    """Mirror-like reflection of the key light; the exponent is 2 ** times."""
    half = wp.normalize(light.key + to_eye)
    exponent = float(1 << times)
    strength = fresnel(wp.dot(half, to_eye)) * (exponent + 8.0) / 8.0 * power_of_two(wp.max(wp.dot(n, half), 0.0), times)
    return light.key_colour * (strength * wp.max(wp.dot(n, light.key), 0.0) * free)


@wp.func
def fetch(texture: wp.array2d(dtype=wp.vec4), uv: wp.vec2) -> wp.vec4:
    """Bilinear look-up."""
    x = uv[0] * float(texture.shape[1]) - 0.5
    y = uv[1] * float(texture.shape[0]) - 0.5
    column = int(wp.floor(x))
    line = int(wp.floor(y))
    fx = x - float(column)
    fy = y - float(line)
    left = wp.clamp(column, 0, texture.shape[1] - 1)
    right = wp.clamp(column + 1, 0, texture.shape[1] - 1)
    top = wp.clamp(line, 0, texture.shape[0] - 1)
    bottom = wp.clamp(line + 1, 0, texture.shape[0] - 1)
    upper = wp.lerp(texture[top, left], texture[top, right], fx)
    lower = wp.lerp(texture[bottom, left], texture[bottom, right], fx)
    return wp.lerp(upper, lower, fy)


@wp.func
def step_between(low: float, high: float, x: float) -> float:
    t = wp.clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def shade_eye(uv: wp.vec2, n: wp.vec3, to_eye: wp.vec3, irradiance: wp.vec3, free: float, lid: float, light: Light, paint: Paint) -> wp.vec3:
    """lid: distance below the upper lid on the ball, in radii."""
    r = wp.sqrt(uv[0] * uv[0] + uv[1] * uv[1])
    edge = paint.iris_radius
    angle = wp.atan2(uv[1], uv[0])
    fibre = 1.0 + 0.20 * wp.sin(angle * 15.0 + 2.0 * wp.sin(angle * 4.0))
    ring = step_between(0.70, 1.0, r / edge)
    iris = wp.lerp(paint.iris * fibre * (1.15 - 0.3 * step_between(0.3, 0.8, r / edge)), paint.iris_edge, ring)
    iris = iris * step_between(paint.pupil_radius * 0.85, paint.pupil_radius * 1.15, r)
    red = wp.clamp((r - edge) * 1.1, 0.0, 0.5)
    white = wp.cw_mul(paint.sclera, wp.vec3(1.0, 1.0 - 0.35 * red, 1.0 - 0.40 * red))
    colour = wp.lerp(iris, white, step_between(0.93, 1.07, r / edge))
    under = 0.30 + 0.70 * step_between(-0.05, 0.40, lid)
    bulge = wp.normalize(n + 0.35 * (n - to_eye) * (1.0 - step_between(0.8, 1.1, r / edge)))
    wet = gleam(light, bulge, to_eye, 7, wp.max(free, 0.4)) * 1.6 + ambient_light(light, wp.vec3(0.0, -1.0, 0.0)) * (0.035 * under)
    return wp.cw_mul(colour, irradiance) * under + wet * under


@wp.func
def shade_hair(colour: wp.vec4, depth: float, n: wp.vec3, to_eye: wp.vec3, down: wp.vec3, irradiance: wp.vec3, free: float, light: Light) -> wp.vec3:
    """Kajiya and Kay (1989): strands shine in a band across them; the roots lie in the shade of the tips."""
    strand = wp.normalize(down - n * wp.dot(down, n) + wp.vec3(1.0e-5, 0.0, 0.0))
    half = wp.normalize(light.key + to_eye)
    along = wp.dot(strand + 0.12 * n * (colour[3] - 0.5), half)
    band = power_of_two(wp.sqrt(wp.max(1.0 - along * along, 0.0)), 5)
    base = wp.vec3(colour[0], colour[1], colour[2])
    shine = (base * 1.3 + wp.vec3(0.035, 0.035, 0.035)) * (band * colour[3] * free * wp.max(wp.dot(n, light.key) + 0.2, 0.0))
    return wp.cw_mul(base, irradiance) * (0.40 + 0.60 * depth) + wp.cw_mul(light.key_colour, shine)


@wp.func
def shade_skin(colour: wp.vec4, n: wp.vec3, to_eye: wp.vec3, irradiance: wp.vec3, free: float, open: float, light: Light, oil: float) -> wp.vec3:
    base = wp.vec3(colour[0], colour[1], colour[2])
    sharp = gleam(light, n, to_eye, 5, free) * 0.55 + gleam(light, n, to_eye, 3, free) * 0.45
    mirror = n * (2.0 * wp.dot(n, to_eye)) - to_eye
    sheen = ambient_light(light, mirror) * (fresnel(wp.dot(n, to_eye)) * open * 0.6)
    return wp.cw_mul(base, irradiance) + (sharp + sheen) * (colour[3] * oil)


@wp.func
def encode(x: float) -> float:
    """Soft shoulder, then the sRGB curve; 0 to 255."""
    y = x
    if x > 0.7:
        y = 0.7 + 0.3 * (1.0 - wp.exp(-(x - 0.7) / 0.3))
    if y <= 0.0031308:
        y = 12.92 * y
    else:
        y = 1.055 * wp.pow(y, 0.4166667) - 0.055
    return wp.clamp(255.0 * y + 0.5, 0.0, 255.0)


@wp.kernel
def shade(
    nearest: wp.array3d(dtype=wp.int64),
    screen: wp.array2d(dtype=wp.vec3),
    view: wp.array2d(dtype=wp.vec3),
    normals: wp.array2d(dtype=wp.vec3),
    diffuse: wp.array2d(dtype=wp.vec3),
    shadow: wp.array2d(dtype=float),
    mesh: Mesh,
    paint: Paint,
    light: Light,
    camera: Camera,
    balls: wp.array2d(dtype=wp.vec4),
    lids: wp.array2d(dtype=wp.vec3),
    background: wp.array2d(dtype=wp.vec3),
    image: wp.array4d(dtype=wp.uint8),
    mask: wp.array3d(dtype=wp.uint8),
    depth: wp.array3d(dtype=float),
):
    """The mean colour of a pixel's samples, the share of them on the face, and the depth of the nearest (0: nothing there)."""
    e, line, column = wp.tid()
    total = wp.vec3()
    covered = float(0.0)
    closest = float(0.0)
    down = camera.turn * wp.vec3(0.0, 1.0, 0.0)
    for index in range(camera.side * camera.side):
        y = line * camera.side + index / camera.side
        x = column * camera.side + index % camera.side
        key = nearest[e, y, x]
        if key == wp.int64(0):
            total += background[line, column]
            continue
        t = int(key % _ID_BITS)
        face = mesh.faces[t]
        kind = mesh.kind[t]
        i = face[0]
        j = face[1]
        k = face[2]
        a = screen[e, i]
        b = screen[e, j]
        c = screen[e, k]
        px = float(x) + 0.5
        py = float(y) + 0.5
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        behind = area > 0.0
        wa = wp.max(((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area, 0.0) * a[2]
        wb = wp.max(((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area, 0.0) * b[2]
        wc = wp.max(((a[0] - px) * (b[1] - py) - (a[1] - py) * (b[0] - px)) / area, 0.0) * c[2]
        inverse = wa + wb + wc
        closest = wp.max(closest, inverse)
        wa = wa / inverse
        wb = wb / inverse
        wc = wc / inverse
        uv = mesh.uv[i] * wa + mesh.uv[j] * wb + mesh.uv[k] * wc
        n = wp.normalize(normals[e, i] * wa + normals[e, j] * wb + normals[e, k] * wc)
        irradiance = diffuse[e, i] * wa + diffuse[e, j] * wb + diffuse[e, k] * wc
        free = shadow[e, i] * wa + shadow[e, j] * wb + shadow[e, k] * wc
        tint = mesh.tint[i] * wa + mesh.tint[j] * wb + mesh.tint[k] * wc
        point = view[e, i] * wa + view[e, j] * wb + view[e, k] * wc
        to_eye = -wp.normalize(point)
        if mesh.face[i] * wa + mesh.face[j] * wb + mesh.face[k] * wc > 0.0:
            covered += 1.0
        colour = wp.vec3()
        if kind <= CHEEK:
            if tint[2] > 0.5 or behind:
                colour = wp.vec3(0.07, 0.013, 0.012)
                colour = wp.cw_mul(colour, irradiance)
            elif tint[1] > 0.0:
                stripes = step_between(-0.2, 0.2, wp.sin(uv[1] * paint.stripe))
                colour = wp.cw_mul(wp.lerp(paint.cloth, paint.cloth_stripe, stripes), irradiance) * step_between(-0.004, 0.006, tint[1])
            else:
                paper = fetch(paint.skin, uv)
                lips = wp.clamp(tint[0], 0.0, 1.0) * 0.85
                paper = wp.lerp(paper, wp.vec4(paper[0] * paint.lips[0], paper[1] * paint.lips[1], paper[2] * paint.lips[2], 1.5), lips)
                ink = 1.0 - wp.clamp(-tint[2], 0.0, 1.0) * paint.lid_line
                paper = wp.vec4(paper[0] * ink, paper[1] * ink, paper[2] * ink, paper[3])
                open = mesh.open[i] * wa + mesh.open[j] * wb + mesh.open[k] * wc
                colour = shade_skin(paper, n, to_eye, irradiance, free, open, light, paint.oil)
        elif kind == EYE:
            eye = int(0)
            if mesh.tint[i][0] > 0.5:
                eye = 1
            ball = balls[e, eye]
            curve = lids[e, eye]
            on_ball = wp.transpose(camera.turn) * (point - wp.vec3(ball[0], ball[1], ball[2])) / ball[3]
            lid = on_ball[1] - (curve[0] + curve[1] * on_ball[0] + curve[2] * on_ball[0] * on_ball[0])
            colour = shade_eye(uv, n, to_eye, irradiance, free, lid, light, paint)
        elif kind == LASH:
            colour = wp.cw_mul(paint.lash, irradiance)
        elif kind == UPPER_TEETH or kind == LOWER_TEETH:
            gap = wp.abs(wp.sin(uv[0] * 9.2))
            bite = 0.72 + 0.28 * step_between(0.0, 0.25, gap)
            back = 1.0 - 0.75 * step_between(0.35, 1.2, wp.abs(uv[0]))
            enamel = wp.lerp(paint.teeth, wp.vec3(0.45, 0.16, 0.14), step_between(0.85, 1.15, uv[1]))
            colour = wp.cw_mul(enamel, irradiance) * (bite * back) + gleam(light, n, to_eye, 5, free) * 0.5
        elif kind == TONGUE:
            colour = wp.cw_mul(wp.vec3(0.42, 0.13, 0.12), irradiance) + gleam(light, n, to_eye, 4, free) * 0.3
        else:
            layer = mesh.layer[i] * wa + mesh.layer[j] * wb + mesh.layer[k] * wc
            colour = shade_hair(fetch(paint.hair, uv), layer, n, to_eye, down, irradiance, free, light)
        total += colour
    count = float(camera.side * camera.side)
    for channel in range(3):
        image[e, line, column, channel] = wp.uint8(encode(total[channel] / count))
    mask[e, line, column] = wp.uint8(255.0 * covered / count + 0.5)
    depth[e, line, column] = wp.where(closest > 0.0, 1.0 / wp.max(closest, 1.0e-6), 0.0)

