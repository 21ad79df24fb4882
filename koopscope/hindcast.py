"""How far forecasts from an earlier origin miss what was recorded after it, on Gram matrices alone.

Forecasts are combinations of snapshots: errors, true changes and excursions are then quadratic forms of
the Gram matrix of snapshots, and no weight is read again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats, GramModes, ReducedOperators, states_at

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


def forecast_states(reduced: ReducedOperators, leads: Rows, multiple: int) -> Floats:
    """State of a reduced fit after each lead, shape ``(group, lead, state)``."""
    return states_at(reduced.operator, reduced.displacement, leads.astype(np.float64), multiple)


def snapshot_weights(gram: Floats, origin: int, leads: Rows, fit: Candidate) -> Floats:
    """Give the weights on snapshots that make up a fit's forecast from an origin.

    The forecast change is the sum over snapshots j of ``weights_j (w_j - w_origin)``.

    Parameters
    ----------
    gram
        Inner products about the origin, shape ``(group, snapshot, snapshot)``.

    Returns
    -------
    Shape ``(group, lead, snapshot)``.
    """
    weights = np.zeros((gram.shape[0], leads.size, gram.shape[1]))
    if fit.kind == "linear":
        rows = line_rows(origin, fit.share)
        weights[:, :, rows] = leads[:, None] * line_weights(rows)
    elif fit.kind == "affine":
        rows = fitted_rows(origin, fit.multiple, fit.share)
        reduced = GramModes(gram[:, rows][:, :, rows], fit.delays).truncate(fit.rtol, LARGEST_RANK)
        states = forecast_states(reduced, leads, fit.multiple)
        with np.errstate(over="ignore", invalid="ignore"):
            weights[:, :, rows[fit.delays - 1 : -1]] = states @ reduced.coefficients.swapaxes(1, 2)
    return weights


@dataclass(frozen=True)
class Truth:
    """What was recorded around one origin, as inner products about it."""

    gram: Floats
    targets: Rows
    evolution: Floats  # squared, per lead
    reach: float  # squared largest distance of the window before the origin

    @classmethod
    def of(cls, gram: Floats, origin: int, leads: Rows) -> Truth:
        """Read the truth off a Gram matrix about the origin that goes on to the largest lead."""
        squares = gram.diagonal(axis1=1, axis2=2).sum(axis=0)
        return cls(gram, origin + leads, squares[origin + leads], float(squares[: origin + 1].max()))

    def products(self, columns: Rows, basis: Floats | None = None) -> tuple[Floats, Floats]:
        """Inner products among directions, and of the directions with the true changes.

        Directions are the snapshots ``columns``, or the combinations of them that ``basis`` holds; shapes
        ``(group, state, state)`` and ``(group, lead, state)``.
        """
        inner = self.gram[:, columns][:, :, columns]
        across = self.gram[:, self.targets][:, :, columns]
        if basis is None:
            return inner, across
        return basis.swapaxes(1, 2) @ inner @ basis, across @ basis

    def errors(self, states: Floats, inner: Floats, across: Floats) -> Floats:
        """Relative errors of the changes with coordinates ``states``, ``(group, lead, state)``, per lead."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            moved = squared_lengths(states, inner)
            squared = moved - 2 * (states * across).sum(axis=(0, 2)) + self.evolution
            relative = np.sqrt(np.maximum(squared, 0.0) / self.evolution)
        nothing_moved = np.where(squared > 0, np.inf, 0.0)
        out = ~np.isfinite(squared) | ~stays_near(moved, self.reach)
        return np.where(out, np.inf, np.where(self.evolution > 0, relative, nothing_moved))


def squared_lengths(states: Floats, inner: Floats) -> Floats:
    """Squared length of the forecast change at every lead, shape ``(lead,)``."""
    return np.asarray(((states @ inner) * states).sum(axis=(0, 2)))


def stays_near(squared: Floats, reach: float) -> npt.NDArray[np.bool_]:
    """Tell which squared changes are no farther than a window of that squared reach makes believable."""
    return np.isfinite(squared) & (squared <= LARGEST_EXCURSION**2 * reach)
