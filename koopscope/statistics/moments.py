"""Lagged moments: sums over *every* pair of rows one lag apart, for small groups of long recordings.

The recording is read once and nothing of it is kept. A Gram matrix squares the condition number, so
forecasts agree with the singular value decomposition of the data to about ``1e-11 / rtol`` of the
evolution; recordings of float64, and the source's own method, keep QR-compressed pairs instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import whole_rows
from koopscope.kernels.vectors import LANES, ROWS
from koopscope.parallel import require_memory, single_threaded_blas
from koopscope.partition import GroupBlock
from koopscope.threads import in_threads, n_cores

Floats = npt.NDArray[np.float64]

KERNEL_MEMBERS = 1024  # wider groups are no slower through BLAS (tests/benchmarks/bench_small_groups.py)
ROWS_PER_PRODUCT = 256  # blocks of rows that are read hold whole multiples of it, so sums keep their order
WEIGHTS_PER_TILE = 1024  # neighbours are read together: long stretches of a row, within the cache
VALUES_PER_LINE = 16  # of the cache, in single precision


@dataclass(frozen=True)
class LaggedMoments:
    """Moments of all pairs of a window.

    Attributes
    ----------
    grams
        Inner products of ``[1 | w(t)-r | w(t+lag)-r]`` over pairs, shape ``(group, 2 d + 1, 2 d + 1)``.
    reference
        The r that was subtracted: the window's first row, shape ``(group, d)``.
    """

    grams: Floats
    reference: Floats

    @property
    def n_pairs(self) -> int:
        """Number of pairs summed."""
        return round(float(self.grams[0, 0, 0]))

    def cut(self, groups: slice) -> LaggedMoments:
        """Take some of the groups."""
        return LaggedMoments(self.grams[groups], self.reference[groups])


def padded_width(d: int) -> int:
    """Give the width of a group's sums: a column of ones and its weights, in whole steps of products."""
    return (d + ROWS) // ROWS * ROWS


class MomentSums:
    """Moments of a block of groups, summed row by row as the recording is read.

    Parameters
    ----------
    block
        The groups.
    first_column
        Flat index of the first weight in the rows that will be added.
    stride
        Rows from the start of a pair to its end.
    """

    def __init__(self, block: GroupBlock, first_column: int, stride: int) -> None:
        self._columns = block.members - first_column
        self._stride = stride
        n_groups, d = block.members.shape
        self._padded = padded_width(d)
        require_memory(
            n_groups * self._padded**2 * 8 * 6,
            f"the moments of {n_groups} groups of {d} weights in {block.path}",
            "use a finer partition such as --partition node or quasi-node:10",
        )
        self._products = np.zeros((n_groups, self._padded, 2 * self._padded))
        self._pairs = 0
        self._head: Floats | None = None
        self._tail: Floats = np.empty(0)
        self._tiles: Tiles | None = None

    def add(self, pieces: Sequence[npt.NDArray[Any]], end: int) -> None:
        """Add the pairs of some rows, the first ``stride`` of which are the last ones of the call before.

        Rows come in one piece or two, side by side. ``end`` is the number, in the recording, of the row in
        which the first pair ends.
        """
        rows = pieces[0]
        rest = pieces[1] if len(pieces) > 1 else np.empty((rows.shape[0], 0), rows.dtype)
        if self._head is None:
            self._head = columns_of(rows[: self._stride], rest[: self._stride], self._columns)
        self._tail = columns_of(rows[-self._stride :], rest[-self._stride :], self._columns)
        arguments = rows, rest, self._head[0], self._stride, end, self._products
        if self._columns.shape[1] > KERNEL_MEMBERS:
            blas_moments(self._columns, *arguments)
        else:
            self._tiles = self._tiles or Tiles.of(self._columns, rows.shape[1], n_cores())
            kernel_moments(self._tiles, *arguments)
        self._pairs += rows.shape[0] - self._stride

    @property
    def total(self) -> float:
        """Sum of everything added, in which a value that is not finite shows."""
        d = self._columns.shape[1]
        return float(self._products[:, :d, d].sum() + self._tail.sum())

    def finish(self) -> LaggedMoments:
        """Put the sums together; the moments of ends are those of starts but for the rows at either edge."""
        assert self._head is not None, "no rows were added"
        reference = self._head[0]
        d = reference.shape[1]
        head = self._head - reference
        tail = self._tail - reference
        upper = self._products[:, :d, :d]
        starts = np.triu(upper) + np.triu(upper, 1).swapaxes(1, 2)
        across = self._products[:, :d, self._padded : self._padded + d]
        edges = np.einsum("tgi,tgj->gij", tail, tail) - np.einsum("tgi,tgj->gij", head, head)
        totals = self._products[:, :d, d]
        grams = np.empty((reference.shape[0], 2 * d + 1, 2 * d + 1))
        grams[:, 0, 0] = self._pairs
        grams[:, 0, 1 : d + 1] = grams[:, 1 : d + 1, 0] = totals
        grams[:, 0, d + 1 :] = grams[:, d + 1 :, 0] = totals + (tail.sum(axis=0) - head.sum(axis=0))
        grams[:, 1 : d + 1, 1 : d + 1] = starts
        grams[:, 1 : d + 1, d + 1 :] = across
        grams[:, d + 1 :, 1 : d + 1] = across.swapaxes(1, 2)
        grams[:, d + 1 :, d + 1 :] = starts + edges
        return LaggedMoments(grams, reference)


def columns_of(rows: npt.NDArray[Any], rest: npt.NDArray[Any], columns: npt.NDArray[Any]) -> Floats:
    """Pick columns of two arrays that stand side by side, shape ``(row, *columns.shape)``."""
    split = rows.shape[1]
    right = columns >= split
    # As a rule nearly all stand on the left: masks are slow, so only the few others are picked by one.
    values = rows[:, np.where(right, 0, columns)].astype(np.float64)
    values[:, right] = rest[:, columns[right] - split]
    return values


@dataclass(frozen=True)
class Tiles:
    """Groups as the kernel wants them: in neighbouring columns, and in tiles (see `lagged_moments`)."""

    steps: npt.NDArray[np.int64]
    first_steps: npt.NDArray[np.int64]
    touched: npt.NDArray[np.int64]
    first_touched: npt.NDArray[np.int64]
    at_once: int
    split: int

    @classmethod
    def of(cls, members: npt.NDArray[np.int64], split: int, n_threads: int) -> Tiles:
        """Cut groups into tiles, as many for every thread; columns from ``split`` on are apart."""
        n_groups, d = members.shape
        flat = members.ravel()
        index = np.arange(flat.size)
        begins = np.ones(flat.size, bool)
        begins[1:] = (np.diff(flat) != 1) | (flat[1:] == split) | (index[1:] % d == 0)
        since = index - np.maximum.accumulate(np.where(begins, index, 0))
        first = index[since % LANES == 0]
        steps = np.stack([flat[first], first % d, np.diff(first, append=flat.size)], axis=1)
        first_steps = np.searchsorted(first, np.arange(n_groups + 1) * d)

        largest = max(1, WEIGHTS_PER_TILE // d)
        at_once = -(-n_groups // (n_threads * -(-n_groups // (n_threads * largest))))
        lines = np.where(flat < split, flat, flat + VALUES_PER_LINE) // VALUES_PER_LINE
        order = np.lexsort((flat, index // (at_once * d)))
        tile, line = index[order] // (at_once * d), lines[order]
        new = np.append(True, (np.diff(line) != 0) | (np.diff(tile) != 0))
        first_touched = np.searchsorted(tile[new], np.arange(-(-n_groups // at_once) + 1))
        return cls(steps, first_steps, flat[order][new], first_touched, at_once, split)

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return self.first_touched.size - 1

    def cut(self, tiles: slice) -> Tiles:
        """Take some of the tiles."""
        bounds = self.first_touched[tiles.start : tiles.stop + 1]
        groups = slice(tiles.start * self.at_once, tiles.stop * self.at_once + 1)
        first = self.first_steps[groups]
        steps, touched = self.steps[first[0] : first[-1]], self.touched[bounds[0] : bounds[-1]]
        return Tiles(steps, first - first[0], touched, bounds - bounds[0], self.at_once, self.split)


def kernel_moments(
    tiles: Tiles,
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    reference: Floats,
    stride: int,
    phase: int,
    products: Floats,
) -> None:
    """Run the kernel `lagged_moments` on the tiles, in threads that have some of them each."""
    from koopscope.kernels.lagged_moments import lagged_moments  # strided fits start without it

    rows, rest, reference = whole_rows(rows), whole_rows(rest), np.ascontiguousarray(reference)
    n_parts = min(n_cores(), tiles.n_tiles)

    def add(part: int) -> None:
        some = slice(part * tiles.n_tiles // n_parts, (part + 1) * tiles.n_tiles // n_parts)
        groups = slice(some.start * tiles.at_once, some.stop * tiles.at_once)
        own = tiles.cut(some)
        lagged_moments(
            rows,
            rest,
            own.steps,
            own.first_steps,
            own.touched,
            own.first_touched,
            own.at_once,
            own.split,
            reference[groups],
            stride,
            phase,
            products[groups],
        )

    in_threads(add, range(n_parts))


def blas_moments(
    members: npt.NDArray[np.int64],
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    reference: Floats,
    stride: int,
    phase: int,
    products: Floats,
) -> None:
    """Do what `kernel_moments` does, for groups wide enough to deserve matrix products.

    Groups are shared among threads and each matrix product has one, so that its sums keep their order.
    """
    d, ends = members.shape[1], products.shape[2] // 2
    n_pairs = rows.shape[0] - stride

    def add(group: int) -> None:
        begin = 0
        while begin < n_pairs:
            count = min(ROWS_PER_PRODUCT - (phase + begin) % ROWS_PER_PRODUCT, n_pairs - begin)
            part = slice(begin, begin + count + stride)
            values = columns_of(rows[part], rest[part], members[group])
            values -= reference[group]
            starts = values[:count]
            products[group, :d, :d] += starts.T @ starts
            products[group, :d, d] += starts.sum(axis=0)
            products[group, :d, ends : ends + d] += starts.T @ values[stride:]
            begin += count

    with single_threaded_blas():
        in_threads(add, range(members.shape[0]))
