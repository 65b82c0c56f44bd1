"""Workers' imports begin when they are prepared, beside the process that asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MODULE = """
import os, pathlib
with pathlib.Path(__file__).with_name("imports.txt").open("a") as file:
    file.write(f"{os.getpid()} ")


def worker():
    return os.getppid()
"""

_SCRIPT = """
import os, pathlib, sys, time
from generation.workers import each, prepare

folder = pathlib.Path(sys.argv[1])
prepare("heavy")
end = time.monotonic() + 60
while not (folder / "imports.txt").exists() and time.monotonic() < end:
    time.sleep(0.02)
before = (folder / "imports.txt").read_text().split()
import heavy
parents = {pid for _, pid in each(heavy.worker, [()] * 3, 2, preload="heavy")}
print(before != [str(os.getpid())], parents == {int(before[0])}, len((folder / "imports.txt").read_text().split()))
"""


def test_workers_are_copies_of_the_process_that_prepared_them(tmp_path: Path) -> None:
    """It imports once, before there is a job; the process that asked imports for itself; the workers not again."""
    (tmp_path / "heavy.py").write_text(_MODULE)
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == ["True", "True", "2"], ran.stderr


def test_workers_compute_with_one_thread_each() -> None:
    """Where the environment names no number, numpy brings as many threads as there are cores."""
    script = (
        "from threadpoolctl import threadpool_info; from generation.workers import each; "
        "print(*(one['num_threads'] for _, found in each(threadpool_info, [()] * 2, 2, 'numpy') for one in found))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(ran.stdout.split()) == {"1"}, ran.stderr
