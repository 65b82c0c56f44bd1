"""external: anybody's detector on the bench: an ONNX file, a TorchScript file, Keras weights of MesoNet, or a function
of Python that takes a picture's path.

Nothing of it is trained here. Its own normalisation, input size and meaning of its answer are told by options, so what
enters the figures is a log-odds like everybody else's. TorchScript, Keras weights and nothing else pass gradients; the
others can be attacked by their scores alone. A TorchScript file or a function is code that is run: take it only from
whom you trust.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from detection.detectors.mesonet import read_published
from generation.records import UserError

OUTPUTS = ("log_odds", "probability")
_EDGE = 1e-7
"""Probabilities are kept so far from 0 and 1 before their log-odds are taken."""


@dataclass(frozen=True)
class ExternalOptions:
    """path: FILE.onnx, FILE.pt (TorchScript), FILE.h5 (MesoNet's), or `module:function`, which gets the path of a PNG
    and gives a number; size: the side that pictures are resized to first, 0: none; mean, deviation: of each colour,
    subtracted and divided by; channels_last: pictures go in as (B, H, W, 3); output: `log_odds` or `probability`;
    forged_high: whether high answers mean forged."""

    path: str = ""
    size: int = 0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels_last: bool = False
    output: str = "log_odds"
    forged_high: bool = True


class External(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> (B,) log-odds that each is forged."""

    mean: Tensor  # (3, 1, 1)
    deviation: Tensor  # (3, 1, 1)

    def __init__(self, options: ExternalOptions) -> None:
        super().__init__()
        if options.output not in OUTPUTS:
            raise UserError(f"detector.options.output={options.output}: must be one of {', '.join(OUTPUTS)}")
        if len(options.mean) != 3 or len(options.deviation) != 3 or min(options.deviation) <= 0:
            raise UserError("detector.options.mean and .deviation: three numbers each, deviations above 0")
        self.options = options
        self.register_buffer("mean", torch.tensor(options.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(options.deviation).view(3, 1, 1), persistent=False)
        self.answer = _opened(options.path)

    def forward(self, images: Tensor) -> Tensor:
        size = self.options.size
        if size and images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        images = (images - self.mean) / self.deviation
        if self.options.channels_last:
            images = images.permute(0, 2, 3, 1)
        answer = self.answer(images)
        if not isinstance(answer, Tensor) or answer.numel() != len(images):
            shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise UserError(f"{self.options.path}: answers {shape} to {len(images)} pictures; one number each is due")
        score = answer.reshape(-1).to(images)
        if self.options.output == "probability":
            if float(score.min()) < 0 or float(score.max()) > 1:
                raise UserError(
                    f"{self.options.path}: answers {float(score.min()):.3g} to {float(score.max()):.3g}, which are no "
                    "probabilities; set detector.options.output=log_odds"
                )
            score = torch.logit(score, eps=_EDGE)
        return score if self.options.forged_high else -score


def _opened(path: str) -> Callable[[Tensor], Tensor]:
    if not path:
        raise UserError("detector.options.path: FILE.onnx, FILE.pt, FILE.h5 or module:function is needed")
    module, colon, name = path.rpartition(":")
    if colon and name.isidentifier():
        return _Function(module, name)
    readers: dict[str, Callable[[Path], Callable[[Tensor], Tensor]]] = {
        ".onnx": _Onnx,
        ".pt": _torchscript,
        ".h5": read_published,
    }
    file = Path(path)
    if file.suffix not in readers:
        raise UserError(f"{path}: must end in {', '.join(readers)}, or be module:function")
    if not file.is_file():
        raise UserError(f"{path}: no such file")
    return readers[file.suffix](file)


def _torchscript(path: Path) -> nn.Module:
    try:
        loaded: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: no TorchScript file ({reason}); write one with torch.jit.save") from error
    return loaded.eval()


class _Onnx:
    """One picture tensor in, one number a picture out, by onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"{path}: needs onnxruntime; pip install 'vicious-cycle[external]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise UserError(f"{path}: no ONNX file that onnxruntime reads ({str(error).splitlines()[0]})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise UserError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; one of each is due")
        self._path, self._input = path, inputs[0]

    def __call__(self, images: Tensor) -> Tensor:
        given, wanted = images.detach().cpu().numpy(), self._input.shape
        fixed = [side for side in wanted[1:] if isinstance(side, int)]
        if len(wanted) != 4 or any(
            isinstance(side, int) and side != own for side, own in zip(wanted[1:], given.shape[1:], strict=True)
        ):
            raise UserError(
                f"{self._path}: takes {fixed or wanted} and gets {list(given.shape[1:])}; set detector.options.size "
                "(and channels_last)"
            )
        if wanted[0] == 1:
            parts = [self._session.run(None, {self._input.name: one[None]})[0] for one in given]
            return torch.from_numpy(np.concatenate([np.asarray(part).reshape(1, -1) for part in parts]))
        return torch.from_numpy(np.asarray(self._session.run(None, {self._input.name: given})[0]))


class _Function:
    """A function of Python that is given the path of each picture in turn, as PNG."""

    def __init__(self, module: str, name: str) -> None:
        try:
            self._function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{module}:{name}: there is no such function ({error})") from error
        self._name = f"{module}:{name}"

    def __call__(self, images: Tensor) -> Tensor:
        pixels = (images.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        scores = []
        with tempfile.TemporaryDirectory() as folder:
            for index, image in enumerate(pixels):
                path = Path(folder) / f"{index}.png"
                Image.fromarray(image).save(path)
                scores.append(self._function(str(path)))
        try:
            return torch.tensor([float(score) for score in scores])
        except (TypeError, ValueError) as error:
            raise UserError(f"{self._name}: gave {scores[0]!r}; a number is due") from error
