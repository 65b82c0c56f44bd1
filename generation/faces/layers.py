"""Truth layers on disk: one compressed NPZ a clip beside the records, `truth/<identity>/<scene>.npz`.

Its first axis is the clip's frames, in the order of their rows. By layer it holds

    mask        mask (N, H, W) uint8, share of the pixel that is face, 0 to 255
    regions     regions (N, H, W) uint8, the region that has most of the pixel; region_names (R,) says which is which
    depth       depth (N, H, W) float32, metres along the camera's axis to the surface at the pixel's centre, 0: nothing
    flow        flow (N, H, W, 2) float32, pixels (x, y) from each frame to frame flow_to (N,) of its clip;
                flow_visible (N, H, W) bool, whether the point is seen there
    visibility  landmarks_visible (N, 68) bool

and always `frame` (N,). Flow goes to the neutral frame 0 in the crossed set, to the frame before in clips of motion.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from generation.faces.people import Layer
from generation.faces.truth import REGIONS, Truth, flow
from generation.records import UserError, write_beside


def layers_path(folder: Path, clip: str) -> Path:
    """Where the layers of a clip lie in a folder of records."""
    return folder / "truth" / f"{clip}.npz"


def write_layers(
    folder: Path, clip: str, truth: Truth, layers: Sequence[Layer], landmarks: np.ndarray, flow_to: np.ndarray
) -> None:
    """Write the chosen layers of a clip; `landmarks` (68,) are vertices, `flow_to` (N,) frames of the clip."""
    arrays: dict[str, np.ndarray] = {"frame": np.arange(len(truth.surfaces), dtype=np.int32)}
    if "mask" in layers:
        arrays["mask"] = truth.frames.mask
    if "regions" in layers:
        arrays |= {"regions": truth.labels, "region_names": np.array(REGIONS)}
    if "depth" in layers:
        arrays["depth"] = truth.depth
    if "flow" in layers:
        flows = [flow(truth.surfaces[frame], truth.surfaces[to]) for frame, to in enumerate(flow_to)]
        arrays["flow"] = np.stack([one.pixels for one in flows])
        arrays["flow_visible"] = np.stack([one.visible for one in flows])
        arrays["flow_to"] = np.asarray(flow_to, np.int32)
    if "visibility" in layers:
        arrays["landmarks_visible"] = np.stack([surface.sees(surface.points[landmarks]) for surface in truth.surfaces])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_beside(layers_path(folder, clip), buffer.getvalue())


def read_layers(folder: Path, clip: str) -> dict[str, np.ndarray]:
    """The layers of a clip by the names above; raises `UserError` where there are none."""
    path = layers_path(folder, clip)
    if not path.is_file():
        raise UserError(f"{path}: no truth layers of this clip; render the records with layers=[regions,depth,flow]")
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def remove_layers(folder: Path) -> None:
    """Take away what another configuration left in the folder."""
    shutil.rmtree(folder / "truth", ignore_errors=True)
