"""Which point of the person a pixel shows: from this come depth, visibility, and flow between any two frames.

A surface holds, for the centre of each pixel, the triangle seen there, and the place of every vertex. The same triangle
is there in each frame of a person, so a pixel's point is found again in any other frame, whatever the expression, the
pose, the camera and the scene: exact optical flow, and whether something hides the point there. Plain numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from generation.faces.kernels import ID_BITS
from generation.faces.people import Scene
from generation.faces.subject import Subject

SLACK = 0.0005
"""Metres that a point may lie behind what the depth buffer shows and still be seen: curved skin between samples."""


@dataclass(frozen=True)
class Surface:
    """One frame; V vertices, T triangles.

    triangle: (H, W) int32, the one seen at each pixel's centre, -1 where nothing is
    cover: (F, F) int32, the same at every sample of the picture; F is a multiple of H
    points: (V, 3) float32 metres in the camera's frame: x right, y down, z along its axis, from its centre
    focal: focal length in half picture widths
    faces: (T, 3) corners of the triangles; rest: (V, 3) the neutral head in metres, its eyes' midpoint the origin
    behind: what tells one background from another
    """

    triangle: np.ndarray
    cover: np.ndarray
    points: np.ndarray
    focal: float
    faces: np.ndarray
    rest: np.ndarray
    behind: tuple[object, ...]

    @property
    def size(self) -> int:
        return len(self.triangle)

    @cached_property
    def pixels(self) -> np.ndarray:  # (V, 2) float32
        """Where each vertex lies in the picture, (x, y) with pixel centres at integer + 0.5; hidden ones too."""
        return self.project(self.points).astype(np.float32)

    @cached_property
    def visible(self) -> np.ndarray:  # (V,) bool
        """Whether each vertex is in the picture with nothing in front of it."""
        return self.sees(self.points)

    @cached_property
    def depth(self) -> np.ndarray:  # (H, W) float32
        """Metres along the camera's axis to what each pixel's centre shows, 0 where nothing is."""
        depth = np.zeros(self.triangle.shape, np.float32)
        depth[self._shown] = self._interpolated(self.points)[:, 2]
        return depth

    @cached_property
    def resting(self) -> np.ndarray:  # (H, W, 3) float32
        """Where on the neutral head each pixel's point is, metres; not a number where nothing is.

        It names points of a person's surface without light: the same in every frame that shows the point.
        """
        place = np.full((*self.triangle.shape, 3), np.nan, np.float32)
        place[self._shown] = self._interpolated(self.rest)
        return place

    def project(self, points: np.ndarray) -> np.ndarray:  # (..., 3) metres -> (..., 2) pixels
        return np.asarray(0.5 * self.size * (1 + self.focal * points[..., :2] / points[..., 2:]))

    def sees(self, points: np.ndarray) -> np.ndarray:  # (N, 3) metres in the camera's frame -> (N,) bool
        """Whether points that lie on the person are seen: in the picture, and not behind what the samples show there.

        Of the four samples around a point one has to show it; so an edge may be up to one sample off.
        """
        scale = len(self.cover) / self.size
        at = self.project(points) * scale
        seen = np.zeros(len(points), bool)
        inside = ((at >= 0) & (at < len(self.cover))).all(1)
        for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
            left = np.flatnonzero(inside & ~seen)
            column, line = np.clip(np.floor(at[left] - 0.5).astype(int) + step, 0, len(self.cover) - 1).T
            front = self.cover[line, column]
            left, column, line, front = (values[front >= 0] for values in (left, column, line, front))
            sample = np.stack([column, line], axis=1) + 0.5
            here, there = (self._plane_depth(front, place / scale) for place in (at[left], sample))
            seen[left] = points[left, 2] <= np.maximum(here, there) + SLACK
        return seen

    def facing(self, triangle: np.ndarray) -> np.ndarray:  # (N,) -> (N,) bool
        """Whether triangles show their outer side."""
        return _area(*np.moveaxis(self.pixels[self.faces[triangle]].astype(np.float64), 1, 0)) < 0

    @cached_property
    def _shown(self) -> np.ndarray:  # (H, W) bool
        return self.triangle >= 0

    @cached_property
    def _weights(self) -> np.ndarray:  # (N, 3)
        """Of the three corners, for each pixel that shows something: straight on the surface, not in the picture."""
        centre = np.argwhere(self._shown)[:, ::-1] + 0.5
        corners = self.faces[self.triangle[self._shown]]
        weights = np.clip(_barycentric(self.pixels[corners].astype(np.float64), centre), 0, None)
        weights /= self.points[corners, 2]
        return np.asarray(weights / weights.sum(1, keepdims=True))

    def _interpolated(self, values: np.ndarray) -> np.ndarray:  # (V, C) -> (N, C) at the pixels that show something
        return np.asarray(np.einsum("nk,nkc->nc", self._weights, values[self.faces[self.triangle[self._shown]]]))

    def _plane_depth(self, triangle: np.ndarray, at: np.ndarray) -> np.ndarray:  # (N,), (N, 2) pixels -> (N,) metres
        """Depth of the triangles' planes where a ray through a place in the picture meets them."""
        corners = self.faces[triangle]
        weights = _barycentric(self.pixels[corners].astype(np.float64), at)
        return np.asarray(1 / np.maximum((weights / self.points[corners, 2]).sum(1), 1e-6))


@dataclass(frozen=True)
class Flow:
    """From each pixel of a first frame to the same point in a second.

    pixels: (H, W, 2) float32, how far (x, y) the pixel's point has moved; 0 where it is not known
    visible: (H, W) bool, whether the point is seen in the second frame; only there `pixels` is worth using, though
        it is exact wherever the first frame shows the person
    """

    pixels: np.ndarray
    visible: np.ndarray


def surfaces(
    centres: np.ndarray, nearest: np.ndarray, view: np.ndarray, who: Subject, scene: Scene
) -> Iterator[Surface]:
    """Surfaces of E frames of `who` in `scene` from depth buffers (`kernels.py`) with one sample a pixel, (E, H, W),
    and with all, (E, F, F), and the vertices in the camera's frame (E, V, 3)."""
    behind = (scene.background, scene.backdrop, scene.seed)
    for one, every, points in zip(centres, nearest, view, strict=True):
        yield Surface(_triangles(one), _triangles(every), points, scene.lens, who.faces, who.neutral, behind)


def flow(first: Surface, second: Surface) -> Flow:
    """Exact optical flow between two frames of a person, on the pixels of the first.

    Where both have the same background it stands still. A point counts as visible if the second frame shows the same
    side of it, inside the picture, with nothing in front. Raises `ValueError` for two people or two sizes of picture.
    """
    if first.size != second.size:
        raise ValueError(f"flow needs frames of one size, not {first.size} and {second.size} pixels")
    if not np.array_equal(first.faces, second.faces):
        raise ValueError("flow needs two frames of one person; these show people of different geometry")
    shown = first._shown
    triangle = first.triangle[shown]
    there = first._interpolated(second.points)
    pixels = np.zeros((*shown.shape, 2), np.float32)
    pixels[shown] = second.project(there) - (np.argwhere(shown)[:, ::-1] + 0.5)
    visible = ~shown & (first.behind == second.behind) & ~second._shown
    visible[shown] = second.sees(there) & (first.facing(triangle) == second.facing(triangle))
    return Flow(pixels, visible)


def warp(image: np.ndarray, flow: Flow) -> np.ndarray:  # (H, W, C) -> (H, W, C) float32
    """The second frame's `image` as the first frame has it: each pixel looks where `flow` says, between four pixels."""
    line, column = np.indices(flow.visible.shape, np.float32)
    at = [line + flow.pixels[..., 1], column + flow.pixels[..., 0]]
    planes = np.moveaxis(image, -1, 0).astype(np.float32)
    return np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in planes], axis=-1)


def _triangles(nearest: np.ndarray) -> np.ndarray:
    return np.where(nearest == 0, -1, nearest % int(ID_BITS)).astype(np.int32)


def _area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles in the picture, (N, 2) each; negative for what faces the camera."""
    return np.asarray((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))


def _barycentric(corners: np.ndarray, at: np.ndarray) -> np.ndarray:  # (N, 3, 2), (N, 2) -> (N, 3)
    a, b, c = np.moveaxis(corners, 1, 0)
    area = _area(a, b, c)
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    first, second = _area(at, b, c) / area, _area(a, at, c) / area
    return np.stack([first, second, 1 - first - second], axis=1)
