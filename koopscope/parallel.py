"""How much memory work may take, and one pool of threads at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from koopscope.errors import MemoryBudgetError

MEMORY_BUDGET = 4 * 2**30  # bytes of snapshots, or of one statistic, that a fit may hold
READ_BLOCK = 64 * 2**20  # bytes of recorded rows decoded at a time


def require_memory(n_bytes: int, what: str, mend: str) -> None:
    """Refuse work that would not fit, before any of it is allocated.

    Raises
    ------
    MemoryBudgetError
        If ``n_bytes`` exceeds the budget; the message says what needs it and what to do instead.
    """
    if n_bytes > MEMORY_BUDGET:
        raise MemoryBudgetError(
            f"{what} needs {n_bytes / 2**30:.1f} GiB, the budget is {MEMORY_BUDGET / 2**30:.1f} GiB; {mend}"
        )


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while kernels run groups in parallel, so that threads never multiply."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
