"""Singular values of many small matrices by one-sided Jacobi rotations, many matrices side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]

LARGEST = 16  # rows; beyond, LAPACK is faster
TOGETHER = 64  # matrices that are turned together, in whole vectors, within the cache; no fewer than rows
MOST_SWEEPS = 40  # six to nine are enough, and up to sixteen where rows depend on each other
EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)


def small_svd(matrices: Floats) -> tuple[Floats, Floats, Floats]:
    """Decompose ``A = U diag(s) V^T``, matrix by matrix; s is sorted, largest first.

    Rotations make the rows of A orthogonal, which for the triangles of a QR decomposition takes a third
    fewer of them than its columns would. Singular values below ``n eps`` of the largest are rounding: they
    are zero, and so are their rows of V^T. All is NaN where a matrix is not finite.

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
    https://doi.org/10.1137/0106005; accuracy: Demmel & Veselic, "Jacobi's method is more accurate than QR",
    SIAM J. Matrix Anal. Appl. 1992, https://doi.org/10.1137/0613074; triangles and their transposes: Drmac
    & Veselic, "New fast and accurate Jacobi SVD algorithm", SIAM J. Matrix Anal. Appl. 2008,
    https://doi.org/10.1137/050639193.
    """
    largest = np.abs(matrices).max(axis=(1, 2))
    finite = np.isfinite(largest)
    # Powers of two, over which squares do not overflow.
    units = np.ldexp(1.0, np.frexp(np.where(finite, largest, 0.0))[1] - 1)
    left, right = np.empty(matrices.shape), np.empty(matrices.shape)
    singular = np.empty(matrices.shape[:2])
    n = matrices.shape[1]
    # Rows of U^T A, orthogonal in the end, and columns of U.
    lines, turns = np.empty((n, n, TOGETHER)), np.empty((n, n, TOGETHER))
    _decompose(matrices / units[:, None, None], left, singular, right, lines, turns, np.empty((5, TOGETHER)))
    for found in (left, singular, right):
        found[~finite] = np.nan
    return left, singular * units[:, None], right


@jit()
def _decompose(
    matrices: Floats,
    left: Floats,
    singular: Floats,
    right: Floats,
    lines: Floats,
    turns: Floats,
    sums: Floats,
) -> None:
    n_groups, n = matrices.shape[0], matrices.shape[1]
    for first in range(0, n_groups, TOGETHER):
        count = min(TOGETHER, n_groups - first)
        for line in range(n):
            for column in range(n):
                for lane in range(TOGETHER):
                    lines[line, column, lane] = matrices[first + lane, line, column] if lane < count else 0.0
                    turns[line, column, lane] = 1.0 if line == column else 0.0
        sweeps = 0
        while sweeps < MOST_SWEEPS and _sweep(lines, turns, sums):
            sweeps += 1
        for lane in range(count):
            group = first + lane
            for line in range(n):
                square = 0.0
                for column in range(n):
                    square += lines[line, column, lane] ** 2
                sums[0, line] = np.sqrt(square)
            for place in range(n):  # the longest first
                longest = 0
                for line in range(1, n):
                    if sums[0, line] > sums[0, longest]:
                        longest = line
                length = sums[0, longest]
                sums[0, longest] = -1.0
                if length <= n * EPS * singular[group, 0] and place > 0:
                    length = 0.0
                singular[group, place] = length
                for index in range(n):
                    left[group, index, place] = turns[longest, index, lane]
                    found = lines[longest, index, lane] / length if length > 0.0 else 0.0
                    right[group, place, index] = found


@jit(reorder_sums=True)
def _sweep(lines: Floats, turns: Floats, sums: Floats) -> bool:
    """Make every pair of rows orthogonal once; tell whether any was not.

    Pairs that are orthogonal are turned by nothing, so that no number hangs on the other matrices.
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
    for lane in range(TOGETHER):
        sums[0, lane] = 0.0
        sums[1, lane] = 0.0
        sums[2, lane] = 0.0
    for row in range(one.shape[0]):
        for lane in range(TOGETHER):
            sums[0, lane] += one[row, lane] * one[row, lane]
            sums[1, lane] += other[row, lane] * other[row, lane]
            sums[2, lane] += one[row, lane] * other[row, lane]


@jit(reorder_sums=True)
def _angles(sums: Floats, tolerance: float) -> bool:
    """Cosine and sine of the angles that make rows orthogonal; tell whether any is not zero."""
    total = 0.0
    for lane in range(TOGETHER):
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
        for lane in range(TOGETHER):
            before = one[row, lane]
            one[row, lane] = sums[3, lane] * before - sums[4, lane] * other[row, lane]
            other[row, lane] = sums[4, lane] * before + sums[3, lane] * other[row, lane]
