"""Affine operators of groups with fewer weights than pairs, from the R factor of their pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from koopscope.kernels.small_svd import LARGEST, small_svd
from koopscope.operators.model import Floats, Operators, apply, condition_number, kept_inverse, truncation
from koopscope.statistics import PairTriangles

Estimate = Callable[[Floats, Floats, npt.NDArray[np.bool_]], Floats]


def solve_affine(
    triangles: PairTriangles,
    last: Floats,
    *,
    rtol: float,
    rank: int | None = None,
    estimate: Estimate | None = None,
) -> Operators:
    """Fit ``w(t+lag) - b = A (w(t) - a)`` with a and b the means over pair starts and pair ends.

    With centred pairs ``X = U S V^T`` cut at ``rtol`` relative to the largest singular value,
    ``A = U (U^T Y V S^-1) U^T``; the intercept is carried apart, so that truncation never bends the
    constant part of the motion. A weight that does not move has a zero row in U and stays where it is.

    Exact for any condition number up to ``1/eps``: no product of the data with itself is formed.

    Parameters
    ----------
    triangles
        Pair triangles of a block.
    last
        Weights at t2, shape ``(group, member)``.
    rtol
        Relative tolerance of the truncation.
    rank
        Largest number of directions kept.
    estimate
        Takes the pairs in the kept directions, and which those are, and returns a map to use instead of the
        least-squares one.

    Notes
    -----
    Dynamic mode decomposition with an affine term: Hirsh, Harris, Kutz & Brunton, "Centering data
    improves the dynamic mode decomposition", SIAM J. Appl. Dyn. Syst. 2020,
    https://doi.org/10.1137/19M1289881.
    """
    d = last.shape[1]
    factors = triangles.factors
    root_n = factors[:, :1, 0]
    # The first column is one everywhere: its row holds the means, the rest is the centred triangle.
    mean_now = triangles.reference + factors[:, 0, 1 : d + 1] / root_n
    mean_next = triangles.reference + factors[:, 0, d + 1 :] / root_n
    now = factors[:, 1:, 1 : d + 1]
    following = factors[:, 1:, d + 1 :]
    # Of `small_svd`, rows of V^T that a singular value of zero belongs to are zero: they are cut.
    left, singular, right = (small_svd if d <= LARGEST else np.linalg.svd)(now[:, :d])
    kept = truncation(singular, rtol, rank)
    # A weight that does not move has a zero column, and must have exactly zero rows here.
    moves = np.any(now[:, :d] != 0.0, axis=1)
    directions = right.swapaxes(1, 2) * kept[:, None, :] * moves[:, :, None]
    projection = directions @ directions.swapaxes(1, 2)
    one_step = following[:, :d].swapaxes(1, 2) @ (left * kept_inverse(singular, kept)[:, None, :]) @ right
    operator = projection @ one_step
    if estimate is not None:
        reduced = estimate(now @ directions, following @ directions, kept)
        operator = directions @ reduced @ directions.swapaxes(1, 2)
    displacement = apply(operator, last - mean_now) + apply(projection, mean_next - last)
    drift = factors[:, 0, d + 1 :] - factors[:, 0, 1 : d + 1]
    increments = following - now
    squared_increments = np.einsum("gij,gij->g", increments, increments) + np.sum(drift**2, axis=1)
    return Operators(
        operator=operator,
        displacement=displacement,
        basis=None,
        centre=mean_now,
        rank=kept.sum(axis=1).astype(np.int64),
        condition=condition_number(singular),
        scale=np.sqrt(squared_increments / triangles.n_pairs),
        drift=drift,
        pairs_now=now,
        pairs_next=following,
        directions=directions,
    )
