"""States of reduced or full operators at any lead, between multiples of the lag too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats


def states_at(
    operators: Floats,
    displacement: Floats,
    leads: npt.NDArray[np.float64],
    lag: int,
    *,
    together: bool = False,
) -> Floats:
    """State after each lead, by binary powers; between lags the states interpolate linearly.

    Parameters
    ----------
    operators, displacement
        Shapes ``(group, state, state)`` and ``(group, state)``.
    leads
        Training steps from where the forecast starts, at least 0.
    lag
        Training steps of one application.
    together
        Step all leads in one product: faster, but a state's rounding then depends on the other leads.

    Returns
    -------
    Shape ``(group, lead, state)``; infinite or NaN where an operator diverges.
    """
    whole, remainder = np.divmod(leads, lag)
    below = whole.astype(np.int64)
    # A diverging operator overflows here; the caller deals with the infinities it leaves.
    with np.errstate(over="ignore", invalid="ignore"):
        if not remainder.any():
            return affine_steps(operators, displacement, below, together=together)
        counts, position = np.unique(np.concatenate([below, below + (remainder > 0)]), return_inverse=True)
        states = affine_steps(operators, displacement, counts, together=together)
        share = (remainder / lag)[None, :, None]
        lower, upper = states[:, position[: leads.size]], states[:, position[leads.size :]]
        return np.where(share > 0, (1 - share) * lower + share * upper, lower)


def affine_steps(
    operators: Floats, offsets: Floats, counts: npt.NDArray[np.int64], *, together: bool = False
) -> Floats:
    """State after each count of steps of ``z <- A z + b``, starting from zero.

    ``z(m) = (I + A + ... + A^(m-1)) b``. Squaring the map, a matrix that acts on ``[z 1]``, costs
    ``log2(m)`` products a group however many counts are asked for, and never passes through eigenvectors,
    which are ill conditioned for operators close to defective. It is NumPy's stacked product and no kernel:
    there are a dozen squarings, and loading one more compiled function takes longer than all of them.

    Parameters
    ----------
    operators, offsets
        ``A`` of shape ``(group, state, state)`` and ``b`` of shape ``(group, state)``.
    counts
        Non-negative numbers of steps, shape ``(count,)``.
    together
        As in `states_at`.

    Returns
    -------
    Shape ``(group, count, state)``.
    """
    n_groups, n = offsets.shape
    # Of rows: [z 1] becomes [z 1] @ map. The last column stays as it is but where an operator diverges.
    maps = np.zeros((n_groups, n + 1, n + 1))
    maps[:, :n, :n], maps[:, n, :n], maps[:, n, n] = operators.swapaxes(1, 2), offsets, 1.0
    states = np.zeros((n_groups, counts.size, n + 1))
    states[:, :, n] = 1.0
    spare = np.empty_like(maps)
    for bit in range(int(counts.max(initial=0)).bit_length()):
        if bit:
            maps, spare = np.matmul(maps, maps, out=spare), maps
        taken = (counts >> bit & 1).nonzero()[0]
        if together:
            states[:, taken] = states[:, taken] @ maps
        elif taken.size:  # vector by vector
            states[:, taken] = (states[:, taken, None] @ maps[:, None])[:, :, 0]
    return states[:, :, :n]
