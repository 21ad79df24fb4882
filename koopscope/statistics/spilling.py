"""Arrays beyond the memory budget: pages of a temporary file, which the system drops as it must."""

from __future__ import annotations

import math
import mmap
import shutil
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.errors import MemoryBudgetError
from koopscope.parallel import memory_budget


def roomy_zeros(shape: tuple[int, ...], dtype: np.dtype[Any], what: str, mend: str) -> npt.NDArray[Any]:
    """Make an array of zeros: in memory where it takes at most half the budget, else in a temporary file.

    The file has no name and is gone with the array.

    Parameters
    ----------
    shape, dtype
        Of the array.
    what, mend
        What it is for and what to do instead, for the message.

    Raises
    ------
    MemoryBudgetError
        If the temporary folder has no room for it either.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= memory_budget() // 2:
        return np.zeros(shape, dtype)
    folder = tempfile.gettempdir()
    budget, free = memory_budget(), shutil.disk_usage(folder).free
    if n_bytes > free:
        raise MemoryBudgetError(
            f"{what} needs {n_bytes / 1e9:.2g} GB, the budget is {budget / 1e9:.2g} GB, and {folder} "
            f"has {free / 1e9:.2g} GB left to put it; {mend}, or point TMPDIR at a larger disk"
        )
    with tempfile.TemporaryFile() as file:
        file.truncate(n_bytes)
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def release(array: npt.NDArray[Any]) -> None:
    """Let go of the memory that an array in a temporary file holds; its values stay in the file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
