"""The pairs of a wide group laid out as LAPACK's QR takes them, and its triangle without the other half."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

TILE = 16  # rows at a time: two cache lines of doubles in every column, written before they are evicted


@jit()
def pair_columns(
    snapshots: npt.NDArray[Any],
    members: npt.NDArray[np.int64],
    reference: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
) -> None:
    """Write the pairs of consecutive snapshots of one group as the columns ``[1 | w(t)-r | w(t+lag)-r]``.

    Parameters
    ----------
    snapshots
        Shape ``(snapshot, weight)``, any floating type.
    members
        Flat weight indices, shape ``(member,)``.
    reference
        The r that is subtracted, shape ``(member,)``.
    columns
        Where the columns go, one after another: shape ``(2 d + 1, pair)``.
    """
    d, n_pairs = len(members), columns.shape[1]
    columns[0] = 1.0
    for begin in range(0, n_pairs + 1, TILE):
        end = min(begin + TILE, n_pairs + 1)
        for member in range(d):
            column, origin = members[member], reference[member]
            for row in range(begin, end):
                value = np.float64(snapshots[row, column]) - origin
                if row < n_pairs:
                    columns[1 + member, row] = value
                if row > 0:
                    columns[1 + d + member, row - 1] = value


@jit()
def pack_upper(columns: npt.NDArray[np.float64], packed: npt.NDArray[np.float64]) -> None:
    """Store the upper triangle of a matrix, column after column, each down to its diagonal.

    Parameters
    ----------
    columns
        The matrix, column after column: shape ``(column, row)``; what is below the diagonal is not looked at.
    packed
        Where it goes, shape ``(columns (columns + 1) / 2,)``; zero below rows that the matrix does not have.
    """
    place = 0
    for column in range(columns.shape[0]):
        count = min(column + 1, columns.shape[1])
        packed[place : place + count] = columns[column, :count]
        packed[place + count : place + column + 1] = 0.0
        place += column + 1


@jit()
def unpack_upper(packed: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> None:
    """Take as many rows of stored triangles as ``columns`` has; zero below them.

    Parameters
    ----------
    packed
        As `pack_upper` stores them, shape ``(group, columns (columns + 1) / 2)``.
    columns
        Where they go, column after column: shape ``(group, column, row)``.
    """
    for group in range(columns.shape[0]):
        place = 0
        for column in range(columns.shape[1]):
            count = min(column + 1, columns.shape[2])
            columns[group, column, :count] = packed[group, place : place + count]
            columns[group, column, count:] = 0.0
            place += column + 1
