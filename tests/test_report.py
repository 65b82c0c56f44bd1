"""The report: what the page says is what it was given, in a real browser, and it needs nothing else."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection.arena import Payoff, RoundGame
from detection.pictures import LABEL, colours, number, payoff_picture, sample_grid
from detection.report import Control, Grid, Report, duration, headline, render, write_report

HOSTILE = '<img src=x onerror="alert(1)"> & $G_0^$'
SECTIONS = ["findings", "payoff", "game", "quality", "controls", "samples", "time", "configuration", "limits"]


def faces(seed: int, count: int = 3, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def report() -> Report:
    reenactors, detectors = ("G0", "G1", "G2", "G1_plain"), ("D0", "D1", "D2", "W0", "D1_extra")
    matrix = np.random.default_rng(5).random((4, 5))
    return Report(
        title="Three rounds",
        data_name="synthetic, 32 px",
        seed=7,
        commit="0123abc",
        when="one day",
        payoff=Payoff(reenactors, detectors, matrix, np.clip(matrix - 0.05, 0, 1), np.clip(matrix + 0.05, 0, 1)),
        games=[
            RoundGame(0, 0.125, {"G0": 1.0}, {"D0": 1.0}, 0.0, 0.125, 0.0),
            RoundGame(1, 0.25, {"G0": 0.3, "G1": 0.7}, {"D0": 0.0, "D1": 1.0}, -1e-17, 0.375, 0.4),
        ],
        judge="D0",
        withheld=["W0"],
        controls_named=["G1_plain", "D1_extra"],
        quality={
            "G0": {"changed_l1_ratio": 0.3271, "psnr": 29.81234, "aed": None},
            "G1": {"changed_l1_ratio": 0.3462, "psnr": 28.5, "aed": 0.041},
            "G1_plain": {"changed_l1_ratio": 0.3271, "psnr": 30.0, "aed": 0.04},
        },
        controls=[
            Control("no critic", "longer training alone does not evade", {"drop": 0.011}, holds=True),
            Control("withheld", "what evades D0 does not evade W0", {"drop": 0.512}, holds=False),
            Control("blur", "blur", {"sigma": None}),
        ],
        findings=["Round 2 did not help."],
        grids=[Grid("Round 0", sample_grid(*(faces(i) for i in range(4))), "Forgeries of G0.")],
        seconds={"train G0": 331.4, "forge G0": 9.04},
        config={"cycle.rounds": 3},
        versions={"torch": "2.15.0"},
        notes=["Painted skin."],
    )


class Page(HTMLParser):
    """What the tests ask of a page: addresses, texts by data attribute, headings, tables, pictures without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.cells: dict[str, str] = {}
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.silent_images = 0
        self.header_scopes: list[str | None] = []
        self.text = ""
        self._cell: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action")]
        self.ids += [given["id"] or ""] if "id" in given else []
        self.silent_images += tag == "img" and not given.get("alt")
        self.header_scopes += [given.get("scope")] if tag == "th" else []
        if tag == "td":
            self._cell = next((f"{key} {value}" for key, value in attrs if key.startswith("data-")), None)

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self.cells[self._cell] = f"{self.cells.get(self._cell, '')} {data}".strip()


def browse(path: Path, profile: Path) -> tuple[str, list[str]]:
    """The DOM that Chromium builds from a file, and what it wrote to the console."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for found in map(shutil.which, names) if found), None)
    if program is None:
        pytest.skip("chromium is missing: no program of that name on the PATH")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command = [program, *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def check_numbers(page: Page, report: Report) -> None:
    payoff = report.payoff
    for i, reenactor in enumerate(payoff.reenactors):
        for j, detector in enumerate(payoff.detectors):
            shown = re.findall(r"\d\.\d+", page.cells[f"data-cell {reenactor} / {detector}"])
            expected = [f"{payoff.matrix[i, j]:.3f}", f"{payoff.low[i, j]:.2f}", f"{payoff.high[i, j]:.2f}"]
            assert shown == expected
    for game in report.games:
        assert page.cells[f"data-game {game.round}"] == f"{game.value:.3f}"
    for name, numbers in report.quality.items():
        for key, value in numbers.items():
            assert page.cells[f"data-quality {name} {key}"] == ("\u2013" if value is None else f"{value:.3f}")


def test_a_browser_opens_the_page_without_complaint(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    dom, console = browse(tmp_path / "report.html", tmp_path / "profile")
    assert console == []
    page = Page(dom)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    check_numbers(page, report)


def test_the_browser_would_have_complained(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<!DOCTYPE html><script>nonsense()</script>")
    assert browse(tmp_path / "bad.html", tmp_path / "profile")[1]


def test_page_needs_nothing_but_itself(report: Report) -> None:
    text = render(report)
    page = Page(text)
    assert page.addresses and all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert not {"script", "iframe", "object", "link"} & set(page.tags) - {"link"} and page.tags.count("link") == 1
    assert text == render(report)


def test_page_can_be_read_by_everybody(report: Report) -> None:
    page = Page(render(report))
    assert page.tags.count("h1") == 1 and len(page.ids) == len(set(page.ids))
    assert page.silent_images == 0
    assert set(page.header_scopes) <= {"col", "row", "colgroup"}
    assert {address[1:] for address in page.addresses if address.startswith("#")} == set(SECTIONS)


def test_page_says_what_it_was_given(report: Report) -> None:
    page = Page(render(report))
    check_numbers(page, report)
    for control in report.controls:
        assert control.name in page.text and control.shows in page.text
    assert [page.text.count(verdict) for verdict in ("\u2713 yes", "\u2717 no", "informs only")] == [1, 1, 1]
    for sentence in (
        *report.findings,
        *report.notes,
        headline(report),
        "5 min 31 s",
        "9.0 s",
        "cycle.rounds",
        "2.15.0",
    ):
        assert sentence in page.text
    assert page.text.count(LABEL) >= 1 + len(report.grids)
    assert "\u22120.000" not in page.text


def test_user_text_is_escaped(report: Report) -> None:
    payoff = replace(report.payoff, reenactors=("G0", "G1", "G2", HOSTILE))
    hostile = replace(
        report,
        title=HOSTILE,
        payoff=payoff,
        controls_named=[HOSTILE, "D1_extra"],
        quality={**report.quality, HOSTILE: {"changed_l1_ratio": 0.5}},
        findings=[HOSTILE],
        notes=[HOSTILE],
        config={HOSTILE: HOSTILE},
        controls=[Control(HOSTILE, HOSTILE, {HOSTILE: 0.5})],
        grids=[replace(report.grids[0], name=HOSTILE, caption=HOSTILE)],
    )
    text = render(hostile)
    assert "<img src=x" not in text and Page(text).text.count(HOSTILE) >= 10
    assert Image.open(io.BytesIO(payoff_picture(payoff, [HOSTILE], ["W0"]))).format == "PNG"


def test_parts_that_are_not_there_are_left_out(report: Report) -> None:
    bare = Report(
        title="One round",
        data_name="synthetic",
        seed=0,
        commit="unknown",
        when="one day",
        payoff=Payoff(("G0",), ("D0",), *np.full((3, 1, 1), 0.9)),
        games=report.games[:1],
        judge="D0",
    )
    page = Page(render(bare))
    assert [name for name in page.ids if name in SECTIONS] == ["payoff", "game", "configuration", "limits"]
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert page.cells["data-cell G0 / D0"].split() == ["0.900", "0.90\u20130.90"]


def test_headline_is_computed(report: Report) -> None:
    m = report.payoff.matrix
    text = headline(report)
    means = [(m[0, 0] + m[1, 1]) / 2, (m[1, 0] + m[2, 1]) / 2, (m[1, 1] + m[2, 2]) / 2, m[2, 3]]
    assert re.findall(r"\d\.\d\d", text) == [f"{value:.2f}" for value in means]
    assert "means of 2 rounds" in text and "W0" in text
    single = Payoff(("G0",), ("D0",), *np.full((3, 1, 1), 0.9))
    assert (
        headline(replace(report, payoff=single, withheld=()))
        == "D0 tells forgeries of G0 from real frames with AUROC 0.90."
    )


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(
        np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    )


def test_cells_can_be_read_and_order_in_grey() -> None:
    greys = []
    for auroc in np.linspace(0, 1, 101):
        back, ink = map(luminance, colours(auroc))
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) >= 4.5  # WCAG AA
        greys.append(back)
    assert (np.diff(greys) > -1e-3).all() and greys[-1] - greys[0] > 0.8


def test_payoff_picture_shows_every_cell(report: Report) -> None:
    content = payoff_picture(report.payoff, report.controls_named, report.withheld)
    assert content == payoff_picture(report.payoff, report.controls_named, report.withheld)
    seen = {tuple(pixel) for pixel in np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)}
    for auroc in report.payoff.matrix.flat:
        back = colours(auroc)[0]
        assert tuple(int(back[i : i + 2], 16) for i in (1, 3, 5)) in seen


def test_sample_grid_keeps_the_pixels_and_marks_the_forgeries() -> None:
    kinds = [faces(seed, count=2, size=160) for seed in range(4)]
    content = sample_grid(*kinds)
    assert content == sample_grid(*kinds)
    picture = np.asarray(Image.open(io.BytesIO(content)))
    band = np.all(picture == (0xA8, 0x32, 0x1B), axis=2)
    for column, samples in enumerate(kinds):
        for face in samples:
            found = np.argwhere((picture == face[0, 0]).all(axis=2))
            top, left = next(
                at for at in found if np.array_equal(picture[at[0] : at[0] + 160, at[1] : at[1] + 160], face)
            )
            below = band[top + 160 : top + 180, left : left + 160]
            assert (below.mean() > 0.5) == (column == 2)
    small = Image.open(io.BytesIO(sample_grid(*(faces(seed) for seed in range(4)))))
    assert small.width > 4 * 128


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.5, "\u22120.500"), (-1e-9, "0.000"), (None, "\u2013"), (float("nan"), "\u2013"), (3, "3")],
)
def test_number(value: Any, shown: str) -> None:
    assert number(value) == shown
    assert value is None or isinstance(value, int) or number(np.float64(value)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (185.4, "3 min 05 s"), (7623, "2 h 07 min")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
