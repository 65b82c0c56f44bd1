"""landmark_warp: the image-editor line. Nothing is learned.

Origin: this project, of classic parts. The source is warped piecewise affinely over a Delaunay triangulation to where
the rig puts its points under the wanted motion (the face morphing of Beier and Neely, SIGGRAPH 1992, on the triangles
of active appearance models, Cootes et al., ECCV 1998), a mouth that opens is filled with dark paint, and the moved part
is laid over the source in the gradient domain (Perez et al., "Poisson Image Editing", SIGGRAPH 2003; OpenCV's
`seamlessClone`). It stands for a forger who sits down with an image editor.

Input: images in [0, 1] of any size; it computes in 8 bits on the CPU, one image after the other. Output: see
`Reenactment`; no gradient passes through it.

Artefacts: no teeth or tongue in an opened mouth, lids stretched over closed eyes without new lashes, texture stretched
or pressed triangle by triangle, shading and wrinkles of the old expression, colour that bleeds in along the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor, nn

from generation.reenactors import rig
from generation.reenactors.reenactment import Reenactment

_SKIN = [*range(rig.LANDMARKS), *range(rig.LANDMARKS + rig.IRISES, rig.POINTS)]
"""The rig's points that are warped: an iris would be drawn on a lid that closes over it."""
_INNER_LIPS = slice(60, 68)
_UPPER, _LOWER = [61, 62, 63], [67, 66, 65]
"""Landmarks that face each other across the opening of the mouth."""

_FRACTION_BITS = 4
"""Of the corners that OpenCV draws polygons between."""


@dataclass(frozen=True)
class LandmarkWarpOptions:
    """reach: how far beyond the face's own points the warp dies away, as a share of the distance of the outmost.
    least: pixels that move less than this share of the image's size stay as they are. margin: how far the mask reaches
    beyond the face, as a share of the size. paint: brightness of the inside of a mouth, as a share of the lips'."""

    reach: float = 0.2
    least: float = 0.004
    margin: float = 0.03
    paint: float = 0.3


class LandmarkWarp(nn.Module):
    """See the module's docstring."""

    def __init__(self, options: LandmarkWarpOptions) -> None:
        super().__init__()
        self.options = options

    def encode(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> list[Tensor]:
        """The landmarks: there is nothing else to look at."""
        return [source_landmarks]

    @torch.no_grad()
    def decode(
        self, source: Tensor, features: list[Tensor], source_motion: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        """The wanted frame, warped and blended."""
        size = source.new_tensor([source.shape[-1], source.shape[-2]])
        here, there = (
            ((points + 1) / 2 * size)[:, _SKIN].double().cpu().numpy()
            for points in rig.places(features[0].to(source) * 2 / size - 1, source_motion, wanted_motion)
        )
        pixels = (source * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        images, masks, flows = [], [], []
        for image, own, wanted in zip(pixels, here, there, strict=True):
            flow = piecewise_affine_flow(own, wanted, image.shape[:2], self.options.reach)
            mask = self._mask(own, wanted, flow)
            images.append(_cloned(image, self._painted(image, flow, own, wanted), mask))
            masks.append(mask)
            flows.append(flow)
        edited = torch.from_numpy(np.stack(images)).to(source.device).permute(0, 3, 1, 2) / 255
        inside = torch.from_numpy(np.stack(masks)).to(source.device)[:, None] / 255
        moved = torch.from_numpy(np.stack(flows)).to(source.device).permute(0, 3, 1, 2)
        return Reenactment(torch.where(inside > 0, edited, source), inside, moved)

    def forward(
        self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        features = self.encode(source, source_motion, source_landmarks)
        return self.decode(source, features, source_motion, wanted_motion)

    def _mask(self, here: np.ndarray, there: np.ndarray, flow: np.ndarray) -> np.ndarray:  # uint8 (H, W), 0 or 255
        """What moves, and a margin around it, inside the outline of the face before and after."""
        side = max(flow.shape[:2])
        moves = np.linalg.norm(flow, axis=-1) > self.options.least * side
        width = 2 * max(1, round(self.options.margin * side)) + 1
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        outline = _polygon(cv2.convexHull(np.concatenate([here, there]).astype(np.float32))[:, 0], moves.shape)
        return np.asarray(cv2.bitwise_and(cv2.dilate(moves.astype(np.uint8) * 255, brush), cv2.dilate(outline, brush)))

    def _painted(self, image: np.ndarray, flow: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """The warped image, with paint in as much of the mouth as opens: (H, W, 3) uint8."""
        height, width = image.shape[:2]
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        warped = cv2.remap(
            image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        before, after = (float(np.linalg.norm(lips[_UPPER] - lips[_LOWER], axis=1).mean()) for lips in (here, there))
        column, row = here[48:60].astype(int).clip(0, [width - 1, height - 1]).T
        paint = self.options.paint * image[row, column].mean(axis=0)
        cover = _polygon(there[_INNER_LIPS], (height, width)) / 255 * max(0.0, 1 - before / max(after, 1e-6))
        return np.asarray((warped + cover[..., None] * (paint - warped)).round().astype(np.uint8))


def piecewise_affine_flow(here: np.ndarray, there: np.ndarray, shape: tuple[int, int], reach: float) -> np.ndarray:
    """Flow (H, W, 2) float32 in pixels, from every pixel of the result to where in the source it is from.

    here, there: np.ndarray  # (N, 2) pixels, points of the source and where they are to lie
    Affine on each triangle of the Delaunay triangulation of `there` with a ring around the face and the border of the
    image, where nothing moves; the ring has the proportions of `here` and lies beyond all points by `reach`.
    """
    height, width = shape
    reached = np.concatenate([here, there])
    centre, half = (here.min(0) + here.max(0)) / 2, np.ptp(here, axis=0) / 2
    angle = np.arange(24) * (2 * np.pi / 24)
    outmost = np.linalg.norm((reached - centre) / half, axis=1).max()
    ring = centre + (1 + reach) * outmost * half * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across, down = np.linspace(0, width, 5), np.linspace(0, height, 5)
    border = [(x, y) for x in across for y in down if x in (0, width) or y in (0, height)]
    still = np.concatenate([ring, border])
    offsets = np.concatenate([here - there, np.zeros_like(still)])
    rows, columns = np.mgrid[:height, :width] + 0.5
    flow = LinearNDInterpolator(np.concatenate([there, still]), offsets, fill_value=0)(columns, rows)
    return np.asarray(np.nan_to_num(flow), np.float32)  # NaN on triangles without an area


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points in pixels as OpenCV's fixed-point corners, whose pixel centres are whole."""
    return np.asarray(((points - 0.5) * 2**_FRACTION_BITS).round().astype(np.int32))


def _polygon(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:  # (N, 2) pixels -> uint8 (H, W)
    drawn = np.zeros(shape, np.uint8)
    cv2.fillPoly(drawn, [_fixed(corners)], 255, lineType=cv2.LINE_AA, shift=_FRACTION_BITS)
    return drawn


def _cloned(image: np.ndarray, edited: np.ndarray, mask: np.ndarray) -> np.ndarray:  # uint8 (H, W, 3) and (H, W)
    """`edited` inside the mask, its gradients kept and its border that of `image`."""
    if not mask.any():
        return image
    pad = 2  # the solver needs a border around the mask
    source, patch = (np.pad(part, ((pad, pad), (pad, pad), (0, 0)), mode="edge") for part in (image, edited))
    chosen = np.pad(mask, pad)
    left, top, width, height = cv2.boundingRect(chosen)
    whole = cv2.seamlessClone(patch, source, chosen, (left + width // 2, top + height // 2), cv2.NORMAL_CLONE)
    return np.asarray(whole[pad:-pad, pad:-pad])
