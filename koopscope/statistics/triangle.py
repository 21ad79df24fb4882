"""QR-compressed snapshots: every digit that the data hold, in memory that does not grow with them.

Two shapes of the same idea. A *pair triangle* compresses many pairs of few weights: the R factor of the
tall matrix ``[1 | w(t)-r | w(t+lag)-r]``, one row a pair. A *snapshot triangle* compresses many weights
of few snapshots: the R factor of the matrix ``[w(t1) ... w(t2)]``, one row a weight. Either merges with
another by stacking the two and factoring again.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.blocked_r import blocked_r, load
from koopscope.kernels.pair_triangle import pair_triangle
from koopscope.kernels.wide_pairs import pack_upper, pair_columns, unpack_upper
from koopscope.parallel import require_memory, single_threaded_blas
from koopscope.partition import GroupBlock
from koopscope.threads import even_slices, in_threads, n_cores

KERNEL_WIDTH = 96  # wider triangles are faster through LAPACK's blocked QR than through the kernel
THREAD_PRODUCTS = 10**6  # n d^2 of all groups; fewer are done before threads have started
LAPACK_ROWS = 4096  # rows stacked on a wide triangle at a time


@dataclass(frozen=True)
class PairTriangles:
    """Pair triangles of a block of groups.

    Attributes
    ----------
    stored
        Upper triangles, shape ``(group, 2 d + 1, 2 d + 1)``: columns one, ``w(t)-r``, ``w(t+lag)-r``. Those
        of wide groups without the other half, column after column: ``(group, (2 d + 1) (d + 1))``.
    reference
        The r that was subtracted, shape ``(group, d)``.
    n_pairs
        Number of pairs compressed.
    """

    stored: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float64]
    n_pairs: int

    @property
    def factors(self) -> npt.NDArray[np.float64]:
        """Whole triangles, shape ``(group, 2 d + 1, 2 d + 1)``; those of wide groups are made here."""
        if self.stored.ndim > 2:
            return self.stored
        width = 2 * self.reference.shape[1] + 1
        columns = np.empty((self.stored.shape[0], width, width))
        unpack_upper(self.stored, columns)
        return columns.swapaxes(1, 2)

    def cut(self, groups: slice) -> PairTriangles:
        """Take some of the groups."""
        return PairTriangles(self.stored[groups], self.reference[groups], self.n_pairs)


@dataclass(frozen=True)
class SnapshotTriangles:
    """Snapshot triangles of a block of groups: factors of shape ``(group, rows, snapshot)``."""

    factors: npt.NDArray[np.float64]


def r_factor(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Triangular factor of each matrix of a stack: stacking two factors and calling this merges them."""
    return np.asarray(np.linalg.qr(matrices, mode="r"), np.float64)


def pair_triangles(snapshots: npt.NDArray[Any], block: GroupBlock) -> PairTriangles:
    """Compress the pairs of every group of a block; ``snapshots`` is ``(snapshot, weight)``."""
    members = block.members
    width = 2 * members.shape[1] + 1
    narrow = width <= KERNEL_WIDTH
    require_memory(
        members.shape[0] * (width * width if narrow else width * (width + 1) // 2) * 8,
        f"the triangles of {members.shape[0]} groups of {members.shape[1]} weights in {block.path}",
        "use a finer partition such as --partition node or quasi-node:10",
    )
    reference = snapshots[0][members].astype(np.float64)
    compress = _narrow_pair_triangles if narrow else _wide_pair_triangles
    return PairTriangles(compress(snapshots, members, reference), reference, snapshots.shape[0] - 1)


def _narrow_pair_triangles(
    snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64], reference: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    n_groups, d = members.shape
    shared = snapshots.shape[0] * n_groups * d * d > THREAD_PRODUCTS
    n_parts = min(n_groups, n_cores()) if shared else 1
    parts = even_slices(n_groups, n_parts)
    return np.concatenate(
        in_threads(lambda part: pair_triangle(snapshots, members[part], reference[part]), parts)
    )


def _wide_pair_triangles(
    snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64], reference: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    n_groups, d = members.shape
    width = 2 * d + 1
    triangles = np.empty((n_groups, width * (width + 1) // 2))
    n_pairs = snapshots.shape[0] - 1
    at_once = max(LAPACK_ROWS, width)
    most_rows = n_pairs if n_pairs <= at_once else width + at_once
    spare: SimpleQueue[npt.NDArray[np.float64]] = SimpleQueue()
    for _ in range(min(n_groups, n_cores())):  # one a thread, used again: the system clears new memory first
        spare.put(np.empty(width * most_rows))

    def compress(group: int) -> None:
        triangle, memory = triangles[group], spare.get()
        for start in range(0, n_pairs, at_once):
            stop, height = min(start + at_once, n_pairs), min(start, width)
            rows = height + stop - start
            stacked = memory[: width * rows].reshape(width, rows)  # column after column, as LAPACK has them
            unpack_upper(triangle[None], stacked[None, :, :height])
            pair_columns(snapshots[start : stop + 1], members[group], reference[group], stacked[:, height:])
            blocked_r(stacked.T)
            pack_upper(stacked, triangle)
        spare.put(memory)

    load()
    with single_threaded_blas():
        in_threads(compress, range(n_groups))
    return triangles


def snapshot_triangles(snapshots: npt.NDArray[Any], block: GroupBlock) -> SnapshotTriangles:
    """Compress the weights of every group of a block; ``snapshots`` is ``(snapshot, weight)``."""
    n = snapshots.shape[0]
    n_groups, d = block.members.shape
    require_memory(
        n_groups * n * n * 8,
        f"the snapshot triangles of {n_groups} groups over {n} snapshots in {block.path}",
        "use a larger --lag or a shorter window",
    )
    factors = np.zeros((n_groups, 0, n))
    for start in range(0, d, LAPACK_ROWS):
        chunk = block.members[:, start : start + LAPACK_ROWS]
        rows = np.moveaxis(snapshots[:, chunk].astype(np.float64), 0, -1)
        factors = r_factor(np.concatenate([factors, rows], axis=1))
    return SnapshotTriangles(factors)
