"""What the last rows add to the least-squares line of every weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit


@jit()
def add_to_trend(
    rows: npt.NDArray[Any],
    first_column: int,
    centred: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
) -> None:
    """Add the last rows to the sums of a least-squares line.

    ``sum_w += c_t (w_t - origin_w)``, row by row: any cut of the rows into calls gives the same bits. A
    value that is not finite leaves a sum that is not, even where its factor is zero.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, float32 or float64, C-ordered.
    first_column
        Column to begin with; as many are added as there are origins.
    centred
        The factors c, of as many of the last rows.
    origin
        Subtracted from every row, shape ``(weight,)``.
    sums
        The sums so far, shape ``(weight,)``; changed in place.
    """
    columns, end = origin.shape[0], rows.shape[0]
    begin = end - centred.shape[0]
    whole = begin + centred.shape[0] // 4 * 4
    for row in range(begin, whole, 4):  # four at a time, in their order, while a sum is in a register
        one, two = rows[row, first_column:], rows[row + 1, first_column:]
        three, four = rows[row + 2, first_column:], rows[row + 3, first_column:]
        factors = centred[row - begin : row - begin + 4]
        for column in range(columns):
            # Widened first: weights barely move, and their size would cost the sum its digits.
            total = sums[column] + factors[0] * (np.float64(one[column]) - origin[column])
            total += factors[1] * (np.float64(two[column]) - origin[column])
            total += factors[2] * (np.float64(three[column]) - origin[column])
            sums[column] = total + factors[3] * (np.float64(four[column]) - origin[column])
    for row in range(whole, end):
        line, factor = rows[row, first_column:], centred[row - begin]
        for column in range(columns):
            sums[column] += factor * (np.float64(line[column]) - origin[column])
