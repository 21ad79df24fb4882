"""Do consecutive increments of the last rows point the same way: their squares and products, summed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit


@jit(reorder_sums=True)
def increment_products(rows: npt.NDArray[Any]) -> tuple[float, float]:
    """Sum ``D_k . D_k`` and ``D_k . D_(k-1)`` over the increments ``D_k = w_(k+1) - w_k``.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, float32 or float64, at least one row.
    """
    squares = products = 0.0
    for row in range(1, rows.shape[0]):
        for column in range(rows.shape[1]):
            # Widened first: weights barely move, and the difference must be exact.
            increment = np.float64(rows[row, column]) - np.float64(rows[row - 1, column])
            squares += increment * increment
            if row > 1:
                before = np.float64(rows[row - 1, column]) - np.float64(rows[row - 2, column])
                products += increment * before
    return squares, products
