"""A warp reenactor as two ONNX graphs, for onnxruntime: `encoder.onnx`, run once for a source, and `frame.onnx`, run
for every wanted motion. Sampling is 4-D GridSample, so any runtime with opset 20 will do.

Both are for one size of image and batches of one. Inputs and outputs have the names and meanings of `encode` and
`decode`; features are `feature_0`, `feature_1`, and so on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generation.motion import MOTION_SIZE
from generation.records import UserError
from generation.reenactors.reenactment import Reenactment
from generation.reenactors.warp import Warp

ENCODER, FRAME = "encoder.onnx", "frame.onnx"

_OPSET = 20
_MISSING = "needs onnx, onnxscript and onnxruntime ({error}); pip install 'vicious-cycle[onnx]'"


class _Encoder(nn.Module):
    def __init__(self, reenactor: Warp) -> None:
        super().__init__()
        self.reenactor = reenactor

    def forward(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.reenactor.encode(source, source_motion, source_landmarks))


class _Frame(nn.Module):
    def __init__(self, reenactor: Warp) -> None:
        super().__init__()
        self.reenactor = reenactor

    def forward(
        self, source: Tensor, features: tuple[Tensor, ...], source_motion: Tensor, wanted_motion: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(self.reenactor.decode(source, list(features), source_motion, wanted_motion))


def export_onnx(reenactor: nn.Module, size: int, folder: Path) -> None:
    """Write both graphs to `folder`, for images of `size` x `size` pixels.

    Raises `UserError` where a package is missing, and for a family other than warp.
    """
    if not isinstance(reenactor, Warp):
        raise UserError(f"{type(reenactor).__name__}: only reenactors of the family warp are exported to ONNX")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting to ONNX {_MISSING.format(error=error)}") from error
    folder.mkdir(parents=True, exist_ok=True)
    source, motion = torch.full((1, 3, size, size), 0.5), torch.zeros(1, MOTION_SIZE)
    motion[:, -1] = 0.5
    landmarks = torch.linspace(0.3, 0.7, 68)[None, :, None].expand(1, 68, 2) * size
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = tuple(reenactor.encode(source, motion, landmarks))
        told = [f"feature_{index}" for index in range(len(features))]
        inputs = ["source", "source_motion", "source_landmarks"]
        _write(_Encoder(reenactor), (source, motion, landmarks), inputs, told, folder / ENCODER)
        inputs = ["source", *told, "source_motion", "wanted_motion"]
        outputs = list(Reenactment._fields)
        _write(_Frame(reenactor), (source, features, motion, motion.clone()), inputs, outputs, folder / FRAME)


def _write(module: nn.Module, given: tuple[Any, ...], inputs: list[str], outputs: list[str], path: Path) -> None:
    beside = path.with_name(f".{path.name}")
    program = torch.onnx.export(
        module.eval(),
        given,
        dynamo=True,
        opset_version=_OPSET,
        input_names=inputs,
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    program.save(beside)
    beside.replace(path)


class OnnxReenactor:
    """What `export_onnx` wrote, called as the reenactor it was: `encode` and `decode`, on batches of one.

    Raises `UserError` where a graph or onnxruntime is missing.
    """

    def __init__(self, folder: Path, threads: int = 2) -> None:
        for name in (ENCODER, FRAME):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name}: no such file; scripts/export_onnx.py writes it")
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"running ONNX {_MISSING.format(error=error)}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._frame = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER, FRAME)
        )

    def encode(self, source: Tensor, source_motion: Tensor, source_landmarks: Tensor) -> list[Tensor]:
        return _run(self._encoder, (source, source_motion, source_landmarks))

    def decode(
        self, source: Tensor, features: Sequence[Tensor], source_motion: Tensor, wanted_motion: Tensor
    ) -> Reenactment:
        return Reenactment(*_run(self._frame, (source, *features, source_motion, wanted_motion)))


def _run(session: Any, given: Sequence[Tensor]) -> list[Tensor]:
    names = [value.name for value in session.get_inputs()]
    feed = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(names, given, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, feed)]
