from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from generation.losses import changed_region
from generation.motion import MOTION_SIZE
from generation.pairs import Batch, Pairs
from generation.records import Faces
from generation.reenactors import build_reenactor
from generation.reenactors.reenactment import Readout
from generation.reenactors.warp import Warp, sample, warp_by
from generation.reenactors.window import Window

SIZE = 64


@pytest.fixture(scope="module")
def pairs(faces: Faces) -> Batch:
    drawn = Pairs(faces)
    return drawn.batch(*drawn.draw(32, np.random.default_rng(0)))


def motions(*places: tuple[float, float]) -> Tensor:
    """At rest, upright, an eye distance of .48, at these places in crop units."""
    found = torch.zeros(len(places), MOTION_SIZE)
    found[:, -3:-1], found[:, -1] = torch.tensor(places), 0.48
    return found


def test_a_part_that_is_cut_and_pasted_is_back_in_its_place() -> None:
    window = Window.round_face(motions((0, -0.2), (0.3, 0.1)), 40, SIZE)
    image = torch.rand(2, 3, SIZE, SIZE)
    part = window.cut(image)
    for row, (x, y) in enumerate(window.corner.tolist()):
        assert torch.equal(part[row], image[row, :, y : y + 40, x : x + 40])
    assert torch.equal(window.paste(part, image), image)
    pasted = window.paste(torch.zeros_like(part), torch.ones_like(image))
    assert pasted.sum() == 2 * 3 * (SIZE**2 - 40**2) and window.cut(pasted).sum() == 0


def test_points_and_poses_are_told_in_the_window_s_own_units() -> None:
    motion = motions((0.05, -0.1), (-0.2, 0))
    window = Window.round_face(motion, 48, SIZE)
    corner = 2 * window.corner / SIZE - 1
    told = window.points(torch.stack([corner, corner + 2 * 48 / SIZE], dim=1))
    torch.testing.assert_close(told, torch.tensor([[-1.0, -1], [1, 1]]).expand(2, 2, 2), atol=1e-6, rtol=0)
    own = window.motion(motion)
    torch.testing.assert_close(own[:, -1], torch.full((2,), 0.48 / 0.75))
    torch.testing.assert_close(own[:, -3:-1], window.points(motion[:, None, -3:-1])[:, 0])
    assert torch.equal(own[:, :-3], motion[:, :-3])


@pytest.mark.parametrize("place", [(-0.9, 0.0), (0.9, 0.0), (0.0, -0.9), (0.0, 0.9), (3.0, -3.0)])
def test_a_window_stays_in_the_frame(place: tuple[float, float]) -> None:
    window = Window.round_face(motions(place), 48, SIZE)
    assert window.corner.min() >= 0 and window.corner.max() <= SIZE - 48


def test_all_that_an_expression_changes_lies_in_the_window(pairs: Batch) -> None:
    warp = build_reenactor("warp")
    assert isinstance(warp, Warp)
    side = round(warp.options.window * SIZE)
    window = Window.round_face(pairs.wanted_motion, side, SIZE)
    changed = (pairs.source - pairs.target).abs() * changed_region(pairs.source, pairs.target)
    assert side < SIZE and window.cut(changed).sum() > 0.98 * changed.sum()


def test_outside_the_window_nothing_is_touched() -> None:
    source, motion = torch.rand(2, 3, SIZE, SIZE), motions((0.1, -0.1), (-0.1, 0))
    with torch.no_grad():
        result = build_reenactor("warp")(source, motion, torch.rand(2, 68, 2) * SIZE, motion)
    window = Window.round_face(motion, 48, SIZE)
    emptied = torch.zeros(2, 3, 48, 48)
    assert torch.equal(window.paste(emptied, result.image), window.paste(emptied, source))
    for rest in (result.mask, result.flow):
        assert window.paste(torch.zeros_like(window.cut(rest)), rest).abs().sum() == 0


def test_sampling_from_a_window_is_warping_of_the_whole_frame() -> None:
    image, window = torch.rand(2, 3, SIZE, SIZE), Window.round_face(motions((0.1, -0.1), (-0.3, 0.2)), 32, SIZE)
    flow = (torch.rand(2, 2, SIZE, SIZE) - 0.5) / 4
    torch.testing.assert_close(
        sample(image, window, window.cut(flow) / window.share), window.cut(warp_by(image, flow)), atol=1e-5, rtol=0
    )


def test_a_face_that_moves_takes_its_features_along(pairs: Batch) -> None:
    """The source is encoded in one window and asked for in another: what lay at a landmark lies where it is to go."""
    torch.manual_seed(0)
    warp = build_reenactor("warp").eval()
    assert isinstance(warp, Warp)
    for layer in warp.modules():
        if isinstance(layer, Readout):
            torch.nn.init.zeros_(layer.weight)
    wanted = pairs.source_motion.clone()
    wanted[:, -3] -= 0.25
    taken: list[Tensor] = []
    warp.up[0].register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    with torch.no_grad():
        features = warp.encode(pairs.source, pairs.source_motion, pairs.source_landmarks)
        warp.decode(pairs.source, features, pairs.source_motion, wanted)
    width, side = warp.options.widths[0], round(warp.options.window * SIZE)
    moved = taken[0][:, width : 2 * width] / torch.sigmoid(torch.tensor(2.0))
    before, after = (Window.round_face(motion, side, SIZE) for motion in (pairs.source_motion, wanted))
    assert (before.corner != after.corner).any(dim=1).all()
    nose = pairs.source_landmarks[:, 27:36] * (2 / SIZE) - 1
    found = F.grid_sample(moved, after.points(nose - torch.tensor([0.25, 0]))[:, None], align_corners=False)
    truth = F.grid_sample(features[0], before.points(nose)[:, None], align_corners=False)
    astray = F.grid_sample(features[0], after.points(nose)[:, None], align_corners=False)
    assert (found - truth).abs().mean() < 0.35 * (astray - truth).abs().mean()
