"""Eigenvalues of many small operators, and how far each can be believed, in one go for every group."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit
from koopscope.kernels.mode_figures import lay_out, mode_figure
from koopscope.kernels.small_eigen import small_eigen

Floats = npt.NDArray[np.float64]

LARGEST = 16  # directions; beyond, LAPACK is as fast
LEAST = 1e-150  # pivots whose squares do not underflow


@jit()
def small_modes(
    operators: Floats,
    ranks: npt.NDArray[np.int64],
    directions: Floats,
    pairs_now: Floats,
    pairs_next: Floats,
    drift: Floats,
    displacement: Floats,
    values: Floats,
    residuals: Floats,
    shares: Floats,
) -> npt.NDArray[np.bool_]:
    """Compute the modes of each operator within its directions, largest modulus first.

    Eigenvalues as `small_eigen` finds them, left eigenvectors as the rows of the inverse of the right ones,
    residuals and shares as `mode_figure` has them.

    Parameters
    ----------
    operators
        Maps of the directions, shape ``(group, n, n)``, of which the first rows and columns are used.
    ranks
        How many, shape ``(group,)``.
    directions
        Orthonormal columns, shape ``(group, state, n)``.
    pairs_now, pairs_next, drift, displacement
        As in `mode_figures`.
    values
        Real and imaginary parts of what is found, shape ``(2, group, n)``; beyond a group's rank, here and in
        the next, they are left as they are.
    residuals, shares
        Shape ``(group, n)``.

    Returns
    -------
    Shape ``(group,)``: whether a group's modes were found. They are not where eigenvalues do not converge, an
    operator is not finite, or its eigenvectors depend on each other far beyond the last digit.
    """
    n_groups, n_states, n_rows = operators.shape[0], directions.shape[1], pairs_now.shape[1]
    found = np.zeros(n_groups, np.bool_)
    rank = -1
    starts, ends, sums = np.empty((n_states, n_rows)), np.empty((n_states, n_rows)), np.empty((4, n_rows))
    vector = np.empty((2, n_states))
    for group in range(n_groups):
        if ranks[group] != rank:
            rank = ranks[group]
            form, basis, solution = np.empty((rank, rank)), np.empty((rank, rank)), np.empty((2, rank))
            numbers, right, left = np.empty((2, rank)), np.empty((2, rank, rank)), np.empty((2, rank, rank))
        for row in range(rank):
            for column in range(rank):
                form[row, column] = operators[group, row, column]
        if not (small_eigen(form, basis, solution, numbers, right) and _invert(right, left)):
            continue
        found[group] = True
        lay_out(pairs_now[group], pairs_next[group], starts, ends)
        for place in range(rank):
            mode = _largest(numbers)
            real, imag = numbers[0, mode], numbers[1, mode]
            numbers[0, mode] = np.nan
            values[0, group, place], values[1, group, place] = real, imag
            if imag < 0.0 and real == values[0, group, place - 1] and imag == -values[1, group, place - 1]:
                residuals[group, place] = residuals[group, place - 1]
                shares[group, place] = shares[group, place - 1]
                continue
            for state in range(n_states):  # an eigenfunction of the weights themselves
                one, other = 0.0, 0.0
                for index in range(rank):
                    one += left[0, mode, index] * directions[group, state, index]
                    other += left[1, mode, index] * directions[group, state, index]
                vector[0, state], vector[1, state] = one, other
            residuals[group, place], shares[group, place] = mode_figure(
                vector, real, imag, starts, ends, drift[group], displacement[group], sums
            )
    return found


@jit()
def _largest(numbers: Floats) -> int:
    """Which of those left, whose real part is not NaN, is largest; of like ones the first: pairs stay."""
    found, largest = 0, -1.0
    for index in range(numbers.shape[1]):
        size = math.hypot(numbers[0, index], numbers[1, index])
        if size > largest:
            found, largest = index, size
    return found


@jit()
def _invert(matrix: Floats, inverse: Floats) -> bool:
    """Invert by elimination with the largest pivots, in place; tell whether none was next to nothing.

    Both have their real and imaginary parts one after the other, shape ``(2, n, n)``.
    """
    n = matrix.shape[1]
    for row in range(n):
        for column in range(n):
            inverse[0, row, column], inverse[1, row, column] = 1.0 if row == column else 0.0, 0.0
    for column in range(n):
        best, largest = column, 0.0
        for row in range(column, n):
            size = abs(matrix[0, row, column]) + abs(matrix[1, row, column])
            if size > largest:
                best, largest = row, size
        if largest < LEAST:
            return False
        for index in range(n):
            for part in range(2):
                upper, lower = matrix[part, column, index], matrix[part, best, index]
                matrix[part, column, index], matrix[part, best, index] = lower, upper
                upper, lower = inverse[part, column, index], inverse[part, best, index]
                inverse[part, column, index], inverse[part, best, index] = lower, upper
        real, imag = matrix[0, column, column], matrix[1, column, column]
        square = real * real + imag * imag
        real, imag = 1.0 - real / square, imag / square  # the row less so many times itself is over the pivot
        _subtract(matrix, inverse, column, column, real, imag)
        for row in range(n):
            if row != column:
                _subtract(matrix, inverse, row, column, matrix[0, row, column], matrix[1, row, column])
    return True


@jit()
def _subtract(matrix: Floats, inverse: Floats, row: int, other: int, real: float, imag: float) -> None:
    """Subtract a row from another, so many times."""
    for index in range(matrix.shape[1]):
        for lines in (matrix, inverse):
            one, two = lines[0, other, index], lines[1, other, index]
            lines[0, row, index] -= real * one - imag * two
            lines[1, row, index] -= real * two + imag * one
