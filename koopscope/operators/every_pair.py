"""Affine operators of small groups from the moments of every pair."""

from __future__ import annotations

import numpy as np

from koopscope.operators.model import Floats, Operators, apply, condition_number, kept_inverse, truncation
from koopscope.statistics import LaggedMoments


def solve_every_pair(
    moments: LaggedMoments, last: Floats, *, rtol: float, rank: int | None = None
) -> Operators:
    """Fit ``w(t+lag) - b = A (w(t) - a)`` to all pairs, with a and b the means over pair starts and ends.

    As `solve_affine`, on ``C_xx = V S^2 V^T`` and ``C_xy``, the centred moments of pair starts and ends:
    ``A = V V^T C_yx V S^-2 V^T``. Moments square the condition number: forecasts agree with the singular
    value decomposition of the data to about ``1e-11 / rtol`` of the evolution, and directions below
    ``1e-7`` of the largest are never kept.

    Parameters
    ----------
    moments
        Moments of a block.
    last
        Weights at t2, shape ``(group, member)``.
    rtol
        Relative tolerance of the truncation.
    rank
        Largest number of directions kept.
    """
    d = last.shape[1]
    n = float(moments.n_pairs)
    means = moments.grams[:, 0, 1:] / n
    centred = moments.grams[:, 1:, 1:] - n * means[:, :, None] * means[:, None, :]
    starts, across, ends = centred[:, :d, :d], centred[:, :d, d:], centred[:, d:, d:]
    mean_now, mean_next = moments.reference + means[:, :d], moments.reference + means[:, d:]
    eigenvalues, vectors = np.linalg.eigh(starts)
    singular = np.sqrt(np.maximum(eigenvalues[:, ::-1], 0.0))
    floor = np.sqrt(d * np.finfo(np.float64).eps)  # below it moments know nothing
    kept = truncation(singular, max(rtol, floor), rank)
    # A weight that does not move has zero moments, and must have exactly zero rows here.
    moves = np.einsum("gii->gi", starts) > 0
    directions = vectors[:, :, ::-1] * kept[:, None, :] * moves[:, :, None]
    inverse = kept_inverse(singular, kept)
    scaled = directions * inverse[:, None, :]
    projection = directions @ directions.swapaxes(1, 2)
    seen = scaled.swapaxes(1, 2) @ across  # pair ends along the kept directions
    operator = projection @ seen.swapaxes(1, 2) @ scaled.swapaxes(1, 2)
    displacement = apply(operator, last - mean_now) + apply(projection, mean_next - last)
    unseen = _factor(ends - seen.swapaxes(1, 2) @ seen, ends)
    steps = ends + starts - across - across.swapaxes(1, 2)
    drift = np.sqrt(n) * (means[:, d:] - means[:, :d])
    squared_increments = np.maximum(np.einsum("gii->g", steps), 0.0) + np.sum(drift**2, axis=1)
    rows = (directions * singular[:, None, :]).swapaxes(1, 2)
    return Operators(
        operator=operator,
        displacement=displacement,
        basis=None,
        centre=mean_now,
        rank=kept.sum(axis=1).astype(np.int64),
        condition=condition_number(singular),
        scale=np.sqrt(squared_increments / n),
        drift=drift,
        pairs_now=np.concatenate([rows, np.zeros_like(unseen)], axis=1),
        pairs_next=np.concatenate([seen, unseen], axis=1),
        directions=directions,
    )


def _factor(remainder: Floats, ends: Floats) -> Floats:
    """Rows whose inner products are what the kept directions leave of the pair ends, up to rounding."""
    d = remainder.shape[1]
    # Rounding may leave it slightly indefinite; what is added is below what the moments resolve.
    lift = 4 * d * np.finfo(np.float64).eps * np.einsum("gii->g", ends) + np.finfo(np.float64).tiny
    try:
        lower = np.linalg.cholesky(remainder + lift[:, None, None] * np.eye(d))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(remainder)
        lower = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.asarray(lower.swapaxes(1, 2))
