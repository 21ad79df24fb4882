"""Singular values of many small matrices by one-sided Jacobi rotations, many matrices side by side."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]

LARGEST = 16  # rows; beyond, LAPACK is faster
LANES = 64  # matrices that are turned together: whole vectors, all of them in the cache
MOST_SWEEPS = 40  # six to nine are enough; what is left is not finite
EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)


def small_svd(matrices: Floats) -> tuple[Floats, Floats, Floats]:
    """Decompose ``A = U diag(s) V^T``, matrix by matrix; s is sorted, largest first.

    Rotations make the rows of A orthogonal, which for the triangles of a QR decomposition takes a third
    fewer of them than its columns would. Rows of V^T that belong to a singular value of zero are zero, and
    all is NaN where a matrix is not finite.

    Parameters
    ----------
    matrices
        Shape ``(group, n, n)``.

    Returns
    -------
    U, s and V^T, shapes ``(group, n, n)``, ``(group, n)`` and ``(group, n, n)``.

    Notes
    -----
    Hestenes, "Inversion of matrices by biorthogonalization and related results", J. SIAM 1958,
    https://doi.org/10.1137/0106005; that small values keep their digits where columns are merely scaled
    against each other: Demmel & Veselic, "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal.
    Appl. 1992, https://doi.org/10.1137/0613074; on triangles and their transposes: Drmac & Veselic, "New
    fast and accurate Jacobi SVD algorithm", SIAM J. Matrix Anal. Appl. 2008, https://doi.org/10.1137/050639193.
    """
    left, right = np.empty(matrices.shape), np.empty(matrices.shape)
    singular = np.empty(matrices.shape[:2])
    _decompose(matrices, left, singular, right)
    return left, singular, right


@jit()
def _decompose(matrices: Floats, left: Floats, singular: Floats, right: Floats) -> None:
    n_groups, n = matrices.shape[0], matrices.shape[1]
    lines = np.empty((n, n, LANES))  # rows of U^T A, orthogonal in the end
    turns = np.empty((n, n, LANES))  # columns of U
    sums, scales, lengths = np.empty((5, LANES)), np.empty(LANES), np.empty(n)
    for first in range(0, n_groups, LANES):
        count = min(LANES, n_groups - first)
        lines[:], turns[:] = 0.0, 0.0
        for line in range(n):
            turns[line, line, :] = 1.0
        for lane in range(count):
            scales[lane] = _load(matrices[first + lane], lines, lane)
        sweeps = 0
        while sweeps < MOST_SWEEPS and _sweep(lines, turns, sums):
            sweeps += 1
        for lane in range(count):
            group = first + lane
            _store(lines, turns, lane, lengths, left[group], singular[group], right[group])
            singular[group] *= scales[lane]
            if np.isnan(scales[lane]):
                left[group], right[group] = np.nan, np.nan


@jit()
def _load(matrix: Floats, lines: Floats, lane: int) -> float:
    """Put a matrix into its lane, over a power of two, which is returned: squares must not overflow."""
    n = matrix.shape[0]
    largest = 0.0
    for row in range(n):
        for column in range(n):
            size = abs(matrix[row, column])
            if not np.isfinite(size):
                return np.nan
            largest = max(largest, size)
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    for row in range(n):
        for column in range(n):
            lines[row, column, lane] = matrix[row, column] / scale
    return scale


@jit()
def _store(
    lines: Floats, turns: Floats, lane: int, lengths: Floats, left: Floats, singular: Floats, right: Floats
) -> None:
    """Take one matrix out of its lane, the longest rows first."""
    n = lines.shape[0]
    for line in range(n):
        square = 0.0
        for column in range(n):
            square += lines[line, column, lane] ** 2
        lengths[line] = np.sqrt(square)
    for place in range(n):
        longest = 0
        for line in range(1, n):
            if lengths[line] > lengths[longest]:
                longest = line
        length = lengths[longest]
        singular[place] = length
        lengths[longest] = -1.0
        for index in range(n):
            left[index, place] = turns[longest, index, lane]
            right[place, index] = lines[longest, index, lane] / length if length > 0.0 else 0.0


@jit(reorder_sums=True)
def _sweep(lines: Floats, turns: Floats, sums: Floats) -> bool:
    """Make every pair of rows orthogonal once; tell whether any was not.

    Pairs that are orthogonal are turned by nothing at all, so that no matrix notices the others.
    """
    n = lines.shape[0]
    turned = False
    for first in range(n - 1):
        for second in range(first + 1, n):
            _multiply(lines[first], lines[second], sums)
            if _angles(sums, n * EPS):
                turned = True
                _turn(lines[first], lines[second], sums)
                _turn(turns[first], turns[second], sums)
    return turned


@jit(reorder_sums=True)
def _multiply(one: Floats, other: Floats, sums: Floats) -> None:
    """Inner products of two rows: of the one, of the other, of both."""
    for lane in range(LANES):
        sums[0, lane] = 0.0
        sums[1, lane] = 0.0
        sums[2, lane] = 0.0
    for row in range(one.shape[0]):
        for lane in range(LANES):
            sums[0, lane] += one[row, lane] * one[row, lane]
            sums[1, lane] += other[row, lane] * other[row, lane]
            sums[2, lane] += one[row, lane] * other[row, lane]


@jit(reorder_sums=True)
def _angles(sums: Floats, tolerance: float) -> bool:
    """Cosine and sine of the angles that make rows orthogonal; tell whether any is not zero."""
    total = 0.0
    for lane in range(LANES):
        across, apart = 2.0 * sums[2, lane], sums[1, lane] - sums[0, lane]
        tangent = across / (abs(apart) + np.sqrt(apart * apart + across * across) + TINY)
        tangent = tangent if apart >= 0.0 else -tangent
        # Where squares of squares are below 1e-308, both are zero, and nothing is turned.
        bound = tolerance * tolerance * sums[0, lane] * sums[1, lane]
        tangent = tangent if sums[2, lane] * sums[2, lane] > bound else 0.0
        cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
        sums[3, lane] = cosine
        sums[4, lane] = cosine * tangent
        total += abs(tangent)
    return total > 0.0


@jit(reorder_sums=True)
def _turn(one: Floats, other: Floats, sums: Floats) -> None:
    for row in range(one.shape[0]):
        for lane in range(LANES):
            before = one[row, lane]
            one[row, lane] = sums[3, lane] * before - sums[4, lane] * other[row, lane]
            other[row, lane] = sums[4, lane] * before + sums[3, lane] * other[row, lane]
