"""Lagged moments: products of every pair of rows one lag apart, summed for many small groups."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

ROWS_PER_TILE = 128  # long enough for sums over vector lanes
WEIGHTS_PER_TASK = 512  # neighbours are read together: long stretches of a row, a tile within the cache
ROWS_AT_ONCE = 8  # a line of float64 in the tile is written whole
LONGEST_SHARED = 32  # lag in rows up to which ends are found in the tile of the starts


@jit(parallel=True)
def lagged_moments(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    members: npt.NDArray[np.uint64],
    reference: npt.NDArray[np.float64],
    stride: int,
    phase: int,
    products: npt.NDArray[np.float64],
    totals: npt.NDArray[np.float64],
) -> None:
    """Add the moments of all pairs inside a stretch of rows to the sums so far, in place.

    Rows are widened to float64 in tiles of neighbouring groups, so that the recording is read line by
    line and once; products of float32 are exact. Groups run in parallel. Tiles end where ``phase`` plus
    the number of pairs is a multiple of ``ROWS_PER_TILE``: stretches that end there too give the same
    sums, bit for bit, as the whole in one call.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, any floating type; pairs are rows ``t`` and ``t + stride``.
    rest
        Further columns of the same rows, counted on from those of ``rows``; there may be none.
    members
        Columns of each group's weights, shape ``(group, member)``.
    reference
        Subtracted from every row, shape ``(group, member)``.
    stride
        Rows from the start of a pair to its end.
    phase
        Pairs that the first tile has behind it.
    products
        Sums of starts with starts (upper triangle) and of starts with ends, shape
        ``(group, 2, p, p)`` with p the next multiple of four of the number of members.
    totals
        Sums of starts and of ends, shape ``(group, 2, p)``.
    """
    n_groups = members.shape[0]
    per_task = max(1, WEIGHTS_PER_TASK // products.shape[2])
    for task in numba.prange((n_groups + per_task - 1) // per_task):
        part = slice(task * per_task, min((task + 1) * per_task, n_groups))
        _sum_groups(rows, rest, members[part], reference[part], stride, phase, products[part], totals[part])


@jit()
def _sum_groups(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    groups: npt.NDArray[np.uint64],
    reference: npt.NDArray[np.float64],
    stride: int,
    phase: int,
    products: npt.NDArray[np.float64],
    totals: npt.NDArray[np.float64],
) -> None:
    """Add the moments of a few neighbouring groups."""
    padded = products.shape[2]
    shared = stride <= LONGEST_SHARED
    starts = np.zeros((groups.shape[0] * padded, ROWS_PER_TILE + LONGEST_SHARED + ROWS_AT_ONCE))
    ends = starts if shared else np.zeros_like(starts)
    offset = stride if shared else 0
    lines, columns, origins, cut = _split_members(groups, reference, rows.shape[1], padded)
    n_pairs = rows.shape[0] - stride
    begin = 0
    while begin < n_pairs:
        count = min(ROWS_PER_TILE - (phase + begin) % ROWS_PER_TILE, n_pairs - begin)
        _widen(rows, begin, count + offset, lines[:cut], columns[:cut], origins[:cut], starts)
        _widen(rest, begin, count + offset, lines[cut:], columns[cut:], origins[cut:], starts)
        if not shared:
            _widen(rows, begin + stride, count, lines[:cut], columns[:cut], origins[:cut], ends)
            _widen(rest, begin + stride, count, lines[cut:], columns[cut:], origins[cut:], ends)
        for group in range(groups.shape[0]):
            part = slice(group * padded, (group + 1) * padded)
            _add_products(starts[part], ends[part], offset, count, products[group])
            _add_totals(starts[part], ends[part], offset, count, totals[group])
        begin += count


@jit()
def _split_members(
    groups: npt.NDArray[np.uint64], reference: npt.NDArray[np.float64], split: int, padded: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.float64], int]:
    """List the members' lines in a tile, columns and references: those before the split, then the others."""
    n_groups, d = groups.shape
    lines, columns = np.empty(n_groups * d, np.uint64), np.empty(n_groups * d, np.uint64)
    origins = np.empty(n_groups * d)
    cut = 0
    for group in range(n_groups):
        for member in range(d):
            cut += groups[group, member] < split
    left, right = 0, cut
    for group in range(n_groups):
        for member in range(d):
            inside = groups[group, member] < split
            place = left if inside else right
            lines[place] = group * padded + member
            columns[place] = groups[group, member] - np.uint64(0 if inside else split)
            origins[place] = reference[group, member]
            left += inside
            right += not inside
    return lines, columns, origins, cut


@jit()
def _widen(
    rows: npt.NDArray[Any],
    begin: int,
    count: int,
    lines: npt.NDArray[np.uint64],
    columns: npt.NDArray[np.uint64],
    origins: npt.NDArray[np.float64],
    tile: npt.NDArray[np.float64],
) -> None:
    """Copy columns of some rows to lines of a tile ``(line, row)``, measured from the origins."""
    # Rows past the end fill the last line of the tile, where there are any; nothing reads them.
    count = min(-(-count // ROWS_AT_ONCE) * ROWS_AT_ONCE, rows.shape[0] - begin)
    whole = count // ROWS_AT_ONCE * ROWS_AT_ONCE
    for row in range(0, whole, ROWS_AT_ONCE):
        eight = rows[begin + row : begin + row + ROWS_AT_ONCE]
        r0, r1, r2, r3 = eight[0], eight[1], eight[2], eight[3]
        r4, r5, r6, r7 = eight[4], eight[5], eight[6], eight[7]
        for index in range(columns.shape[0]):
            column, origin = columns[index], origins[index]
            line = tile[lines[index], row : row + ROWS_AT_ONCE]
            line[0], line[1] = r0[column] - origin, r1[column] - origin
            line[2], line[3] = r2[column] - origin, r3[column] - origin
            line[4], line[5] = r4[column] - origin, r5[column] - origin
            line[6], line[7] = r6[column] - origin, r7[column] - origin
    for row in range(whole, count):
        for index in range(columns.shape[0]):
            tile[lines[index], row] = rows[begin + row, columns[index]] - origins[index]


@jit()
def _add_products(
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    offset: int,
    count: int,
    products: npt.NDArray[np.float64],
) -> None:
    """Add one tile's products of starts with starts and of starts with ends."""
    padded = starts.shape[0]
    for i in range(0, padded, 4):
        for j in range(0, padded, 4):
            if j >= i:
                _dots(starts, starts, i, j, 0, count, products[0])
            _dots(starts, ends, i, j, offset, count, products[1])


@jit(reorder_sums=True)
def _dots(
    left: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    i: int,
    j: int,
    offset: int,
    count: int,
    sums: npt.NDArray[np.float64],
) -> None:
    """Add inner products of four lines with four; each line is loaded once for several products."""
    # Slices, since an index with an offset would be checked for being negative at every turn.
    a0, a1, a2, a3 = left[i], left[i + 1], left[i + 2], left[i + 3]
    b0, b1 = right[j, offset : offset + count], right[j + 1, offset : offset + count]
    b2, b3 = right[j + 2, offset : offset + count], right[j + 3, offset : offset + count]
    s00 = s01 = s02 = s03 = 0.0
    s10 = s11 = s12 = s13 = 0.0
    s20 = s21 = s22 = s23 = 0.0
    s30 = s31 = s32 = s33 = 0.0
    for row in range(count):
        x0, x1, x2, x3 = a0[row], a1[row], a2[row], a3[row]
        y0, y1, y2, y3 = b0[row], b1[row], b2[row], b3[row]
        s00 += x0 * y0
        s01 += x0 * y1
        s02 += x0 * y2
        s03 += x0 * y3
        s10 += x1 * y0
        s11 += x1 * y1
        s12 += x1 * y2
        s13 += x1 * y3
        s20 += x2 * y0
        s21 += x2 * y1
        s22 += x2 * y2
        s23 += x2 * y3
        s30 += x3 * y0
        s31 += x3 * y1
        s32 += x3 * y2
        s33 += x3 * y3
    line0 = sums[i]
    line0[j] += s00
    line0[j + 1] += s01
    line0[j + 2] += s02
    line0[j + 3] += s03
    line1 = sums[i + 1]
    line1[j] += s10
    line1[j + 1] += s11
    line1[j + 2] += s12
    line1[j + 3] += s13
    line2 = sums[i + 2]
    line2[j] += s20
    line2[j + 1] += s21
    line2[j + 2] += s22
    line2[j + 3] += s23
    line3 = sums[i + 3]
    line3[j] += s30
    line3[j + 1] += s31
    line3[j + 2] += s32
    line3[j + 3] += s33


@jit(reorder_sums=True)
def _add_totals(
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    offset: int,
    count: int,
    totals: npt.NDArray[np.float64],
) -> None:
    """Add one tile's sums of starts and of ends."""
    for member in range(starts.shape[0]):
        now, following = starts[member], ends[member, offset : offset + count]
        total, total_end = 0.0, 0.0
        for row in range(count):
            total += now[row]
            total_end += following[row]
        totals[0, member] += total
        totals[1, member] += total_end
