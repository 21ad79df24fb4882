"""States of reduced or full operators at any lead, between multiples of the lag too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.kernels.affine_steps import affine_steps
from koopscope.operators.model import Floats


def states_at(operators: Floats, displacement: Floats, leads: npt.NDArray[np.float64], lag: int) -> Floats:
    """State after each lead, by binary powers; between lags the states interpolate linearly.

    Groups run in parallel, so the caller keeps BLAS to one thread (`koopscope.parallel`).

    Parameters
    ----------
    operators, displacement
        Shapes ``(group, state, state)`` and ``(group, state)``.
    leads
        Training steps from where the forecast starts, at least 0.
    lag
        Training steps of one application.

    Returns
    -------
    Shape ``(group, lead, state)``; infinite or NaN where an operator diverges.
    """
    whole, remainder = np.divmod(leads, lag)
    below = whole.astype(np.int64)
    operators, displacement = np.ascontiguousarray(operators), np.ascontiguousarray(displacement)
    if not remainder.any():
        return affine_steps(operators, displacement, below)
    counts, position = np.unique(np.concatenate([below, below + (remainder > 0)]), return_inverse=True)
    # A diverging operator overflows here; the caller deals with the infinities it leaves.
    with np.errstate(over="ignore", invalid="ignore"):
        states = affine_steps(operators, displacement, counts)
        share = (remainder / lag)[None, :, None]
        lower, upper = states[:, position[: leads.size]], states[:, position[leads.size :]]
        return np.where(share > 0, (1 - share) * lower + share * upper, lower)
