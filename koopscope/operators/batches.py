"""Fixed batches of groups in threads, so that all steps of a solution run in parallel, not LAPACK's alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from koopscope.parallel import single_threaded_blas
from koopscope.threads import even_slices, in_threads

# Groups that deserve kernels of their own: fewer are solved before those are loaded, or compiled.
MANY_GROUPS = 100
NUMBERS_PER_TASK = 2**16  # in the matrices of a batch worth a thread: less is done before one has begun

Record = TypeVar("Record")


def batches(n_groups: int, width: int) -> list[slice]:
    """Cut groups whose matrices have so many rows into batches that are worth a thread each."""
    return even_slices(n_groups, max(1, min(n_groups, -(-n_groups * width**2 // NUMBERS_PER_TASK))))


def in_batches(solve: Callable[[slice], Record], n_groups: int, width: int) -> Record:
    """Solve batches of groups in threads and join what they give.

    Parameters
    ----------
    solve
        Takes a slice of the groups, and returns a dataclass of arrays whose first axis counts groups, and of
        other values, which are the same for every batch.
    n_groups
        Number of groups.
    width
        Rows of their matrices.
    """
    parts = batches(n_groups, width)
    if len(parts) < 2:
        return solve(slice(0, n_groups))
    with single_threaded_blas():
        done = in_threads(solve, parts)
    return type(done[0])(**{field.name: _join(done, field.name) for field in fields(done[0])})  # type: ignore[arg-type]


def _join(records: list[Any], name: str) -> Any:
    pieces = [getattr(record, name) for record in records]
    return np.concatenate(pieces) if isinstance(pieces[0], np.ndarray) else pieces[0]
