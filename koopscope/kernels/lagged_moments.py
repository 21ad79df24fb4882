"""Lagged moments: products of every pair of rows one lag apart, summed for many small groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit
from koopscope.kernels.vectors import LANES, MOST_VECTORS, ROWS, add_products, touch, widen

ROWS_PER_TILE = 64  # of one group, in double precision: within the first-level cache


@jit()
def lagged_moments(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    steps: npt.NDArray[np.int64],
    first_steps: npt.NDArray[np.int64],
    touched: npt.NDArray[np.int64],
    first_touched: npt.NDArray[np.int64],
    at_once: int,
    split: int,
    reference: npt.NDArray[np.float64],
    stride: int,
    phase: int,
    products: npt.NDArray[np.float64],
) -> None:
    """Add the moments of all pairs inside a stretch of rows to the sums so far, in place.

    Group by group, some rows are widened to double precision within the first-level cache, where products
    of float32 are exact, and multiplied there, while the same columns of the rows that follow are on their
    way from memory. Tiles of rows end where ``phase`` plus the number of pairs is a multiple of
    ``ROWS_PER_TILE``: stretches that end there too give the same sums, bit for bit, as the whole in one call.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, float32 or float64, C-ordered; pairs are rows ``t`` and ``t + stride``.
    rest
        More columns of the same rows; there may be none.
    steps
        Neighbouring columns, at most ``LANES``, that are neighbouring members: the first column, the first
        member and how many, shape ``(step, 3)``.
    first_steps
        First step of each group, and the one after the last; shape ``(group + 1,)``.
    touched
        Columns that bring all the members of a tile of groups into the cache.
    first_touched
        First of them of each tile, and the one after the last.
    at_once
        Groups in a tile; the last may have fewer. Sums do not depend on it.
    split
        Columns from here on are those of ``rest``.
    reference
        Subtracted from every row, shape ``(group, member)``.
    stride
        Rows from the start of a pair to its end.
    phase
        Pairs that the first tile of rows has behind it.
    products
        Shape ``(group, p, 2 p)`` with p the next multiple of four above the number of members d. The first
        d + 1 columns have sums of starts with starts (upper triangle), and the sums of starts themselves;
        columns from p on have sums of starts with ends. Others are of no meaning.
    """
    n_groups, d = reference.shape
    width = products.shape[2]
    ends = width // 2
    # One row apart, what follows a start in memory is its end.
    pitch, ahead = (ends, 1) if stride == 1 else (width, 0)
    values = _aligned((ROWS_PER_TILE + 1) * pitch)
    values[d::pitch] = 1.0
    blocks = -(-d // ROWS)
    n_pairs = rows.shape[0] - stride
    for tile in range(first_touched.shape[0] - 1):
        first = tile * at_once
        groups = min(at_once, n_groups - first)
        parts = groups * blocks
        columns = touched[first_touched[tile] : first_touched[tile + 1]]
        begin = 0
        while begin < n_pairs:
            count = min(ROWS_PER_TILE - (phase + begin) % ROWS_PER_TILE, n_pairs - begin)
            following = begin + count + stride
            coming = min(ROWS_PER_TILE, rows.shape[0] - following) * columns.shape[0]
            for index in range(groups):
                group = first + index
                own, origin = steps[first_steps[group] : first_steps[group + 1]], reference[group]
                _widen_rows(rows, rest, begin, count + ahead, own, split, origin, values, 0, pitch)
                if stride != 1:
                    _widen_rows(rows, rest, begin + stride, count, own, split, origin, values, ends, pitch)
                for block in range(blocks):
                    # A few at a time: more would keep each other waiting, and the products too.
                    share = index * blocks + block
                    now, later = share * coming // parts, (share + 1) * coming // parts
                    _touch_some(rows, rest, following, columns, split, now, later)
                    _add_block(values, block * ROWS, pitch, count, products[group])
            begin += count


@jit()
def _aligned(length: int) -> npt.NDArray[np.float64]:
    """Zeros that begin where a line of the cache does."""
    flat = np.zeros(length + 8)
    skip = (-flat.ctypes.data % 64) // 8
    return flat[skip : skip + length]


@jit()
def _touch_some(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    row: int,
    columns: npt.NDArray[np.int64],
    split: int,
    start: int,
    stop: int,
) -> None:
    """Have some columns of a row and of those that follow brought into the cache, row by row."""
    count = columns.shape[0]
    row, index = row + start // count, start % count
    for _ in range(start, stop):
        column = columns[index]
        if column < split:
            touch(rows, row * rows.shape[1] + column)
        else:
            touch(rest, row * rest.shape[1] + column - split)
        index += 1
        if index == count:
            row, index = row + 1, 0


@jit()
def _widen_rows(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    begin: int,
    count: int,
    steps: npt.NDArray[np.int64],
    split: int,
    origin: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    place: int,
    pitch: int,
) -> None:
    """Widen some rows of one group, measured from its reference."""
    for step in range(steps.shape[0]):
        column, member, width = steps[step, 0], steps[step, 1], steps[step, 2]
        if column < split:
            for row in range(count):
                start = (begin + row) * rows.shape[1] + column
                widen(rows, start, width, origin, member, values, place + row * pitch + member)
        else:
            for row in range(count):
                start = (begin + row) * rest.shape[1] + column - split
                widen(rest, start, width, origin, member, values, place + row * pitch + member)


@jit()
def _add_block(
    values: npt.NDArray[np.float64], left: int, pitch: int, count: int, products: npt.NDArray[np.float64]
) -> None:
    """Add products of four members with all; whole vectors below the diagonal are left out."""
    width = products.shape[1]
    for right in range(left // LANES * LANES, width, MOST_VECTORS * LANES):
        vectors = min(MOST_VECTORS, (width - right) // LANES)
        add_products(values, left, right, pitch, count, vectors, products, left * width + right, width)
