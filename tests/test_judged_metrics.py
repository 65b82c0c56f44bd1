"""What judges read of forgeries: landmarks, expression, pose, identity, and the panel of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from real_media import shared
from torch import Tensor

from generation import metrics
from generation.faces.alignment import face_crop
from generation.faces.identities import FaceEmbedder
from generation.faces.judges import UNREAD
from generation.faces.landmarks import FaceReader
from generation.metrics import SwapImages, perceptual
from generation.metrics.panel import FAN, MEDIAPIPE
from generation.motion import ACTIONS
from generation.records import UserError

RATIO, PIXELS = ("changed_l1_ratio", "background_l1"), ("l1", "psnr", "ssim")
JUDGED = ("aed", "aed_copy", "aed_truth", "akd_256", "akd_iod", "apd", "nearer_wanted")


@pytest.fixture(scope="module")
def panel() -> Iterator[metrics.Panel]:
    shared("weights/mediapipe/face_landmarker.task")
    shared("weights/insightface_minipack/mobilefacenet.onnx")
    with metrics.Panel() as panel:
        yield panel


@pytest.fixture(scope="module")
def people(reader: FaceReader) -> tuple[Tensor, Tensor]:
    """(3, 2, 3, 128, 128) uint8, neutral and smiling, and their landmarks (3, 2, 68, 2)."""
    crops, landmarks = [], []
    for person in ("002", "025", "104"):
        for photo in ("neutral", "smiling"):
            image = np.asarray(Image.open(shared(f"data/london/{person}_{photo}.jpg")).convert("RGB"))
            reading = reader.read(image)
            assert reading is not None
            crops.append(torch.from_numpy(face_crop(image, reading.eyes, 128)).permute(2, 0, 1))
            again = reader.read(face_crop(image, reading.eyes, 256))
            assert again is not None
            landmarks.append(torch.from_numpy(again.landmarks) / 2)
    return torch.stack(crops).unflatten(0, (3, 2)), torch.stack(landmarks).unflatten(0, (3, 2))


@pytest.fixture(scope="module")
def smiles(people: tuple[Tensor, Tensor], reader: FaceReader) -> SwapImages:
    """Three neutral faces that shall smile, by a reenactor that does nothing."""
    images, landmarks = people
    wanted = metrics.read_faces(images[:, 1], reader).expression
    return SwapImages(images[:, 0], images[:, 0], images[:, 1], wanted, landmarks[:, 0], landmarks[:, 1])


def same(found: Tensor, reference: list[float], tolerance: float = 1e-9) -> None:
    assert found.tolist() == pytest.approx(reference, abs=tolerance, rel=1e-5, nan_ok=True)


def landmarks_of(seed: int, count: int, missing: tuple[int, ...]) -> Tensor:
    points = 256 * torch.rand(count, 68, 2, generator=torch.Generator().manual_seed(seed))
    points[list(missing)] = torch.nan
    return points


@pytest.mark.parametrize("seed", range(3))
def test_akd_by_loops(seed: int) -> None:
    result, target = landmarks_of(seed, 6, (1, 4)), landmarks_of(seed + 9, 6, (4, 5))
    legacy, normalised = [], []
    for r, t in zip(result.tolist(), target.tolist(), strict=True):
        eyes = ((t[45][0] - t[36][0]) ** 2 + (t[45][1] - t[36][1]) ** 2) ** 0.5
        per_coordinate = [abs(a - b) for p, q in zip(r, t, strict=True) for a, b in zip(p, q, strict=True)]
        euclidean = [((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2) ** 0.5 for p, q in zip(r, t, strict=True)]
        legacy.append(sum(per_coordinate) / 136)
        normalised.append(sum(euclidean) / 68 / eyes)
    same(metrics.akd_256(result, target), legacy)
    same(metrics.akd_iod(result, target), normalised)
    assert np.isnan(legacy).tolist() == [False, True, False, False, True, True]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("against_truth", [True, False])
def test_jitter_by_loops(seed: int, against_truth: bool) -> None:
    clip, truth = landmarks_of(seed, 12, (4, 5)), landmarks_of(seed + 9, 12, ())
    error = clip - truth if against_truth else clip
    unit = np.nanmean([np.linalg.norm(f[45] - f[36]) for f in (truth if against_truth else clip).numpy()])
    found = []
    for t in range(1, 11):
        if {t - 1, t, t + 1} & {4, 5}:
            continue
        found += [
            abs(float(error[t + 1, p, c]) - 2 * float(error[t, p, c]) + float(error[t - 1, p, c])) / unit
            for p in range(68)
            for c in range(2)
        ]
    assert len(found) == 6 * 136
    assert metrics.jitter(clip, truth if against_truth else None) == pytest.approx(np.mean(found), rel=1e-5)


def test_what_moves_evenly_does_not_jitter() -> None:
    face = landmarks_of(3, 1, ())
    steady = face + torch.arange(9.0)[:, None, None]
    trembling = steady + torch.tensor([0.0, 1.0]).repeat(5)[:9, None, None]
    assert metrics.jitter(steady) == pytest.approx(0, abs=1e-5) == metrics.jitter(trembling, trembling)
    eyes = float(metrics.interocular(face)[0])
    assert metrics.jitter(trembling) == pytest.approx(2 / eyes, rel=1e-4)
    assert metrics.jitter(steady[:2]) is None and metrics.jitter(steady * torch.nan) is None


@pytest.mark.parametrize("seed", range(3))
def test_expression_quality_by_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    source, result, target, wanted = torch.rand(4, 40, 52, generator=generator)
    visible = torch.rand(40, generator=generator) < 0.7
    for reading, missing in ((source, (0, 3)), (result, (3, 5, 6, 7, 8)), (target, (6, 9, 10))):
        reading[list(missing)] = torch.nan
    found = metrics.expression_quality(source, result, target, wanted, visible)

    numbers: dict[str, list[float]] = {name: [] for name in asdict(found) if name != "unread"}
    scored = [index for index, name in enumerate(ACTIONS) if name != "tongueOut"]
    known = [index for index, name in enumerate(ACTIONS) if name not in UNREAD]
    assert (len(scored), len(known)) == (51, 39)
    images = zip(*(value.double().numpy() for value in (source, result, target, wanted)), strict=True)
    for n, (s, r, t, w) in enumerate(images):
        if n in (0, 3, 6, 9, 10):
            continue
        unread = n in (5, 7, 8)
        if not unread:
            numbers["aed"].append(sum(abs(r[i] - t[i]) for i in scored) / 51)
            numbers["aed_copy"].append(sum(abs(s[i] - t[i]) for i in scored) / 51)
            numbers["aed_truth"].append(sum(abs(r[i] - w[i]) for i in known) / 39)
            numbers["aed_truth_exact"].append(sum(abs(t[i] - w[i]) for i in known) / 39)
            numbers["aed_truth_copy"].append(sum(abs(s[i] - w[i]) for i in known) / 39)

        def nearer(goal: np.ndarray, reading: np.ndarray, source: np.ndarray = s) -> bool:
            before, after = (np.sqrt(sum((x[i] - goal[i]) ** 2 for i in scored)) for x in (source, reading))
            return bool(after < before)

        if visible[n]:
            numbers["nearer_wanted"].append(not unread and nearer(w, r))
            numbers["nearer_wanted_exact"].append(nearer(w, t))
            numbers["nearer_target"].append(not unread and nearer(t, r))
    for name, values in numbers.items():
        assert getattr(found, name) == pytest.approx(np.mean(values), rel=1e-5), name
    assert found.unread == {"source": 2, "result": 5, "target": 3}


def test_expression_quality_where_nothing_can_be_judged() -> None:
    read, unread = torch.rand(2, 52), torch.full((2, 52), torch.nan)
    found = metrics.expression_quality(unread, read, read, read, torch.tensor([True, True]))
    assert {value for name, value in asdict(found).items() if name != "unread"} == {None}
    assert found.unread == {"source": 2, "result": 0, "target": 0}
    still = metrics.expression_quality(read, read, read, read, torch.tensor([False, False]))
    assert still.aed == 0 and still.nearer_wanted is None


def test_apd_is_of_three_angles_and_goes_round() -> None:
    one = torch.tensor([[0.1, -0.2, 3.1, 9, 9, 9], [0.0, 0.0, 0.0, 1, 1, 1]])
    other = torch.tensor([[0.3, -0.2, -3.1, 0, 0, 0], [torch.nan] * 6])
    same(metrics.apd(one, other), [(0.2 + 0 + (2 * np.pi - 6.2)) / 3, np.nan], 1e-6)


def test_csim_by_the_network_alone(smiles: SwapImages) -> None:
    shared("weights/insightface_minipack/mobilefacenet.onnx")
    embedder = FaceEmbedder()
    landmarks = smiles.target_landmarks.clone()
    landmarks[2, 30] = torch.nan
    source = metrics.embeddings(smiles.source, smiles.source_landmarks, embedder)
    target = metrics.embeddings(smiles.target, landmarks, embedder)
    reference = []
    for n in range(2):
        vectors = []
        for image, points in ((smiles.source, smiles.source_landmarks), (smiles.target, smiles.target_landmarks)):
            p = points[n]
            five = torch.stack([p[36:42].mean(0), p[42:48].mean(0), p[30], p[48], p[54]]).numpy()
            vectors.append(embedder.embed(image[n].permute(1, 2, 0).numpy(), five).astype(float))
        a, b = vectors
        reference.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    same(metrics.csim(source, target), [*reference, np.nan], 1e-5)
    assert min(reference) > 0.6, "one person's two photos"
    assert float(metrics.csim(source[:1], target[1:2])) < 0.5, "two people"


@pytest.mark.parametrize("size", [64, 128, 256])
def test_readings_of_real_faces(people: tuple[Tensor, Tensor], reader: FaceReader, size: int) -> None:
    images, landmarks = (value.flatten(0, 1) for value in people)
    crops = torch.nn.functional.interpolate(images.float(), size=size, mode="bicubic", antialias=True)
    blank = torch.full((1, 3, size, size), 120, dtype=torch.uint8)
    readings = metrics.read_faces(torch.cat([crops.round().clamp(0, 255).to(torch.uint8), blank]), reader)
    assert readings.expression.shape == (7, 52) and readings.found.tolist() == [True] * 6 + [False]
    for values in (readings.expression, readings.pose, readings.landmarks):
        assert values[:6].isfinite().all() and values[6].isnan().all()
    smile = readings.expression[:6, ACTIONS.index("mouthSmileLeft")]
    assert (smile[1::2] > smile[0::2] + 0.1).all()
    assert float((readings.landmarks[:6] - 2 * landmarks).abs().mean()) < 2.5, "pixels at 256 px, whatever the size"
    again = metrics.Readings.concatenate([readings.select([0]), readings.select([6])])
    assert again.found.tolist() == [True, False] and (again.landmarks[0] == readings.landmarks[0]).all()


def test_the_panel_on_a_perfect_an_idle_and_a_broken_reenactor(smiles: SwapImages, panel: metrics.Panel) -> None:
    perfect = panel.quality(replace(smiles, result=smiles.target), 3)
    assert (perfect["swaps"], perfect["visible"], perfect["judged"]) == (3, 3, 3)
    for name in ("changed_l1_ratio", "l1", "l1_face", "l1_changed", "aed", "akd_256", "akd_iod", "apd"):
        assert perfect[name] == 0, name
    for region in ("", "_face", "_changed"):
        assert perfect[f"psnr{region}"] == pytest.approx(100) and perfect[f"ssim{region}"] == pytest.approx(1)
    assert perfect["nearer_wanted"] == perfect["nearer_target"] == 1
    assert perfect["aed_truth"] == perfect["aed_truth_exact"] < 0.01, "the wanted expression was read off the target"
    assert perfect["csim"] == perfect["csim_ceiling"] and 0.5 < perfect["csim"] < 1
    assert perfect["unread"] == {MEDIAPIPE: {"source": 0, "result": 0, "target": 0}} or FAN in perfect["unread"]

    idle = panel.quality(smiles, 3)
    assert idle["changed_l1_ratio"] == 1 and idle["background_l1"] == 0
    for name in ("aed", "akd_256", "akd_iod", "apd", "aed_truth"):
        assert idle[name] == idle[f"{name}_copy"] == perfect[f"{name}_copy"] > 0, name
    assert idle["nearer_wanted"] == idle["nearer_target"] == 0
    assert idle["csim"] > 0.95 > idle["csim_ceiling"], "a copy is the same person: CSIM alone says nothing"

    broken = panel.quality(replace(smiles, result=torch.full_like(smiles.source, 128)), 3)
    assert [broken[name] for name in ("aed", "akd_256", "akd_iod", "apd", "aed_truth")] == [None] * 5
    assert broken["nearer_wanted"] == broken["nearer_target"] == 0
    assert broken["unread"][MEDIAPIPE] == {"source": 0, "result": 3, "target": 0}
    assert broken["csim"] < 0.4


def test_the_panel_says_who_judged_and_what_is_missing(smiles: SwapImages, panel: metrics.Panel) -> None:
    found = panel.quality(smiles, 2)
    assert found["judged"] == 2 and found["swaps"] == 3
    judges = found["judges"]
    measured = {name for name in found if not name.endswith(("_copy", "_exact", "_target"))}
    assert measured - {"swaps", "visible", "judged", "unread", "judges"} == set(judges)
    assert "mobilefacenet.onnx" in judges["csim"] and "39 actions" in judges["aed_truth"]
    absent = "\n".join(panel.absent)
    assert ("FAN is not here" in judges["akd_256"]) == ("2DFAN4" in absent)
    assert (found["lpips"] is None) == ("AlexNet's weights are not here" in judges["lpips"]) == ("alexnet-" in absent)
    json.dumps(found)


def test_no_judge_is_asked_for_nothing(smiles: SwapImages) -> None:
    found = metrics.Panel().quality(smiles, 0)
    assert found["judged"] == 0 and found["unread"] == {}
    assert {found[name] for name in (*JUDGED, "csim", "csim_ceiling", "lpips")} == {None}
    assert all(found[f"{name}{region}"] is not None for name in PIXELS for region in ("", "_face", "_changed"))
    assert all(found[name] is not None for name in RATIO)


def test_lpips_names_the_file_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual, "WEIGHTS", (tmp_path / "alexnet-owt-7be5be79.pth").as_uri())
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth.*fetch file:.* by hand"):
        perceptual.Lpips()
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match="damaged"):
        perceptual.Lpips()
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match="damaged"):
        perceptual.Lpips()
