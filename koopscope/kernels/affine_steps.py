"""Repeat ``z <- A z + b`` many times for many groups, by binary powers of the affine map."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

FEWEST_IN_PARALLEL = 8  # fewer groups finish before a second thread has woken up


def affine_steps(
    operators: npt.NDArray[np.float64], offsets: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """State after each count of steps, starting from zero.

    ``z(m) = (I + A + ... + A^(m-1)) b``. Doubling the map (``A, b -> A A, A b + b``) costs ``log2(m)``
    products a group however many counts are asked for, and never passes through eigenvectors, which
    are ill conditioned for operators close to defective.

    Parameters
    ----------
    operators, offsets
        ``A`` of shape ``(group, state, state)`` and ``b`` of shape ``(group, state)``.
    counts
        Non-negative numbers of steps, shape ``(count,)``.

    Returns
    -------
    Shape ``(group, count, state)``.
    """
    few = offsets.shape[0] < FEWEST_IN_PARALLEL
    return (_in_turn if few else _in_parallel)(operators, offsets, counts)


def _affine_steps(
    operators: npt.NDArray[np.float64], offsets: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    n_groups, d = offsets.shape
    n_counts = counts.size
    states = np.zeros((n_groups, n_counts, d))
    largest = 0
    for index in range(n_counts):
        largest = max(largest, counts[index])
    for group in numba.prange(n_groups):
        power = operators[group].copy()
        offset = offsets[group].copy()
        bit = 1
        while bit <= largest:
            for index in range(n_counts):
                if counts[index] & bit:
                    states[group, index] = np.dot(power, states[group, index]) + offset
            offset = np.dot(power, offset) + offset
            power = np.dot(power, power)
            bit *= 2
    return states


_in_parallel = jit(parallel=True)(_affine_steps)
_in_turn = jit()(_affine_steps)
