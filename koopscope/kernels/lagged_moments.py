"""Lagged moments: products of every pair of rows one lag apart, summed for many small groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

ROWS_PER_TILE = 256  # long enough for sums over vector lanes
ROWS_AT_ONCE = 16  # a line of the cache holds as many float32
LONGEST_SHARED = 32  # lag in rows up to which ends are found in the tile of the starts


@jit()
def lagged_moments(
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    columns: npt.NDArray[np.int64],
    lines: npt.NDArray[np.uint64],
    cuts: npt.NDArray[np.int64],
    reference: npt.NDArray[np.float64],
    stride: int,
    phase: int,
    products: npt.NDArray[np.float64],
    totals: npt.NDArray[np.float64],
) -> None:
    """Add the moments of all pairs inside a stretch of rows to the sums so far, in place.

    Rows are transposed in tiles of neighbouring groups, so that the recording is read line by line and
    once, and widened to float64 group by group, in the first-level cache; products of float32 are exact.
    Sums of a group do not depend on its tile. Tiles end where ``phase`` plus the number of pairs is a
    multiple of ``ROWS_PER_TILE``: stretches that end there too give the same sums, bit for bit, as the whole
    in one call.

    Parameters
    ----------
    rows
        Shape ``(row, weight)``, any floating type; pairs are rows ``t`` and ``t + stride``.
    rest
        More columns of the same rows; there may be none.
    columns
        For each tile, the columns of the members of all its groups, shape ``(tile, group * member)``: first
        those of ``rows``, then those of ``rest``, each in increasing order.
    lines
        For each of them ``group * n_members + member``, counted within the tile.
    cuts
        For each tile, how many of its columns are of ``rows``.
    reference
        Subtracted from every row, shape ``(group, member)``. The last tile may be less than full: what is
        left of its columns is not looked at.
    stride
        Rows from the start of a pair to its end.
    phase
        Pairs that the first tile has behind it.
    products
        Sums of starts with starts (upper triangle) and of starts with ends, shape
        ``(group, 2, p, p)`` with p the next multiple of four of the number of members.
    totals
        Sums of starts, shape ``(group, p)``.
    """
    n_groups, d = reference.shape
    padded = products.shape[2]
    at_once = columns.shape[1] // d
    length = ROWS_PER_TILE + LONGEST_SHARED + ROWS_AT_ONCE
    one, wide = rows[0, :1], reference[0, :1]
    shared = stride <= LONGEST_SHARED
    packets, recorded = _lines(2, 8 * at_once * d, one), _lines(at_once * d, length, one)
    recorded_ends = recorded if shared else _lines(at_once * d, length, one)
    starts = _lines(padded, length, wide)
    ends = starts if shared else _lines(padded, length, wide)
    offset = stride if shared else 0
    n_pairs = rows.shape[0] - stride
    for tile in range(columns.shape[0]):
        first, cut = tile * at_once, cuts[tile]
        groups = min(at_once, n_groups - first)
        picked, places = columns[tile, : groups * d], lines[tile, : groups * d]
        left = picked[:cut], places[:cut], _stretches(picked[:cut])
        right = picked[cut:], places[cut:], _stretches(picked[cut:])
        begin = 0
        while begin < n_pairs:
            count = min(ROWS_PER_TILE - (phase + begin) % ROWS_PER_TILE, n_pairs - begin)
            _transpose(rows, begin, count + offset, *left, packets, recorded)
            _transpose(rest, begin, count + offset, *right, packets, recorded)
            if not shared:
                _transpose(rows, begin + stride, count, *left, packets, recorded_ends)
                _transpose(rest, begin + stride, count, *right, packets, recorded_ends)
            for group in range(groups):
                part = slice(group * d, (group + 1) * d)
                _widen(recorded[part], reference[first + group], count + offset, starts)
                if not shared:
                    _widen(recorded_ends[part], reference[first + group], count, ends)
                _add_products(starts, ends, offset, count, products[first + group])
                _add_totals(starts, count, totals[first + group])
            begin += count


@jit()
def _lines(count: int, length: int, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Zeros that begin where a line of the cache does, so that lines are written whole."""
    flat = np.zeros(count * length + 64 // like.itemsize, like.dtype)
    skip = (-flat.ctypes.data % 64) // like.itemsize
    return flat[skip : skip + count * length].reshape(count, length)


@jit()
def _stretches(columns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where stretches of consecutive columns begin, and where the last of them ends."""
    begins = np.empty(columns.shape[0] + 1, np.int64)
    count = 0
    for index in range(columns.shape[0]):
        if index == 0 or columns[index] != columns[index - 1] + 1:
            begins[count] = index
            count += 1
    begins[count] = columns.shape[0]
    return begins[: count + 1]


@jit()
def _transpose(
    rows: npt.NDArray[Any],
    begin: int,
    count: int,
    columns: npt.NDArray[np.int64],
    lines: npt.NDArray[np.uint64],
    stretches: npt.NDArray[np.int64],
    packets: npt.NDArray[Any],
    recorded: npt.NDArray[Any],
) -> None:
    """Copy columns of some rows to lines ``(line, row)``."""
    # Rows past the end fill the last of the lines, where there are any; nothing reads them.
    count = min(-(-count // ROWS_AT_ONCE) * ROWS_AT_ONCE, rows.shape[0] - begin)
    whole = count // ROWS_AT_ONCE * ROWS_AT_ONCE
    for row in range(0, whole, ROWS_AT_ONCE):
        for half in range(2):
            eight = rows[begin + row + 8 * half : begin + row + 8 * half + 8]
            for stretch in range(stretches.shape[0] - 1):
                first, stop = stretches[stretch], stretches[stretch + 1]
                _interleave(eight, columns[first], packets[half, 8 * first : 8 * stop])
        _put(packets, lines, row, recorded)
    for row in range(whole, count):
        for index in range(columns.shape[0]):
            recorded[lines[index], row] = rows[begin + row, columns[index]]


@jit()
def _interleave(rows: npt.NDArray[Any], column: int, packets: npt.NDArray[Any]) -> None:
    """Turn a stretch of eight rows into eight neighbours a column: compilers have shuffles for this."""
    width = packets.shape[0] // 8
    stop = column + width
    r0, r1, r2, r3 = rows[0, column:stop], rows[1, column:stop], rows[2, column:stop], rows[3, column:stop]
    r4, r5, r6, r7 = rows[4, column:stop], rows[5, column:stop], rows[6, column:stop], rows[7, column:stop]
    for index in range(width):
        packets[8 * index] = r0[index]
        packets[8 * index + 1] = r1[index]
        packets[8 * index + 2] = r2[index]
        packets[8 * index + 3] = r3[index]
        packets[8 * index + 4] = r4[index]
        packets[8 * index + 5] = r5[index]
        packets[8 * index + 6] = r6[index]
        packets[8 * index + 7] = r7[index]


@jit()
def _put(
    packets: npt.NDArray[Any], lines: npt.NDArray[np.uint64], row: int, recorded: npt.NDArray[Any]
) -> None:
    """Write sixteen rows of every column to its line: a line of the cache whole, eight bytes at a time."""
    low, high, out = packets[0].view(np.int64), packets[1].view(np.int64), recorded.view(np.int64)
    width = np.uint64(recorded.itemsize)  # words of eight rows
    begin = np.uint64(row) * width // np.uint64(8)
    for index in range(lines.shape[0]):
        line, place = out[lines[index]], np.uint64(index) * width  # unsigned: not checked for being negative
        for word in range(width):
            line[begin + word] = low[place + word]
            line[begin + width + word] = high[place + word]


@jit()
def _widen(
    recorded: npt.NDArray[Any],
    reference: npt.NDArray[np.float64],
    count: int,
    lines: npt.NDArray[np.float64],
) -> None:
    """Widen the lines of one group, measured from its reference."""
    for member in range(recorded.shape[0]):
        origin, values, line = reference[member], recorded[member, :count], lines[member, :count]
        for row in range(count):
            line[row] = values[row] - origin


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
def _add_totals(starts: npt.NDArray[np.float64], count: int, totals: npt.NDArray[np.float64]) -> None:
    """Add one tile's sums of starts."""
    for member in range(starts.shape[0]):
        line = starts[member, :count]
        total = 0.0
        for row in range(count):
            total += line[row]
        totals[member] += total
