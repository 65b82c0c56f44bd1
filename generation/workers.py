"""Workers: one job after the other in several processes, where a job that kills its process harms no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any

from threadpoolctl import threadpool_limits


def each(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int, preload: str
) -> Iterator[tuple[int, Any | None]]:
    """(index of the job, `work(*job)`) as the jobs end; None for one whose process died.

    Every worker is a process of its own that takes one job at a time, so it is known which job killed it; a new process
    takes its place. What `work` raises is raised here. `preload` names the module to import before processes are made,
    as `scripts.examine`; `__main__` would be imported by every worker for itself.
    """
    context = _context(preload)
    waiting = iter(enumerate(jobs))
    running: dict[Future[Any], tuple[int, ProcessPoolExecutor]] = {}

    def give(lane: ProcessPoolExecutor) -> None:
        for index, job in waiting:
            running[lane.submit(work, *job)] = index, lane
            return
        lane.shutdown()

    try:
        for _ in range(min(workers, len(jobs))):
            give(_lane(context))
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                index, lane = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    result = None
                    lane.shutdown()
                    lane = _lane(context)
                yield index, result
                give(lane)
    finally:
        for _, lane in running.values():
            lane.shutdown(wait=False, cancel_futures=True)


def prepare(preload: str) -> None:
    """Begin at once with the imports that workers need, in a process beside this one: what the caller imports after
    this call, it imports at the same time."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        _context(preload)
        forkserver.ensure_running()


def _lane(context: BaseContext) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, context, _start)


def _context(preload: str) -> BaseContext:
    """How workers start: as copies of one process that has done the imports, where the platform can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def _start() -> None:
    """Each process has one thread for sums of matrices: several processes' threads would wait for one another."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run leaves no workers behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
