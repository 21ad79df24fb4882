"""Sums of rows times their centred times: the slope of every weight's line."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

ROWS_AT_ONCE = 4  # a sum is loaded once for several rows


@jit()
def trend_sums(
    rows: npt.NDArray[Any],
    times: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
    first: int,
    stop: int,
) -> None:
    """Add ``sum over rows r of times[r] (rows[r] - origin)`` to the sums so far, in place.

    Rows are added one after another, so that any split of them over calls gives the same bits.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, any floating type.
    times
        Shape ``(row,)``.
    origin, sums
        Shape ``(weight,)``.
    first, stop
        Weights whose sums are meant.
    """
    begins, totals = origin[first:stop], sums[first:stop]
    whole = rows.shape[0] // ROWS_AT_ONCE * ROWS_AT_ONCE
    for row in range(0, whole, ROWS_AT_ONCE):
        r0, r1 = rows[row, first:stop], rows[row + 1, first:stop]
        r2, r3 = rows[row + 2, first:stop], rows[row + 3, first:stop]
        t0, t1, t2, t3 = times[row], times[row + 1], times[row + 2], times[row + 3]
        for weight in range(totals.shape[0]):
            start, total = begins[weight], totals[weight]
            total += t0 * (r0[weight] - start)
            total += t1 * (r1[weight] - start)
            total += t2 * (r2[weight] - start)
            total += t3 * (r3[weight] - start)
            totals[weight] = total
    for row in range(whole, rows.shape[0]):
        last, time = rows[row, first:stop], times[row]
        for weight in range(totals.shape[0]):
            totals[weight] += time * (last[weight] - begins[weight])
