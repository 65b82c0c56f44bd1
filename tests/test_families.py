"""What is particular to each family of reenactors, telling them apart, and the command that compares them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detection.attribution import AttributionData, build_attributor, confusion
from generation.forge import draw_swaps, forge
from generation.losses import evasion
from generation.motion import ACTIONS, EXPRESSION_SIZE
from generation.pairs import Batch, Pairs
from generation.records import Faces, UserError, load, read
from generation.reenactors import REENACTORS, build_reenactor, rig
from generation.reenactors.landmark_warp import piecewise_affine_flow
from generation.reenactors.reenactment import blend
from generation.training import LossWeights, ReenactorTrainer
from scripts.families import FamiliesConfig, compare_families
from scripts.red_team import GeneratorConfig, RedTeam, ReenactorConfig
from scripts.trainer import LoggerConfig, TrainerConfig


def some(faces: Faces, count: int = 3) -> Batch:
    pairs = Pairs(faces)
    return pairs.batch(*pairs.draw(count, np.random.default_rng(0)))


def given(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.source, batch.source_motion, batch.source_landmarks, batch.wanted_motion


# --- autoencoder


def test_nothing_of_the_source_passes_the_bottleneck_but_its_code(faces: Faces) -> None:
    """The face depends on the source through `encode` alone, in fewer numbers, and one pixel of it moves all places."""
    batch = some(faces, 1)
    torch.manual_seed(0)
    reenactor = build_reenactor("autoencoder").eval()
    torch.nn.init.normal_(reenactor.head.weight, std=0.01)
    features = reenactor.encode(*given(batch)[:3])
    assert sum(feature.numel() for feature in features) < batch.source.numel() / 3
    face = reenactor.decode(batch.source, features, batch.source_motion, batch.wanted_motion).image
    black = torch.zeros_like(batch.source)
    assert torch.equal(reenactor.decode(black, features, batch.source_motion, batch.wanted_motion).image, face)
    source = batch.source.clone().requires_grad_()
    result = reenactor(source, *given(batch)[1:]).image
    (reach,) = torch.autograd.grad(result[0, :, 20, 20].sum(), source)
    near = reach[0, :, 19:22, 19:22].abs().sum()
    assert (reach != 0).float().mean() > 0.9 and near < 0.1 * reach.abs().sum()


def test_autoencoder_works_at_its_own_size_and_enlarges_what_comes_out(faces: Faces) -> None:
    batch = some(faces, 2)
    torch.manual_seed(0)
    reenactor = build_reenactor("autoencoder").eval()
    torch.nn.init.normal_(reenactor.head.weight, std=0.1)
    large = F.interpolate(batch.source, size=160, mode="bicubic").clamp(0, 1)
    small = F.interpolate(large, size=64, mode="bilinear", antialias=True)
    result = reenactor(large, *given(batch)[1:])
    worked = reenactor(small, *given(batch)[1:])
    assert result.image.shape[-1] == 160 and not result.flow.any()
    assert torch.allclose(result.image, F.interpolate(worked.image, size=160, mode="bilinear"), atol=1e-5)


# --- flow matching


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_any_number_of_steps_gives_one_frame_and_the_same_one_again(steps: int, faces: Faces) -> None:
    batch = some(faces)
    torch.manual_seed(0)
    weights = build_reenactor("flow_matching").state_dict()
    reenactor = build_reenactor("flow_matching", {"steps": steps}).eval()
    reenactor.load_state_dict(weights)
    torch.manual_seed(1)
    one = reenactor(*given(batch))
    torch.manual_seed(2)
    other = reenactor(*given(batch))
    assert one.image.shape == batch.source.shape and torch.equal(one.image, other.image)


def test_noise_is_each_source_s_own(faces: Faces) -> None:
    source = faces.image[:3].float() / 255
    noise = build_reenactor("flow_matching")._noise(source)
    assert torch.equal(noise[1:2], build_reenactor("flow_matching")._noise(source[1:2]))
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, build_reenactor("flow_matching", {"seed": 1})._noise(source))
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02) and abs(float(noise.mean())) < 0.005


def test_euler_steps_along_a_straight_line_end_at_its_end(faces: Faces) -> None:
    """With the true end in the network's place, any number of steps leads to the target, by way of the line."""
    batch = some(faces)
    for steps in (1, 3, 8):
        reenactor = build_reenactor("flow_matching", {"steps": steps})
        start, seen = batch.source + reenactor._noise(batch.source), []

        def end(image: Tensor, time: Tensor, *_: object, seen: list[Tensor] = seen) -> tuple[Tensor, Tensor]:
            seen.append((image, time))
            return batch.target, image[:, :1]

        reenactor._end = end
        assert torch.allclose(reenactor(*given(batch)).image, batch.target, atol=1e-5)
        for step, (image, time) in enumerate(seen):
            assert time.tolist() == pytest.approx([step / steps] * 3)
            assert torch.allclose(image, torch.lerp(start, batch.target, step / steps), atol=1e-5)


def test_flow_matching_is_trained_on_the_line_s_end(faces: Faces) -> None:
    """The hook's term is the squared error of a straight line's end, and evasion comes beside it."""
    batch = some(faces)
    reenactor = build_reenactor("flow_matching")
    seen = {}

    def still(image: Tensor, time: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        seen["image"], seen["time"] = image, time[:, None, None, None]
        return batch.source, torch.full_like(image[:, :1], 0.5)

    reenactor._end = still
    found = reenactor.training_terms(batch)["matching"]
    start = (seen["image"] - seen["time"] * batch.target) / (1 - seen["time"])
    assert float((start - batch.source).std()) == pytest.approx(0.25, rel=0.05)
    changed = (batch.source - batch.target).abs().mean(1, keepdim=True) > 0.04
    wanted = 4 * ((batch.target - batch.source) ** 2 * (1 + 30 * changed)).mean()
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)

    def critic(images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))

    module = ReenactorTrainer(build_reenactor("flow_matching"), 10, 1e-3, LossWeights(), evasion([critic], [1.0]))
    terms = module.training_terms(batch)
    assert set(terms) == {"matching", "mask", "evasion"}
    (slope,) = torch.autograd.grad(terms["evasion"], module.network.head.weight)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("steps", [0, 9])
def test_too_many_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=r"steps=.: allowed are 1 to 8"):
        build_reenactor("flow_matching", {"steps": steps})


# --- landmark warp


@pytest.mark.parametrize("size", [64, 256])
def test_to_want_the_source_s_own_motion_changes_nothing(size: int, faces: Faces) -> None:
    batch = some(faces)
    source = F.interpolate(batch.source, size=size, mode="bicubic").clamp(0, 1)
    marks = batch.source_landmarks * size / 64
    result = build_reenactor("landmark_warp")(source, batch.source_motion, marks, batch.source_motion)
    assert not result.mask.any() and torch.equal(result.image, source)
    assert result.flow.abs().max() < 1e-4 * size


def test_an_opened_jaw_takes_the_chin_along_as_far_as_the_rig_says(faces: Faces) -> None:
    batch = some(faces)
    source, marks = F.interpolate(batch.source, size=256, mode="bilinear"), batch.source_landmarks * 4
    closed = batch.source_motion.clone()
    closed[:, :EXPRESSION_SIZE] = 0
    wanted = closed.clone()
    wanted[:, ACTIONS.index("jawOpen")] = 0.5
    result = build_reenactor("landmark_warp")(source, closed, marks, wanted)
    goal = rig.moved_landmarks(marks, closed, wanted, 256)
    for index in range(len(goal)):
        chin, there = marks[index, 8], goal[index, 8]
        assert there[1] - chin[1] > 6
        column, row = there.int().tolist()
        assert torch.allclose(result.flow[index, :, row, column], chin - there, atol=1)
        column, row = goal[index, 60:68].mean(0).int().tolist()
        assert result.mask[index, 0, row, column] == 1
        assert result.image[index, :, row, column].mean() < 0.7 * source[index, :, row - 40 : row, column].mean()
    assert torch.equal(blend(source, result)[..., :8, :], source[..., :8, :])


def test_the_flow_is_affine_between_the_points_and_dies_away() -> None:
    generator = np.random.default_rng(0)
    there = np.concatenate([generator.uniform(22, 42, (20, 2)), [(20, 20), (44, 20), (20, 44), (44, 44)]])
    turn = np.array([[1.05, 0.03], [-0.02, 0.9]])
    here = (there - 32) @ turn.T + (33, 31.5)
    flow = piecewise_affine_flow(here, there, (64, 64), reach=0.3)
    rows, columns = np.mgrid[:64, :64] + 0.5
    place = np.stack([columns, rows], -1)
    truth = (place - 32) @ turn.T + (33, 31.5) - place
    assert np.abs(truth[25:39, 25:39]).max() > 0.5
    assert np.allclose(flow[25:39, 25:39], truth[25:39, 25:39], atol=1e-5)
    furthest = np.linalg.norm(np.concatenate([here, there]) - (here.min(0) + here.max(0)) / 2, axis=1).max()
    beyond = np.linalg.norm(place - (here.min(0) + here.max(0)) / 2, axis=-1) > 1.5 * furthest
    assert beyond.any() and not flow[beyond].any()
    marks = np.array([(10.5, 9.5), (40.5, 30.5), (25.5, 50.5)])
    moved = marks + np.array([(1.0, 0.0), (0.0, 2.0), (-1.0, 1.0)])
    flow = piecewise_affine_flow(moved, marks, (64, 64), reach=0.3)
    for mark, other in zip(marks, moved, strict=True):
        assert np.allclose(flow[int(mark[1]), int(mark[0])], other - mark, atol=1e-5)


def test_the_blend_keeps_gradients_inside_and_the_source_outside(faces: Faces) -> None:
    """A patch that is the image with a constant added leaves no trace: what Poisson blending is for."""
    from generation.reenactors.landmark_warp import _cloned

    image = faces.image[0].permute(1, 2, 0).numpy()
    image = (image // 2 + 40).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (30, 34), 14, 255, -1)
    assert np.abs(_cloned(image, image + 30, mask).astype(int) - image).max() <= 2


def test_a_family_without_parameters_is_not_trained_but_saved_and_used(faces: Faces, tmp_path: Path) -> None:
    quick = TrainerConfig(progress=False, logger=LoggerConfig(name="none"))
    config = GeneratorConfig(steps=4, judged=0)
    with RedTeam(faces, ReenactorConfig("landmark_warp"), config, quick, 0) as red:
        path = red.train("G0", None, (), (), tmp_path / "G0")
        again = red.train("G1", path, [lambda images: images.mean((1, 2, 3))], [1.0], tmp_path / "G1")
        red.forge(again, "G1", 1, {"test": 6}, 0, tmp_path / "forged")
        quality = red.quality(load(tmp_path / "forged"))
    assert path.read_bytes() == again.read_bytes()
    assert 0.2 < quality["changed_l1_ratio"] < 1


# --- telling them apart


def test_confusion_is_what_a_plain_loop_counts() -> None:
    generator = np.random.default_rng(0)
    makers, logits = generator.integers(0, 3, 50), generator.normal(size=(50, 3))
    shares = confusion(makers, logits)
    for i in range(3):
        rows = [logit for maker, logit in zip(makers, logits, strict=True) if maker == i]
        for j in range(3):
            taken = [row for row in rows if max(range(3), key=lambda k, row=row: row[k]) == j]
            assert shares[i, j] == pytest.approx(len(taken) / len(rows))
    with pytest.raises(UserError, match="no forgery of reenactor number 3"):
        confusion(makers, np.zeros((50, 4)))


def test_the_attributor_learns_who_made_what(faces: Faces) -> None:
    """Two makers, one of which leaves every second pixel a little brighter; forgeries of unseen people are told."""
    forged = replace(faces, label=torch.ones(len(faces), dtype=torch.int64))
    trace = torch.tensor([[0, 8], [8, 0]], dtype=torch.uint8).repeat(32, 32)
    marked = replace(forged, image=forged.image.clamp(max=240) + trace)
    data = AttributionData([forged, marked], batch=16, steps_per_epoch=25, seed=0)
    network = build_attributor(2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for batch in data.train_dataloader():
        assert batch.label.tolist() == [0] * 8 + [1] * 8
        loss = F.cross_entropy(network(batch.image), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, makers = data.held("test")
    with torch.no_grad():
        logits = network.eval()(images.float() / 255)
    assert logits.shape == (len(images), 2) and np.diag(confusion(makers, logits)).mean() > 0.9


# --- beside each other

REDUCED = FamiliesConfig(
    steps=2,
    batch=4,
    train_forgeries=12,
    validation_forgeries=6,
    test_forgeries=8,
    judged=0,
    detector_steps=2,
    attribution_steps=2,
)


def test_families_are_compared_and_a_second_run_resumes(faces: Faces, tmp_path: Path) -> None:
    found = compare_families(REDUCED, faces, tmp_path, 0, 0.05)
    assert list(found.figures) == list(REENACTORS)
    for figures in found.figures.values():
        assert 0 <= figures["auroc"] <= 1 and figures["ms"] > 0 and figures["psnr"] > 10
    assert np.allclose(found.confusion.sum(1), 1)
    assert found.accuracy == pytest.approx(np.mean([of["attributed"] for of in found.figures.values()]))
    lines = (tmp_path / "families.md").read_text().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == list(REENACTORS)
    assert len({line.count("|") for line in lines}) == 1
    assert cv2.imread(str(tmp_path / "families.png")).shape == (4 + 100 * (3 + len(REENACTORS)), 150 + 8 * 100, 3)
    swaps = [[(row["source"], row["driver"]) for row in read(tmp_path / name / "forgeries")] for name in REENACTORS]
    assert all(made == swaps[0] for made in swaps)
    (tmp_path / "flow_matching" / "detector" / "done.json").unlink()
    (tmp_path / "autoencoder" / "forgeries" / "dataset_info.json").unlink()
    again = compare_families(REDUCED, faces, tmp_path, 0, 0.05)
    for name, figures in found.figures.items():
        assert {**figures, "ms": 0} == {**again.figures[name], "ms": 0}
    assert np.array_equal(found.confusion, again.confusion)


@pytest.mark.parametrize(
    ("names", "said"), [(("warp", "wrap"), "names=wrap: there is no such"), (("warp",), "at least two")]
)
def test_what_cannot_be_compared_is_said(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FamiliesConfig(names=names)


def test_forgeries_of_one_family_are_the_same_whatever_the_batch(faces: Faces, tmp_path: Path) -> None:
    reenactor = build_reenactor("flow_matching").eval()
    make = {"seed": 3, "method": "flow_matching", "round": 0, "made_by": {}}
    forge(reenactor, faces, tmp_path / "a", {"test": 6}, **make)
    forge(reenactor, faces, tmp_path / "b", {"test": 6}, shard_rows=2, **make)
    one, other = load(tmp_path / "a"), load(tmp_path / "b")
    assert (one.image.int() - other.image.int()).abs().max() <= 1
    assert len(draw_swaps(faces.where(split="test"), 6, 3 * 3 + 2).source) == 6
