"""The R factor of one wide matrix, by LAPACK's recursive QR without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address

COLUMNS_PER_BLOCK = 128  # reflected at once


def blocked_r(matrix: npt.NDArray[np.float64]) -> None:
    """Put the upper triangle R of ``matrix = Q R`` in its place; rows may carry either sign.

    ``dgeqrt`` does most of its work in matrix products of wide blocks, and is half as fast again as what
    NumPy calls, of which the blocks are 32 columns. SciPy's wrapper of it keeps the lock, so that groups
    could not share threads; here it is called as SciPy offers it to compiled code.

    Parameters
    ----------
    matrix
        Shape ``(row, column)``, in Fortran order; below the diagonal, of no more use afterwards.
    """
    n_rows, n_columns = matrix.shape
    rank = min(n_rows, n_columns)
    block = min(COLUMNS_PER_BLOCK, rank)
    if not matrix.flags.f_contiguous or matrix.dtype != np.float64 or rank == 0:
        raise ValueError("blocked_r needs float64 in Fortran order, and a row and a column at least")
    reflectors, work = np.empty(block * rank), np.empty(block * n_columns)
    m, n, nb, lda, ldt, info = (ctypes.c_int(k) for k in (n_rows, n_columns, block, n_rows, block, 0))
    sizes = [ctypes.byref(size) for size in (m, n, nb, lda, ldt, info)]
    arrays = [ctypes.c_void_p(array.ctypes.data) for array in (matrix, reflectors, work)]
    load()(*sizes[:3], arrays[0], sizes[3], arrays[1], sizes[4], arrays[2], sizes[5])


@lru_cache(maxsize=1)
def load() -> Callable[..., None]:
    """Load SciPy's LAPACK, which has to be there before its threads can be limited."""
    address = get_cython_function_address("scipy.linalg.cython_lapack", "dgeqrt")
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 9)(address)
