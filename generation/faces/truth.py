"""What the renderer knows about its pictures: masks, regions, depth, landmarks, Motion, surfaces.

`Frames` are what `Renderer.render` gives, `Truth` is what `Renderer.truth` gives. Flow between any two frames of a
person comes from their surfaces (`surface.flow`), in whatever scenes and poses they were taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generation.faces.regions import REGIONS
from generation.faces.surface import Flow, Surface, flow

__all__ = ["REGIONS", "Flow", "Frames", "Surface", "Truth", "flow"]


@dataclass(frozen=True)
class Frames:
    """Frames of one clip, E expressions.

    image: (E, H, W, 3) uint8; mask: (E, H, W) uint8, share of the pixel that is face, 0 to 255
    depth: (E, H, W) float32 metres from the camera, 0 where nothing is
    landmarks: (E, 68, 2) float32 pixels (x, y), pixel centres at integer + 0.5, in iBUG's order; hidden points too
    expression: (E, 52) float32; pose: float32, see `generation.motion`: (6,) where all frames share the scene's,
        (E, 6) where each has its own
    """

    image: np.ndarray
    mask: np.ndarray
    depth: np.ndarray
    landmarks: np.ndarray
    expression: np.ndarray
    pose: np.ndarray


@dataclass(frozen=True)
class Truth:
    """Frames with every layer of truth.

    frames: the pictures, their face masks, landmarks and Motion
    regions: (E, H, W, R) uint8, how many of the pixel's samples lie in each of `REGIONS`; they add up to the samples
    surfaces: for each frame, what lies at the centre of each pixel, and where every vertex is
    """

    frames: Frames
    regions: np.ndarray
    surfaces: tuple[Surface, ...]

    @property
    def labels(self) -> np.ndarray:  # (E, H, W) uint8
        """The region that has most of each pixel; of two with as much, the later in `REGIONS`."""
        last_first = self.regions[..., ::-1].argmax(-1)
        return np.asarray(len(REGIONS) - 1 - last_first, np.uint8)

    @property
    def depth(self) -> np.ndarray:  # (E, H, W) float32
        """Metres along the camera's axis to the surface at each pixel's centre, 0 where nothing is."""
        return np.stack([surface.depth for surface in self.surfaces])
