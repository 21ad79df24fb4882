"""Sums of symmetric products by BLAS, in place and without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address

LONGEST = 2**31 - 1  # sides of a matrix, as BLAS counts


def symmetric_product(rows: npt.NDArray[np.float64], product: npt.NDArray[np.float64]) -> None:
    """Add ``X X^T`` to a matrix, of which the triangle on and above the diagonal alone is changed.

    ``dsyrk`` adds where the sum is. NumPy's product takes new memory each time, in which it fills both
    triangles, and leaves the adding to a second pass. SciPy's wrapper of it keeps the lock, so that stretches
    of a group could not share threads.

    Parameters
    ----------
    rows
        X, shape ``(row, column)``, C-ordered.
    product
        Shape ``(row, row)``, C-ordered; changed in place.

    Raises
    ------
    ValueError
        If either is not float64 in C order, of such a shape, or the matrix may not be changed.
    """
    n, k = rows.shape
    wrong = product.shape != (n, n) or rows.dtype != np.float64 or product.dtype != np.float64
    if wrong or not (rows.flags.c_contiguous and product.flags.carray) or max(n, k) > LONGEST:
        raise ValueError(
            "symmetric_product needs float64 in C order, rows and a square matrix of as many that may be "
            f"changed; got {rows.dtype} {rows.shape} and {product.dtype} {product.shape}"
        )
    # Column by column, as BLAS reads it, the memory of X holds X^T, and the upper triangle is the lower.
    lower, transposed, one = ctypes.c_char(b"L"), ctypes.c_char(b"T"), ctypes.c_double(1.0)
    order, count, pitch, width = (ctypes.c_int(size) for size in (n, k, max(1, k), max(1, n)))
    data, sums = ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(product.ctypes.data)
    # As dsyrk has them: uplo, trans, n, k, alpha, a, lda, beta, c, ldc.
    scalars = [ctypes.byref(value) for value in (lower, transposed, order, count, one, pitch, width)]
    load()(*scalars[:5], data, scalars[5], scalars[4], sums, scalars[6])


@lru_cache(maxsize=1)
def load() -> Callable[..., None]:
    """Load SciPy's BLAS, which has to be there before its threads can be limited."""
    address = get_cython_function_address("scipy.linalg.cython_blas", "dsyrk")
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 10)(address)
