"""Label files checked side by side, in processes of their own: a file that ends its reader ends no more than that."""

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice

from pipeline.output.verification.findings import REDO, Finding, LabelCheck
from pipeline.output.verification.labels import LabelChecker, LabelTask
from schemas.layout import LABELS_FOLDER

_TASKS_A_WORKER = 16  # handed out at a time: a few tasks, not a million

_checker: LabelChecker | None = None  # of a worker process


def default_workers() -> int:
    """One process for each core that this one may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_side_by_side(tasks: Iterable[LabelTask], checker: LabelChecker, n_workers: int) -> Iterator[LabelCheck]:
    """What is to be said of each label file, in their order. One worker is this process itself."""
    if n_workers == 1:
        yield from map(checker.check, tasks)
        return
    source = iter(tasks)
    pool = _pool(checker, n_workers)
    try:
        while batch := list(islice(source, n_workers * _TASKS_A_WORKER)):
            n_done = 0
            try:
                for check in pool.map(_check, batch):
                    n_done += 1
                    yield check
            except BrokenProcessPool:
                pool = _pool(checker, n_workers)
                yield from _check_one_by_one(batch[n_done:], checker)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(checker: LabelChecker, n_workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would share the locks of storage's threads
    return ProcessPoolExecutor(n_workers, context, _start, (checker, context.Lock()))


def _start(checker: LabelChecker, large: AbstractContextManager) -> None:
    global _checker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    _checker = replace(checker, large=large)


def _check(task: LabelTask) -> LabelCheck:
    assert _checker is not None
    return _checker.check(task)


def _check_one_by_one(tasks: list[LabelTask], checker: LabelChecker) -> Iterator[LabelCheck]:
    """The checks of files of which one ended the process that read it."""
    pool = _pool(checker, 1)
    try:
        for task in tasks:
            try:
                yield pool.submit(_check, task).result()
            except BrokenProcessPool:
                yield _deadly(f"{LABELS_FOLDER}/{task.ref.shard_id}.parquet")
                pool = _pool(checker, 1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _deadly(name: str) -> LabelCheck:
    expected = "a label file; or more memory, if the machine was short of it"
    return LabelCheck(name, findings=[Finding(name, "bytes that end the process which reads them", expected, REDO)])
