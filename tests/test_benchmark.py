"""The benchmark's command: one JSON line a figure, of what was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def benchmark(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "seconds=0.1", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_figures_are_json_lines_and_the_summary(tmp_path: Path) -> None:
    done = benchmark(tmp_path, "only=detector_input,score", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    units = {figure["name"]: figure["unit"] for figure in figures}
    assert units["detector_input_256"] == "images/s"
    assert {name.partition("_")[0] for name in units} == {"detector", "score"}
    assert all(set(figure) == {"name", "value", "unit", "config"} and figure["value"] > 0 for figure in figures)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["figures"] == figures


def test_an_unknown_benchmark_is_named(tmp_path: Path) -> None:
    done = benchmark(tmp_path, "only=rendre")
    assert done.returncode == 2
    assert done.stderr.startswith("error: only=rendre: there is no such benchmark; there are render")
