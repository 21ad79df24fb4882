"""The increment Gram of wide groups, and the centred, delay-embedded Gram matrices that are slices of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.increment_gram import increment_gram, increments
from koopscope.kernels.symmetric_product import load, symmetric_product
from koopscope.parallel import require_memory, single_threaded_blas
from koopscope.partition import GroupBlock
from koopscope.statistics.spilling import release
from koopscope.threads import in_threads, n_cores

Floats = npt.NDArray[np.float64]

KERNEL_MEMBERS = 512  # wider groups deserve a symmetric product of their own
MEMBERS_PER_PRODUCT = 2**11  # of a group, whose increments are widened to float64 at a time
MEMBERS_PER_STRETCH = 2**14  # of a group in one thread; snapshots in a file leave memory after each


@dataclass(frozen=True)
class IncrementGrams:
    """Inner products of increments between consecutive snapshots, shape ``(group, n - 1, n - 1)``."""

    products: npt.NDArray[np.float64]


def increment_grams(snapshots: npt.NDArray[Any], block: GroupBlock) -> IncrementGrams:
    """Sum the increment Gram of every group of a block; ``snapshots`` is ``(snapshot, weight)``."""
    n = snapshots.shape[0] - 1
    n_groups, d = block.members.shape
    require_memory(
        n_groups * n * n * 8,
        f"the Gram matrices of {n_groups} groups over {n + 1} snapshots in {block.path}",
        "use a larger --lag, a shorter window, or a coarser partition such as --partition layer",
    )
    if d <= KERNEL_MEMBERS:
        return IncrementGrams(increment_gram(snapshots, block.members))
    products = np.empty((n_groups, n, n))
    for group, members in enumerate(block.members):
        products[group] = _wide_gram(snapshots, members)
    return IncrementGrams(products)


def _wide_gram(snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64]) -> Floats:
    """Sum the increment Gram of one group by BLAS, which computes one half of a symmetric product.

    Stretches of the group are shared among threads, of which each has one of BLAS; they are added up in
    their order, so that any number of threads gives the same sums.
    """
    n_increments = snapshots.shape[0] - 1
    product = np.zeros((n_increments, n_increments))

    def add_stretch(start: int) -> Floats:
        found = np.zeros_like(product)
        tile = np.empty(n_increments * min(MEMBERS_PER_PRODUCT, members.size))
        for first in range(start, min(start + MEMBERS_PER_STRETCH, members.size), MEMBERS_PER_PRODUCT):
            part = members[first : first + MEMBERS_PER_PRODUCT]
            widened = tile[: n_increments * part.size].reshape(n_increments, part.size)
            increments(snapshots, part, widened)
            symmetric_product(widened, found)
        return found

    starts = range(0, members.size, MEMBERS_PER_STRETCH)
    at_once = n_cores()  # each stretch has a matrix of its own until it is added
    load()
    with single_threaded_blas():
        for first in range(0, len(starts), at_once):
            for found in in_threads(add_stretch, starts[first : first + at_once]):
                product += found
            release(snapshots)
    return product + np.triu(product, 1).T


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
