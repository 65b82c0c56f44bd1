"""Verdicts on files: what is said of whom, how far a file is from the calibration set, where detectors look."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detection.calibration import Given
from detection.detectors import build_detector, save_detector
from detection.examine import (
    NOT_CALIBRATED,
    SMALLEST,
    Face,
    condition_of,
    examine,
    smoothed,
    spans,
)
from detection.examine_answers import MAP, answers, grad_cam
from detection.examine_basis import (
    ENSEMBLE,
    Basis,
    Ensemble,
    Observed,
    add_basis,
    basis_of,
    load_ensemble,
    save_ensemble,
    single_detector,
)
from detection.examine_familiarity import DESCRIPTORS, Familiarity, descriptors, familiarity
from detection.examine_looks import Look, Seen
from detection.examine_pictures import explained
from detection.examine_report import (
    disagreement,
    face_json,
    marks_summary,
    provenance_words,
    summary,
    told,
    verdict_bar,
)
from detection.examine_views import InnerFace, inner_square
from generation.records import UserError
from scripts import calibrate

SIZE = 64


class Brightness(nn.Module):
    """A detector that holds bright pictures for forged: ten times the mean, less five."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)
        nn.init.constant_(self.head.weight, 10 / 3)
        nn.init.constant_(self.head.bias, -5.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.mean((-2, -1)))
        return logits.squeeze(1)


def picture(level: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(255 * level + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """Calibrated on pictures whose brightness tells, nearly, which are forged."""
    generator = np.random.default_rng(0)
    people, each = 60, 4
    labels = np.tile([0, 1], people * each // 2)
    levels = 0.5 + 0.1 * (labels - 0.5) + generator.normal(0, 0.03, len(labels))
    crops = [picture(level, index) for index, level in enumerate(levels)]
    modules = (Brightness(), Brightness())
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    scores, features, _ = answers(modules, images)
    described = np.stack([descriptors(crop, 80.0, (0.1 * generator.normal(), 0.1)) for crop in crops])
    identities = np.repeat([f"p{index:02d}" for index in range(people)], each)
    given = Given(labels, scores, identities, np.full(len(labels), "clear"))
    basis = basis_of(Observed(given, described, features), ("one", "other"), SIZE, "sixty people who are grey")
    return Ensemble(("one", "other"), modules, basis, {"trained_on": "nobody"})


class Faces:
    """A finder that sees what it is told: (person, brightness) for every frame."""

    def __init__(self, frames: list[list[tuple[int, float]]], kind: str = "photo", side: float = 80.0) -> None:
        self.frames, self.kind, self.side = frames, kind, side

    def looks(self, path: Path, size: int, seen: Seen) -> Iterator[Look]:
        seen.kind, seen.width, seen.height, seen.frames, seen.looked = self.kind, 640, 480, len(self.frames), 1
        persons, number = {}, 0
        for frame, faces in enumerate(self.frames):
            for person, level in faces:
                persons[number] = person
                box = np.array([10.0, 10, 10 + self.side, 10 + self.side])
                yield Look(
                    number, person, frame, frame / 25, box, self.side, (0.05, 0.1), picture(level, number),
                    np.eye(2, 3), np.zeros((68, 2)),
                )  # fmt: skip
                number += 1
        seen.person = persons


def verdicts(ensemble: Ensemble, finder: Faces, quality: int | None = 90) -> list[Face]:
    return examine(Path("file.jpg"), ensemble, finder, quality)[1]


@pytest.mark.parametrize(("level", "sign"), [(0.56, 1), (0.44, -1)])
def test_a_verdict_is_an_llr_with_its_interval_and_a_term(ensemble: Ensemble, level: float, sign: int) -> None:
    (face,) = verdicts(ensemble, Faces([[(0, level)]]))
    assert face.llr is not None and face.low is not None and face.high is not None
    assert np.sign(face.llr) == sign and face.low <= face.llr <= face.high
    assert abs(face.llr) <= math.log(61) + 0.02  # what sixty people support
    assert face.scale.endswith("forged" if sign > 0 else "real") and not face.abstains
    said = told(face)
    assert "times as probable" in said and "%" not in said.replace("95 %", "") and "LLR" in said
    written = json.loads(json.dumps(face_json(face, ensemble)))
    assert {"llr", "low", "high", "scale", "calibrated_for", "detectors", "spans"} <= set(written)
    assert written["calibrated_for"]["this_file"] and written["calibrated_for"]["people"] == 60


def test_near_nothing_is_told_as_nothing(ensemble: Ensemble) -> None:
    (face,) = verdicts(ensemble, Faces([[(0, 0.5)]]))
    assert face.llr is not None and abs(face.llr) < 0.7 and face.abstains and "Too close to call" in told(face)


@pytest.mark.parametrize(
    ("finder", "why"),
    [
        (Faces([[(0, 0.9)]]), "brightness"),
        (Faces([[(0, 0.56)]], side=40.0), f"at least {SMALLEST}"),
        (Faces([[(0, 0.56)]], side=70.0), None),
    ],
)
def test_a_file_too_far_from_the_calibration_set_gets_no_verdict(
    ensemble: Ensemble, finder: Faces, why: str | None
) -> None:
    (face,) = verdicts(ensemble, finder)
    if why is None:
        assert face.llr is not None and face.strange == []
        return
    assert face.llr is None and face.low is None and face.scale == NOT_CALIBRATED and face.spans == []
    assert any(why in line for line in face.strange) and face.abstains
    assert all(llr is None for _, llr in face.detectors.values())
    assert told(face) == f"No verdict: {NOT_CALIBRATED}."
    assert not face_json(face, ensemble)["calibrated_for"]["this_file"]


def test_every_person_gets_a_verdict_of_all_frames(ensemble: Ensemble) -> None:
    frames = [[(0, 0.44), (1, 0.56)] for _ in range(40)]
    first, second = verdicts(ensemble, Faces(frames, "video"))
    assert first.looks == second.looks == 40
    assert first.llr is not None and second.llr is not None and first.llr < 0 < second.llr
    assert second.spans == [(0.0, 39 / 25, pytest.approx(float(second.ratios.mean())))] and first.spans == []
    assert len(second.worst) == 3
    assert [one.llr for one in second.worst] == sorted((float(r) for r in second.ratios), reverse=True)[:3]


def test_a_forged_part_of_a_video_is_a_span(ensemble: Ensemble) -> None:
    levels = [0.44] * 30 + [0.57] * 15 + [0.44] * 30
    (face,) = verdicts(ensemble, Faces([[(0, level)] for level in levels], "video"))
    ((start, end, llr),) = face.spans
    assert abs(start - 30 / 25) < 0.05 and abs(end - 44 / 25) < 0.05 and llr > 1


def test_spans_by_hand() -> None:
    seconds = np.arange(12) / 4
    ratios = np.array([-1.0, 5, -1, -1, -1, 4, 4, 4, 4, 4, -1, -1])
    np.testing.assert_array_equal(smoothed(ratios)[5:10], [4, 4, 4, 4, 4])
    assert smoothed(ratios)[1] == -1  # a single frame is no span
    assert spans(seconds, ratios, 2.0) == [(5 / 4, 9 / 4, 4.0)]


@pytest.mark.parametrize(
    ("kind", "side", "quality", "condition"),
    [
        ("photo", 400, 95, "clear"),
        ("photo", 400, None, "clear"),
        ("photo", 400, 60, "compressed"),
        ("photo", 200, 60, "medium"),
        ("video", 200, None, "video"),
        ("video", 100, None, "video"),
        ("photo", 100, 95, "small"),
    ],
)
def test_conditions(kind: str, side: float, quality: int | None, condition: str) -> None:
    assert condition_of(kind, 40, side, quality) == condition
    assert condition_of("video", 4, side, quality) == "frames"


def test_detectors_that_disagree_are_named(ensemble: Ensemble) -> None:
    (face,) = verdicts(ensemble, Faces([[(0, 0.56)]]))
    assert disagreement(face) == ""
    face.detectors.update(one=(0.0, -2.0), other=(0.0, 2.0))
    assert face.disagreement == 4.0 and "other would say LLR 2.00 and one \u22122.00" in disagreement(face)


def test_descriptors_measure_what_they_say() -> None:
    generator = np.random.default_rng(1)
    flat = np.full((128, 128, 3), 128.0)
    grained = np.clip(flat + generator.normal(0, 8, (128, 128, 1)), 0, 255).astype(np.uint8)
    named = dict(zip(DESCRIPTORS, descriptors(grained, 64.0, (-0.2, 0.3)), strict=True))
    assert named["resolution"] == 0.5 and named["pitch"] == 0.2 and named["yaw"] == 0.3
    assert math.exp(named["grain"]) * 255 == pytest.approx(8, rel=0.1)
    assert named["brightness"] == pytest.approx(128 / 255, abs=0.01) and named["colour"] == 0
    still = dict(zip(DESCRIPTORS, descriptors(flat.astype(np.uint8), 256.0, (0.0, 0.0)), strict=True))
    assert still["resolution"] == 1 and still["grain"] < named["grain"] and still["sharpness"] < named["sharpness"]


def test_what_is_usual_is_near_and_the_rest_is_far() -> None:
    generator = np.random.default_rng(2)
    mixing = generator.normal(size=(20, 20))
    features, described = generator.normal(size=(600, 20)) @ mixing, generator.normal(0, 1, (600, len(DESCRIPTORS)))
    people = np.repeat([f"p{index}" for index in range(100)], 6)
    conditions = np.where(np.arange(600) < 60, "video", "clear")
    described[:, 0] = np.where(conditions == "video", 0.9, generator.uniform(0.4, 0.7, 600))
    described[:6, 0], described[6:18, 0] = 0.1, 0.8  # one person smaller than all, two somewhat
    usual = familiarity(described, features, people, conditions)
    assert usual.ranges["video"][0, 0] == pytest.approx(0.8, abs=1e-5)
    there = np.array([0.6, *np.zeros(7)])
    assert usual.strange(there, 1.0, "clear") == usual.strange(there, 1.0) == []
    assert "pixels of the face: 0.60" in usual.strange(there, 1.0, "video")[0]
    assert "pixels of the face: 307, the calibration set has 410 to" in usual.strange(there, 1.0, "video", 512)[0]
    by_a_hair = np.array([usual.ranges["video"][0, 0] - 0.0004, *np.zeros(7)])
    assert "0.7996, the calibration set has 0.8000 to" in usual.strange(by_a_hair, 1.0, "video")[0]
    unseen = generator.normal(size=(2000, 20)) @ mixing
    assert usual.distance(unseen).mean() == pytest.approx(1, abs=0.1)
    assert (usual.distance(unseen) > usual.limit).mean() < 0.03
    assert (usual.distance(unseen + 12 * mixing[0]) > usual.limit).mean() > 0.95
    assert usual.strange(np.array([0.5, *np.zeros(7)]), 1.0) == []
    assert "pose is unknown" in usual.strange(np.array([*np.zeros(6), np.nan, np.nan]), 1.0)[0]
    again = Familiarity.of(json.loads(json.dumps(usual.plain())))
    np.testing.assert_allclose(again.distance(unseen), usual.distance(unseen), atol=0.02)


def test_grad_cam_is_that_of_the_paper() -> None:
    """On a convolution, a mean and a line the weights are those of the line, so the map can be written down."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    line = nn.Linear(4, 1)
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), line, nn.Flatten(0))
    images = torch.rand(2, 3, 16, 16)
    found = grad_cam(network, images)
    expected = torch.relu((line.weight[0][:, None, None] / 256 * convolution(images)).sum(1)).detach().numpy()
    assert found is not None
    np.testing.assert_allclose(found, expected / expected.max((1, 2), keepdims=True), atol=1e-5)
    assert grad_cam(Brightness(), images) is None


def test_grad_cam_of_a_localizer_is_of_its_deepest_features() -> None:
    """They are at a quarter of the size here; its heat map, at half, has a picture of its own."""
    torch.manual_seed(0)
    network = build_detector("localizer", {"widths": [4, 6]}).eval()
    deepest: list[torch.Tensor] = []
    network.down[-1].register_forward_hook(lambda *called: deepest.append(called[2]))
    images = torch.rand(1, 3, 64, 64)
    found = grad_cam(network, images)
    (gradient,) = torch.autograd.grad(network(images).sum(), deepest[-1])
    maps = torch.relu((gradient.mean((-2, -1), keepdim=True) * deepest[-1]).sum(1, keepdim=True))
    assert found is not None and maps.shape[-2:] == (16, 16) and maps.max() > 0
    whole = nn.functional.interpolate(maps, (64, 64), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(found, (whole / whole.max()).detach().numpy(), atol=1e-5)


def test_answers_are_those_of_the_detectors_and_maps_what_they_hold_for_changed() -> None:
    modules = [InnerFace(build_detector("localizer", {"widths": [4, 6]}, 1)).eval(), build_detector("frequency").eval()]
    images = torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8)
    found = answers(modules, images)
    with torch.no_grad():
        expected = torch.stack([module(images / 255) for module in modules], 1)
        heat = torch.sigmoid(modules[0].locate(images / 255).heat)  # type: ignore[operator]
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.maps[1] is None and found.maps_of(2)[1] is None
    one = found.maps_of(2)[0]
    assert one is not None and one.shape == (MAP, MAP) and one.dtype == np.uint8 and one.base is None
    shown = Image.fromarray(heat[2, 0].numpy()).resize((MAP, MAP), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(one / 255, np.asarray(shown), atol=0.005)
    assert one[:6].max() == 0  # what it does not see


def test_detectors_of_inner_faces_see_them_and_put_maps_back() -> None:
    crops = torch.rand(2, 3, 256, 256)
    top, left, side = inner_square(256)
    inner = InnerFace(Brightness())
    torch.testing.assert_close(inner.seen(crops), crops[..., top : top + side, left : left + side])
    spread = inner.spread(torch.ones(2, 1, 9, 9), 256)
    assert spread.sum() == 2 * side**2 and spread[0, 0, top, left] == 1 and spread[0, 0, top - 1, left] == 0
    assert not hasattr(inner, "locate")
    module = build_detector("localizer", {"widths": [4, 6], "window": 80}).eval()
    inner = InnerFace(module)
    located, mirrored = inner.locate(crops), inner.locate(crops.flip(-1))
    heat, part = located.heat, crops[..., top : top + side, left : left + side]
    assert heat.shape == (2, 1, 256, 256)
    torch.testing.assert_close(inner(crops), (module(part) + module(part.flip(-1))) / 2)
    torch.testing.assert_close(located.logit, inner(crops))
    torch.testing.assert_close(mirrored.logit, located.logit)
    torch.testing.assert_close(mirrored.heat, heat.flip(-1))
    assert (heat[:, 0, top - 1, :] < -10).all() and (heat[:, 0, top, left] > -10).all()


@pytest.mark.parametrize(
    ("verdict", "said", "short"),
    [
        (
            {"state": "trusted", "signed_by": "Lab", "statement": {"reenactor": "warp"}, "found": True,
             "watermark_p": 1e-12},
            "warp, a reenactor",
            "C2PA, signed by this laboratory; watermark: made with a reenactor of this project",
        ),
        ({"state": "valid", "signed_by": "Them", "statement": None}, "names Them", "C2PA, signed by Them"),
        ({"state": "tampered", "signed_by": None, "statement": None}, "does not hold", "C2PA that does not hold"),
        (
            {"state": "absent", "found": True, "watermark_p": 1e-12},
            "lost or removed",
            "watermark: made with a reenactor of this project",
        ),
        ({"state": "absent", "found": False, "watermark_p": 0.4}, "says nothing about other makers", "none"),
        ({"error": "no c2pa"}, "no c2pa", "could not be read"),
        ({}, "", "none"),
    ],
)  # fmt: skip
def test_marks_in_words(verdict: dict[str, object], said: str, short: str) -> None:
    assert said in " ".join(provenance_words(verdict))
    assert marks_summary(verdict) == short


def test_the_first_that_is_said_of_a_file_whose_manifest_is_lost_is_its_watermark() -> None:
    assert provenance_words({"state": "absent", "found": True, "watermark_p": 1e-12})[0].startswith("The watermark")


def saved(folder: Path, name: str = "detector") -> Path:
    return save_detector(folder / name, build_detector("frequency"), "frequency", {}, {"threshold": 0.0})


def test_a_detector_without_a_calibration_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for given in (path, tmp_path):
        with pytest.raises(UserError, match=r"python scripts/calibrate\.py detector=.*detector\.safetensors"):
            load_ensemble(given)


def test_a_calibrated_detector_stands_for_itself(tmp_path: Path, ensemble: Ensemble) -> None:
    path = saved(tmp_path)
    plain = ensemble.basis.plain()
    alone = Basis.of({**plain, "singles": {"frequency": plain["singles"]["one"]}})
    add_basis(path, alone)
    found = load_ensemble(tmp_path)
    assert found.names == ("frequency",) and found.basis.size == SIZE
    assert json.loads(json.dumps(found.basis.plain())) == json.loads(json.dumps(alone.plain()))


def test_an_ensemble_is_calibrated_anew_in_its_place(
    tmp_path: Path, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the making of photographs: who is asked, at what size, and what is tested and kept afterwards."""
    names, about = ("one", "two"), {"trained_on": "nobody"}
    for name in names:
        saved(tmp_path, name)
    save_ensemble(tmp_path, names, ensemble.basis, about)
    wider = replace(ensemble.basis, calibration=replace(ensemble.basis.calibration, low=-9.0, high=9.0))
    asked = []

    def fitted(*given: object) -> Basis:
        asked.append(given)
        return wider

    monkeypatch.setattr(calibrate, "basis_on_photographs", fitted)
    monkeypatch.setattr(
        calibrate, "tested", lambda path, *_: {"test": {}, "told": load_ensemble(path).basis.calibration.high / 9}
    )
    settings = calibrate.CalibrateConfig(tmp_path, size=1, seed=3)
    results = calibrate.recalibrated(tmp_path, settings, tmp_path)
    ((judges, size, _, footage, _, seed, _),) = asked
    assert (judges.names, len(judges.modules()), size, footage, seed) == (names, 2, SIZE, True, 3)
    found = load_ensemble(tmp_path)
    assert found.basis.plain() == json.loads(json.dumps(wider.plain())) and found.about == about
    assert results["told"] == 1 and results["calibration"] == ensemble.basis.calibration.about
    with pytest.raises(UserError, match=r"records=here: .*leave records out"):
        calibrate.recalibrated(tmp_path, replace(settings, records=Path("here")), tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "none", "no such file or folder"),
        (lambda folder: folder, "holds no detector"),
        (lambda folder: (saved(folder, "a"), saved(folder, "b"))[0].parent, "2 detectors"),
        (lambda folder: (folder / ENSEMBLE).write_text("{") and folder, "damaged"),
    ],
)
def test_what_is_no_detector(tmp_path: Path, make: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_ensemble(make(tmp_path))  # type: ignore[operator]


def test_a_single_detector_is_found_by_its_folder(tmp_path: Path) -> None:
    assert single_detector(tmp_path / "x.json") == tmp_path / "x.safetensors"
    path = saved(tmp_path)
    assert single_detector(tmp_path) == path


def test_summaries_say_what_there_is(ensemble: Ensemble) -> None:
    from detection.examine import Examination

    faces = verdicts(ensemble, Faces([[(0, 0.56), (1, 0.9)]]))
    assert "1 of them not calibrated" in summary(Examination("a.jpg", Seen(), faces))
    assert "most of face 1" in summary(Examination("a.jpg", Seen(), faces))
    assert "no face found" in summary(Examination("a.jpg", Seen(), []))


@pytest.mark.parametrize("foremost", ["map", "cam"])
def test_explanations_of_every_kind(ensemble: Ensemble, foremost: str) -> None:
    """A heat map of each detector that has one; Grad-CAM of the others, and of the one that speaks most for forgery."""
    networks = (build_detector("localizer", {"widths": [4, 6]}).eval(), build_detector("frequency", seed=2).eval())
    singles = {name: [0.0, float(name == foremost)] for name in ("map", "cam")}
    usual = replace(ensemble.basis.familiarity, axes=np.zeros((0, 0)))
    basis = replace(ensemble.basis, singles=singles, familiarity=usual)
    both = Ensemble(("map", "cam"), networks, basis, {})
    worst = verdicts(both, Faces([[(0, 0.5)]]))[0].worst[0]
    shown = explained(worst, both)
    more = {"map: Grad-CAM"} if foremost == "map" else set()
    assert set(shown) == {"the face", "map: held for changed", "cam: Grad-CAM"} | more
    for content in shown.values():
        assert Image.open(io.BytesIO(content)).size == (MAP, MAP)


def test_the_bar_of_a_verdict_puts_the_llr_between_the_ends_of_the_calibration(ensemble: Ensemble) -> None:
    (face,) = verdicts(ensemble, Faces([[(0, 0.56)]]))
    for llr, place in ((-3.0, 0), (0.0, 60), (2.0, 100)):
        shown = verdict_bar(replace(face, llr=llr, low=llr - 0.1, high=llr + 0.1), -3.0, 2.0)
        assert shown == pytest.approx({"llr": place, "low": place - 2, "high": place + 2, "zero": 60})
    assert verdict_bar(face, 0.5, 2.0) is None
    assert verdict_bar(replace(face, llr=None, low=None, high=None), -3.0, 2.0) is None
