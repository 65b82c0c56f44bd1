"""The renderer: one person in one scene in many expressions, with face mask, depth, 68 landmarks and exact Motion.

A person's mesh (`subject.py`) and textures (`paint.py`) go through Warp kernels (`kernels.py`, `shading.py`): triangles
into a depth buffer with several samples a pixel, a shadow map, light at the vertices, colour at the samples.
`Renderer.render` makes pictures; `Renderer.truth` makes the same pictures and what is known about them (`truth.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from generation.faces import kernels, regions, shading
from generation.faces.camera import blur_of, grain_of
from generation.faces.head import EYE, HAIR, SKIN, load_head
from generation.faces.paint import FOLD_TINT, Textures, backdrop, brow_map, paint
from generation.faces.people import Person, Scene
from generation.faces.subject import Subject, subject
from generation.faces.surface import Surface, surfaces
from generation.faces.truth import Frames, Truth
from generation.motion import ACTIONS

SHADOW_MAP = 96
_REACH = 0.21
_CENTRE = np.array([0.0, 0.035, 0.07])
_OCCLUSION_DIRECTIONS = 24
_UPPER_LIDS = ((36, 37, 38, 39), (42, 43, 44, 45))
"""Landmarks along the rim of the upper lid of the eye on the image's left and of the other one."""

_FOLDED_BY = (
    {"browInnerUp": 0.20, "browOuterUpLeft": 0.10, "browOuterUpRight": 0.10},
    {"browDownLeft": 0.18, "browDownRight": 0.18},
    {"mouthSmileLeft": 0.18, "mouthSmileRight": 0.18, "noseSneerLeft": 0.12, "noseSneerRight": 0.12},
    {"eyeSquintLeft": 0.12, "eyeSquintRight": 0.12, "cheekSquintLeft": 0.08, "cheekSquintRight": 0.08,
     "mouthSmileLeft": 0.05, "mouthSmileRight": 0.05},
)  # fmt: skip
"""Which actions draw which of the skin's folds (`paint.folds`), and how deep."""

_STRAIN = np.array([[fold.get(action, 0.0) for fold in _FOLDED_BY] for action in ACTIONS], np.float32)


@dataclass(frozen=True)
class _Stage:
    """A person and a scene on the device."""

    scene: Scene
    who: Subject
    mesh: Any
    paints: Any
    light: Any
    background: Any
    blur: Any
    grain: Any


@dataclass(frozen=True)
class _Take:
    """Frames under one camera on the device: pictures, and the buffers that they were made from."""

    pose: np.ndarray
    view: Any
    screen: Any
    nearest: Any
    image: Any
    mask: Any
    depth: Any


def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:  # (3, 3), in the view's axes
    """Roll after yaw after pitch, in radians, with the signs of `generation.motion`."""
    (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn: np.ndarray = about_z @ about_y @ about_x
    return turn


def _lip_tint(person: Person) -> np.ndarray:  # (3,)
    """What lips make of the skin's colour: redder on fair skin, darker on dark skin, coloured by make-up."""
    natural = np.array([0.92, 0.62, 0.64]) * (1 - 0.25 * person.lips)
    painted = np.array([0.85, 0.26, 0.33])
    share = 0.8 * person.makeup
    return natural * (1 - share) + painted * share


def _sphere(count: int) -> np.ndarray:  # (count, 3)
    """Directions spread evenly over the sphere (Fibonacci spiral)."""
    index = np.arange(count) + 0.5
    height, turn = 1 - 2 * index / count, np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)


def _values(array: Any) -> np.ndarray:
    """A Warp array as numpy's."""
    return np.asarray(array.numpy())


def _joined(parts: list[tuple[np.ndarray, ...]], expressions: np.ndarray, moving: bool) -> Frames:
    """The frames of several takes."""
    *pictures, poses = zip(*parts, strict=True)
    image, mask, depth, landmarks = (np.concatenate(part) for part in pictures)
    pose = np.stack(poses) if moving else poses[0]
    return Frames(image, mask, depth, landmarks, np.asarray(expressions, np.float32), pose)


class Renderer:
    """Renders clips of `size` pixels with `samples` rays a pixel; `device` as Warp names it."""

    def __init__(self, size: int = 64, samples: int = 4, device: str = "cpu") -> None:
        self.size, self.side, self.device = size, round(samples**0.5), device
        self.head = load_head()
        self.block = max(1, min(64, 2**22 // (size * self.side) ** 2))
        self._painted: tuple[Person, Textures] | None = None

    def _array(self, values: np.ndarray, kind: Any) -> Any:
        return wp.array(np.ascontiguousarray(values), dtype=kind, device=self.device)

    def _mesh(self, who: Subject) -> Any:
        mesh = kernels.Mesh()
        mesh.faces = self._array(who.faces, wp.vec3i)
        mesh.neutral = self._array(who.neutral, wp.vec3)
        mesh.actions = self._array(who.actions, wp.vec3)
        mesh.kind = self._array(who.kind, int)
        mesh.uv = self._array(who.uv, wp.vec2)
        mesh.bound = self._array(who.bound, float)
        mesh.region = self._array(who.region, wp.vec3)
        mesh.face = self._array(who.face, float)
        mesh.layer = self._array(who.layer, float)
        mesh.ring = self._array(self.head.ring, int)
        starts = np.full(len(who.neutral) + 1, self.head.ring_start[-1], np.int32)
        starts[: len(self.head.ring_start)] = self.head.ring_start
        mesh.ring_start = self._array(starts, int)
        mesh.open = self._array(np.ones(len(who.neutral), np.float32), float)
        return mesh

    def _textures(self, person: Person) -> Textures:
        """The person's textures; those of the last person are kept for the next scene."""
        if self._painted is None or self._painted[0] != person:
            self._painted = person, paint(person, 256 if self.size <= 64 else 512 if self.size <= 160 else 1024)
        return self._painted[1]

    def _paint(self, person: Person, scene: Scene) -> Any:
        textures = self._textures(person)
        result = kernels.Paint()
        result.skin = self._array(textures.skin, wp.vec4)
        result.folds = self._array(textures.folds, wp.vec4)
        result.fold_tint = wp.vec3(*FOLD_TINT)
        result.glasses = wp.vec3(*(person.glasses.colour if person.glasses else (0.0, 0.0, 0.0)))
        result.hair = self._array(textures.hair, wp.vec4)
        result.cut = self._array(textures.cut, wp.vec2)
        result.iris = wp.vec3(*person.iris)
        result.iris_edge = wp.vec3(*(0.25 * np.array(person.iris)))
        result.sclera = wp.vec3(*(person.sclera * np.array([1.0, 0.95, 0.90])))
        result.teeth = wp.vec3(*(person.teeth * np.array([1.0, 0.93, 0.80])))
        result.lash = wp.vec3(0.022, 0.016, 0.013)
        result.lips = wp.vec3(*_lip_tint(person))
        result.cloth = wp.vec3(*scene.cloth)
        result.cloth_stripe = wp.vec3(*(np.array(scene.cloth) * (1.0 if scene.stripe == 0 else 0.45)))
        result.iris_radius = person.iris_size
        result.pupil_radius = person.pupil
        result.lash_length = person.lashes
        result.lid_line = 0.2 + 0.3 * person.lashes
        result.stripe = scene.stripe
        result.oil = person.oil
        return result

    def _light(self, scene: Scene) -> Any:
        light = kernels.Light()
        light.key, light.key_colour = wp.vec3(*scene.key), wp.vec3(*scene.key_colour)
        light.rim, light.rim_colour = wp.vec3(*scene.rim), wp.vec3(*scene.rim_colour)
        light.ambient = wp.vec3(*scene.ambient)
        light.slope_x, light.slope_y, light.slope_z = (wp.vec3(*slope) for slope in scene.slopes)
        light.reach, light.map_size = _REACH, SHADOW_MAP
        return light

    def _camera(self, who: Subject, scene: Scene, wanted: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """Camera and head in the `wanted` pose (6,), shoulders as in the scene's own; turn, place and exact pose."""
        pitch, yaw, roll, x, y, scale = (float(number) for number in wanted)
        eyes = who.neutral[self.head.eyes].mean(1)
        depth = scene.lens * float(np.linalg.norm(eyes[1] - eyes[0])) / scale
        turn = rotation(pitch, yaw, roll)
        at = np.array([x * depth / scene.lens, y * depth / scene.lens, depth])
        seen = eyes @ turn.T + at
        flat = scene.lens * seen[:, :2] / seen[:, 2:]
        pose = np.array([pitch, yaw, roll, *flat.mean(0), scale], np.float32)
        camera = kernels.Camera()
        lean = rotation(*(scene.body_turn * np.array(scene.pose[:3])))
        camera.turn = wp.mat33(*turn.ravel())
        camera.lean = wp.mat33(*lean.ravel())
        camera.neck = wp.vec3(0.0, 0.12, 0.10)
        camera.at = wp.vec3(*at)
        camera.focal, camera.size, camera.side = scene.lens, self.size, self.side
        return camera, turn, at, pose

    def _openness(self, who: Subject, mesh: Any, paints: Any, camera: Any, origin: Any) -> np.ndarray:  # (V,) in [0, 1]
        """Ambient occlusion, with the lids half closed: what they hide when open is not black when they close."""
        lids = np.zeros(len(ACTIONS), np.float32)
        lids[[ACTIONS.index("eyeBlinkLeft"), ACTIONS.index("eyeBlinkRight")]] = 0.6
        view, _, normals = self._placed(lids[None], mesh, camera)
        directions = self._array(_sphere(_OCCLUSION_DIRECTIONS), wp.vec3)
        count = len(who.neutral)
        screen = wp.empty((_OCCLUSION_DIRECTIONS, count), dtype=wp.vec3, device=self.device)
        size = 64
        self._launch(kernels.project_parallel, screen.shape, view, origin, directions, _REACH, size, screen)
        nearest = wp.zeros((_OCCLUSION_DIRECTIONS, size, size), dtype=wp.int64, device=self.device)
        self._launch(kernels.rasterize, (_OCCLUSION_DIRECTIONS, len(who.faces)), screen, mesh, paints, nearest)
        reached, most = (wp.zeros(count, dtype=float, device=self.device) for _ in range(2))
        self._launch(kernels.add_openness, screen.shape, normals, screen, nearest, directions, reached, most)
        return np.asarray(_values(reached) / np.maximum(_values(most), 1e-6))

    def _launch(self, kernel: Any, dim: tuple[int, ...], *inputs: Any) -> None:
        wp.launch(kernel, dim=dim, inputs=list(inputs), device=self.device)

    def _placed(self, expressions: np.ndarray, mesh: Any, camera: Any) -> tuple[Any, Any, Any]:
        """View positions, screen positions and (not yet unit) normals, (E, V) each, in the expressions (E, 52)."""
        shape = (len(expressions), mesh.bound.shape[0])
        weights = self._array(np.asarray(expressions, np.float32), float)
        view, screen = (wp.empty(shape, dtype=wp.vec3, device=self.device) for _ in range(2))
        normals = wp.zeros(shape, dtype=wp.vec3, device=self.device)
        self._launch(kernels.place, shape, weights, mesh, camera, view, screen)
        self._launch(kernels.add_normals, (shape[0], mesh.faces.shape[0]), view, mesh, normals)
        return view, screen, normals

    def render(self, person: Person, scene: Scene, expressions: np.ndarray, poses: np.ndarray | None = None) -> Frames:
        """One clip: `expressions` (E, 52) in [0, 1] on one person in one scene.

        `poses` (E, 6) holds the head of each frame in a pose of its own; without it all have the scene's.
        """
        takes = self._takes(self._stage(person, scene), expressions, poses)
        return _joined([self._read(take) for take in takes], expressions, moving=poses is not None)

    def landmarks(self, person: Person, scene: Scene, expressions: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Landmarks (E, 68, 2) of frames that nobody renders, as `render` would give them."""
        who = subject(self.head, person, scene.neckline, scene.neck_v)
        mesh = self._mesh(who)
        places = []
        for expression, pose in zip(expressions, poses, strict=True):
            camera = self._camera(who, scene, pose)[0]
            screen = self._placed(expression[None], mesh, camera)[1]
            places.append(_values(screen)[0, self.head.landmarks, :2] / self.side)
        return np.stack(places)

    def truth(self, person: Person, scene: Scene, expressions: np.ndarray, poses: np.ndarray | None = None) -> Truth:
        """What `render` gives, and regions and surfaces of every frame."""
        stage = self._stage(person, scene)
        brows = self._array(brow_map(person, stage.paints.skin.shape[0]).astype(np.float32), float)
        pictures: list[tuple[np.ndarray, ...]] = []
        shares: list[np.ndarray] = []
        seen: list[Surface] = []
        for take in self._takes(stage, expressions, poses):
            pictures.append(self._read(take))
            count = len(pictures[-1][0])
            share = wp.zeros((count, self.size, self.size, len(regions.REGIONS)), dtype=wp.uint8, device=self.device)
            inputs = (take.nearest, take.screen, stage.mesh, brows, self.side, share)
            self._launch(regions.count_regions, share.shape[:3], *inputs)
            shares.append(_values(share))
            seen += surfaces(self._centres(take, stage), _values(take.nearest), _values(take.view), stage.who, scene)
        frames = _joined(pictures, expressions, moving=poses is not None)
        return Truth(frames, np.concatenate(shares), tuple(seen))

    def _centres(self, take: _Take, stage: _Stage) -> np.ndarray:  # (E, H, W) int64
        """The depth buffer with one sample a pixel, at its centre."""
        if self.side == 1:
            return _values(take.nearest)
        centres = wp.zeros((take.view.shape[0], self.size, self.size), dtype=wp.int64, device=self.device)
        screen = self._array(_values(take.screen) / np.array([self.side, self.side, 1], np.float32), wp.vec3)
        self._launch(kernels.rasterize, (len(centres), len(stage.who.faces)), screen, stage.mesh, stage.paints, centres)
        return _values(centres)

    def _stage(self, person: Person, scene: Scene) -> _Stage:
        who = subject(self.head, person, scene.neckline, scene.neck_v)
        mesh, paints, light = self._mesh(who), self._paint(person, scene), self._light(scene)
        camera, turn, at, _ = self._camera(who, scene, np.array(scene.pose))
        openness = self._openness(who, mesh, paints, camera, wp.vec3(*(turn @ _CENTRE + at)))
        fixed = np.concatenate([self.head.part, np.full(len(openness) - len(self.head.part), HAIR)])
        openness = np.where(
            fixed == SKIN,
            0.10 + 0.90 * openness,
            np.where(fixed == EYE, 0.80, np.where(fixed == HAIR, 0.3 + 0.7 * openness, 0.65)),
        )
        mesh.open = self._array(openness.astype(np.float32), float)
        background = self._array(
            backdrop(scene.background, scene.backdrop, scene.seed, self.size).astype(np.float32), wp.vec3
        )
        blur = self._array(blur_of(scene, self.size), float)
        grain = self._array(grain_of(scene, self.size), wp.vec3)
        return _Stage(scene, who, mesh, paints, light, background, blur, grain)

    def _takes(self, stage: _Stage, expressions: np.ndarray, poses: np.ndarray | None) -> Iterator[_Take]:
        if poses is None:
            for start in range(0, len(expressions), self.block):
                yield self._take(stage, expressions[start : start + self.block], np.array(stage.scene.pose))
        else:
            for expression, pose in zip(expressions, poses, strict=True):
                yield self._take(stage, expression[None], pose)

    def _read(self, take: _Take) -> tuple[np.ndarray, ...]:
        """Image, mask, depth, landmarks and pose of a take's frames."""
        landmarks = _values(take.screen)[:, self.head.landmarks, :2] / self.side
        return _values(take.image), _values(take.mask), _values(take.depth), landmarks, take.pose

    def _take(self, stage: _Stage, expressions: np.ndarray, wanted: np.ndarray) -> _Take:
        mesh, paints, light = stage.mesh, stage.paints, stage.light
        camera, turn, at, pose = self._camera(stage.who, stage.scene, wanted)
        origin = wp.vec3(*(turn @ _CENTRE + at))
        count, vertices, triangles = len(expressions), mesh.bound.shape[0], mesh.faces.shape[0]
        view, screen, normals = self._placed(expressions, mesh, camera)
        fine = self.size * self.side

        def new(shape: tuple[int, ...], kind: Any) -> Any:
            return wp.zeros(shape, dtype=kind, device=self.device)

        shadows, cast = new((count, SHADOW_MAP, SHADOW_MAP), wp.int64), new((count, vertices), wp.vec3)
        key = self._array(np.array([list(light.key)], np.float32), wp.vec3)
        self._launch(kernels.project_parallel, (count, vertices), view, origin, key, light.reach, light.map_size, cast)
        self._launch(kernels.rasterize, (count, triangles), cast, mesh, paints, shadows)
        diffuse, shadow = new((count, vertices), wp.vec3), new((count, vertices), float)
        self._launch(
            kernels.light_vertices, (count, vertices), view, mesh, light, origin, shadows, normals, diffuse, shadow
        )
        nearest = new((count, fine, fine), wp.int64)
        self._launch(kernels.rasterize, (count, triangles), screen, mesh, paints, nearest)
        image, mask = new((count, self.size, self.size, 3), wp.uint8), new((count, self.size, self.size), wp.uint8)
        depth, seen = new(mask.shape, float), new(mask.shape, wp.vec3)
        strain = self._array(np.clip(expressions @ _STRAIN, 0, 1).astype(np.float32), wp.vec4)
        eyes = [
            self._array(part, kind)
            for part, kind in zip(self._eyes(_values(view), turn), (wp.vec4, wp.vec3), strict=True)
        ]
        inputs = (nearest, screen, view, normals, diffuse, shadow, mesh, paints, light, camera, *eyes, strain)
        self._launch(shading.shade, mask.shape, *inputs, stage.background, seen, mask, depth)
        self._launch(shading.develop, mask.shape, seen, stage.blur, stage.grain, image)
        return _Take(pose, view, screen, nearest, image, mask, depth)

    def _eyes(self, view: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre and radius of each eyeball in the view (E, 2, 4), and the rim of its upper lid (E, 2, 3).

        A lid is a parabola: how far down its rim is at a place across, in radii from the ball's centre.
        """
        balls = np.zeros((len(view), 2, 4), np.float32)
        lids = np.zeros((len(view), 2, 3), np.float32)
        for side, rim in enumerate(_UPPER_LIDS):
            ball = view[:, self.head.eyes[side]]
            centre = ball.mean(1, keepdims=True)
            radius = np.linalg.norm(ball - centre, axis=2).max(1)
            balls[:, side] = np.concatenate([centre[:, 0], radius[:, None]], axis=1)
            place = (view[:, self.head.landmarks[list(rim)]] - centre) @ turn / radius[:, None, None]
            x, y = place[..., 0], place[..., 1]
            x, y = (np.stack([part[:, 0], part[:, 1:3].mean(1), part[:, 3]], axis=1) for part in (x, y))
            lids[:, side] = np.linalg.solve(x[..., None] ** np.arange(3), y[..., None])[..., 0]
        return balls, lids
