"""warp in onnxruntime: the same numbers as in PyTorch."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from generation.records import Faces, UserError
from generation.reenactors import build_reenactor
from generation.reenactors.onnx import ENCODER, FRAME, OnnxReenactor, export_onnx

SMALL = {"widths": (16, 24), "blocks": 1, "motion_width": 32, "atlas": 4, "atlas_size": 8, "patch": 4}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    reenactor, folder = build_reenactor("warp", SMALL).eval(), tmp_path_factory.mktemp("onnx")
    for parameter in reenactor.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    export_onnx(reenactor, 64, folder)
    return reenactor, folder


def test_both_give_the_same_picture(exported: tuple[torch.nn.Module, Path], faces: Faces) -> None:
    reenactor, folder = exported
    other = OnnxReenactor(folder, threads=1)
    source, own = faces.image[:1].float() / 255, faces.motion[:1]
    with torch.no_grad():
        features = reenactor.encode(source, own, faces.landmarks[:1])
        read = other.encode(source, own, faces.landmarks[:1])
        for a, b in zip(features, read, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        for wanted in faces.motion[1:4].split(1):
            result, again = reenactor.decode(source, features, own, wanted), other.decode(source, read, own, wanted)
            assert (result.image - source).abs().max() > 0.05
            for a, b in zip(result[:2], again[:2], strict=True):
                assert (a - b).abs().max() <= 1e-4


def test_sampling_is_flat(exported: tuple[torch.nn.Module, Path]) -> None:
    for name in (ENCODER, FRAME):
        graph = onnx.shape_inference.infer_shapes(onnx.load(exported[1] / name)).graph
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input)}
        sampled = [node for node in graph.node if node.op_type == "GridSample"]
        assert all(ranks[node.input[0]] == 4 for node in sampled)
        assert bool(sampled) == (name == FRAME)


def test_what_cannot_be_exported_or_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only reenactors of the family warp"):
        export_onnx(build_reenactor("autoencoder"), 64, tmp_path)
    with pytest.raises(UserError, match=r"encoder\.onnx.*export_onnx"):
        OnnxReenactor(tmp_path)
