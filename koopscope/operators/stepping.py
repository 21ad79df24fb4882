"""States of reduced or full operators at any lead, between multiples of the lag too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats, apply


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

    ``z(m) = (I + A + ... + A^(m-1)) b``. Doubling the map (``A, b -> A A, A b + b``) costs ``log2(m)``
    products a group however many counts are asked for, and never passes through eigenvectors, which are
    ill conditioned for operators close to defective. It is NumPy's stacked product and no kernel: there
    are a dozen doublings, and loading one more compiled function takes longer than all of them.

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
    states = np.zeros((offsets.shape[0], counts.size, offsets.shape[1]))
    power, offset = operators, offsets
    for bit in range(int(counts.max(initial=0)).bit_length()):
        if bit:
            offset = apply(power, offset) + offset
            power = power @ power
        taken = np.flatnonzero(counts >> bit & 1)
        if together:
            stepped = states[:, taken] @ power.swapaxes(1, 2)
        else:  # vector by vector
            stepped = (power[:, None] @ states[:, taken, :, None])[..., 0]
        states[:, taken] = stepped + offset[:, None]
    return states
