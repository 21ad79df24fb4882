"""Whether every number of an array is finite: the one look that every recorded row gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

# Bits of the exponent, which are all set in NaN and infinity alone, and the last of them.
_EXPONENTS = {4: (np.uint32(0x7F800000), np.uint32(1 << 23)), 8: (np.uint64(0x7FF << 52), np.uint64(1 << 52))}


def all_finite(values: npt.NDArray[Any]) -> bool:
    """Tell whether no value is NaN or infinite, at the speed of memory.

    Parameters
    ----------
    values
        float32 or float64 that lie in one piece, any shape.
    """
    exponent, lowest = _EXPONENTS[values.itemsize]
    bits = values.reshape(-1).view(exponent.dtype)
    return not int(_largest_exponents(bits, exponent, lowest)) >> (8 * values.itemsize - 1)


@jit()
def _largest_exponents(bits: npt.NDArray[Any], exponent: Any, lowest: Any) -> Any:
    """Combine numbers whose first bit is set where the exponent is full: adding its last bit carries over."""
    found = lowest ^ lowest
    # Four places of the array in turn: more of it is on its way from memory at a time.
    quarter = bits.shape[0] // 4
    b0, b1, b2, b3 = (
        bits[:quarter],
        bits[quarter : 2 * quarter],
        bits[2 * quarter : 3 * quarter],
        bits[3 * quarter :],
    )
    for index in range(quarter):
        found |= (b0[index] & exponent) + lowest
        found |= (b1[index] & exponent) + lowest
        found |= (b2[index] & exponent) + lowest
        found |= (b3[index] & exponent) + lowest
    for index in range(quarter, b3.shape[0]):
        found |= (b3[index] & exponent) + lowest
    return found
