"""Identities: who a face is, as a face-recognition network tells it, and which clips show the same person.

The network comes with insightface (code MIT, its models for non-commercial research): SCRFD and an ArcFace embedding.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from generation import records
from generation.faces.alignment import arcface_points, fitted_square
from generation.records import UserError

MODELS = "buffalo_sc"
"""What insightface downloads where `VICIOUS_CYCLE_SHARED` holds no `weights/insightface_minipack`: 15 MB."""

SAME_PERSON = 0.48
"""Clips of one person have at least this mean cosine.

Chosen with `mobilefacenet.onnx` on 245 clips and photos of 122 people (the London Set, MEAD and others): from .47 to
.51 the clusters are exactly the people. Lower values merge people who look alike, higher ones tear one apart."""


def insight_models() -> Any:
    """insightface's `FaceAnalysis` on the CPU, one thread a network: SCRFD and the recognition network.

    Raises `UserError` where the package or a network cannot be had.
    """
    shared = records.shared_folder()
    folder = shared / "weights" / "insightface_minipack" if shared is not None else Path()
    root = records.cache_folder() / "insightface"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import onnxruntime
            from insightface.app import FaceAnalysis

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            models = FaceAnalysis(
                name=str(folder) if folder.is_dir() and shared is not None else MODELS,
                root=str(root),
                providers=["CPUExecutionProvider"],
                sess_options=options,
            )
    except ImportError as error:
        raise UserError(
            f"telling people apart needs insightface ({error}); pip install 'vicious-cycle[footage]'"
        ) from error
    except Exception as error:  # a download, an archive or a network of theirs may fail in any way
        raise UserError(
            f"{root / 'models' / MODELS}: the identity network is not there and could not be downloaded "
            f"({type(error).__name__}: {error}); fetch {MODELS}.zip of github.com/deepinsight/insightface, release "
            "model-zoo, by hand and unpack it there"
        ) from error
    if "recognition" not in models.models:
        raise UserError(f"{models.model_dir}: holds no network for face recognition; put {MODELS}'s files there")
    return models


class FaceEmbedder:
    """The identity network. Making one raises `UserError` where it cannot be had, see `insight_models`.

    name: file of the network, to be named with every figure it gives; sha256: of that file
    """

    def __init__(self) -> None:
        self._network: Any = insight_models().models["recognition"]
        path = Path(self._network.model_file)
        self.name, self.sha256 = path.name, hashlib.sha256(path.read_bytes()).hexdigest()

    def embed(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:  # -> (D,) float32 of length 1
        """image: uint8 (H, W, 3); points: (5, 2) of one face, see `generation.faces.alignment`."""
        size = self._network.input_size[0]
        face = fitted_square(points, arcface_points(size), size).crop(image, size)
        vector = self._network.get_feat(face[..., ::-1])[0].astype(np.float32)  # it takes BGR
        return np.asarray(vector / max(np.linalg.norm(vector), 1e-12))


def link(embeddings: Sequence[np.ndarray] | np.ndarray, cosine: float = SAME_PERSON) -> list[int]:
    """Which person each clip shows: average-link clusters of embeddings, cut at a mean cosine of `cosine`.

    embeddings: (N, D) of length 1
    Returns N numbers, 0 for the first clip's person and one more for every new one.
    """
    if len(embeddings) < 2:
        return [0] * len(embeddings)
    clusters = fcluster(linkage(np.asarray(embeddings), "average", "cosine"), 1 - cosine, "distance")
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(cluster), len(numbers)) for cluster in clusters]


def split_people(people: Sequence[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Who is in which split: sizes by share of the people, at least one person for every share above 0, if there are
    as many people."""
    order = [people[index] for index in np.random.default_rng([seed, 4]).permutation(len(people))]
    exact = np.asarray(shares) / sum(shares) * len(people)
    sizes = np.floor(exact).astype(int)
    for index in np.argsort(sizes - exact, kind="stable")[: len(people) - sizes.sum()]:
        sizes[index] += 1
    for index in np.flatnonzero((sizes == 0) & (exact > 0)):
        if sizes.max() > 1:
            sizes[sizes.argmax()] -= 1
            sizes[index] = 1
    return dict(zip(order, np.repeat(records.SPLITS, sizes).tolist(), strict=True))
