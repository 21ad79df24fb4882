"""The forecasts any engineer would try first: every method is shown beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats, Operators


def baseline_displacements(
    start: Floats, slope: Floats, leads: npt.NDArray[np.int64], *, origin_offset: float
) -> dict[str, Floats]:
    """Displacement from w(t2) that each baseline forecasts.

    ``hold`` stays at w(t2). ``linear`` continues the least-squares slope from where forecasts start.
    ``mean``, only where rows are averaged, stays at the last mean.

    Parameters
    ----------
    start
        Where forecasts start, from w(t2), shape ``(group, member)``: zero without averaging.
    slope
        Change per training step, shape ``(group, member)``.
    leads
        Training steps after t2, shape ``(lead,)``.
    origin_offset
        Training steps from the start of forecasts to t2.

    Returns
    -------
    One array of shape ``(lead, group, member)`` a baseline.
    """
    linear = start + (leads + origin_offset)[:, None, None] * slope
    baselines = {"hold": np.zeros_like(linear), "linear": linear}
    if origin_offset:
        baselines["mean"] = np.broadcast_to(start, linear.shape).copy()
    return baselines


def straight_operators(increment: Floats, centre: Floats) -> Operators:
    """Write a straight line as operators: one state that counts lags, and the line as its basis.

    Parameters
    ----------
    increment
        Change per lag, shape ``(group, member)``; zero stays where it is.
    centre
        Point of the line, shape ``(group, member)``.
    """
    n_groups = increment.shape[0]
    length = np.linalg.norm(increment, axis=1)
    return Operators(
        operator=np.ones((n_groups, 1, 1)),
        displacement=np.ones((n_groups, 1)),
        basis=increment[:, :, None],
        centre=centre,
        rank=(length > 0).astype(np.int64),
        condition=np.ones(n_groups),
        scale=length,
        drift=np.ones((n_groups, 1)),
        pairs_now=np.zeros((n_groups, 1, 1)),
        pairs_next=np.zeros((n_groups, 1, 1)),
    )
