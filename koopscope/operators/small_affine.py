"""The affine operators of `solve_affine` for many small groups: by kernels, in threads, without copies."""

from __future__ import annotations

import numpy as np

from koopscope.kernels.small_svd import small_svd
from koopscope.kernels.truncated_map import truncated_map
from koopscope.operators.batches import batches
from koopscope.operators.model import Floats, Operators, condition_number, truncation
from koopscope.statistics import PairTriangles
from koopscope.threads import in_threads


def solve_small_affine(
    triangles: PairTriangles, last: Floats, *, rtol: float, rank: int | None = None
) -> Operators:
    """Fit what `solve_affine` does for groups of at most ``LARGEST`` weights; its parameters are the same."""
    n_groups, d = last.shape
    factors = triangles.factors
    now, following = factors[:, 1:, 1 : d + 1], factors[:, 1:, d + 1 :]
    # The first column is one everywhere: its row holds the means, the rest is the centred triangle.
    means = factors[:, 0, 1:] / factors[:, :1, 0]
    mean_now, mean_next = triangles.reference + means[:, :d], triangles.reference + means[:, d:]
    about, ahead = last - mean_now, mean_next - last
    singular, squares, ranks = np.empty((n_groups, d)), np.empty(n_groups), np.empty(n_groups, np.int64)
    directions, operators = np.empty((n_groups, d, d)), np.empty((n_groups, d, d))
    displacement = np.empty((n_groups, d))

    def solve(part: slice) -> None:
        # A weight that does not move has a zero column: rotations of rows leave it zero, and so V^T.
        left, singular[part], right = small_svd(now[part, :d])
        ranks[part] = truncation(singular[part], rtol, rank).sum(axis=1)
        given = (factors[part], left, singular[part], right, ranks[part], about[part], ahead[part])
        truncated_map(*given, directions[part], operators[part], displacement[part], squares[part])

    in_threads(solve, batches(n_groups, d))
    return Operators(
        operator=operators,
        displacement=displacement,
        basis=None,
        centre=mean_now,
        rank=ranks,
        condition=condition_number(singular),
        scale=np.sqrt(squares / triangles.n_pairs),
        drift=factors[:, 0, d + 1 :] - factors[:, 0, 1 : d + 1],
        pairs_now=now,
        pairs_next=following,
        directions=directions,
    )
