"""Jobs spread over a Ray cluster by Ray Data: a job whose worker or node dies is given to another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from generation.records import UserError

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent


def on_ray(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], *, address: str, workers: int
) -> Iterator[tuple[int, T]]:
    """(index of the job, `work(*job)`) as the jobs end; one core a job.

    address: `local` starts a Ray of `workers` processes here; else a cluster's, or `auto` for the one this node is in.
    Its nodes need this package and the folders that the jobs name. Jobs of dead workers are done again, so they must
    not mind; exceptions of `work` are raised here. Raises `UserError` where Ray is missing or does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("ray: not installed; pip install 'vicious-cycle[ray]'") from error
    local = address == "local"
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        ray.init(
            address="local" if local else address,
            num_cpus=workers if local else None,
            include_dashboard=False if local else None,
            runtime_env={"env_vars": paths if local else {}},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise UserError(f"ray={address}: no Ray answers there ({error}); give local, auto or its address") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items([{"job": index} for index in range(len(jobs))], override_num_blocks=len(jobs))
        done = rows.map(lambda row: {"job": row["job"], "made": work(*jobs[row["job"]])}, num_cpus=1)
        for row in done.iter_rows():
            yield row["job"], row["made"]
    finally:
        ray.shutdown()
