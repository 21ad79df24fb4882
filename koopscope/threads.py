"""Threads: how many, on which cores, and how they share work with whoever asks for it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_cores: ContextVar[int | None] = ContextVar("cores", default=None)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use so many cores inside, where others belong to other processes."""
    token = _cores.set(count)
    try:
        yield
    finally:
        _cores.reset(token)


def n_cores() -> int:
    """Cores this process may run on, or is to use."""
    if (count := _cores.get()) is not None:
        return count
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def even_slices(count: int, n_parts: int) -> list[slice]:
    """Cut so many items into slices of like lengths, so that threads end at the same time.

    >>> even_slices(7, 2)
    [slice(0, 3, None), slice(3, 7, None)]
    """
    return [slice(part * count // n_parts, (part + 1) * count // n_parts) for part in range(n_parts)]


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function that leaves the interpreter's lock alone to every item; results in their order.

    The caller's own thread works too, and waits for no other that has not begun when nothing is left to do.
    """
    parts = list(items)
    n_threads = min(n_cores(), len(parts))
    if n_threads < 2:
        return [function(part) for part in parts]
    found: dict[int, Result] = {}
    left = iter(range(len(parts)))

    def work() -> None:
        try:
            for index in left:
                found[index] = function(parts[index])
        except BaseException:
            deque(left, maxlen=0)  # nobody begins another
            raise

    others = _others(work, n_threads - 1)
    try:
        work()
    finally:
        deque(left, maxlen=0)
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    try:
        while begun:
            begun.pop().result()
    finally:
        others.clear()  # else the frames of a failure would keep themselves alive
        begun.clear()
    return [found[index] for index in range(len(parts))]


def as_they_come(
    function: Callable[[Item], Iterator[Result]], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Run a generator for each item, and give what they yield, in the order in which it comes.

    In threads, of which the caller's is one; every generator runs in one of them, in a copy of its context.
    """
    left, found = iter(list(items)), SimpleQueue[Any]()
    stop, ended = threading.Event(), object()

    def results() -> Iterator[Result]:
        for item in left:
            for result in function(item):
                yield result
                if stop.is_set():
                    return

    def work() -> None:
        try:
            for result in results():
                found.put(result)
        except BaseException:
            stop.set()
            raise
        finally:
            found.put(ended)

    own, context = results(), copy_context()
    others = _others(work, threads - 1)
    try:
        n_ended = 0
        while (result := context.run(next, own, ended)) is not ended:
            yield result  # type: ignore[misc]
            while not found.empty():
                if (result := found.get()) is ended:
                    n_ended += 1
                else:
                    yield result
        n_begun = sum(not other.cancel() for other in others)
        while n_ended < n_begun:
            if (result := found.get()) is ended:
                n_ended += 1
            else:
                yield result
    finally:
        stop.set()
        context.run(own.close)  # type: ignore[attr-defined]
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Take the next item in a thread of its own while the caller works on the present one."""
    nothing, context = object(), copy_context()  # the memory budget belongs to the context of the caller

    def take() -> Any:
        return context.run(lambda: next(items, nothing))

    with ThreadPoolExecutor(1, thread_name_prefix="koopscope-ahead") as pool:
        coming = pool.submit(take)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(take)
            yield item


def _others(work: Callable[[], None], count: int) -> list[Future[None]]:
    """Have threads work beside the caller, in copies of its context; fewer where no more can be started."""
    others: list[Future[None]] = []
    pool, known = _pool(os.getpid())
    if count < n_cores():
        _keep_off_this_core(known)
    with suppress(RuntimeError):
        for _ in range(count):
            others.append(pool.submit(copy_context().run, work))
    return others


@lru_cache(maxsize=1)
def _pool(process: int) -> tuple[ThreadPoolExecutor, list[int]]:
    """Threads that are kept, since starting one takes as long as much of what they are asked to do.

    As many as may be of use where some wait for a disk, whatever is used of the cores here and now; and the
    system's own numbers of those that have started. The child of a fork has none of its parent's.
    """
    known: list[int] = []
    most = 2 * (os.cpu_count() or 1)
    prefix = f"koopscope-{process}"
    return ThreadPoolExecutor(most, prefix, lambda: known.append(threading.get_native_id())), known


def _keep_off_this_core(threads: Iterable[int]) -> None:
    """Have threads run on any of the caller's cores but the one it is on, where the system lets us say so.

    A thread is woken near whoever wakes it, and some schedulers leave it waiting there while other cores are
    idle, until the caller has done the work of both. Saying so takes a microsecond a thread.
    """
    here = _this_core()
    if here is None:
        return
    others = os.sched_getaffinity(0) - {here}
    own = threading.get_native_id()
    for thread in threads:
        if others and thread != own:
            with suppress(OSError):  # it has ended, or may not run there any more
                os.sched_setaffinity(thread, others)


def _this_core() -> int | None:
    """Number of the core that the caller is on; None where nobody can tell, or threads cannot be moved."""
    found = -1 if (ask := _core_teller()) is None else int(ask())
    return found if found >= 0 else None


@lru_cache(maxsize=1)
def _core_teller() -> Callable[[], int] | None:
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
