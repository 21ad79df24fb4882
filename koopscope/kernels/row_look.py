"""One look at every recorded row: is it finite, and what does it add to the line through the last rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit


@jit()
def look_at_rows(
    rows: npt.NDArray[Any],
    first_row: int,
    first_column: int,
    centred: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
) -> bool:
    """Check some columns of all rows from one on, and add the last rows to sums for a least-squares line.

    ``sum_w += c_t (w_t - origin_w)``, row by row: any cut of the rows into calls gives the same bits.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, float32 or float64, C-ordered.
    first_row
        Row to begin with.
    first_column
        Column to begin with; as many are looked at as there are origins.
    centred
        The factors c of the last rows; there may be none.
    origin
        Subtracted from every row, shape ``(weight,)``.
    sums
        The sums so far, shape ``(weight,)``; changed in place.

    Returns
    -------
    Whether every value is finite.
    """
    columns = origin.shape[0]
    finite = True
    begin = rows.shape[0] - centred.shape[0]
    for row in range(first_row, rows.shape[0]):
        line = rows[row, first_column : first_column + columns]
        finite &= _is_finite(line)
        if row >= begin:
            factor = centred[row - begin]
            for column in range(columns):
                # Widened first: weights barely move, and their size would cost the sum its digits.
                sums[column] += factor * (np.float64(line[column]) - origin[column])
    return finite


@jit(reorder_sums=True)
def _is_finite(line: npt.NDArray[Any]) -> bool:
    """Multiply by zero and add up: zero, but for NaN and infinities, whatever the order."""
    total = line.dtype.type(0)
    for column in range(line.shape[0]):
        total += line[column] * line.dtype.type(0)
    return bool(total == 0)
