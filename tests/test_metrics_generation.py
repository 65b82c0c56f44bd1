"""Reenactment metrics against their published formulas in plain loops, and against scikit-image."""

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
from skimage.draw import polygon2mask
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from generation import metrics
from generation.faces.alignment import face_crop
from generation.faces.identities import FaceEmbedder
from generation.faces.judges import UNREAD
from generation.faces.landmarks import FaceReader
from generation.metrics import SwapImages, changed_region, perceptual
from generation.metrics.panel import FAN, MEDIAPIPE
from generation.motion import ACTIONS, Motion
from generation.records import Faces, UserError
from generation.reenactors import Reenactment
from scripts import clip_quality

RATIO, PIXELS = ("changed_l1_ratio", "background_l1"), ("l1", "psnr", "ssim")
JUDGED = ("aed", "aed_copy", "aed_truth", "akd_256", "akd_iod", "apd", "nearer_wanted")


@pytest.fixture(scope="module")
def reader() -> Iterator[FaceReader]:
    with FaceReader(shared("weights/mediapipe/face_landmarker.task")) as reader:
        yield reader


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


def swaps(seed: int, count: int = 5, size: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Source, result and target (N, 3, H, W), 8 bits deep; the first swap changes nothing, the second very little."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(count, 3, size, size, generator=generator)
    change = 0.4 * (torch.rand(count, 3, size, size, generator=generator) - 0.5)
    change[:, :, : size // 2] = 0
    change[0] = 0
    change[1] *= 0.1
    target = (source + change).clamp(0, 1)
    result = (source + 0.7 * change + 0.02 * torch.randn(count, 3, size, size, generator=generator)).clamp(0, 1)
    source, result, target = ((image * 255).round() / 255 for image in (source, result, target))
    return source, result, target


def some_region(seed: int, count: int = 5, size: int = 24) -> Tensor:
    """(N, 1, H, W) bool, empty for the last frame."""
    region = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)) < 0.3
    region[-1] = False
    return region


def same(found: Tensor, reference: list[float], tolerance: float = 1e-9) -> None:
    assert found.tolist() == pytest.approx(reference, abs=tolerance, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_changed_l1_ratio_by_loops(seed: int) -> None:
    images = swaps(seed)
    source, result, target = (image.double().numpy() for image in images)
    error = copy = 0.0
    for n in range(len(source)):
        for y in range(source.shape[2]):
            for x in range(source.shape[3]):
                s, r, t = source[n, :, y, x], result[n, :, y, x], target[n, :, y, x]
                if np.abs(s - t).mean() > 0.04:
                    error += np.abs(r - t).sum()
                    copy += np.abs(s - t).sum()
    sums = metrics.changed_sums(*images)
    assert metrics.changed_l1_ratio(sums) == pytest.approx(error / copy, rel=1e-5) and 0.1 < error / copy < 0.9
    parts = sum(metrics.changed_sums(*(image[rows] for image in images)) for rows in (slice(2), slice(2, 5)))
    assert metrics.changed_l1_ratio(torch.as_tensor(parts)) == pytest.approx(error / copy, rel=1e-5)


def test_changed_l1_ratio_at_its_ends() -> None:
    source, result, target = swaps(4)

    def ratio(*images: Tensor) -> float | None:
        return metrics.changed_l1_ratio(metrics.changed_sums(*images))

    assert ratio(source, target, target) == 0
    assert ratio(source, source, target) == 1
    assert ratio(source, result, source) is None
    assert not changed_region(source, target)[0].any()
    without = ratio(source[1:], result[1:], target[1:])
    assert ratio(source, result, target) == without, "a pair without a changed pixel adds nothing"


def test_background_l1_counts_what_lies_outside_both_faces(faces: Faces) -> None:
    source, target = faces.landmarks[:2], faces.landmarks[2:4]
    outside = metrics.background(source, target, 64)
    inside = metrics.face_region(source, 64) | metrics.face_region(target, 64)
    assert torch.equal(outside, ~inside) and 0.2 < float(inside.float().mean()) < 0.6
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = torch.where(inside, 1 - image, image)
    assert (metrics.background_l1(image, changed, outside) == 0).all()
    moved = (image + 0.25 * outside).double()
    assert metrics.background_l1(image.double(), moved, outside).tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("seed", range(3))
def test_l1_and_psnr_by_loops_and_scikit_image(seed: int) -> None:
    _, result, target = swaps(seed)
    region = some_region(seed)
    whole, inside, ratio, ratio_inside = [], [], [], []
    for n in range(5):
        r, t = (image[n].permute(1, 2, 0).double().numpy() for image in (result, target))
        chosen = region[n, 0].numpy()
        whole.append(np.abs(r - t).mean())
        ratio.append(peak_signal_noise_ratio(t, r, data_range=1))
        inside.append(np.abs(r - t)[chosen].mean() if chosen.any() else np.nan)
        known = chosen.any()
        ratio_inside.append(peak_signal_noise_ratio(t[chosen], r[chosen], data_range=1) if known else np.nan)
    same(metrics.l1(result, target), whole)
    same(metrics.l1(result, target, region), inside)
    same(metrics.psnr(result, target), ratio)
    same(metrics.psnr(result, target, region), ratio_inside)
    assert metrics.mean(metrics.l1(result, target, region)) == pytest.approx(np.nanmean(inside), rel=1e-5)


def test_means_leave_out_what_was_not_judged() -> None:
    assert metrics.mean(torch.tensor([1.0, torch.nan, 4.0])) == 2.5
    assert metrics.mean(torch.tensor([torch.nan])) is None and metrics.mean(torch.empty(0)) is None


def test_a_frame_without_error_is_100_db() -> None:
    _, result, target = swaps(6)
    assert metrics.psnr(target, target).tolist() == pytest.approx([100] * 5)
    assert (metrics.psnr(result, target)[1:] < 100).all()


@pytest.mark.parametrize("contrast", [1.0, 0.1, 0.01])
def test_ssim_by_scikit_image(contrast: float) -> None:
    _, result, target = (image * contrast + 0.3 for image in swaps(7))
    region = some_region(7)
    whole, inside = [], []
    for r, t, chosen in zip(result.double().numpy(), target.double().numpy(), region[:, 0].numpy(), strict=True):
        options = {"channel_axis": 0, "data_range": 1, "gaussian_weights": True, "sigma": 1.5, "full": True}
        value, full = structural_similarity(r, t, use_sample_covariance=False, **options)
        middle = chosen[5:-5, 5:-5]
        whole.append(value)
        inside.append(full[:, 5:-5, 5:-5][:, middle].mean() if middle.any() else np.nan)
    similarity = metrics.ssim_map(result, target)
    assert similarity.shape == (5, 1, 14, 14)
    same(metrics.ssim(similarity), whole, 1e-4)
    same(metrics.ssim(similarity, region), inside, 1e-4)
    assert metrics.ssim(metrics.ssim_map(target, target)).tolist() == pytest.approx([1] * 5, abs=1e-6)


def test_the_face_region_is_the_hull_with_raised_brows(faces: Faces) -> None:
    landmarks = faces.landmarks[[0, 40]].clone()
    landmarks[1, 3, 0] = torch.nan
    region = metrics.face_region(landmarks, 64)
    assert region.shape == (2, 1, 64, 64) and region.dtype == torch.bool and not region[1].any()
    points = landmarks[0].double().numpy()
    brows = points[17:27].mean(axis=0)
    corners = [(x, y) for x, y in points]
    corners += [(x + (brows[0] - points[8, 0]) / 3, y + (brows[1] - points[8, 1]) / 3) for x, y in points[17:27]]
    hull: list[tuple[float, float]] = []
    at = min(corners)
    while not hull or at != hull[0]:  # Jarvis' march
        hull.append(at)
        end = corners[0] if corners[0] != at else corners[1]
        for other in corners:
            if (end[0] - at[0]) * (other[1] - at[1]) - (end[1] - at[1]) * (other[0] - at[0]) < 0:
                end = other
        at = end
    reference = polygon2mask((64, 64), np.array(hull)[:, ::-1] - 0.5)  # its pixel centres are integers
    assert (region[0, 0].numpy() != reference).sum() <= 1
    above = np.nonzero(reference)[0].min()
    assert above < points[17:27, 1].min() - 5, "the forehead belongs to it"
    for x, y in points[17:68]:
        assert region[0, 0, int(y), int(x)]


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
            p = points[n].numpy()
            five = np.stack([p[36:42].mean(0), p[42:48].mean(0), p[30], p[48], p[54]])
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


def test_pixel_quality_is_the_mean_of_its_parts() -> None:
    """More swaps than one batch, one without a visible change."""
    source, result, target = (torch.cat([image] * 8) for image in swaps(8))
    landmarks = torch.cat([landmarks_of(1, 40, ()) * 24 / 256])
    bytes_ = [(image * 255).round().to(torch.uint8) for image in (source, result, target)]
    images = SwapImages(*bytes_, torch.zeros(40, 52), landmarks, landmarks)
    found = metrics.pixel_quality(images)
    visible = ((source - target).abs().numpy().mean(1) > 0.04).mean((1, 2)) >= metrics.VISIBLE_SHARE
    assert images.visible().tolist() == visible.tolist() and 0 < visible.sum() < 40
    changed = changed_region(source, target) & torch.from_numpy(visible)[:, None, None, None]
    regions = {"": None, "_face": metrics.face_region(landmarks, 24), "_changed": changed}
    for name, region in regions.items():
        assert found[f"l1{name}"] == pytest.approx(metrics.mean(metrics.l1(result, target, region)))
        assert found[f"psnr{name}"] == pytest.approx(metrics.mean(metrics.psnr(result, target, region)))
        similarity = metrics.ssim(metrics.ssim_map(result, target), region)
        assert found[f"ssim{name}"] == pytest.approx(metrics.mean(similarity))
    assert found["changed_l1_ratio"] == metrics.changed_l1_ratio(metrics.changed_sums(source, result, target))


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


class Idle(torch.nn.Module):
    """A reenactor that copies the source."""

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        assert landmarks.shape == (len(source), 68, 2) and (own[:, 52:] == wanted[:, 52:]).all()
        return Reenactment(source, source[:, :1] * 0, source[:, :2] * 0)


class Blank(Idle):
    """A reenactor that paints all faces grey."""

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        return Reenactment(source * 0 + 0.5, source[:, :1] * 0 + 1, source[:, :2] * 0)


class Oracle(Idle):
    """A reenactor that knows the exact target of every frame, and may shake it a little from side to side."""

    def __init__(self, pair: clip_quality.ClipPair, shake: int = 0) -> None:
        super().__init__()
        self.answers = iter([image.roll(shake * (index % 2), -1) for index, image in enumerate(pair.other / 255)])

    def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
        return Reenactment(next(self.answers)[None], source[:, :1] * 0 + 1, source[:, :2] * 0)


@pytest.fixture(scope="module")
def clip() -> clip_quality.ClipPair:
    (pair,) = clip_quality.synthetic_pairs(64, seed=3, people=(1_000_000,))
    return pair


def test_a_synthetic_clip_has_an_exact_target(clip: clip_quality.ClipPair) -> None:
    assert clip.source.shape == clip.other.shape == (clip_quality.FRAMES, 3, 64, 64)
    assert clip.truth is not None and clip.truth.shape == clip.landmarks.shape
    assert bool((clip.motion.pose.std(0)[:3] > 0).all()), "the head moves"
    assert float((clip.motion.expression - clip.wanted).abs().max()) > 0.2
    still = (clip.source == clip.other).all(1).float().mean()
    assert 0.5 < float(still) < 1, "everything but the expression is the same"


def test_jitter_of_four_reenactors(clip: clip_quality.ClipPair, reader: FaceReader) -> None:
    perfect, picture = clip_quality.judge_clips(Oracle(clip), [clip], reader)
    assert perfect.jitter == perfect.jitter_target and perfect.clip_aed == 0
    assert perfect.jitter is not None and 0 < perfect.jitter < 0.02
    idle, _ = clip_quality.judge_clips(Idle(), [clip], reader)
    assert idle.jitter == idle.jitter_copy and idle.clip_aed == idle.clip_aed_copy
    assert idle.jitter_own == idle.jitter_own_source
    shaken, _ = clip_quality.judge_clips(Oracle(clip, shake=2), [clip], reader)
    eyes = float(metrics.interocular(clip.truth).mean())  # type: ignore[arg-type]
    assert shaken.jitter == pytest.approx(2 * 2 / eyes / 2, rel=0.2), "+-4 px across, nothing down"
    broken, _ = clip_quality.judge_clips(Blank(), [clip], reader)
    assert broken.jitter is None and broken.jitter_own is None and broken.clip_aed is None
    assert broken.clip_unread == {"source": 0, "result": clip_quality.FRAMES, "target": 0}
    assert (broken.clips, broken.frames) == (1, clip_quality.FRAMES)
    assert picture.startswith(b"\x89PNG")


def test_jitter_of_the_panel_is_that_of_the_formula(clip: clip_quality.ClipPair, reader: FaceReader) -> None:
    found, _ = clip_quality.judge_clips(Idle(), [clip], reader)
    read = metrics.read_faces(clip.source, reader).landmarks.double() / 4  # pixels at 64 px
    assert clip.truth is not None
    error = (read - clip.truth).numpy()
    unit = np.linalg.norm(clip.truth[:, 45] - clip.truth[:, 36], axis=1).mean()
    second = np.abs(error[2:] - 2 * error[1:-1] + error[:-2]).mean() / unit
    assert found.jitter == pytest.approx(second, rel=1e-4)


def test_real_clips_of_one_person_drive_each_other(faces: Faces) -> None:
    """Twelve frames of one person as two clips in motion, of another as one, and a third one who does not move."""
    chosen = np.arange(24)
    some = faces.select(chosen)
    person = np.repeat(["a", "b", "c"], [13, 6, 5])
    clips = np.repeat(["a1", "a2", "b1", "c1"], [5, 8, 6, 5])
    pose = some.pose.clone()
    pose[:, 1] = torch.arange(24) / 50
    frames = np.concatenate([np.arange(5)[::-1], np.arange(8), np.arange(6), np.arange(5)])
    some = replace(some, identity=person, clip=clips, frame=frames, pose=pose)
    assert clip_quality.real_pairs(some, shortest=6) == []
    first, second = clip_quality.real_pairs(some, shortest=5)
    order = [4, 3, 2, 1, 0]
    assert (first.source == some.image[order]).all() and (first.other == some.image[5:10]).all()
    assert (first.wanted == some.expression[5:10]).all() and (first.motion.pose == pose[order]).all()
    assert (second.source == some.image[5:10]).all() and (second.other == some.image[order]).all()
    assert first.truth is None
    still = replace(some, pose=pose * 0)
    assert clip_quality.real_pairs(still, shortest=5) == []


def test_forging_a_clip_keeps_the_pose_and_takes_the_expression(clip: clip_quality.ClipPair) -> None:
    asked: list[Motion] = []

    class Noting(Idle):
        def forward(self, source: Tensor, own: Tensor, landmarks: Tensor, wanted: Tensor) -> Reenactment:
            asked.append(Motion.from_vector(wanted[0]))
            return super().forward(source, own, landmarks, wanted)

    forged = clip_quality.forge_clip(Noting(), clip)
    assert (forged == clip.source).all()
    assert (torch.stack([motion.pose for motion in asked]) == clip.motion.pose).all()
    assert (torch.stack([motion.expression for motion in asked]) == clip.wanted).all()
