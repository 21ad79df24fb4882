"""QR-compressed snapshot pairs: the triangle R of ``[1 | w(t)-r | w(t+lag)-r]`` for many small groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit
from koopscope.kernels.vectors import LANES, ROWS, project, subtract

BLOCK_NUMBERS = 3072  # folded into a triangle at once: long vectors, still in the first-level cache


@jit(reorder_sums=True)
def pair_triangle(
    snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64], reference: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Compress each group's pairs of consecutive snapshots into an upper triangle.

    Householder reflections fold blocks of pairs into the triangle so far, so that memory does not grow
    with the number of snapshots, and singular values keep all their digits (a Gram matrix would square
    the condition number).

    Parameters
    ----------
    snapshots
        Shape ``(snapshot, weight)``, any floating type.
    members
        Flat weight indices, shape ``(group, member)``.
    reference
        Subtracted from every snapshot, shape ``(group, member)``.

    Returns
    -------
    Shape ``(group, 2 d + 1, 2 d + 1)``; rows may carry either sign.
    """
    n_groups, d = members.shape
    n_pairs = snapshots.shape[0] - 1
    width = 2 * d + 1
    triangles = np.zeros((n_groups, width, width))
    # Column by column: whole vectors of pairs, and columns of zeros for whole steps of columns.
    vectors = max(2, min(BLOCK_NUMBERS // width, n_pairs + LANES - 1) // LANES)
    length = vectors * LANES
    block, sums = _aligned((width + ROWS, length)), np.empty(ROWS)
    for group in range(n_groups):
        for start in range(0, n_pairs, length):
            rows = min(length, n_pairs - start)
            for column in range(width):
                for row in range(rows, length):
                    block[column, row] = 0.0
            for row in range(rows):
                block[0, row] = 1.0
            for member in range(d):
                column = members[group, member]
                origin = reference[group, member]
                for row in range(rows):
                    block[1 + member, row] = snapshots[start + row, column] - origin
                for row in range(rows - 1):  # the end of a pair is the start of the next
                    block[1 + d + member, row] = block[1 + member, row + 1]
                block[1 + d + member, rows - 1] = snapshots[start + rows, column] - origin
            _fold(triangles[group], block, vectors, sums)
    return triangles


@jit()
def _aligned(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Zeros that begin where a vector may: loads across the borders of cache lines take twice as long."""
    count = shape[0] * shape[1]
    memory = np.zeros(count + LANES)
    begin = -(memory.ctypes.data // memory.itemsize) % LANES
    return memory[begin : begin + count].reshape(shape)


@jit(reorder_sums=True)
def _fold(
    triangle: npt.NDArray[np.float64],
    block: npt.NDArray[np.float64],
    vectors: int,
    sums: npt.NDArray[np.float64],
) -> None:
    """Rotate a block of rows (stored column by column) into the triangle, in place."""
    width, length = triangle.shape[0], block.shape[1]
    for column in range(width):
        below = 0.0
        for row in range(length):
            below += block[column, row] * block[column, row]
        if below == 0.0:
            continue
        head = triangle[column, column]
        norm = np.sqrt(head * head + below)
        diagonal = -norm if head > 0.0 else norm
        # Reflector v = (1, block / pivot); the sign of the diagonal keeps the pivot free of cancellation.
        pivot = head - diagonal
        weight = -pivot / diagonal
        inverse = 1.0 / pivot
        for row in range(length):
            block[column, row] *= inverse
        triangle[column, column] = diagonal
        for other in range(column + 1, width, ROWS):
            project(block, column * length, other * length, length, vectors, sums)
            for i in range(min(ROWS, width - other)):
                sums[i] = weight * (sums[i] + triangle[column, other + i])
                triangle[column, other + i] -= sums[i]
            subtract(block, column * length, other * length, length, vectors, sums)
