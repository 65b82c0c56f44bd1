"""CSIM: whether the forgery is still the same person, as a face-recognition network tells it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from generation.faces.identities import FaceEmbedder


def five_points(landmarks: Tensor) -> Tensor:  # (N, 68, 2) -> (N, 5, 2)
    """The points by which faces are aligned, see `generation.faces.alignment`: means of the six points around each
    eye, tip of the nose (30), corners of the mouth (48, 54)."""
    eyes = [landmarks[:, first : first + 6].mean(1, keepdim=True) for first in (36, 42)]
    return torch.cat([*eyes, landmarks[:, [30, 48, 54]]], dim=1)


def embeddings(images: Tensor, landmarks: Tensor, embedder: FaceEmbedder) -> Tensor:  # -> (N, D) of length 1
    """images: (N, 3, H, W) uint8; landmarks: (N, 68, 2) pixels of them. A row of NaN where the landmarks are NaN."""
    points = five_points(landmarks).numpy()
    found: list[np.ndarray | None] = [
        None if np.isnan(five).any() else embedder.embed(image.permute(1, 2, 0).numpy(), five)
        for image, five in zip(images, points, strict=True)
    ]
    length = next((len(vector) for vector in found if vector is not None), 1)
    rows = [np.full(length, np.nan, np.float32) if vector is None else vector for vector in found]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, 1)


def csim(one: Tensor, other: Tensor) -> Tensor:  # (N, D) of length 1 -> (N,) in [-1, 1]
    """Cosine of embeddings, NaN where one of them is."""
    return (one * other).sum(1)
