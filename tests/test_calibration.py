"""Calibration against reference implementations, and what it promises on scores whose LLRs are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from detection import calibration as c
from detection.examine_basis import compared
from detection.metrics import cllr, cllr_min
from generation.records import UserError


def drawn(people: int = 60, faces: int = 8, gap: float = 3.0, share: float = 0.5, seed: int = 0) -> c.Given:
    """Scores of two detectors, normal in both classes with variance 1: the LLR of either is known. People differ."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(people * faces) < share).astype(np.int64)
    own = np.repeat(generator.normal(0, 0.3, people), faces)
    scores = generator.normal(0, 1, (people * faces, 2)) + (gap * (labels - 0.5) + own)[:, None]
    identities = np.repeat([f"person-{index:02d}" for index in range(people)], faces)
    return c.Given(labels, scores, identities, np.where(np.arange(people * faces) % 2, "clear", "video"))


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_logistic_is_sklearns_with_balanced_classes(columns: int, share: float) -> None:
    given = drawn(share=share, gap=1.5)
    scores = given.scores[:, :columns]
    weights = c.balanced(given.labels)
    middle = weights @ scores
    spread = np.sqrt(weights @ (scores - middle) ** 2)
    reference = LogisticRegression(C=1 / c.RIDGE, tol=1e-12, max_iter=1000)
    reference.fit((scores - middle) / spread, given.labels, sample_weight=weights)
    slopes = reference.coef_[0] / spread
    expected = np.append(slopes, reference.intercept_[0] - slopes @ middle)
    np.testing.assert_allclose(c.logistic(given.labels, scores), expected, atol=2e-4)


def test_the_share_of_forgeries_moves_no_llr() -> None:
    """An LLR holds for any prior: a set of one forgery in ten gives the same map as one of one in two."""
    even, few = drawn(4000, 4, 2.0, 0.5, 1), drawn(4000, 4, 2.0, 0.1, 2)
    maps = [c.logistic(given.labels, given.scores[:, 0]) for given in (even, few)]
    np.testing.assert_allclose(maps[0], maps[1], atol=0.12)
    np.testing.assert_allclose(maps[0], [2.0 / (1 + 0.3**2), 0.0], atol=0.1)  # what it must be by the densities


def test_fusion_calibrates_the_sum_of_what_each_says_alone() -> None:
    given = drawn(gap=1.5)
    alone = [c.logistic(given.labels, scores) for scores in given.scores.T]
    total = sum(slope * scores + offset for (slope, offset), scores in zip(alone, given.scores.T, strict=True))
    expected = np.polyval(c.logistic(given.labels, total), total)
    fused = c.fusion(given.labels, given.scores)
    np.testing.assert_allclose(given.scores @ fused[:-1] + fused[-1], expected, atol=1e-6)
    np.testing.assert_allclose(c.fusion(given.labels, given.scores[:, 0]), alone[0], atol=1e-6)


def test_a_detector_heard_twice_and_one_that_knows_nothing_change_no_verdict() -> None:
    given = drawn(2000, gap=1.5)
    one = np.polyval(c.logistic(given.labels, given.scores[:, 0]), given.scores[:, 0])
    noise = np.random.default_rng(4).normal(0, 1, len(one))
    for other, far in ((given.scores[:, 0], 1e-6), (noise, 0.1)):
        both = np.column_stack([given.scores[:, 0], other])
        fused = c.fusion(given.labels, both)
        np.testing.assert_allclose(both @ fused[:-1] + fused[-1], one, atol=far)


def test_weights_count_faces() -> None:
    given = drawn(20)
    times = np.random.default_rng(3).integers(0, 3, len(given.labels))
    repeated = np.repeat(np.arange(len(given.labels)), times)
    np.testing.assert_allclose(
        c.logistic(given.labels, given.scores, times.astype(float)),
        c.logistic(given.labels[repeated], given.scores[repeated]),
        atol=1e-6,
    )


def test_platt_is_maximum_likelihood_of_its_targets() -> None:
    given = drawn(gap=1.0, share=0.3)
    score = given.scores[:, 0]
    slope, offset = c.platt(given.labels, score)
    forged, real = int(given.labels.sum()), int((given.labels == 0).sum())
    target = np.where(given.labels == 1, (forged + 1) / (forged + 2), 1 / (real + 2))
    doubled = np.concatenate([score, score])[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    reference.fit(doubled, np.r_[np.ones(len(score)), np.zeros(len(score))], np.r_[target, 1 - target])
    np.testing.assert_allclose(slope, reference.coef_[0, 0], atol=1e-4)
    np.testing.assert_allclose(offset, reference.intercept_[0] - math.log(forged / real), atol=1e-4)


def test_isotonic_is_sklearns_with_a_face_more_at_either_end() -> None:
    given = drawn(30)
    score = given.scores[:, 0].round(1)  # with ties
    corners, ratios = c.isotonic(given.labels, score)
    weights = c.balanced(given.labels) * len(given.labels)
    least = [weights[given.labels == label].min() for label in (0, 1)]
    extra = np.repeat([score.min() - 1, score.max() + 1], 2)
    reference = IsotonicRegression()
    reference.fit(np.r_[score, extra], np.r_[given.labels, 0, 1, 0, 1], np.r_[weights, least, least])
    share = reference.predict(corners)
    np.testing.assert_allclose(ratios, np.log(share / (1 - share)), atol=1e-9)
    assert np.isfinite(ratios).all() and (np.diff(ratios) >= -1e-12).all()


@pytest.mark.parametrize("name", list(c.calibrators()))
def test_every_calibrator_repairs_scores_that_say_too_much(name: str) -> None:
    given, held = drawn(300, seed=4), drawn(300, seed=5)
    wrong = 9 * given.scores[:, 0] if name == "temperature" else 9 * given.scores[:, 0] + 4
    fitted = c.calibrators()[name](given.labels, wrong)
    unseen = 9 * held.scores[:, 0] if name == "temperature" else 9 * held.scores[:, 0] + 4
    assert cllr(held.labels, fitted(unseen)) < cllr_min(held.labels, unseen) + 0.03 < cllr(held.labels, unseen)


def test_fusion_is_better_than_either_detector() -> None:
    given = drawn(200, gap=2.0)
    found = c.calibrate(given, resamples=20)
    alone = [cllr(given.labels, c.calibrators()["logistic"](given.labels, s)(s)) for s in given.scores.T]
    assert cllr(given.labels, found.llr(given.scores)) < min(alone) - 0.03
    assert set(compared(given)) == set(c.calibrators())


def test_conditions_get_maps_of_their_own_where_there_are_people_enough() -> None:
    given = drawn(60)
    shifted = given._replace(scores=given.scores + 2.0 * (given.conditions == "video")[:, None])
    found = c.calibrate(shifted, resamples=20)
    assert set(found.coefficients) == {"", "clear", "video"}
    here = shifted.rows(shifted.conditions == "video")
    own, pooled = found.llr(here.scores, "video"), found.llr(here.scores)
    assert cllr(here.labels, own) < cllr(here.labels, pooled) - 0.02
    few = given._replace(conditions=np.where(given.identities < "person-10", "rare", "clear"))
    assert "rare" not in c.calibrate(few, resamples=5).coefficients
    np.testing.assert_array_equal(found.llr(here.scores, "never seen"), pooled)


def test_an_interval_holds_the_llr_and_narrows_with_people() -> None:
    wide, narrow = (c.calibrate(drawn(people, 4), resamples=200) for people in (25, 400))
    at = np.array([0.3, 0.3])
    widths = []
    for found in (wide, narrow):
        low, high = found.interval(at)
        assert low <= found.llr(at)[0] <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_people_bound_the_llr() -> None:
    """Without an error, n people support a likelihood ratio of n + 1 and no more, however many faces each has."""
    for people in (20, 80):
        given = drawn(people, 40, gap=40.0)
        low, high = c.limits(given.labels, given.scores[:, 0], given.identities)
        assert high == pytest.approx(math.log(people + 1), abs=0.02) and low == pytest.approx(-high, abs=0.03)
        assert c.calibrate(given, resamples=5).llr(np.array([500.0, 500.0]))[0] <= high + 0.02
    labels, people_ = np.tile([0, 1], 50), np.repeat([f"p{index:02d}" for index in range(50)], 2)
    backwards = np.where(labels == 1, -3.0, 3.0)
    assert c.limits(labels, backwards, people_) == (pytest.approx(0), pytest.approx(0))


def test_saved_and_read_again_says_the_same() -> None:
    given = drawn()
    found = c.calibrate(given, resamples=50)
    again = c.Calibration.of(json.loads(json.dumps(found.plain())))
    np.testing.assert_allclose(again.llr(given.scores, "clear"), found.llr(given.scores, "clear"), atol=1e-3)
    np.testing.assert_allclose(again.interval(given.scores[0]), found.interval(given.scores[0]), atol=1e-2)
    assert again.about == found.about and again.abstain == pytest.approx(found.abstain, abs=1e-3)


def test_a_seed_fixes_a_calibration() -> None:
    given = drawn()
    assert c.calibrate(given, 30, seed=1).plain() == c.calibrate(given, 30, seed=1).plain()
    assert c.calibrate(given, 30, seed=1).plain() != c.calibrate(given, 30, seed=2).plain()


def test_risk_and_coverage_by_hand() -> None:
    labels, llr = np.array([0, 0, 1, 1]), np.array([-3.0, 1.0, 2.0, -0.5])
    sure, judged, wrong = c.risk_coverage(labels, llr)
    np.testing.assert_allclose(sure, [3, 2, 1, 0.5])
    np.testing.assert_allclose(judged, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(wrong, [0, 0, 1 / 3, 0.5])
    assert c.abstention(labels, llr, risk=0.05) == 2.0
    assert c.abstention(labels, np.array([-3.0, -2.0, 2.0, 3.0])) == 2.0
    assert c.abstention(labels, np.array([-3.0, -0.1, 0.1, 3.0])) == math.log(2)  # less is no support


@pytest.mark.parametrize(
    ("ratio", "term"),
    [
        (1.0, "no support either way"),
        (1.9, "no support either way"),
        (2.1, "weak support for forged"),
        (1 / 9.5, "weak support for real"),
        (11, "moderate support for forged"),
        (150, "moderately strong support for forged"),
        (1 / 5000, "strong support for real"),
        (2e4, "very strong support for forged"),
        (2e6, "extremely strong support for forged"),
    ],
)
def test_verbal_scale_of_enfsi(ratio: float, term: str) -> None:
    assert c.verbal(math.log(ratio)) == term


@pytest.mark.parametrize("llr", [1e4, -1e4])
def test_verbal_scale_has_no_end(llr: float) -> None:
    assert c.verbal(llr).startswith("extremely strong")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.zeros(480, np.int64)}, "all real"),
        ({"scores": np.full((480, 2), np.nan)}, "NaN"),
        ({"identities": np.full(480, "one")}, "1 people; calibration needs at least 5"),
    ],
)
def test_what_cannot_be_calibrated(change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UserError, match=said):
        c.calibrate(drawn()._replace(**change))


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_right_llrs_have_the_ece_that_is_foretold_and_it_goes_with_faces(share: float) -> None:
    generator = np.random.default_rng(9)
    foretold, found = [], []
    for count in (200, 3200):
        eces = []
        for _ in range(40):
            labels = (generator.random(count) < share).astype(int)
            llr = generator.normal(np.where(labels, 2.0, -2.0), 2.0)  # of these two densities, the LLR is the value
            eces.append(c.figures(labels, llr)["ece"])
        found.append(np.mean(eces))
        foretold.append(c.ece_if_right(labels, llr))
    np.testing.assert_allclose(foretold, found, rtol=0.15)
    assert foretold[1] < foretold[0] / 2
