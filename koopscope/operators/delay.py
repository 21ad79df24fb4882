"""Affine operators of wide or delay-embedded groups, from the Gram matrix of their increments alone."""

from __future__ import annotations

import numpy as np

from koopscope.operators.model import Floats, Operators, apply, condition_number, kept_inverse, truncation
from koopscope.statistics import IncrementGrams, embed_delays, gram_about_last


def solve_delay(
    grams: IncrementGrams, snapshots: Floats, *, delays: int, rtol: float, rank: int | None = None
) -> Operators:
    """Fit an affine map on states that stack ``delays`` snapshots, without forming the states.

    With H the Gram matrix of the stacked columns, A the columns that have a successor and J the
    centring over A: ``J H[A,A] J = V S^2 V^T``, ``K = S^-1 V^T J H[A,A+1] J V S^-1``. The state at t2 and the
    intercept are further products of H, and a change of the state is lifted to weights by
    ``basis = (w_(j+q-1) - w(t2)) J V S^-1``, the newest snapshot of each column.

    Agrees with the singular value decomposition of the stacked data to about 1e-11, 1e-9, 1e-7, 1e-5 of
    the evolution at ``rtol`` of 1e-3, 1e-4, 1e-5, 1e-6; below ``sqrt(n eps)`` a Gram matrix knows nothing
    and ``rtol`` is raised to it.

    Parameters
    ----------
    grams
        Increment Gram matrices of a block.
    snapshots
        The grid's snapshots of the block, shape ``(group, member, snapshot)``; read only for the basis.
    delays
        Number of snapshots in one state.
    rtol, rank
        Relative tolerance of the truncation, and the largest number of directions kept.

    Notes
    -----
    Delay embedding: Arbabi & Mezic, "Ergodic theory, dynamic mode decomposition, and computation of
    spectral properties of the Koopman operator", SIAM J. Appl. Dyn. Syst. 2017,
    https://doi.org/10.1137/17M1125236.
    """
    stacked = embed_delays(gram_about_last(grams), delays)
    n = stacked.shape[1] - 1
    starts, ends, final = stacked[:, :n, :n], stacked[:, :n, 1:], stacked[:, :n, n]
    gram = _centre_rows(_centre_rows(starts).swapaxes(1, 2))
    eigenvalues, vectors = np.linalg.eigh((gram + gram.swapaxes(1, 2)) / 2)
    singular = np.sqrt(np.maximum(eigenvalues[:, ::-1], 0.0))
    floor = np.sqrt(n * np.finfo(np.float64).eps)
    kept = truncation(singular, max(rtol, floor), rank)
    width = max(1, int(kept.sum(axis=1).max()))
    # Centred once more: eigenvectors of a centred matrix sum to zero only up to rounding.
    right = _centre_rows(vectors[:, :, ::-1][:, :, :width] * kept[:, None, :width])
    inverse = kept_inverse(singular, kept)[:, None, :width]
    coefficients = right * inverse
    pair_ends = _centre_rows(ends.swapaxes(1, 2)).swapaxes(1, 2)
    operator = coefficients.swapaxes(1, 2) @ pair_ends @ coefficients
    state = apply(coefficients.swapaxes(1, 2), final - starts.mean(axis=2))
    intercept = apply(coefficients.swapaxes(1, 2), (ends - starts).mean(axis=2))
    newest = snapshots[:, :, delays - 1 : -1] - snapshots[:, :, -1:]
    return Operators(
        operator=operator,
        displacement=apply(operator, state) + intercept - state,
        basis=newest @ coefficients,
        centre=newest.mean(axis=2) + snapshots[:, :, -1],
        rank=kept.sum(axis=1).astype(np.int64),
        condition=condition_number(singular[:, : max(1, min(n - 1, snapshots.shape[1] * delays))]),
        scale=np.sqrt(np.trace(grams.products, axis1=1, axis2=2) / grams.products.shape[1]),
        drift=np.sqrt(n) * intercept,
        pairs_now=right * (singular * kept)[:, None, :width],
        pairs_next=pair_ends.swapaxes(1, 2) @ coefficients,
    )


def _centre_rows(matrices: Floats) -> Floats:
    """Subtract from each column its mean over rows: multiply by J from the left."""
    return np.asarray(matrices - matrices.mean(axis=1, keepdims=True))
