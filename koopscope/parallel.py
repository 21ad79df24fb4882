"""How much memory work may take, one pool of threads at a time, and the hand-off to dask."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib import import_module
from typing import Any

from koopscope.errors import MemoryBudgetError, UsageError
from koopscope.threads import n_cores

MEMORY_BUDGET = 10**9  # bytes that one piece of work may hold, where nothing else is asked for
READ_BLOCK = 64 * 2**20  # bytes of recorded rows decoded at a time
NUMBERS_PER_POOL = 2**22  # snapshots worth more than one thread of BLAS
KEPT_BY_MALLOC = 8 * 2**20  # beyond any buffer that Blosc asks for, chunk after chunk
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_budget: ContextVar[int | None] = ContextVar("memory_budget", default=None)


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
