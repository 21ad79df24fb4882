"""Affine operators of wide or delay-embedded groups, from the Gram matrix of their snapshots alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats, Operators, apply, condition_number, kept_inverse, truncation
from koopscope.statistics import embed_delays
from koopscope.statistics.spilling import release

WEIGHTS_PER_TILE = 2**15  # whose snapshots are widened to float64 at a time


@dataclass(frozen=True)
class ReducedOperators:
    """Operators on the kept singular directions, and how a change of their state is made of snapshots.

    Attributes
    ----------
    operator
        Shape ``(group, state, state)``; entries past a group's rank are zero.
    state, intercept
        The last column's state about the mean of the pairs, and what the map adds to it, shape
        ``(group, state)``.
    coefficients
        Shape ``(group, column, state)``: a change z of the state moves the weights by the sum over columns
        of ``coefficients z`` times the newest snapshot of each column.
    pairs_now, pairs_next
        The centred pairs in the kept directions, shape ``(group, pair, state)``.
    """

    operator: Floats
    state: Floats
    intercept: Floats
    coefficients: Floats
    kept: npt.NDArray[np.bool_]
    n_pairs: int
    pairs_now: Floats
    pairs_next: Floats

    @property
    def displacement(self) -> Floats:
        """Change of the last state over one lag."""
        return np.asarray(apply(self.operator, self.state) + self.intercept - self.state)

    def replaced(self, operator: Floats, intercept: Floats | None = None) -> ReducedOperators:
        """Take another map on the same states."""
        return replace(self, operator=operator, intercept=self.intercept if intercept is None else intercept)


class GramModes:
    """The singular directions of centred, stacked snapshots, found once for any number of truncations.

    With H the Gram matrix of columns that stack ``delays`` snapshots, A the columns that have a successor
    and J the centring over A: ``J H[A,A] J = V S^2 V^T``. For the directions kept,
    ``K = S^-1 V^T J H[A,A+1] J V S^-1``; the state of the last column and the intercept are further products.

    Parameters
    ----------
    gram
        Inner products of snapshots about the last one, shape ``(group, snapshot, snapshot)``.
    delays
        Number of snapshots in one state.
    """

    def __init__(self, gram: Floats, delays: int) -> None:
        stacked = embed_delays(gram, delays)
        self.n_pairs = stacked.shape[1] - 1
        n = self.n_pairs
        starts, ends, self._final = stacked[:, :n, :n], stacked[:, :n, 1:], stacked[:, :n, n]
        means = self._start_means = starts.mean(axis=1)
        self._mean_change = (self._final - starts[:, :, 0]) / n  # a telescoping sum over the pairs
        across = means[:, :, None] + (means - means.mean(axis=1, keepdims=True))[:, None, :]
        eigenvalues, vectors = np.linalg.eigh(starts - across)
        self.singular = np.sqrt(np.maximum(eigenvalues[:, ::-1], 0.0))
        self._vectors = vectors[:, :, ::-1]
        self._pair_ends = ends - (means + self._mean_change)[:, :, None]

    @property
    def floor(self) -> float:
        """Smallest tolerance: below it a Gram matrix knows nothing."""
        return float(np.sqrt(self.n_pairs * np.finfo(np.float64).eps))

    def kept(self, rtol: float, rank: int | None = None) -> npt.NDArray[np.bool_]:
        """Tell the directions above ``rtol`` times the largest, at most ``rank`` of them."""
        return truncation(self.singular, max(rtol, self.floor), rank)

    def truncate(self, rtol: float, rank: int | None = None) -> ReducedOperators:
        """Solve on the directions above ``rtol`` times the largest, at most ``rank`` of them."""
        kept = self.kept(rtol, rank)
        width = max(1, int(kept.sum(axis=1).max()))
        # Centred once more: eigenvectors of a centred matrix sum to zero only up to rounding.
        right = _centre_rows(self._vectors[:, :, :width] * kept[:, None, :width])
        coefficients = right * kept_inverse(self.singular, kept)[:, None, :width]
        transposed = coefficients.swapaxes(1, 2)
        pairs_next = self._pair_ends.swapaxes(1, 2) @ coefficients
        return ReducedOperators(
            operator=pairs_next.swapaxes(1, 2) @ coefficients,
            state=apply(transposed, self._final - self._start_means),
            intercept=apply(transposed, self._mean_change),
            coefficients=coefficients,
            kept=kept[:, :width],
            n_pairs=self.n_pairs,
            pairs_now=right * (self.singular * kept)[:, None, :width],
            pairs_next=pairs_next,
        )


def solve_delay(
    gram: Floats,
    snapshots: npt.NDArray[Any],
    members: npt.NDArray[np.int64],
    *,
    delays: int,
    rtol: float,
    rank: int | None = None,
    refine: Callable[[ReducedOperators], ReducedOperators] | None = None,
    modes: GramModes | None = None,
) -> Operators:
    """Fit an affine map on states that stack ``delays`` snapshots, without forming the states.

    A change of the state is lifted to weights by ``basis = (w_(j+q-1) - w(t2)) J V S^-1``, the newest
    snapshot of each column. Agrees with the singular value decomposition of the stacked data to about
    1e-11, 1e-9, 1e-7, 1e-5 of the evolution at ``rtol`` of 1e-3, 1e-4, 1e-5, 1e-6.

    Parameters
    ----------
    gram
        Inner products of snapshots about the last one, shape ``(group, snapshot, snapshot)``.
    snapshots
        The grid that they are of, shape ``(snapshot, weight)``; read only for the basis, a tile at a time.
    members
        Flat weight indices of the groups, shape ``(group, member)``.
    delays
        Number of snapshots in one state.
    rtol, rank
        Relative tolerance of the truncation, and the largest number of directions kept.
    refine
        Takes the least-squares solution and returns another map on the same states.
    modes
        The decomposition of this Gram matrix, where it is there already.

    Notes
    -----
    Delay embedding: Arbabi & Mezic, "Ergodic theory, dynamic mode decomposition, and computation of
    spectral properties of the Koopman operator", SIAM J. Appl. Dyn. Syst. 2017,
    https://doi.org/10.1137/17M1125236.
    """
    modes = modes or GramModes(gram, delays)
    reduced = modes.truncate(rtol, rank)
    if refine is not None:
        reduced = refine(reduced)
    n = modes.n_pairs
    basis, centre = _lift(snapshots[delays - 1 :], members, reduced.coefficients)
    return Operators(
        operator=reduced.operator,
        displacement=reduced.displacement,
        basis=basis,
        centre=centre,
        rank=reduced.kept.sum(axis=1).astype(np.int64),
        condition=condition_number(modes.singular[:, : max(1, min(n - 1, members.shape[1] * delays))]),
        scale=increment_scale(gram),
        drift=np.sqrt(n) * reduced.intercept,
        pairs_now=reduced.pairs_now,
        pairs_next=reduced.pairs_next,
    )


def increment_scale(gram: Floats, apart: int = 1) -> Floats:
    """Root mean square distance of snapshots so many apart, from their Gram matrix; shape ``(group,)``."""
    diagonal = gram.diagonal(axis1=1, axis2=2)
    between = gram.diagonal(apart, axis1=1, axis2=2)
    squared = diagonal[:, :-apart] + diagonal[:, apart:] - 2 * between
    return np.asarray(np.sqrt(np.maximum(squared, 0.0).mean(axis=1)))


def _lift(
    snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64], coefficients: Floats
) -> tuple[Floats, Floats]:
    """Combine snapshots about the last one to a basis, and give their mean, without widening them all."""
    n_groups, d = members.shape
    basis, centre = np.empty((n_groups, d, coefficients.shape[2])), np.empty((n_groups, d))
    at_once = max(1, WEIGHTS_PER_TILE // d)
    for group in range(0, n_groups, at_once):
        for member in range(0, d, WEIGHTS_PER_TILE):
            tile = slice(group, group + at_once), slice(member, member + WEIGHTS_PER_TILE)
            values = np.moveaxis(snapshots[:, members[tile]], 0, -1).astype(np.float64)
            newest = values[:, :, :-1] - values[:, :, -1:]
            basis[tile] = newest @ coefficients[tile[0]]
            centre[tile] = newest.mean(axis=2) + values[:, :, -1]
            release(snapshots)
    return basis, centre


def _centre_rows(matrices: Floats) -> Floats:
    """Subtract from each column its mean over rows: multiply by J from the left."""
    return np.asarray(matrices - matrices.mean(axis=1, keepdims=True))
