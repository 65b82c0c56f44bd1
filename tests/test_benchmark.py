"""The benchmark's command: one JSON line a figure, of what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import RunHere

from scripts.benchmark import main


def test_figures_are_json_lines_and_the_summary(run_here: RunHere, tmp_path: Path) -> None:
    done = run_here(main, "only=detector_input,score", "seconds=0.1", "workers=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    units = {figure["name"]: figure["unit"] for figure in figures}
    assert units["detector_input_256"] == "images/s"
    assert {name.partition("_")[0] for name in units} == {"detector", "score"}
    assert all(set(figure) == {"name", "value", "unit", "config"} and figure["value"] > 0 for figure in figures)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["figures"] == figures


def test_an_unknown_benchmark_is_named(run_here: RunHere) -> None:
    done = run_here(main, "only=rendre", "hydra.run.dir=run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: only=rendre: there is no such benchmark; there are render")
