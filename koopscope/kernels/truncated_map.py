"""Affine maps of many small groups on the singular directions that are kept, all steps group by group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]


@jit(reorder_sums=True)
def truncated_map(
    factors: Floats,
    left: Floats,
    singular: Floats,
    right: Floats,
    ranks: npt.NDArray[np.int64],
    about: Floats,
    ahead: Floats,
    directions: Floats,
    operators: Floats,
    displacement: Floats,
    squares: Floats,
) -> None:
    """Compute ``A = D (D^T Y U S^-1) D^T`` and the step ``A x + D D^T y`` that it takes.

    D are the first rows of V^T, as columns, that are kept of ``X = U S V^T``. X and Y are the starts and ends
    of pairs, as rows of their R factor. All is NaN where the singular values are.

    Parameters
    ----------
    factors
        R factors of ``[1 | X | Y]``, shape ``(group, 2 d + 1, 2 d + 1)``.
    left, singular, right
        U, S and V^T of the starts, shapes ``(group, d, d)``, ``(group, d)`` and ``(group, d, d)``.
    ranks
        Directions that are kept, shape ``(group,)``.
    about, ahead
        x and y, shape ``(group, d)``.
    directions, operators, displacement
        What is found, D and A of shape ``(group, d, d)`` and the step, ``(group, d)``.
    squares
        Sum of the squared increments of the pairs, their mean included; shape ``(group,)``.
    """
    n_groups, d = singular.shape
    weights, reduced, half = np.empty((d, d)), np.empty((d, d)), np.empty((d, d))
    for group in range(n_groups):
        rank, factor = ranks[group], factors[group]
        nothing = 0.0 if singular[group, 0] >= 0.0 else np.nan
        for member in range(d):
            for index in range(d):
                directions[group, member, index] = right[group, index, member] if index < rank else 0.0
        for index in range(rank):  # ends of pairs along the left singular vectors
            inverse = 1.0 / singular[group, index]
            for member in range(d):
                total = 0.0
                for row in range(d):
                    total += left[group, row, index] * factor[1 + row, 1 + d + member]
                weights[index, member] = total * inverse
        own = directions[group]
        for index in range(rank):
            for other in range(rank):
                total = 0.0
                for member in range(d):
                    total += own[member, index] * weights[other, member]
                reduced[index, other] = total
            for member in range(d):
                total = 0.0
                for other in range(rank):
                    total += reduced[index, other] * own[member, other]
                half[index, member] = total
        for member in range(d):
            for other in range(d):
                total = 0.0
                for index in range(rank):
                    total += own[member, index] * half[index, other]
                operators[group, member, other] = total + nothing
        for member in range(d):
            displacement[group, member] = nothing
        for index in range(rank):
            total = 0.0
            for member in range(d):
                total += (
                    own[member, index] * ahead[group, member] + half[index, member] * about[group, member]
                )
            for member in range(d):
                displacement[group, member] += own[member, index] * total
        total = 0.0
        for row in range(2 * d + 1):
            for member in range(d):
                step = factor[row, 1 + d + member] - factor[row, 1 + member]
                total += step * step
        squares[group] = total
