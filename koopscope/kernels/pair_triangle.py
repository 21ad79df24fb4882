"""QR-compressed snapshot pairs: the triangle R of ``[1 | w(t)-r | w(t+lag)-r]`` for many small groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

ROWS_PER_BLOCK = 64  # pairs folded into the triangle at once: long vectors, still in the first-level cache


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
    block = np.empty((width, ROWS_PER_BLOCK))
    for group in range(n_groups):
        for start in range(0, n_pairs, ROWS_PER_BLOCK):
            rows = min(ROWS_PER_BLOCK, n_pairs - start)
            block[0, :rows] = 1.0
            for member in range(d):
                column = members[group, member]
                origin = reference[group, member]
                for row in range(rows):
                    block[1 + member, row] = snapshots[start + row, column] - origin
                    block[1 + d + member, row] = snapshots[start + row + 1, column] - origin
            _fold(triangles[group], block, rows)
    return triangles


@jit(reorder_sums=True)
def _fold(triangle: npt.NDArray[np.float64], block: npt.NDArray[np.float64], rows: int) -> None:
    """Rotate a block of rows (stored column by column) into the triangle, in place."""
    width = triangle.shape[0]
    for column in range(width):
        below = 0.0
        for row in range(rows):
            below += block[column, row] * block[column, row]
        if below == 0.0:
            continue
        head = triangle[column, column]
        norm = np.sqrt(head * head + below)
        diagonal = -norm if head > 0.0 else norm
        # Reflector v = (1, block / pivot); the sign of the diagonal keeps the pivot free of cancellation.
        pivot = head - diagonal
        weight = -pivot / diagonal
        for row in range(rows):
            block[column, row] /= pivot
        triangle[column, column] = diagonal
        for other in range(column + 1, width):
            projection = triangle[column, other]
            for row in range(rows):
                projection += block[column, row] * block[other, row]
            projection *= weight
            triangle[column, other] -= projection
            for row in range(rows):
                block[other, row] -= projection * block[column, row]
