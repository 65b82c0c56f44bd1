"""Where expressions come from: CSV files, clips, sliders; modes, strength, regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from editing_parts import clip_driver

from generation.editing.drivers import REGIONS, EditConfig, csv_driver, neutral_of, region_of, slider_driver
from generation.motion import ACTIONS, UNTIMED_RATE, expression_of, read_expressions, write_expressions
from generation.records import UserError

JAW, LEFT_SMILE, BLINK = (ACTIONS.index(name) for name in ("jawOpen", "mouthSmileLeft", "eyeBlinkLeft"))


def test_expressions_survive_the_csv(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).random((5, 52)).astype(np.float32)
    times = np.array([0, 0.04, 0.08, 0.5, 1.25])
    (tmp_path / "a.csv").write_text(write_expressions(times, wanted))
    seconds, expressions = read_expressions(tmp_path / "a.csv")
    assert np.allclose(seconds, times, atol=1e-4) and np.allclose(expressions, wanted, atol=1e-5)


def live_link(rows: list[tuple[str, dict[str, float] | None]]) -> str:
    """As Live Link Face writes it: capital letters, the head's angles behind, empty cells where no face was seen."""
    names = [name[0].upper() + name[1:] for name in ACTIONS]
    lines = [",".join(["Timecode", "BlendShapeCount", *names, "HeadYaw", "HeadPitch"])]
    for time, actions in rows:
        cells = [""] * 54 if actions is None else [*(str(actions.get(name, 0)) for name in ACTIONS), "-0.2", "0.1"]
        lines.append(",".join([time, "0" if actions is None else "61", *cells]))
    return "\n".join(lines) + "\n"


def test_a_capture_of_live_link_face(tmp_path: Path) -> None:
    rows = [
        ("10:59:59:30.500", {"jawOpen": 0.25}),
        ("10:59:59:59.000", None),
        ("11:00:00:15.000", {"tongueOut": 1.005}),
    ]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + live_link(rows).encode())
    seconds, expressions = read_expressions(tmp_path / "a.csv")
    assert np.allclose(seconds, [0, 28.5 / 60, 44.5 / 60])
    assert expressions[0, JAW] == 0.25 and np.isnan(expressions[1]).all() and expressions[2, -1] == 1
    driver = csv_driver(tmp_path / "a.csv", "replace")
    assert driver.held == 1 and driver.expression[1, JAW] == 0.25, "the last known expression is held"


HEADER = ",".join(ACTIONS)
ZEROS = ",".join(["0"] * 52)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            HEADER.replace("jawOpen,", "").replace("mouthClose,", "") + "\n" + ",".join(["0"] * 50),
            "jawOpen, mouthClose",
        ),
        ("a;b\n1;2", "and 47 more"),
        (HEADER + "\n" + ZEROS[:-1] + "43", "line 2, tongueOut: 43 is outside [0, 1]; divide percent by 100"),
        (HEADER + "\n" + ZEROS + "\n" + ZEROS[:-1] + "-0.5", "line 3, tongueOut: -0.5"),
        (HEADER + "\n" + ZEROS[:-1] + "nan", "line 2, tongueOut: nan"),
        (HEADER + "\n" + ZEROS[:-1] + "x", "'x' is no number"),
        (HEADER + "\n0,0,0", "'' is no number"),
        (HEADER + "\n", "no row"),
        ("", "columns are missing"),
        (HEADER + "\n" + "," * 51, "no row"),
        (f"seconds,{HEADER}\n1,{ZEROS}\n0.5,{ZEROS}", "line 3: the time 0.5 comes before"),
        (f"Timecode,{HEADER}\n1:2:3,{ZEROS}", "'1:2:3' is no time"),
    ],
)
def test_a_csv_that_cannot_be_used_says_why_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError) as error:
        csv_driver(tmp_path / "a.csv", "replace")
    assert says in str(error.value) and "a.csv" in str(error.value) and "\n" not in str(error.value)


def test_rows_without_times_and_without_a_tongue(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER.removesuffix(",tongueOut"), *[ZEROS[:-2]] * 3]))
    seconds, expressions = read_expressions(tmp_path / "a.csv")
    assert seconds.tolist() == [0, 1 / UNTIMED_RATE, 2 / UNTIMED_RATE] and expressions.shape == (3, 52)


# What a driver makes of the source's own expression


def test_every_action_has_a_region() -> None:
    by = {region: [action for action in ACTIONS if region_of(action) == region] for region in REGIONS}
    assert {region: len(actions) for region, actions in by.items()} == {"eyes": 14, "brows": 5, "mouth": 33}


@pytest.mark.parametrize(
    ("config", "jaw", "smile", "blink"),
    [
        (EditConfig(), 0.9, 0.0, 1.0),
        (EditConfig(strength=0), 0.3, 0.4, 0.1),
        (EditConfig(strength=0.5), 0.6, 0.2, 0.55),
        (EditConfig(strength=1.5), 1.0, 0.0, 1.0),
        (EditConfig(mode="add"), 1.0, 0.4, 1.0),
        (EditConfig(mode="add", strength=0.5), 0.7, 0.4, 0.6),
        (EditConfig(regions=("mouth",)), 0.9, 0.0, 0.1),
        (EditConfig(regions=("eyes", "brows")), 0.3, 0.4, 1.0),
    ],
)
def test_modes_strength_and_regions(config: EditConfig, jaw: float, smile: float, blink: float) -> None:
    own = expression_of({"jawOpen": 0.3, "mouthSmileLeft": 0.4, "eyeBlinkLeft": 0.1}).numpy()
    driver = clip_driver()
    wanted = driver.wanted(own, driver.expression[1], config)
    assert wanted[[JAW, LEFT_SMILE, BLINK]] == pytest.approx([jaw, smile, blink], abs=1e-6)


def test_sliders_leave_unnamed_actions_alone() -> None:
    own = expression_of({"jawOpen": 0.3, "mouthSmileLeft": 0.4}).numpy()
    driver = slider_driver({"jawOpen": 0.8, "eyeBlinkLeft": 0.0})
    assert not driver.moving
    wanted = driver.wanted(own, driver.expression[0], EditConfig())
    assert wanted == pytest.approx(expression_of({"jawOpen": 0.8, "mouthSmileLeft": 0.4}).numpy())
    added = driver.wanted(own, driver.expression[0], EditConfig(mode="add"))
    assert added == pytest.approx(expression_of({"jawOpen": 1.0, "mouthSmileLeft": 0.4}).numpy())


def test_a_driver_is_resampled_in_time_and_held_at_its_end() -> None:
    jaw = clip_driver().at(np.array([0, 0.25, 1.0, 7.0]))[:, JAW]
    assert jaw == pytest.approx([0.5, 0.6, 0.9, 0.9])


def test_the_neutral_is_found_wherever_the_driver_is_calm() -> None:
    rng = np.random.default_rng(1)
    calm = rng.random(52) * 0.1
    clip = np.clip(calm + np.abs(rng.normal(0, 0.4, (60, 52))), 0, 1)
    clip[40:46] = np.clip(calm + rng.normal(0, 0.005, (6, 52)), 0, 1)
    clip[40:46, ACTIONS.index("eyeLookDownLeft")] = 0.9
    found = neutral_of(clip)
    rest = [index for index, action in enumerate(ACTIONS) if action != "eyeLookDownLeft"]
    assert found[rest] == pytest.approx(calm[rest], abs=0.01)
