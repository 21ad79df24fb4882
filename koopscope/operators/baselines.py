"""The forecasts any engineer would try first: every method is shown beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats

BASELINES = ("hold", "linear")


def baseline_displacements(slope: Floats, leads: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Displacement from w(t2) that each baseline forecasts.

    ``hold`` stays at w(t2); ``linear`` continues the least-squares slope of the window's last fifth.

    Parameters
    ----------
    slope
        Change per training step, shape ``(group, member)``.
    leads
        Training steps after t2, shape ``(lead,)``.

    Returns
    -------
    One array of shape ``(lead, group, member)`` a baseline.
    """
    linear = leads[:, None, None] * slope
    return {"hold": np.zeros_like(linear), "linear": linear}
