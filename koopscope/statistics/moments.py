"""Lagged moments: sums over *every* pair of rows one lag apart, for small groups of long recordings.

The recording is read once and nothing of it is kept. A Gram matrix squares the condition number, so
forecasts agree with the singular value decomposition of the data to about ``1e-11 / rtol`` of the
evolution; recordings of float64, and the source's own method, keep QR-compressed pairs instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import whole_rows
from koopscope.parallel import in_threads, n_cores, require_memory, single_threaded_blas
from koopscope.partition import GroupBlock

Floats = npt.NDArray[np.float64]

KERNEL_MEMBERS = 128  # wider groups are no slower through BLAS (tests/benchmarks/bench_small_groups.py)
ROWS_PER_PRODUCT = 256  # blocks of rows that are read hold whole multiples of it, so sums keep their order
ROWS_PER_CALL = 1024  # of a kernel, a multiple of its tile
WEIGHTS_PER_TILE = 512  # neighbours are read together: long stretches of a row, a tile within the cache


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
        self._padded = -(-d // 4) * 4
        require_memory(
            n_groups * self._padded**2 * 8 * 6,
            f"the moments of {n_groups} groups of {d} weights in {block.path}",
            "use a finer partition such as --partition node or quasi-node:10",
        )
        self._products = np.zeros((n_groups, 2, self._padded, self._padded))
        self._totals = np.zeros((n_groups, self._padded))
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
        arguments = rows, rest, self._head[0], self._stride, end, self._products, self._totals
        if self._columns.shape[1] > KERNEL_MEMBERS:
            blas_moments(self._columns, *arguments)
        else:
            self._tiles = self._tiles or Tiles.of(self._columns, rows.shape[1], n_cores())
            kernel_moments(self._tiles, *arguments)
        self._pairs += rows.shape[0] - self._stride

    @property
    def total(self) -> float:
        """Sum of everything added, in which a value that is not finite shows."""
        return float(self._totals.sum() + self._tail.sum())

    def finish(self) -> LaggedMoments:
        """Put the sums together; the moments of ends are those of starts but for the rows at either edge."""
        assert self._head is not None, "no rows were added"
        reference = self._head[0]
        d = reference.shape[1]
        head = self._head - reference
        tail = self._tail - reference
        upper = self._products[:, 0, :d, :d]
        starts = np.triu(upper) + np.triu(upper, 1).swapaxes(1, 2)
        across = self._products[:, 1, :d, :d]
        edges = np.einsum("tgi,tgj->gij", tail, tail) - np.einsum("tgi,tgj->gij", head, head)
        totals = self._totals[:, :d]
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
    """Neighbouring groups that are read together, as the kernel wants them (see `lagged_moments`).

    The sums do not depend on which groups share a tile.
    """

    columns: npt.NDArray[np.int64]
    lines: npt.NDArray[np.uint64]
    cuts: npt.NDArray[np.int64]
    at_once: int

    @classmethod
    def of(cls, members: npt.NDArray[np.int64], split: int, n_threads: int) -> Tiles:
        """Cut groups into tiles, as many for every thread; columns from ``split`` on are apart."""
        n_groups, d = members.shape
        largest = max(1, WEIGHTS_PER_TILE // (-(-d // 4) * 4))
        at_once = -(-n_groups // (n_threads * -(-n_groups // (n_threads * largest))))
        n_tiles = -(-n_groups // at_once)
        # What is missing of the last tile comes after all columns.
        padded = np.full((n_tiles * at_once, d), np.iinfo(np.int64).max)
        padded[:n_groups] = members
        tiles = padded.reshape(n_tiles, at_once * d)
        order = np.argsort(tiles, axis=1, kind="stable")
        columns = np.take_along_axis(tiles, order, axis=1)
        cuts = (columns < split).sum(axis=1)
        columns[columns >= split] -= split
        return cls(columns, order.astype(np.uint64), cuts, at_once)


def _stretches(n_pairs: int, phase: int, length: int) -> Iterator[tuple[int, int]]:
    """First pair and number of pairs of each stretch; they end where ``phase`` plus it is a multiple."""
    begin = 0
    while begin < n_pairs:
        count = min(length - (phase + begin) % length, n_pairs - begin)
        yield begin, count
        begin += count


def kernel_moments(
    tiles: Tiles,
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    reference: Floats,
    stride: int,
    phase: int,
    products: Floats,
    totals: Floats,
) -> None:
    """Run the kernel `lagged_moments` on the tiles, in threads that have some of them each."""
    from koopscope.kernels.lagged_moments import lagged_moments  # strided fits start without it

    rows, rest = whole_rows(rows), whole_rows(rest)
    n_pairs, n_tiles, n_parts = rows.shape[0] - stride, tiles.cuts.size, min(n_cores(), tiles.cuts.size)

    def add(part: int) -> None:
        some = slice(part * n_tiles // n_parts, (part + 1) * n_tiles // n_parts)
        groups = slice(some.start * tiles.at_once, some.stop * tiles.at_once)
        own = tiles.columns[some], tiles.lines[some], tiles.cuts[some], reference[groups]
        sums = products[groups], totals[groups]
        # Stretch by stretch: what neighbouring groups read again is still in the cache.
        for begin, count in _stretches(n_pairs, phase, ROWS_PER_CALL):
            now = slice(begin, begin + count + stride)
            lagged_moments(rows[now], rest[now], *own, stride, phase + begin, *sums)

    in_threads(add, range(n_parts))


def blas_moments(
    members: npt.NDArray[np.int64],
    rows: npt.NDArray[Any],
    rest: npt.NDArray[Any],
    reference: Floats,
    stride: int,
    phase: int,
    products: Floats,
    totals: Floats,
) -> None:
    """Do what `kernel_moments` does, for groups wide enough to deserve matrix products.

    Groups are shared among threads and each matrix product has one, so that its sums keep their order.
    """
    d = members.shape[1]
    n_pairs = rows.shape[0] - stride

    def add(group: int) -> None:
        for begin, count in _stretches(n_pairs, phase, ROWS_PER_PRODUCT):
            part = slice(begin, begin + count + stride)
            values = columns_of(rows[part], rest[part], members[group])
            values -= reference[group]
            starts, ends = values[:count], values[stride:]
            products[group, 0, :d, :d] += starts.T @ starts
            products[group, 1, :d, :d] += starts.T @ ends
            totals[group, :d] += starts.sum(axis=0)

    with single_threaded_blas():
        in_threads(add, range(members.shape[0]))
