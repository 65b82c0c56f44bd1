"""Warp kernel that colours pixels: skin, eyes, teeth, cloth and hair. Axes and colours are those of `kernels.py`."""
# Warp checks these types itself, when it compiles.
# mypy: disable-error-code="valid-type, operator, arg-type, assignment, call-overload, no-any-return, return-value"
# mypy: disable-error-code="misc, type-var"

from __future__ import annotations

import warp as wp

from generation.faces.kernels import (
    CHEEK,
    EYE,
    GLASSES,
    ID_BITS,
    LASH,
    LOWER_TEETH,
    TONGUE,
    UPPER_TEETH,
    Camera,
    Light,
    Mesh,
    Paint,
    ambient_light,
)


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
    strength = (
        fresnel(wp.dot(half, to_eye)) * (exponent + 8.0) / 8.0 * power_of_two(wp.max(wp.dot(n, half), 0.0), times)
    )
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
def shade_eye(
    uv: wp.vec2, n: wp.vec3, to_eye: wp.vec3, irradiance: wp.vec3, free: float, lid: float, light: Light, paint: Paint
) -> wp.vec3:
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
    wet = gleam(light, bulge, to_eye, 7, wp.max(free, 0.4)) * 1.6 + ambient_light(light, wp.vec3(0.0, -1.0, 0.0)) * (
        0.035 * under
    )
    return wp.cw_mul(colour, irradiance) * under + wet * under


@wp.func
def shade_hair(
    colour: wp.vec4,
    depth: float,
    n: wp.vec3,
    to_eye: wp.vec3,
    down: wp.vec3,
    irradiance: wp.vec3,
    free: float,
    light: Light,
) -> wp.vec3:
    """Kajiya and Kay (1989): strands shine in a band across them; the roots lie in the shade of the tips."""
    strand = wp.normalize(down - n * wp.dot(down, n) + wp.vec3(1.0e-5, 0.0, 0.0))
    half = wp.normalize(light.key + to_eye)
    along = wp.dot(strand + 0.12 * n * (colour[3] - 0.5), half)
    band = power_of_two(wp.sqrt(wp.max(1.0 - along * along, 0.0)), 5)
    base = wp.vec3(colour[0], colour[1], colour[2])
    shine = (base * 1.3 + wp.vec3(0.035, 0.035, 0.035)) * (
        band * colour[3] * free * wp.max(wp.dot(n, light.key) + 0.2, 0.0)
    )
    return wp.cw_mul(base, irradiance) * (0.40 + 0.60 * depth) + wp.cw_mul(light.key_colour, shine)


@wp.func
def shade_skin(
    colour: wp.vec4,
    n: wp.vec3,
    to_eye: wp.vec3,
    irradiance: wp.vec3,
    free: float,
    open: float,
    light: Light,
    oil: float,
) -> wp.vec3:
    base = wp.vec3(colour[0], colour[1], colour[2])
    sharp = gleam(light, n, to_eye, 5, free) * 0.55 + gleam(light, n, to_eye, 3, free) * 0.45
    mirror = n * (2.0 * wp.dot(n, to_eye)) - to_eye
    sheen = ambient_light(light, mirror) * (fresnel(wp.dot(n, to_eye)) * open * 0.6)
    return wp.cw_mul(base, irradiance) + (sharp + sheen) * (colour[3] * oil)


@wp.func
def encode(x: float) -> float:
    """Soft shoulder, then the sRGB curve; 0 to 255."""
    y = wp.where(x > 0.7, 0.7 + 0.3 * (1.0 - wp.exp(-(x - 0.7) / 0.3)), x)
    y = wp.where(y <= 0.0031308, 12.92 * y, 1.055 * wp.pow(y, 0.4166667) - 0.055)
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
    strain: wp.array(dtype=wp.vec4),
    background: wp.array2d(dtype=wp.vec3),
    seen: wp.array3d(dtype=wp.vec3),
    mask: wp.array3d(dtype=wp.uint8),
    depth: wp.array3d(dtype=float),
) -> None:
    """The mean light of a pixel's samples, their share on the face, the depth of the nearest (0: nothing).

    strain: how deep each of the skin's folds is, in [0, 1]
    """
    e, line, column = wp.tid()
    total = wp.vec3()
    covered = wp.float32(0.0)
    closest = wp.float32(0.0)
    down = camera.turn * wp.vec3(0.0, 1.0, 0.0)
    for index in range(camera.side * camera.side):
        y = line * camera.side + index / camera.side
        x = column * camera.side + index % camera.side
        key = nearest[e, y, x]
        if key == wp.int64(0):
            total += background[line, column]
            continue
        t = int(key % ID_BITS)
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
        region = mesh.region[i] * wa + mesh.region[j] * wb + mesh.region[k] * wc
        point = view[e, i] * wa + view[e, j] * wb + view[e, k] * wc
        to_eye = -wp.normalize(point)
        if mesh.face[i] * wa + mesh.face[j] * wb + mesh.face[k] * wc > 0.0:
            covered += 1.0
        colour = wp.vec3()
        if kind <= CHEEK:
            if region[2] > 0.5 or behind:
                colour = wp.cw_mul(wp.vec3(0.15, 0.036, 0.032), irradiance + 0.12 * light.ambient)
            elif region[1] > 0.0:
                stripes = step_between(-0.2, 0.2, wp.sin(uv[1] * paint.stripe))
                colour = wp.cw_mul(wp.lerp(paint.cloth, paint.cloth_stripe, stripes), irradiance) * step_between(
                    -0.004, 0.006, region[1]
                )
            else:
                paper = fetch(paint.skin, uv)
                lips = wp.clamp(region[0], 0.0, 1.0) * 0.85
                paper = wp.lerp(
                    paper,
                    wp.vec4(paper[0] * paint.lips[0], paper[1] * paint.lips[1], paper[2] * paint.lips[2], 1.5),
                    lips,
                )
                ink = 1.0 - wp.clamp(-region[2], 0.0, 1.0) * paint.lid_line
                fold = wp.float32(0.0)
                if wp.dot(strain[e], strain[e]) > 0.0:
                    fold = wp.dot(strain[e], fetch(paint.folds, uv))
                paper = wp.vec4(
                    paper[0] * ink * (1.0 - fold * paint.fold_tint[0]),
                    paper[1] * ink * (1.0 - fold * paint.fold_tint[1]),
                    paper[2] * ink * (1.0 - fold * paint.fold_tint[2]),
                    paper[3],
                )
                open = mesh.open[i] * wa + mesh.open[j] * wb + mesh.open[k] * wc
                colour = shade_skin(paper, n, to_eye, irradiance, free, open, light, paint.oil)
        elif kind == EYE:
            eye = wp.int32(0)
            if mesh.region[i][0] > 0.5:
                eye = 1
            ball = balls[e, eye]
            curve = lids[e, eye]
            on_ball = wp.transpose(camera.turn) * (point - wp.vec3(ball[0], ball[1], ball[2])) / ball[3]
            lid = on_ball[1] - (curve[0] + curve[1] * on_ball[0] + curve[2] * on_ball[0] * on_ball[0])
            colour = shade_eye(uv, n, to_eye, irradiance, free, lid, light, paint)
        elif kind == LASH:
            colour = wp.cw_mul(paint.lash, irradiance)
        elif kind >= UPPER_TEETH and kind <= LOWER_TEETH:
            gap = wp.abs(wp.sin(uv[0] * 9.2))
            bite = 0.72 + 0.28 * step_between(0.0, 0.25, gap)
            back = 1.0 - 0.75 * step_between(0.35, 1.2, wp.abs(uv[0]))
            enamel = wp.lerp(paint.teeth, wp.vec3(0.45, 0.16, 0.14), step_between(0.85, 1.15, uv[1]))
            colour = wp.cw_mul(enamel, irradiance + 0.22 * light.key_colour) * (bite * back)
            colour += gleam(light, n, to_eye, 5, free) * 0.5
        elif kind == TONGUE:
            colour = wp.cw_mul(wp.vec3(0.32, 0.095, 0.09), irradiance) + gleam(light, n, to_eye, 4, free) * 0.3
        elif kind == GLASSES:
            colour = wp.cw_mul(paint.glasses, irradiance) + gleam(light, n, to_eye, 5, free) * 0.6
        else:
            layer = mesh.layer[i] * wa + mesh.layer[j] * wb + mesh.layer[k] * wc
            colour = shade_hair(fetch(paint.hair, uv), layer, n, to_eye, down, irradiance, free, light)
        total += colour
    count = float(camera.side * camera.side)
    seen[e, line, column] = total / count
    mask[e, line, column] = wp.uint8(255.0 * covered / count + 0.5)
    depth[e, line, column] = wp.where(closest > 0.0, 1.0 / wp.max(closest, 1.0e-6), 0.0)


@wp.kernel
def develop(
    seen: wp.array3d(dtype=wp.vec3),
    blur: wp.array2d(dtype=float),
    grain: wp.array2d(dtype=wp.vec3),
    image: wp.array4d(dtype=wp.uint8),
) -> None:
    """What the camera makes of the light: blur, noise that grows with the root of the light, 8 bits.

    blur: weights of the pixels around each, an odd number a side; grain: (H, W) noise of a middle grey
    """
    e, line, column = wp.tid()
    half = blur.shape[0] / 2
    total = wp.vec3()
    for j in range(blur.shape[0]):
        y = wp.clamp(line + j - half, 0, seen.shape[1] - 1)
        for i in range(blur.shape[1]):
            x = wp.clamp(column + i - half, 0, seen.shape[2] - 1)
            total += seen[e, y, x] * blur[j, i]
    for channel in range(3):
        bright = total[channel]
        noisy = bright + grain[line, column][channel] * wp.sqrt(0.1 + wp.max(bright, 0.0) * 5.0)
        image[e, line, column, channel] = wp.uint8(encode(wp.max(noisy, 0.0)))
