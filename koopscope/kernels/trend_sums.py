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
    columns = origin.shape[0]
    begin = rows.shape[0] - centred.shape[0]
    for row in range(begin, rows.shape[0]):
        line = rows[row, first_column : first_column + columns]
        factor = centred[row - begin]
        for column in range(columns):
            # Widened first: weights barely move, and their size would cost the sum its digits.
            sums[column] += factor * (np.float64(line[column]) - origin[column])
