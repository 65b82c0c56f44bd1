"""`summary.json`: what a run found, and everything that is needed to find it again."""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from generation.records import write_beside

PROJECT = "vicious-cycle"


def write_summary(folder: Path, results: Mapping[str, Any], config: Mapping[str, Any], seconds: float) -> None:
    """Write `summary.json`: the results with `config`, `seed`, `commit`, `versions`, and `seconds`.

    `seconds` of the results (phase -> s) is kept and gets a `total`: the given seconds, those of this process.
    """
    about = {
        "config": config,
        "seed": config.get("seed"),
        "commit": commit(),
        "versions": versions(),
        "seconds": {**results.get("seconds", {}), "total": round(seconds, 3)},
    }
    write_beside(folder / "summary.json", json.dumps(jsonable({**results, **about}), indent=1).encode())


def jsonable(value: Any) -> Any:
    """The value in JSON's types: arrays as lists, numbers of numpy and torch as numbers, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it; "unknown" outside a checkout of this project."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python, of this project, and of the packages that it declares."""
    found = {"python": platform.python_version()}
    try:
        declared = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        return found
    names = [PROJECT, *(re.split(r"[^\w.-]", item)[0] for item in declared if "extra ==" not in item)]
    return found | {name: metadata.version(name) for name in names}
