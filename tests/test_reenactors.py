from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from generation.forge import draw_swaps, forge, reenact
from generation.losses import (
    changed_region,
    evasion,
    gradient,
    landmark_flow,
    mask_truth,
    reconstruction,
)
from generation.motion import MOTION_SIZE
from generation.pairs import PairsData
from generation.records import Faces, UserError, load, read
from generation.reenactors import REENACTORS, Reenactment, build_reenactor, load_reenactor, save_reenactor
from generation.reenactors.reenactment import blend, quantise
from generation.reenactors.warp import face_coordinates, warp_by
from generation.training import LossWeights, ReenactorTrainer, one_cycle

NAMES = list(REENACTORS)
TRAINED = [name for name in NAMES if any(True for _ in build_reenactor(name).parameters())]


def inputs(batch: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch * size)
    motion = torch.rand(2, batch, MOTION_SIZE, generator=generator) * 0.5
    landmarks = torch.rand(batch, 68, 2, generator=generator) * size
    return torch.rand(batch, 3, size, size, generator=generator), motion[0], landmarks, motion[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("batch", "size"), [(1, 64), (3, 96), (2, 128)])
def test_shapes_and_ranges(name: str, batch: int, size: int) -> None:
    result = build_reenactor(name).eval()(*inputs(batch, size))
    assert result.image.shape == (batch, 3, size, size)
    assert result.mask.shape == (batch, 1, size, size) and result.flow.shape == (batch, 2, size, size)
    for value in (result.image, result.mask):
        assert value.min() >= 0 and value.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_one_answer_does_not_depend_on_the_batch(name: str) -> None:
    torch.manual_seed(1)
    reenactor = build_reenactor(name).eval()
    given = inputs(3, 64)
    with torch.no_grad():
        together = reenactor(*given).image
        alone = torch.cat([reenactor(*(value[i : i + 1] for value in given)).image for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    reenactor = build_reenactor(name).eval()
    path = tmp_path / "G.safetensors"
    save_reenactor(path, reenactor, name, {"steps": 1})
    again, config = load_reenactor(path)
    assert config["name"] == name and config["meta"] == {"steps": 1}
    with torch.no_grad():
        assert torch.equal(again(*inputs(2, 64)).image, reenactor(*inputs(2, 64)).image)


@pytest.mark.parametrize("name", TRAINED)
def test_training_learns_the_tiny_set(name: str, faces: Faces) -> None:
    torch.manual_seed(0)
    module = ReenactorTrainer(build_reenactor(name), total_steps=40, learning_rate=2e-3, weights=LossWeights())
    data = PairsData(faces, batch=8, steps_per_epoch=40, seed=0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    found = []
    for batch in data.train_dataloader():
        loss = torch.stack(list(module.training_terms(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert np.mean(found[-8:]) < 0.8 * np.mean(found[:8])


def test_warping_by_nothing_changes_nothing_and_by_a_pixel_shifts() -> None:
    image = torch.rand(2, 3, 8, 16)
    flow = torch.zeros(2, 2, 8, 16)
    assert torch.allclose(warp_by(image, flow), image, atol=1e-6)
    flow[:, 0] = 2 / 16
    assert torch.allclose(warp_by(image, flow)[..., :-1], image[..., 1:], atol=1e-5)


def test_face_coordinates_are_zero_between_the_eyes_and_count_eye_distances() -> None:
    pose = torch.tensor([[0.0, 0.0, 0.0, 0.25, -0.25, 0.5]])
    grid = face_coordinates(pose, torch.zeros(1, 1, 8, 8))[0]
    # the pixel centre at (0.375, -0.125) lies 0.125 right of the point between the eyes and 0.125 below it
    assert torch.allclose(grid[:, 3, 5], torch.tensor([0.25, 0.25]), atol=1e-6)
    turned = pose.clone()
    turned[0, 2] = torch.pi / 2
    grid = face_coordinates(turned, torch.zeros(1, 1, 8, 8))[0]
    assert torch.allclose(grid[:, 3, 5], torch.tensor([0.25, -0.25]), atol=1e-6)


def test_outside_the_mask_a_forgery_is_its_source_bit_for_bit() -> None:
    source = torch.randint(0, 256, (1, 3, 8, 8)).float() / 255
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    image = torch.rand(1, 3, 8, 8)
    forged = blend(source, Reenactment(image, mask, torch.zeros(1, 2, 8, 8)))
    assert torch.equal(forged[..., :4], source[..., :4]) and torch.allclose(forged[..., 4:], image[..., 4:])


def test_quantise_rounds_and_passes_the_gradient() -> None:
    image = torch.rand(5, requires_grad=True)
    rounded = quantise(image)
    assert torch.allclose(rounded * 255, (image * 255).round(), atol=1e-4)
    rounded.sum().backward()
    assert torch.equal(image.grad, torch.ones(5))


def test_losses_match_plain_loops() -> None:
    result, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    weight = torch.rand(2, 1, 8, 8)
    loop = np.mean([
        abs(float(result[b, c, y, x] - target[b, c, y, x])) * float(weight[b, 0, y, x])
        for b in range(2) for c in range(3) for y in range(8) for x in range(8)
    ])  # fmt: skip
    assert float(reconstruction(result, target, weight)) == pytest.approx(loop, rel=1e-5)
    error = (result - target).numpy()
    one_scale = np.abs(np.diff(error, axis=3)).mean() + np.abs(np.diff(error, axis=2)).mean()
    assert float(gradient(result, target, scales=1)) == pytest.approx(one_scale, rel=1e-5)
    assert float(gradient(target + 0.1, target)) == pytest.approx(0, abs=1e-6)


def test_the_flow_must_lead_from_the_target_s_landmarks_to_the_source_s() -> None:
    target = torch.rand(2, 68, 2) * 20 + 6
    shift = torch.tensor([1.5, -2.0])
    flow = shift[None, :, None, None].expand(2, 2, 32, 32)
    assert float(landmark_flow(flow, target + shift, target)) == pytest.approx(0, abs=1e-6)
    assert float(landmark_flow(torch.zeros_like(flow), target + shift, target)) == pytest.approx(1.75 / 32, rel=1e-5)


def test_mask_truth_wants_the_changed_region() -> None:
    source = torch.zeros(1, 3, 32, 32)
    target = source.clone()
    target[..., 10:20, 10:20] = 0.5
    changed = changed_region(source, target).float()
    assert changed.sum() == 100
    widened = torch.zeros(1, 1, 32, 32)
    widened[..., 9:21, 9:21] = 1
    losses = [float(mask_truth(mask, source, target)) for mask in (widened, changed, 1 - widened)]
    assert losses[0] < 1e-3 < losses[1] < losses[2]


def test_evasion_is_small_when_critics_are_fooled_and_its_gradient_fools_them() -> None:
    def critic(images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)) * 10 - 5

    loss = evasion([critic, lambda images: -critic(images)], [1.0, 0.0])
    image = torch.full((2, 3, 4, 4), 0.8, requires_grad=True)
    value = loss(image)
    value.backward()
    assert float(value) == pytest.approx(np.log1p(np.exp(3.0)), rel=1e-2)
    assert (image.grad > 0).all()
    with pytest.raises(ValueError, match="1 critics and 2 weights"):
        evasion([critic], [1.0, 2.0])


def test_one_cycle_rises_then_falls() -> None:
    rates = [one_cycle(step, 200) for step in range(200)]
    assert rates[9] == 1 and max(rates) == 1 and rates[0] == pytest.approx(0.1) and rates[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("name", NAMES)
def test_forgeries_are_labelled_and_traceable(name: str, faces: Faces, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reenactor = build_reenactor(name).eval()
    make = {"seed": 3, "method": name, "round": 1, "made_by": {"checkpoint": "none"}, "shard_rows": 8}
    forge(reenactor, faces, tmp_path / "whole", {"train": 20, "test": 5}, **make)
    forged = load(tmp_path / "whole")
    assert len(forged) == 25 and (forged.label == 1).all() and set(forged.method) == {name}
    rows = {key: i for i, key in enumerate(zip(faces.clip, faces.frame, strict=True))}
    for i in range(25):
        source = rows[forged.source_clip[i], forged.source_frame[i]]
        driver = rows[forged.driver_clip[i], forged.driver_frame[i]]
        assert forged.identity[i] == faces.identity[source] != faces.identity[driver]
        assert forged.split[i] == faces.split[source]
        assert torch.equal(forged.expression[i], faces.expression[driver])
        assert torch.equal(forged.pose[i], faces.pose[source])
        untouched = (forged.mask[i] == 0).expand(3, -1, -1)
        assert torch.equal(forged.image[i][untouched], faces.image[source][untouched])
    assert next(iter(read(tmp_path / "whole")))["round"] == 1
    (tmp_path / "whole" / "shard-00001.parquet").rename(tmp_path / "kept")
    (tmp_path / "whole" / "dataset_info.json").unlink()
    forge(reenactor, faces, tmp_path / "whole", {"train": 20, "test": 5}, **make)
    assert (tmp_path / "whole" / "shard-00001.parquet").read_bytes() == (tmp_path / "kept").read_bytes()


def test_the_same_seed_draws_the_same_swaps(faces: Faces) -> None:
    test = faces.where(split="test")
    one, other, third = draw_swaps(test, 20, 1), draw_swaps(test, 20, 1), draw_swaps(test, 20, 2)
    assert all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("source", "driver", "target"))
    assert not np.array_equal(one.source, third.source)
    image, mask = reenact(build_reenactor("warp").eval(), test, one, batch=7)
    assert image.shape == (20, 3, 64, 64) and mask.shape == (20, 1, 64, 64) and image.dtype == mask.dtype == torch.uint8


def lose_json(path: Path) -> None:
    path.with_suffix(".json").unlink()


def other_family(path: Path) -> None:
    config = json.loads(path.with_suffix(".json").read_bytes())
    path.with_suffix(".json").write_text(json.dumps(config | {"name": "wrap"}))


def other_size(path: Path) -> None:
    weights = load_file(path)
    weights.pop("stem.0.weight")
    save_file(weights, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (Path.unlink, "no such file"),
        (lose_json, r"\.json"),
        (other_family, "wrap.*warp"),
        (other_size, "stem"),
        (truncated, "does not hold"),
    ],
)
def test_bad_checkpoints_are_named(damage: object, named: str, tmp_path: Path) -> None:
    path = tmp_path / "G.safetensors"
    save_reenactor(path, build_reenactor("warp"), "warp", {})
    damage(path)  # type: ignore[operator]
    with pytest.raises(UserError, match=named) as caught:
        load_reenactor(path)
    assert "\n" not in str(caught.value)


def test_unknown_options_say_what_there_is() -> None:
    with pytest.raises(UserError, match=r"width.*widths"):
        build_reenactor("warp", {"width": 3})
