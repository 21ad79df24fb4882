"""What every method of fitting returns: an operator a group, in the coordinates it acts on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Operators:
    """Operators of a block of groups, and the step they take from t2.

    The forecast after m lags is ``w(t2) + basis z(m)``, with ``z(0) = 0`` and
    ``z(m+1) = operator z(m) + displacement``. Where ``basis`` is None the state is the group's own
    weights and the basis the identity.

    Attributes
    ----------
    operator
        Shape ``(group, state, state)``; entries past a group's rank are zero.
    displacement
        Forecast change of the state over the first lag after t2, shape ``(group, state)``.
    basis
        Shape ``(group, member, state)``, or None.
    centre
        Point the pairs are centred on, shape ``(group, member)``; zero for ``paper``.
    rank
        Singular directions kept, shape ``(group,)``.
    condition
        Largest over smallest singular value of the snapshots that were fitted, before truncation.
    scale
        Root mean square length of a one-lag increment, shape ``(group,)``: the unit of residuals.
    drift
        Mean one-lag increment of the state times the root of the number of pairs, shape
        ``(group, state)``: the part of the motion that centring takes out of the pairs; zero for ``paper``.
    pairs_now, pairs_next
        The fitted pairs in the operator's coordinates, compressed to ``row`` rows that keep all inner
        products; shape ``(group, row, state)``.
    members
        The fits that a mixture is the mean of; empty for a single fit. The pairs of a mixture are theirs.
    directions
        Orthonormal columns that the operator takes in and gives out nothing but, as many as the rank and
        zeros after them, shape ``(group, state, direction)``; None where it is not known to.
    """

    operator: Floats
    displacement: Floats
    basis: Floats | None
    centre: Floats
    rank: npt.NDArray[np.int64]
    condition: Floats
    scale: Floats
    drift: Floats
    pairs_now: Floats
    pairs_next: Floats
    members: tuple[Operators, ...] = ()
    directions: Floats | None = None

    def cut(self, groups: slice) -> Operators:
        """Take some of the groups."""
        held = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "members"}
        cut: dict[str, Any] = {name: None if part is None else part[groups] for name, part in held.items()}
        return Operators(**cut, members=tuple(member.cut(groups) for member in self.members))


def kept_inverse(singular: Floats, kept: npt.NDArray[np.bool_]) -> Floats:
    """Reciprocals of the kept singular values, zero for the others."""
    return np.where(kept, 1.0 / np.where(kept, singular, 1.0), 0.0)


def condition_number(singular: Floats) -> Floats:
    """Largest over smallest singular value, infinite where the smallest is zero; shape ``(group,)``."""
    smallest = singular[:, -1]
    return np.where(smallest > 0, singular[:, 0] / np.where(smallest > 0, smallest, 1.0), np.inf)


def truncation(singular: Floats, rtol: float, rank: int | None) -> npt.NDArray[np.bool_]:
    """Which singular values a fit keeps: those above ``rtol`` times the largest, at most ``rank``."""
    kept = (singular > rtol * singular[:, :1]) & (singular > 0)
    if rank is not None:
        kept[:, rank:] = False
    return kept


def apply(matrices: Floats, vectors: Floats) -> Floats:
    """Multiply each group's matrix with its vector."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])
