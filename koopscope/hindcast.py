"""How far forecasts from an earlier origin miss what was recorded after it, on Gram matrices alone.

Forecasts are combinations of snapshots: errors, true changes and excursions are then quadratic forms of
the Gram matrix of snapshots, and no weight is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats

Rows = npt.NDArray[np.int64]

LARGEST_RANK = 60  # directions kept at most: fits with more of them never won
LARGEST_EXCURSION = 10.0  # a forecast farther than so many times the window's reach is out of the race


@dataclass(frozen=True)
class Candidate:
    """One setting in the race.

    Attributes
    ----------
    kind
        ``affine``, ``linear``, ``hold``, or ``mixture``: the mean of several affine fits.
    partition
        Index of the partition raced.
    multiple
        Lag in units of the base grid.
    delays, rtol
        As in `koopscope.fit`.
    share
        Part of the window before the origin that is fitted, counted back from the origin.
    """

    kind: str
    partition: int
    multiple: int
    delays: int
    rtol: float
    share: float


def fitted_rows(origin: int, multiple: int, share: float) -> Rows:
    """Rows of the base grid that a candidate fits, counted back from the origin."""
    first = round(origin * (1.0 - share))
    return np.arange(origin, first - 1, -multiple, dtype=np.int64)[::-1]


def line_rows(origin: int, share: float) -> Rows:
    """Rows of the base grid that a straight line is fitted to; at least two."""
    return np.arange(min(origin - 1, round(origin * (1.0 - share))), origin + 1, dtype=np.int64)


def line_weights(rows: Rows) -> Floats:
    """Weights of a least-squares slope per base lag: the slope is their product with the snapshots."""
    centred = rows - rows.mean()
    return np.asarray(centred / (centred @ centred))


def about(gram: Floats, row: int) -> Floats:
    """Move the point that a Gram matrix is taken about to one of its snapshots."""
    column = gram[:, :, row : row + 1]
    return np.asarray(gram - column - column.swapaxes(1, 2) + gram[:, row : row + 1, row : row + 1])


def straight_weights(rows: int, origin: int, leads: Rows, fit: Candidate) -> Floats:
    """Weights on so many snapshots that continue a baseline from an origin, shape ``(lead, snapshot)``.

    The forecast change is the sum over snapshots j of ``weights_j (w_j - w_origin)``.
    """
    weights = np.zeros((leads.size, rows))
    if fit.kind == "linear":
        used = line_rows(origin, fit.share)
        weights[:, used] = leads[:, None] * line_weights(used)
    return weights


@dataclass(frozen=True)
class Truths:
    """What was recorded around every origin of a race, as inner products about it.

    ``grams`` hold for each origin the snapshots up to its largest lead; ``evolution`` is squared, shape
    ``(origin, lead)``, ``reach`` the squared largest distance of the window before the origin.
    """

    origins: Rows
    leads: Rows
    grams: tuple[Floats, ...]
    evolution: Floats
    reach: Floats

    @classmethod
    def of(cls, gram: Floats, origins: Rows, leads: Rows) -> Truths:
        """Read the truths off the Gram matrix of a window, shape ``(group, snapshot, snapshot)``."""
        ends = origins + int(leads[-1]) + 1
        grams = tuple(
            about(gram[:, :end, :end], int(origin)) for origin, end in zip(origins, ends, strict=True)
        )
        squares = [seen.diagonal(axis1=1, axis2=2).sum(axis=0) for seen in grams]
        evolution = [own[origin + leads] for own, origin in zip(squares, origins, strict=True)]
        reach = [own[: origin + 1].max() for own, origin in zip(squares, origins, strict=True)]
        return cls(origins, leads, grams, np.stack(evolution), np.array(reach))

    def products(
        self, position: int, columns: Rows | slice, basis: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Inner products among directions at one origin, and of the directions with the true changes.

        Directions are the snapshots ``columns`` (a slice of them is not copied), or the combinations of
        them that ``basis`` holds; shapes ``(group, state, state)`` and ``(group, lead, state)``.
        """
        gram = self.grams[position]
        targets = self.origins[position] + self.leads
        inner, across = gram[:, columns][:, :, columns], gram[:, targets][:, :, columns]
        if basis is None:
            return inner, across
        return basis.swapaxes(1, 2) @ inner @ basis, across @ basis

    def errors(self, states: Floats, inner: Floats, across: Floats) -> Floats:
        """Relative errors of the changes with coordinates ``states``, ``(origin, group, lead, state)``.

        ``inner`` and ``across`` are stacks of `products`; returns shape ``(origin, lead)``.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            moved = squared_lengths(states, inner)
            squared = moved - 2 * (states * across).sum(axis=(1, 3)) + self.evolution
            relative = np.sqrt(np.maximum(squared, 0.0) / self.evolution)
        nothing_moved = np.where(squared > 0, np.inf, 0.0)
        out = ~np.isfinite(squared) | ~stays_near(moved, self.reach[:, None])
        return np.where(out, np.inf, np.where(self.evolution > 0, relative, nothing_moved))

    def errors_of_weights(self, weights: Sequence[Floats]) -> Floats:
        """Relative errors of forecasts that are weights on snapshots, an array an origin."""
        found = []
        for position, own in enumerate(weights):
            columns = np.flatnonzero(own.any(axis=(0, 1)))
            inner, across = self.products(position, columns)
            single = Truths(
                self.origins[position : position + 1],
                self.leads,
                self.grams[position : position + 1],
                self.evolution[position : position + 1],
                self.reach[position : position + 1],
            )
            found.append(single.errors(own[None, :, :, columns], inner[None], across[None])[0])
        return np.stack(found)


def squared_lengths(states: Floats, inner: Floats) -> Floats:
    """Squared length of changes ``(origin, group, lead, state)``, shape ``(origin, lead)``."""
    return np.asarray(((states @ inner) * states).sum(axis=(1, 3)))


def stays_near(squared: Floats, reach: Floats | float) -> npt.NDArray[np.bool_]:
    """Tell which squared changes are no farther than a window of that squared reach makes believable."""
    return np.isfinite(squared) & (squared <= LARGEST_EXCURSION**2 * reach)
