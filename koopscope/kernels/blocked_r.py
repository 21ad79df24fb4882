"""The R factor of one wide matrix, by LAPACK's recursive QR without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address

COLUMNS_PER_BLOCK = 128  # reflected at once


def blocked_r(matrix: npt.NDArray[np.float64], triangle: npt.NDArray[np.float64]) -> None:
    """Write the upper triangle R of ``matrix = Q R``; rows may carry either sign.

    ``dgeqrt`` does most of its work in matrix products of wide blocks, and is half as fast again as what
    NumPy calls, of which the blocks are 32 columns. SciPy's wrapper of it keeps the lock, so that groups
    could not share threads; here it is called as SciPy offers it to compiled code.

    Parameters
    ----------
    matrix
        Shape ``(row, column)``, in Fortran order; overwritten.
    triangle
        Where R goes, shape ``(min(row, column), column)``; what is below the diagonal stays as it is.
    """
    n_rows, n_columns = matrix.shape
    rank = min(n_rows, n_columns)
    block = min(COLUMNS_PER_BLOCK, rank)
    if not matrix.flags.f_contiguous or matrix.dtype != np.float64 or rank == 0:
        raise ValueError("blocked_r needs float64 in Fortran order, and a row and a column at least")
    if triangle.shape != (rank, n_columns):
        raise ValueError(f"blocked_r needs room for {(rank, n_columns)}, got {triangle.shape}")
    reflectors, work = np.empty(block * rank), np.empty(block * n_columns)
    m, n, nb, lda, ldt, info = (ctypes.c_int(k) for k in (n_rows, n_columns, block, n_rows, block, 0))
    sizes = [ctypes.byref(size) for size in (m, n, nb, lda, ldt, info)]
    arrays = [ctypes.c_void_p(array.ctypes.data) for array in (matrix, reflectors, work)]
    load()(*sizes[:3], arrays[0], sizes[3], arrays[1], sizes[4], arrays[2], sizes[5])
    for begin in range(0, n_columns, block):  # in blocks, as either is read across its own order
        some = slice(begin, min(begin + block, n_columns))
        triangle[:begin, some] = matrix[: min(begin, rank), some]
        corner = triangle[begin : some.stop, some]
        above = ~np.tri(len(corner), corner.shape[1], k=-1, dtype=bool)
        np.copyto(corner, matrix[begin : some.stop, some][: len(corner)], where=above)


@lru_cache(maxsize=1)
def load() -> Callable[..., None]:
    """Load SciPy's LAPACK, which has to be there before its threads can be limited."""
    address = get_cython_function_address("scipy.linalg.cython_lapack", "dgeqrt")
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 9)(address)
