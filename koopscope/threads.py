"""Threads: how many, on which cores, and how they share work with whoever asks for it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    return _cores.get() or len(_own_cores()) or os.cpu_count() or 1


def _own_cores() -> set[int]:
    """Numbers of the cores of this process; none where the system does not tell.

    Of its first thread: those that are kept are told to keep off some of them.
    """
    ask = getattr(os, "sched_getaffinity", None)
    return ask(os.getpid()) if ask else set()


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

    with _Others(work, n_threads - 1):
        work()
    return [found[index] for index in range(len(parts))]


def as_they_come(
    function: Callable[[Item], Iterator[Result]], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Run a generator for each item in threads, and give what they yield, in the order in which it comes."""
    if threads < 2:
        for item in items:
            yield from function(item)
        return
    found: SimpleQueue[Any] = SimpleQueue()
    stop, ended = threading.Event(), object()

    def run(item: Item) -> None:
        try:
            for result in function(item):
                if stop.is_set():
                    return
                found.put(result)
        except BaseException:
            stop.set()
            raise
        finally:
            found.put(ended)

    with ThreadPoolExecutor(threads, thread_name_prefix="koopscope-strip") as pool:
        # With the memory budget, which belongs to the context of the caller.
        tasks = [pool.submit(copy_context().run, run, item) for item in items]
        left = len(tasks)
        try:
            while left:
                result = found.get()
                if result is ended:
                    left -= 1
                else:
                    yield result
        finally:
            stop.set()
    for task in tasks:
        task.result()


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


class _Others:
    """Threads that work beside the caller, inside; fewer where no more can be started.

    At the end, those that have not begun never do, those that have are waited for, and what went wrong in one
    of them is raised. By a count of its own: where the system refuses a thread, the pool forgets whom it has
    given work to.
    """

    def __init__(self, work: Callable[[], None], count: int) -> None:
        self._work, self._count = work, count
        self._changed, self._running, self._closed = threading.Condition(), 0, False
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        pool, self._known = _pool(os.getpid())
        self._moved = self._count < n_cores() and _keep_off_this_core(self._known)
        with suppress(RuntimeError):
            for _ in range(self._count):
                pool.submit(copy_context().run, self._run)

    def _run(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._running += 1
        try:
            self._work()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
        if self._moved:
            _move(self._known, _own_cores())
        error, self._error = self._error, None  # kept, it would keep its frames alive, and they it
        try:
            if error is not None and kind is None:
                raise error
        finally:
            del error


@lru_cache(maxsize=1)
def _pool(process: int) -> tuple[ThreadPoolExecutor, list[int]]:
    """Threads that are kept, since starting one takes as long as much of what they are asked to do.

    As many as the machine has cores, whatever is used of them here and now; and the system's own numbers of
    those that have started. The child of a fork has none of its parent's.
    """
    known: list[int] = []
    prefix = f"koopscope-{process}"
    pool = ThreadPoolExecutor(os.cpu_count() or 1, prefix, lambda: known.append(threading.get_native_id()))
    return pool, known


def _keep_off_this_core(threads: Iterable[int]) -> bool:
    """Have threads run on any core but the one the caller is on; tell whether they have been moved.

    A thread is woken near whoever wakes it, and some schedulers leave it waiting there while other cores are
    idle, until the caller has done the work of both. Saying so takes a microsecond a thread.
    """
    here = _this_core()
    others = _own_cores() - {here}
    if here is None or not others:
        return False
    _move(threads, others)
    return True


def _move(threads: Iterable[int], cores: set[int]) -> None:
    """Have threads, but for the caller's own, run on some cores."""
    own = threading.get_native_id()
    for thread in list(threads):
        if thread != own:
            with suppress(OSError):  # it has ended, or may not run there any more
                os.sched_setaffinity(thread, cores)


def _this_core() -> int | None:
    """Number of the core that the caller is on; None where nobody can tell, or threads cannot be moved."""
    found = -1 if (ask := _core_teller()) is None else int(ask())
    return found if found >= 0 else None


@lru_cache(maxsize=1)
def _core_teller() -> Callable[[], int] | None:
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
