"""Damping of unstable operators, as far as the last quarter of their own window asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from koopscope.errors import WindowError
from koopscope.operators import Floats, Operators, states_at
from koopscope.parallel import single_threaded_blas
from koopscope.partition import GroupBlock

DAMPINGS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
HELD_OUT = 4  # the last fourth of the window judges
FEWEST_SNAPSHOTS = 12  # in the window that is divided

SolveAll = Callable[[int], Sequence[tuple[GroupBlock, Operators]]]


def damp(operators: Operators, damping: float) -> Operators:
    """Shrink an operator towards taking its first step over and over, ever more shortly.

    ``z(m) = sum_(i < m) ((1 - d) K)^i v``: every eigenvalue shrinks by the same factor, the first lag's
    change v stays as fitted, and ``d = 1`` stops after it. Eigenvalues are never clipped to the circle,
    which would bend the modes that carry the motion as much as those that err.

    Notes
    -----
    After the damped trend of exponential smoothing: Gardner & McKenzie, "Forecasting trends in time
    series", Manage. Sci. 1985, https://doi.org/10.1287/mnsc.31.10.1237.
    """
    return replace(operators, operator=(1.0 - damping) * operators.operator)


def choose_damping(snapshots: Floats, solve: SolveAll) -> float:
    """Choose the damping whose forecasts of the window's last quarter err the least, over all groups.

    Parameters
    ----------
    snapshots
        Of the window, shape ``(snapshot, weight)``.
    solve
        Fits the first so many of these snapshots, block by block.

    Raises
    ------
    WindowError
        If the window is too short to be divided.
    """
    n = snapshots.shape[0]
    if n < FEWEST_SNAPSHOTS:
        raise WindowError(
            f"stabilising holds out the last quarter of the window, and {n} snapshots are too few; use a "
            "smaller --lag, a longer window, or leave --stabilise out"
        )
    n_kept = n - n // HELD_OUT
    blocks = solve(n_kept)
    origin = np.asarray(snapshots[n_kept - 1], np.float64)
    leads = np.arange(1, n - n_kept + 1)
    truth = np.asarray(snapshots[n_kept:], np.float64) - origin
    squared = np.zeros(len(DAMPINGS))
    with single_threaded_blas(), np.errstate(over="ignore", invalid="ignore"):
        for position, damping in enumerate(DAMPINGS):
            for block, operators in blocks:
                damped = damp(operators, damping)
                states = states_at(damped.operator, damped.displacement, leads.astype(np.float64), 1)
                basis = operators.basis
                moved = states if basis is None else states @ basis.swapaxes(1, 2)
                squared[position] += float(np.sum((moved.swapaxes(0, 1) - truth[:, block.members]) ** 2))
    return DAMPINGS[int(np.argmin(np.where(np.isfinite(squared), squared, np.inf)))]
