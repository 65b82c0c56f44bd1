"""Files of detectors that are not ours, written by the tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

_FOLDER = tempfile.TemporaryDirectory()


class Theirs(nn.Module):
    """A network with weights, for images of any size."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.filters, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.tanh(self.filters(images)).mean((2, 3)))[:, 0]


def onnx(path: Path, module: nn.Module, size: int = 16, batch: bool = True) -> str:
    pytest.importorskip("onnxscript")
    given = torch.rand(2 if batch else 1, 3, size, size)
    shapes = ({0: torch.export.Dim("batch")},) if batch else None
    torch.onnx.export(module, (given,), dynamo=True, dynamic_shapes=shapes, verbose=False).save(path)  # type: ignore[union-attr]
    return str(path)


def script(path: Path, module: nn.Module) -> str:
    torch.jit.save(torch.jit.trace(module, torch.rand(1, 3, 16, 16)), str(path))  # type: ignore[no-untyped-call]
    return str(path)


@cache
def their_file() -> str:
    """One TorchScript file for the whole run, the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return script(Path(_FOLDER.name) / "theirs.pt", Theirs())
