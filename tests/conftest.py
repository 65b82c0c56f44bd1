"""Real, tiny inputs that several tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from absl import logging
from real_media import first_frames, shared

from generation.faces.landmarks import FaceReader
from generation.faces.people import FacesConfig
from generation.faces.render import render_records
from generation.pairs import Pairs
from generation.records import Faces, load

RunHere = Callable[..., subprocess.CompletedProcess[str]]

TINY_FACES = FacesConfig(size=64, seed=7, train=6, validation=2, test=3, scenes=1, expressions=6)


LONGEST = (
    "test_arms_race", "test_benchmark", "test_dataset", "test_quiz", "test_evaluate", "test_cycle_detectors",
    "test_examine_files", "test_disclosure", "test_faces", "test_reenact_command",
)  # fmt: skip
"""Files of tests that take a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two processes end together (with `--no-loadscope-reorder`)."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Here and in the processes that tests start: sums depend on how many threads share them."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would every process that tests start and stop."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def streams_stay_open() -> None:
    """MediaPipe and others bring absl, whose log closes the stream that it first met whenever Hydra sets up its own:
    that of pytest's capture."""
    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> RunHere:
    """`run_here(main, "key=value", ...)`: a command in `tmp_path` and in this process, which has imported already what
    one of its own would import for seconds."""

    def run(main: Callable[[], None], *overrides: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["script.py", *overrides])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = capfd.readouterr()
        return subprocess.CompletedProcess(overrides, code, told.out, told.err)

    return run


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of eleven synthetic people in six expressions each."""
    folder = tmp_path_factory.mktemp("faces")
    render_records(TINY_FACES, folder, workers=1, progress=None)
    return folder


@pytest.fixture(scope="session")
def faces(faces_folder: Path) -> Faces:
    return load(faces_folder)


@pytest.fixture(scope="session")
def labelled(faces: Faces) -> Faces:
    """Real faces, and "forgeries": other frames of the same people, a little brighter below."""
    pairs = Pairs(faces)
    source, _ = pairs.draw(60, np.random.default_rng(0))
    image = faces.image[source].clone()
    image[:, :, 32:] = (image[:, :, 32:].int() + 25).clamp(max=255).to(torch.uint8)
    names = np.array([f"forged{i}" for i in range(60)])
    forged = replace(
        faces.select(source),
        image=image,
        label=torch.ones(60, dtype=torch.int64),
        method=np.full(60, "brighter"),
        clip=names,
    )
    return Faces.concatenate([faces, forged])


@pytest.fixture(scope="session")
def reader() -> Iterator[FaceReader]:
    with FaceReader(shared("weights/mediapipe/face_landmarker.task")) as reader:
        yield reader


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of a person who talks, with sound."""
    return first_frames(tmp_path_factory.mktemp("clip") / "talking.mp4", shared("data/talking/d12.mp4"), 12)
