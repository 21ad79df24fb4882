"""The mean of several fits of the same groups, written as one operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koopscope.operators.model import Floats, Operators


def mix_operators(members: Sequence[Operators]) -> Operators:
    """Join fits, and straight lines, of one lag into one whose forecast is the mean of theirs.

    The states stand side by side, the operators along the diagonal, and each basis is divided by the
    number of members: the eigenvalues are those of all members, their amplitudes a share of each. The pairs
    stay with the members.

    Right where the best settings are uncertain, as on runs that oscillate: what a fit owes to its settings
    averages out. Where one fit is clearly the best it only adds the errors of the others.

    Notes
    -----
    Combining forecasts: Bates & Granger, "The combination of forecasts", Oper. Res. Q. 1969,
    https://doi.org/10.1057/jors.1969.103.

    Parameters
    ----------
    members
        Fits of the same groups with bases, as `solve_delay` makes them.
    """
    if len(members) == 1:
        return members[0]
    n_groups, n_states = members[0].operator.shape[0], sum(one.operator.shape[1] for one in members)
    bases = [member.basis / len(members) for member in members if member.basis is not None]
    return Operators(
        operator=_along_diagonal([member.operator for member in members]),
        displacement=np.concatenate([member.displacement for member in members], axis=1),
        basis=np.concatenate(bases, axis=2),
        centre=np.mean([member.centre for member in members], axis=0),
        rank=np.sum([member.rank for member in members], axis=0),
        condition=np.max([member.condition for member in members], axis=0),
        scale=np.mean([member.scale for member in members], axis=0),
        drift=np.concatenate([member.drift for member in members], axis=1),
        pairs_now=np.zeros((n_groups, 0, n_states)),
        pairs_next=np.zeros((n_groups, 0, n_states)),
        members=tuple(members),
    )


def _along_diagonal(matrices: Sequence[Floats]) -> Floats:
    """Batched block-diagonal matrix of batched matrices."""
    rows = sum(matrix.shape[1] for matrix in matrices)
    columns = sum(matrix.shape[2] for matrix in matrices)
    joined = np.zeros((matrices[0].shape[0], rows, columns))
    row = column = 0
    for matrix in matrices:
        joined[:, row : row + matrix.shape[1], column : column + matrix.shape[2]] = matrix
        row, column = row + matrix.shape[1], column + matrix.shape[2]
    return joined
