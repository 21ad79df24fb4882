"""How much memory work may take, threads, and one pool of them at a time."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import lru_cache
from importlib import import_module
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

from koopscope.errors import MemoryBudgetError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY_BUDGET = 10**9  # bytes that one piece of work may hold, where nothing else is asked for
READ_BLOCK = 64 * 2**20  # bytes of recorded rows decoded at a time
NUMBERS_PER_POOL = 2**22  # snapshots worth more than one thread of BLAS
KEPT_BY_MALLOC = 8 * 2**20  # beyond any buffer that Blosc asks for, chunk after chunk
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_budget: ContextVar[int | None] = ContextVar("memory_budget", default=None)
_cores: ContextVar[int | None] = ContextVar("cores", default=None)


def memory_budget() -> int:
    """Bytes that work may hold here and now."""
    return _budget.get() or MEMORY_BUDGET


@contextmanager
def limited_memory(limit: int | str | None) -> Iterator[None]:
    """Set the memory budget for what is done inside; ``None`` leaves it as it is."""
    if limit is None:
        yield
        return
    token = _budget.set(parse_memory(limit))
    try:
        yield
    finally:
        _budget.reset(token)


def parse_memory(limit: int | str) -> int:
    """Turn a number of bytes, or words such as ``"1GB"`` or ``"512 MiB"``, into bytes.

    Raises
    ------
    UsageError
        If it is not understood, or less than a megabyte.

    >>> parse_memory("1.5GB"), parse_memory("512 MiB")
    (1500000000, 536870912)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", str(limit).lower())
    if found is None or found[2].removesuffix("b") + "b" * bool(found[2]) not in _UNITS:
        raise UsageError(f"memory must be bytes or words such as 1GB or 512MiB, got {limit!r}")
    n_bytes = int(float(found[1]) * _UNITS[found[2].removesuffix("b") + "b" * bool(found[2])])
    if n_bytes < 10**6:
        raise UsageError(f"memory must be at least 1MB, got {limit!r}")
    return n_bytes


def require_memory(n_bytes: int, what: str, mend: str) -> None:
    """Refuse work that would not fit, before any of it is allocated.

    Raises
    ------
    MemoryBudgetError
        If ``n_bytes`` exceeds the budget; the message says what needs it and what to do instead.
    """
    budget = memory_budget()
    if n_bytes > budget:
        raise MemoryBudgetError(
            f"{what} needs {n_bytes / 1e9:.2g} GB, the budget is {budget / 1e9:.2g} GB; {mend}, or give it "
            "more with --memory"
        )


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while kernels run groups in parallel, so that threads never multiply."""
    with _libraries(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield


@contextmanager
def blas_threads_for(n_numbers: int) -> Iterator[None]:
    """Keep BLAS to one thread where the data are few: waking others takes longer than the work.

    On a busy machine it takes dozens of times longer, since they wait for each other at every product.
    """
    if n_numbers > NUMBERS_PER_POOL:
        yield
        return
    with single_threaded_blas():
        yield


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> Any:
    """Find the BLAS libraries of this process, again only when a module was imported since."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


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

    others: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # where no thread can be started any more, the caller works alone
            for _ in range(n_threads - 1):
                others.append(_pool(os.getpid()).submit(copy_context().run, work))
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


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that are kept, since starting one takes as long as much of what they are asked to do.

    As many as the machine has cores, whatever is used of them here and now. The child of a fork has none of
    its parent's.
    """
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix=f"koopscope-{process}")


def as_they_come(
    function: Callable[[Item], Iterator[Result]], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Run a generator for each item in threads, and give what they yield, in the order in which it comes."""
    if threads < 2:
        for item in items:
            yield from function(item)
        return
    found: SimpleQueue[Any] = SimpleQueue()
    stop, ended = Event(), object()

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


@contextmanager
def dask_client(scheduler: str) -> Iterator[Any]:
    """Connect to a dask scheduler, or start workers on this machine for ``"local"``.

    Raises
    ------
    UsageError
        If dask is not installed, or nobody answers at the address.
    """
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        message = f"scheduler needs dask ({error}): pip install 'koopscope[distributed]'"
        raise UsageError(message) from error
    if scheduler != "local":
        try:
            client = distributed.Client(scheduler)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no dask scheduler answers at {scheduler!r} ({error}); start one, or use local"
            ) from error
        with client:
            yield client
        return
    # One thread a worker, in dask and in BLAS: processes are what runs in parallel here.
    workers = {"n_workers": n_cores(), "threads_per_worker": 1, "env": {"OMP_NUM_THREADS": "1"}}
    cluster = distributed.LocalCluster(processes=True, dashboard_address=None, **workers)
    # Results come from the workers themselves, which may not be within reach of who asks a cluster elsewhere.
    with cluster, distributed.Client(cluster, direct_to_workers=True) as client:
        yield client


@contextmanager
def malloc_keeps_memory() -> Iterator[None]:
    """Have the C library use freed memory again, which dask tells it to give back on its workers.

    ``MALLOC_TRIM_THRESHOLD_``, which dask sets for them, also stops it from learning how large the buffers
    are that are asked for again and again: each of Blosc's would be mapped anew, page by page, for a third of
    the time that decoding takes. What dask asked for holds again afterwards.
    """
    asked = os.environ.get("MALLOC_TRIM_THRESHOLD_", "")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or not asked.isdecimal():
        yield
        return
    trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
    mallopt(trim_threshold, KEPT_BY_MALLOC)
    mallopt(mmap_threshold, KEPT_BY_MALLOC)
    try:
        yield
    finally:
        mallopt(trim_threshold, int(asked))
        mallopt(mmap_threshold, 2**17)  # where it begins, and stays unless it learns


def dask_tree(client: Any, combine: Callable[[Any, Any], Any], futures: list[Any]) -> Any:
    """Combine futures two by two on the workers, until one is left."""
    while len(futures) > 1:
        pairs = zip(futures[::2], futures[1::2], strict=False)
        joined = [client.submit(combine, one, other, pure=False) for one, other in pairs]
        futures = joined + futures[len(joined) * 2 :]
    return futures[0]
