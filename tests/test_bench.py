"""Recipes: what they are trained on, what they begin with and combine, and what was left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detection.data import DetectorData
from detection.detectors import load_detector
from detection.training import score
from generation.records import Faces, UserError
from scripts import bench
from scripts.bench import Arm, Recipe, arms, train
from scripts.evaluate import leave_one_out
from scripts.trainer import TrainerConfig, fit


def test_protocols_and_what_was_left_out() -> None:
    members = arms(
        {"plain": Recipe(protocols=("each", "leave_one_out", "all")), "own": Recipe(protocols=("none",))},
        ("a", "b", "c"),
    )
    assert [arm.name for arm in members] == [
        "plain-on-a", "plain-on-b", "plain-on-c", "plain-without-a", "plain-without-b", "plain-without-c",
        "plain-on-all", "own",
    ]  # fmt: skip
    assert members[3].families == ("b", "c") and members[3].left_out == "a"
    rows = [
        {"detector": arm.name, "method": method, "level": "frame", "degradation": "", "attack": "", "auroc": value}
        for arm in members
        for value, method in ((0.6, "a"), (0.7, "b"), (0.8, "c"))
    ]
    found = leave_one_out(rows, members)
    assert found == {
        "plain": {"a": 0.6, "b": 0.7, "c": 0.8, "mean": pytest.approx(0.7)},
        "own": {"a": 0.6, "b": 0.7, "c": 0.8, "mean": pytest.approx(0.7)},
    }


def test_a_recipe_that_combines_trains_its_members_once_and_answers_with_their_mean(
    labelled: Faces, tmp_path: Path
) -> None:
    recipes = {
        "seen": Recipe(steps=4, batch=8, protocols=("leave_one_out",)),
        "blended": Recipe(steps=4, batch=8, self_blended=1.0, protocols=("none",)),
        "both": Recipe(combines=("seen", "blended"), protocols=("leave_one_out",)),
    }
    real, brighter = labelled.where(label=0), labelled.where(label=1)
    forged = {"a": brighter, "b": brighter}
    trainer = TrainerConfig(accelerator="cpu", progress=False)
    made = {
        arm.name: train(arm, recipes, real, forged, trainer, 0, tmp_path)
        for arm in reversed(arms(recipes, ("a", "b")))  # members are trained when they are needed
    }
    assert set(made) == {path.stem for path in tmp_path.glob("*.safetensors")} and len(made) == 5
    members = [made["seen-without-a"], made["blended"]]
    expected = np.mean([score(one.module, real.image) / one.meta["temperature"] for one in members], axis=0)
    both = made["both-without-a"]
    np.testing.assert_allclose(score(both.module, real.image), expected, atol=1e-5)
    assert both.name == "combined" and both.meta["images"] == 64 and both.meta["left_out"] == "a"
    with pytest.raises(UserError, match=r"recipes\.both\.combines: nobody is none of the recipes.*seen, blended"):
        train(arms(recipes, ("a", "b"))[-1], {**recipes, "both": Recipe(combines=("nobody",))}, real, forged,
              trainer, 0, tmp_path / "other")  # fmt: skip


def test_a_recipe_goes_on_from_the_weights_of_the_one_it_begins_with(
    labelled: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = {
        "first": Recipe("localizer", {"widths": [4, 8], "window": 16}, steps=4, batch=8, protocols=("each",)),
        "whole": Recipe("localizer", {"widths": [4, 8]}, begins_with="first", steps=2, batch=8, protocols=("each",),
                        learning_rate=1e-12, weight_decay=0.0),
        "wider": Recipe("localizer", {"widths": [4, 16]}, begins_with="first", steps=2, batch=8),
        "third": Recipe("localizer", {"widths": [4, 8]}, begins_with="whole", steps=2, batch=8, protocols=("each",)),
        "again": Recipe("localizer", {"widths": [4, 8], "window": 16}, begins_with="first", steps=2, batch=8,
                        protocols=("each",)),
    }  # fmt: skip
    real, forged = labelled.where(label=0), {"a": labelled.where(label=1)}
    trainer = TrainerConfig(accelerator="cpu", progress=False)
    drawn: list[DetectorData] = []
    monkeypatch.setattr(bench, "fit", lambda module, data, *rest: fit(module, drawn.append(data) or data, *rest))
    whole = train(Arm("whole-on-a", "whole", ("a",)), recipes, real, forged, trainer, 0, tmp_path)
    first = load_detector(tmp_path / "first-on-a.safetensors")
    for one, other in zip(first.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    assert whole.meta["images"] == 48 and first.meta["images"] == 32
    train(Arm("again-on-a", "again", ("a",)), recipes, real, forged, trainer, 0, tmp_path)
    begun, _, again = (data.drawing(0).image for data in drawn)
    assert begun.shape == again.shape and not torch.equal(begun, again)  # on other draws
    assert first.options["window"] == 16 and whole.options["window"] == 0
    with pytest.raises(UserError, match=r"recipes\.wider\.begins_with: its network is another"):
        train(Arm("wider-on-a", "wider", ("a",)), recipes, real, forged, trainer, 0, tmp_path)
    third = train(Arm("third-on-a", "third", ("a",)), recipes, real, forged, trainer, 0, tmp_path)
    assert third.meta["images"] == 64 and not torch.equal(drawn[-1].drawing(0).image, drawn[1].drawing(0).image)
    for wrong, said in (
        ({"whole": replace(recipes["whole"], begins_with="third")}, r"it goes round \(third -> whole -> third\)"),
        ({"third": replace(recipes["third"], begins_with="nobody")}, r"nobody is none of the recipes that train"),
    ):
        with pytest.raises(UserError, match=rf"recipes\.third\.begins_with: {said}"):
            train(Arm("third-on-a", "third", ("a",)), recipes | wrong, real, forged, trainer, 0, tmp_path / "other")


def test_an_averaged_recipe_is_the_mean_of_where_it_began_and_ended(labelled: Faces, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="averaged=true of a recipe: with what it begins with"):
        Recipe(averaged=True)
    plain = Recipe("localizer", {"widths": [4, 8]}, begins_with="first", steps=4, batch=8, learning_rate=1e-2)
    recipes = {
        "first": Recipe("localizer", {"widths": [4, 8]}, steps=4, batch=8),
        "plain": plain,
        "mean": replace(plain, averaged=True),
    }
    real, forged = labelled.where(label=0), {"a": labelled.where(label=1)}
    trainer = TrainerConfig(accelerator="cpu", progress=False)
    for name in ("plain", "mean"):
        train(Arm(name, name, ("a",)), recipes, real, forged, trainer, 0, tmp_path)
    began, ended, mean = (load_detector(tmp_path / f"{name}.safetensors").module.state_dict() for name in recipes)
    assert not torch.equal(began["head.weight"], ended["head.weight"])
    for name, values in mean.items():
        mean_of_both = (began[name] + ended[name]) / 2
        torch.testing.assert_close(values, mean_of_both if values.is_floating_point() else ended[name])


def test_families_are_drawn_by_their_shares(labelled: Faces, tmp_path: Path) -> None:
    """In one step, after which nothing is left to choose, a family without a share teaches nothing."""
    real, forged = labelled.where(label=0), labelled.where(label=1)
    families = {"a": forged, "b": replace(forged, image=255 - forged.image)}
    trainer = TrainerConfig(accelerator="cpu", progress=False)

    def weights(name: str, arm: Arm, shares: dict[str, float] | None) -> list[Tensor]:
        made = train(arm, {"one": Recipe(steps=1, batch=8)}, real, families, trainer, 0, tmp_path / name, shares)
        return [*made.module.parameters()]

    both, alone = Arm("one", "one", ("a", "b")), Arm("one", "one", ("a",))
    expected = weights("alone", alone, None)
    assert all(map(torch.equal, weights("shares", both, {"a": 3.0, "b": 0.0}), expected))
    assert not all(map(torch.equal, weights("alike", both, None), expected))


def test_a_recipe_to_be_compiled_needs_a_compiler(
    labelled: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    real, forged = labelled.where(label=0), {"a": labelled.where(label=1)}
    with pytest.raises(UserError, match=r"recipe quick: compile=true: needs the compiler no-such-compiler"):
        train(Arm("quick", "quick", ("a",)), {"quick": Recipe(compile=True)}, real, forged, TrainerConfig(), 0,
              tmp_path)  # fmt: skip
