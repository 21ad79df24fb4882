"""What kind of motion an eigenvalue describes, by rules that are printed with the answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LARGE_RESIDUAL = 0.5
STANDS = 0.01  # e-foldings or radians over the window below which a mode does not move

RULE = (
    f"noise: residual above {LARGE_RESIDUAL:g}; else, over the n lags of the window, offset: neither "
    f"|log|lambda|| n nor |arg lambda| n reaches {STANDS:g}; oscillating: turns by a radian or more before "
    "it has changed by a factor e; growing or decaying: changes by a factor e or more; slow: all others"
)


def classify(
    eigenvalues: npt.NDArray[np.complex128], residual: Floats, n_lags: float
) -> npt.NDArray[np.object_]:
    """Give each eigenvalue the first class whose rule it meets, in the order of `RULE`.

    Parameters
    ----------
    eigenvalues
        Per lag.
    residual
        One-lag error of the eigenfunction relative to its movement.
    n_lags
        Lags in the window.

    Examples
    --------
    >>> kinds = classify(np.array([1, 0.999, 0.9, 0.9 + 0.3j, 1.1, 0.2]), np.array([0, 0, 0, 0, 0, 0.9]), 100)
    >>> kinds.tolist()
    ['offset', 'slow', 'decaying', 'oscillating', 'growing', 'noise']
    """
    with np.errstate(divide="ignore"):
        growth = np.log(np.abs(eigenvalues))
    angle = np.abs(np.angle(eigenvalues))
    turns = (angle >= np.abs(growth)) & (angle * n_lags >= 1)
    conditions = [
        ~(residual <= LARGE_RESIDUAL),
        (np.abs(growth) * n_lags < STANDS) & (angle * n_lags < STANDS),
        turns,
        growth * n_lags >= 1,
        growth * n_lags <= -1,
    ]
    return np.select(conditions, ["noise", "offset", "oscillating", "growing", "decaying"], "slow").astype(
        object
    )
