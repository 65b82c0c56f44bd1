"""The door: configuration to dataclasses, one line for every mistake, what a run leaves in its folder."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from generation.records import UserError
from scripts import console
from scripts.door import configure, set_seed
from scripts.summary import commit, jsonable, versions

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise UserError(f"inner.rate={self.rate}: must not be negative")


@dataclass(frozen=True)
class Settings:
    steps: int
    fast: bool = False
    start: Path | None = None
    level: Literal["low", "high"] = "low"
    options: dict[str, Any] = field(default_factory=dict)
    weights: list[float] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


def test_configure_builds_nested_frozen_dataclasses() -> None:
    config = OmegaConf.create(
        {
            "steps": 3,
            "fast": True,
            "start": "a/b.safetensors",
            "level": "high",
            "options": {"deep": {"x": [1]}},
            "weights": [1, 2.5],
            "inner": {"rate": 1, "names": ["x", "y"]},
        }
    )
    made = configure(Settings, config)
    inner = Inner(1.0, ("x", "y"))
    assert made == Settings(3, True, Path("a/b.safetensors"), "high", {"deep": {"x": [1]}}, [1.0, 2.5], inner)
    assert [type(value) for value in (made.options, made.options["deep"]["x"], made.inner.rate)] == [dict, list, float]
    assert configure(Settings, {"steps": 3}) == Settings(3)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"step": 3},
            "step: no such key; did you mean steps? there are steps, fast, start, level, options, weights, inner",
        ),
        ({}, "steps: must be given, as steps=..."),
        ({"steps": "???"}, "steps: must be given, as steps=..."),
        ({"steps": "many"}, "steps=many: must be a whole number"),
        ({"steps": 2.5}, "steps=2.5: must be a whole number"),
        ({"steps": True}, "steps=True: must be a whole number"),
        ({"steps": None}, "steps=null: must be a whole number"),
        ({"steps": 3, "fast": 1}, "fast=1: must be true or false"),
        ({"steps": 3, "start": 5}, "start=5: must be a path"),
        ({"steps": 3, "level": "hihg"}, "level=hihg: did you mean high? allowed are low, high"),
        ({"steps": 3, "options": 4}, "options=4: must be a group of keys"),
        ({"steps": 3, "weights": 4}, "weights=4: must be a list, as weights=[...]"),
        ({"steps": 3, "weights": [1, "x"]}, "weights[1]=x: must be a number"),
        ({"steps": 3, "inner": 4}, "inner=4: must be a group of keys: rate, names"),
        ({"steps": 3, "inner": {"rte": 4}}, "inner.rte: no such key; did you mean rate? there are rate, names"),
        ({"steps": 3, "inner": {"rate": "x"}}, "inner.rate=x: must be a number"),
        ({"steps": 3, "inner": {"rate": -1}}, "inner.rate=-1.0: must not be negative"),
    ],
)
def test_configure_names_the_key_the_value_and_what_is_allowed(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        configure(Settings, OmegaConf.create(values))
    assert str(caught.value) == line


def test_configure_names_keys_from_the_top() -> None:
    with pytest.raises(UserError, match=r"^data\.inner\.rate=x: must be a number$"):
        configure(Settings, OmegaConf.create({"steps": 3, "inner": {"rate": "x"}}), "data")


@pytest.mark.parametrize("seed", [-1, "x", 1.5, None, True])
def test_a_seed_that_is_none(seed: object) -> None:
    with pytest.raises(UserError, match="must be a whole number, 0 or more"):
        set_seed(seed)


SCRIPT = """
import time
from pathlib import Path
import numpy as np
from omegaconf import DictConfig
from generation.records import UserError
from scripts.door import entry, progress, say

@entry("tiny")
def main(config: DictConfig, folder: Path) -> dict:
    '''What it does.'''
    if config.act == "mistake":
        raise UserError("faces/x.png:\\n  not an image; take another")
    if config.act == "full":
        raise OSError(28, "No space left on device", "shard-00000.parquet")
    if config.act == "bug":
        raise ZeroDivisionError("a bug of ours")
    with progress("work") as bar:
        bar(1, 1)
    say("working")
    if config.act == "wait":
        time.sleep(60)
    (folder / "made").write_text(str(np.random.rand()))
    return {"figure": np.float32(0.5), "unknown": float("nan"), "seconds": {"phase": 2.0}}

if __name__ == "__main__":
    main()
"""

CONFIG = """
defaults:
  - base
  - size: small
  - optional extra: null
  - _self_
act: work
workers: 2
group: {inside: 1, other: 2}
must: ???
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("command")
    (folder / "size").mkdir()
    (folder / "size" / "small.yaml").write_text("pixels: 8\n")
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "tiny.py").write_text(SCRIPT)
    return [sys.executable, str(folder / "tiny.py"), "--config-dir", str(folder)]


def run(command: list[str], folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [*command, *overrides], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_run_leaves_its_results_and_is_taken_up_with_the_same_configuration_only(
    command: list[str], tmp_path: Path
) -> None:
    first = run(command, tmp_path, "must=1", "hydra.run.dir=here", "group.inside=7")
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr.splitlines() == ["working", "results: here"]
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert (summary["figure"], summary["unknown"], summary["seed"]) == (0.5, None, 0)
    config = {
        "seed": 0,
        "size": {"pixels": 8},
        "act": "work",
        "workers": 2,
        "group": {"inside": 7, "other": 2},
        "must": 1,
    }
    assert summary["config"] == config
    assert OmegaConf.load(tmp_path / "here" / "config.yaml") == config
    assert summary["commit"] == commit()
    assert summary["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert summary["seconds"]["phase"] == 2.0
    assert 0 < summary["seconds"]["total"] < 60
    assert (tmp_path / "here" / ".hydra" / "overrides.yaml").is_file()
    drawn = (tmp_path / "here" / "made").read_text()

    other = run(command, tmp_path, "must=1", "hydra.run.dir=here", "group.inside=8")
    assert other.returncode == 2
    (line,) = other.stderr.splitlines()
    assert line.startswith("error: here holds a run of another configuration (group.inside was 7, is 8): use another")
    assert OmegaConf.load(tmp_path / "here" / "config.yaml") == config

    again = run(command, tmp_path, "must=1", "hydra.run.dir=here", "group.inside=7", "workers=5")
    assert again.returncode == 0
    assert (tmp_path / "here" / "made").read_text() == drawn


def test_commas_make_a_list(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path, "must=1", "hydra.run.dir=here", "group.inside=a,b", "group.other=[3,4]")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["config"]["group"] == {
        "inside": ["a", "b"],
        "other": [3, 4],
    }


def test_a_sentence_with_commas_stays_text(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path, "must=1", "hydra.run.dir=here", "group.inside=signed, for research", "group.other=1")
    assert done.returncode == 0, done.stderr
    group = json.loads((tmp_path / "here" / "summary.json").read_text())["config"]["group"]
    assert group == {"inside": "signed, for research", "other": 1}


def test_the_default_folder(command: list[str], tmp_path: Path) -> None:
    assert run(command, tmp_path, "must=1").returncode == 0
    assert len(list((tmp_path / "runs" / "tiny").glob("*/summary.json"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


MISTAKES = {
    "act=mistake": "faces/x.png: not an image; take another",
    "act=full": "no space left on the disk: shard-00000.parquet; free some, then the same command with "
    "hydra.run.dir=here goes on from here",
    "group.insde=3": "group.insde: no such key; did you mean inside? there are inside, other",
    "grup.inside=3": "grup: no such key; did you mean group? there are ",
    "lgger=wandb": "lgger: no such key; did you mean logger? there are ",
    "size=smal": "size=smal: no such choice; did you mean small? there are small",
    "group.inside=[1": "'group.inside=[1' cannot be read as key=value: no viable alternative at input '[1'; quote",
    "group.inside": "'group.inside' cannot be read as key=value: missing EQUAL at '<EOF>'; quote",
    "group.inside=${nowhere}": "group.inside: Interpolation key 'nowhere' not found",
    "group.inside=???": "group.inside: must be given, as group.inside=...",
    "~nothing": "Could not delete from config. 'nothing' does not exist.",
    "seed=-3": "seed=-3: must be a whole number, 0 or more",
    "hydra.run.dir=/dev/null/x": "Not a directory: /dev/null/x; choose a folder that can be written",
}

MANY = """
import contextlib, io, json, runpy, sys
script, *words = sys.argv[1:-1]
found = {}
for override in json.loads(sys.argv[-1]):
    sys.argv = [script, *words, "must=1", override]
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
    found[override] = [code, shown.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def mistakes(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and stderr of every mistake, one command after the other in one process."""
    folder = tmp_path_factory.mktemp("mistakes")
    python, *words = command
    done = run([python, "-c", MANY, *words, "hydra.run.dir=here", json.dumps(list(MISTAKES))], folder)
    assert done.returncode == 0, done.stderr
    assert not (folder / "here" / "summary.json").exists()
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


# All of these name the same folder: a run that left nothing there but its mistake does not claim it.
@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistakes: dict[str, tuple[int, str]], override: str) -> None:
    code, shown = mistakes[override]
    (line,) = shown.splitlines()
    assert line.startswith(f"error: {MISTAKES[override]}")
    assert code == 2


def test_ctrl_c_says_how_to_go_on(command: list[str], tmp_path: Path) -> None:
    words = [*command, "must=1", "hydra.run.dir=here", "act=wait"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == "stopped; the same command with hydra.run.dir=here goes on from here\n"


def test_a_bug_of_ours_keeps_its_traceback(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path, "must=1", "act=bug")
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug of ours" in done.stderr
    assert "tiny.py" in done.stderr


def test_jsonable_gives_plain_values_that_any_reader_takes() -> None:
    values = {
        "array": np.arange(4, dtype=np.float32).reshape(2, 2),
        "tensor": torch.tensor([1, 2]),
        "scalar": np.float64(math.inf),
        "flag": np.bool_(True),
        "path": Path("a") / "b",
        3: (1, None, "x"),
    }
    plain = jsonable(values)
    assert plain == {
        "array": [[0.0, 1.0], [2.0, 3.0]],
        "tensor": [1, 2],
        "scalar": None,
        "flag": True,
        "path": str(Path("a") / "b"),
        "3": [1, None, "x"],
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_commit_is_the_checkouts() -> None:
    if not (ROOT / ".git").exists():
        assert commit() == "unknown"
        return
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert commit().removesuffix("-dirty") == head.stdout.strip()


def test_versions_are_those_of_every_declared_package() -> None:
    found = versions()
    assert found["vicious-cycle"] == metadata.version("vicious-cycle")
    assert {"torch", "pytorch-lightning", "hydra-core", "warp-lang"} <= found.keys()
    assert not {"wandb", "pytest", "ruff"} & found.keys()


def test_plain_progress_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 25.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("faces") as bar:
        for done in range(1, 5):
            bar(done, 4, "note" if done == 4 else "")
    assert capsys.readouterr() == ("", "faces: 2/4, 11 s\nfaces: 4/4, 25 s, note\n")


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_console", console.Console(stderr=True, force_terminal=True, width=80))
    with console.progress("faces") as bar:
        bar(3, 4)
        console.say("a line")
    shown = capsys.readouterr().err
    assert "faces" in shown
    assert "3/4" in shown
    assert "a line" in shown
