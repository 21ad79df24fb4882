"""Whether every number of an array is finite: the one look that every recorded row gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit, whole_rows

# Bits of the exponent, which are all set in NaN and infinity alone, and the last of them.
_EXPONENTS: dict[int, tuple[Any, Any]] = {
    4: (np.uint32(0x7F800000), np.uint32(1 << 23)),
    8: (np.uint64(0x7FF << 52), np.uint64(1 << 52)),
}


def all_finite(rows: npt.NDArray[Any]) -> bool:
    """Tell whether no value is NaN or infinite, at the speed of memory.

    Parameters
    ----------
    rows
        float32 or float64, shape ``(row, weight)``.
    """
    exponent, lowest = _EXPONENTS[rows.itemsize]
    width = rows.shape[1]
    bits = whole_rows(rows).view(exponent.dtype)
    if bits.shape[1] == width:
        bits = bits.reshape(1, -1)
        width = bits.shape[1]
    return not int(_largest_exponents(bits, width, exponent, lowest)) >> (8 * rows.itemsize - 1)


@jit()
def _largest_exponents(bits: npt.NDArray[Any], width: int, exponent: Any, lowest: Any) -> Any:
    """Combine numbers whose first bit is set where the exponent is full: adding its last bit carries over."""
    found = lowest ^ lowest
    # Four places of a row in turn: more of it is on its way from memory at a time.
    quarter = width // 4
    for row in range(bits.shape[0]):
        b0, b1 = bits[row, :quarter], bits[row, quarter : 2 * quarter]
        b2, b3 = bits[row, 2 * quarter : 3 * quarter], bits[row, 3 * quarter : width]
        for index in range(quarter):
            found |= (b0[index] & exponent) + lowest
            found |= (b1[index] & exponent) + lowest
            found |= (b2[index] & exponent) + lowest
            found |= (b3[index] & exponent) + lowest
        for index in range(quarter, b3.shape[0]):
            found |= (b3[index] & exponent) + lowest
    return found
