"""Judges of the synthetic people: the statistics against second opinions, the networks on real renders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from real_media import shared
from sklearn.metrics import roc_auc_score

from generation.faces import survey as survey_module
from generation.faces.expressions import conflicts
from generation.faces.judges import (
    FINDERS,
    UNREAD,
    Judgement,
    Judges,
    correlations,
    own_response_strongest,
    separation,
)
from generation.faces.people import sample_person, sample_scene
from generation.faces.renderer import Renderer
from generation.faces.survey import (
    MOVEMENTS,
    SHEET,
    SurveyConfig,
    expression_of_movement,
    sparse_mixture,
    survey,
)
from generation.faces.weights import YUNET
from generation.motion import ACTIONS
from generation.records import UserError
from scripts.face_report import report, tiled


@pytest.fixture(scope="module")
def weights() -> None:
    for name in ("mediapipe", "insightface_minipack", "yunet"):
        shared(f"weights/{name}")


@pytest.fixture(scope="module")
def judges(weights: None) -> Iterator[Judges]:
    with Judges() as judges:
        yield judges


def test_correlations_are_numpys_and_leave_out_what_was_not_found() -> None:
    rng = np.random.default_rng(0)
    truth, reading = rng.random((40, 52)), rng.random((40, 52))
    reading[:, ACTIONS.index("jawOpen")] += truth[:, ACTIONS.index("jawOpen")]
    reading[:, ACTIONS.index("tongueOut")] = 0
    reading[3] = reading[17] = np.nan
    kept = [row for row in range(40) if row not in (3, 17)]
    r = correlations(truth, reading)
    assert list(r) == list(ACTIONS) and r["tongueOut"] is None
    for name in ("jawOpen", "mouthSmileLeft"):
        k = ACTIONS.index(name)
        assert r[name] == pytest.approx(np.corrcoef(truth[kept, k], reading[kept, k])[0, 1])


def test_separation_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    identity = np.repeat(np.arange(9), 2)
    embedding = rng.normal(size=(9, 16))[identity] + 0.9 * rng.normal(size=(18, 16))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    embedding[5] = np.nan
    kept = [row for row in range(18) if row != 5]
    pairs = [(a, b) for a in kept for b in kept if a < b]
    cosine = np.array([embedding[a] @ embedding[b] for a, b in pairs])
    alike = np.array([identity[a] == identity[b] for a, b in pairs])
    apart = separation(embedding, identity)
    assert apart.auroc == pytest.approx(roc_auc_score(alike, cosine)) and 0.5 < apart.auroc < 1
    assert apart.same == pytest.approx(cosine[alike].mean())
    assert apart.different == pytest.approx(cosine[~alike].mean())
    with pytest.raises(ValueError, match="two pictures"):
        separation(embedding[::2], identity[::2])


def test_strongest_response() -> None:
    response = np.full(52, -0.1)
    response[ACTIONS.index("eyeBlinkRight")] = 0.4
    response[ACTIONS.index("tongueOut")] = np.nan
    assert own_response_strongest(("eyeBlinkLeft", "eyeBlinkRight"), response)
    assert not own_response_strongest(("eyeSquintLeft", "eyeSquintRight"), response)


def test_every_action_is_part_of_one_movement() -> None:
    assert sorted(action for actions in MOVEMENTS.values() for action in actions) == sorted(ACTIONS)
    assert set(ACTIONS) >= UNREAD and len(UNREAD) == 13
    closed = expression_of_movement("mouthClose", 0.5)
    assert closed[ACTIONS.index("jawOpen")] == closed[ACTIONS.index("mouthClose")] == 0.5


def test_mixtures_are_sparse_and_possible() -> None:
    mixtures = [sparse_mixture(np.random.default_rng([2, index])) for index in range(300)]
    for mixture in mixtures:
        assert conflicts(mixture) == [] and 0 < mixture.max() <= 1 and mixture.min() == 0
        assert 1 <= sum(any(mixture[ACTIONS.index(a)] > 0 for a in MOVEMENTS[m]) for m in MOVEMENTS) <= 5
    used = np.array(mixtures).max(0)
    assert (used > 0).all()


def test_networks_find_renders_and_tell_people_apart(judges: Judges) -> None:
    renderer = Renderer(256)
    neutral = np.zeros((1, 52), np.float32)
    seen: list[Judgement] = []
    for person in range(3):
        for scene in range(2):
            frames = renderer.render(sample_person(9, person), sample_scene(9, person, scene), neutral)
            seen.append(judges.judge(frames.image[0], frames.landmarks[0]))
            elsewhere = judges.judge(frames.image[0], frames.landmarks[0] + 300)
            assert not elsewhere.found.any() and np.isnan(elsewhere.embedding).all()
    assert np.mean([judgement.found for judgement in seen], axis=0).min() >= 5 / 6
    apart = separation(np.array([judgement.embedding for judgement in seen]), np.repeat(np.arange(3), 2))
    assert apart.same > apart.different + 0.3


def test_networks_find_nothing_in_noise(judges: Judges) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    judgement = judges.judge(noise, np.random.default_rng(1).uniform(60, 200, (68, 2)))
    assert not judgement.found.any()
    assert np.isnan(judgement.reading).all() and np.isnan(judgement.embedding).all()
    assert np.isnan(judges.read(noise)).all()


def test_damaged_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = shared("weights")
    for name in ("mediapipe", "insightface_minipack"):
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / name).symlink_to(weights / name)
    broken = tmp_path / "weights" / YUNET.folder / YUNET.name
    broken.parent.mkdir()
    broken.write_bytes(b"not a network")
    monkeypatch.setenv("VICIOUS_CYCLE_SHARED", str(tmp_path))
    with pytest.raises(UserError, match=f"{broken}: not a network"):
        Judges()


@pytest.mark.parametrize(
    ("changes", "named"), [({"count": 3}, "count=3"), ({"count": 2}, "count=2"), ({"size": 8}, "size=8")]
)
def test_wrong_reports_name_the_key(changes: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SurveyConfig(**changes)


def test_report(weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small report has every figure and picture, and goes on from the parts that are there."""
    monkeypatch.setattr(survey_module, "SWEEP_PEOPLE", 1)
    monkeypatch.setattr(survey_module, "PART", 1)
    settings = SurveyConfig(count=6, size=96)
    results = report(settings, tmp_path, workers=1)
    assert results["faces"] == 6 and results["people"] == 3
    said = results["judges"]
    assert all(0 <= said[name]["found"] <= 1 for name in FINDERS) and said["mediapipe"]["found"] > 0
    assert (
        list(said["mediapipe"]["r"]) == list(said["mediapipe"]["r_of_change"]) == list(ACTIONS)
        and said["mediapipe"]["read"] == 39
    )
    assert {"auroc", "same", "different", "network"} == set(said["identity"])
    assert json.dumps(said)
    pictures = {path.name for path in (tmp_path / "sweeps").glob("*.png")}
    assert pictures == {f"{action}.png" for action in ACTIONS} and (tmp_path / "people.png").is_file()

    parts = sorted((tmp_path / "judged").glob("*.npz"))
    assert len(parts) == 4
    parts[1].unlink()
    before = {path: path.stat().st_mtime_ns for path in parts if path != parts[1]}
    told: list[tuple[int, int]] = []
    again = survey(settings, tmp_path / "judged", 1, lambda done, total: told.append((done, total)))
    assert told == [(4, 4)] and all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len(again.sheet) == min(SHEET, 6) and again.strips.shape[:2] == (1, len(MOVEMENTS))


def test_tiles_fill_the_last_line_with_black() -> None:
    images = np.full((5, 2, 3, 3), 200, np.uint8)
    sheet = tiled(images, 4)
    assert sheet.shape == (4, 12, 3)
    assert (sheet[2:, 3:] == 0).all() and (sheet[2:, :3] == 200).all()
