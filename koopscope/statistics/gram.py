"""The increment Gram of wide groups, and the centred, delay-embedded Gram matrices that are slices of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.increment_gram import increment_gram
from koopscope.parallel import require_memory
from koopscope.partition import GroupBlock
from koopscope.statistics.spilling import release

MEMBERS_AT_ONCE = 2**17  # of a group; snapshots that lie in a file leave memory in between


@dataclass(frozen=True)
class IncrementGrams:
    """Inner products of increments between consecutive snapshots, shape ``(group, n - 1, n - 1)``."""

    products: npt.NDArray[np.float64]


def increment_grams(snapshots: npt.NDArray[Any], block: GroupBlock) -> IncrementGrams:
    """Sum the increment Gram of every group of a block; ``snapshots`` is ``(snapshot, weight)``."""
    n = snapshots.shape[0] - 1
    n_groups = block.members.shape[0]
    require_memory(
        n_groups * n * n * 8,
        f"the Gram matrices of {n_groups} groups over {n + 1} snapshots in {block.path}",
        "use a larger --lag, a shorter window, or a coarser partition such as --partition layer",
    )
    products = np.zeros((n_groups, n, n))
    for start in range(0, block.members.shape[1], MEMBERS_AT_ONCE):
        part = np.ascontiguousarray(block.members[:, start : start + MEMBERS_AT_ONCE])
        products += increment_gram(snapshots, part)
        release(snapshots)
    return IncrementGrams(products)


def gram_about_last(grams: IncrementGrams) -> npt.NDArray[np.float64]:
    """Inner products of ``w_i - w_l`` and ``w_j - w_l``, with l the last snapshot.

    ``G_ij = sum over k >= i, m >= j of P_km``: as exact as subtracting w_l from the data first, where a
    Gram matrix about zero would lose the digits that weights have in common.

    Returns
    -------
    Shape ``(group, snapshot, snapshot)``; the last row and column are zero.
    """
    sums = np.cumsum(grams.products[:, ::-1], axis=1)[:, ::-1]
    sums = np.cumsum(sums[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.pad(sums, ((0, 0), (0, 1), (0, 1)))


def embed_delays(gram: npt.NDArray[np.float64], delays: int) -> npt.NDArray[np.float64]:
    """Gram matrix of columns that stack ``delays`` consecutive snapshots.

    ``H_ij = sum over p < q of G_(i+p)(j+p)``, for ``snapshot - q + 1`` stacked columns.
    """
    if delays == 1:
        return gram
    n_columns = gram.shape[1] - delays + 1
    embedded = np.zeros((gram.shape[0], n_columns, n_columns))
    for shift in range(delays):
        embedded += gram[:, shift : shift + n_columns, shift : shift + n_columns]
    return embedded
