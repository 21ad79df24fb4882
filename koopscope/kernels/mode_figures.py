"""How far eigenfunctions of small operators keep what they promise over the pairs they were fitted to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]


@jit(reorder_sums=True)
def mode_figures(
    left: npt.NDArray[np.complex128],
    values: npt.NDArray[np.complex128],
    pairs_now: Floats,
    pairs_next: Floats,
    drift: Floats,
    displacement: Floats,
) -> tuple[Floats, Floats]:
    """Compute residuals and shares of modes.

    With ``psi = l^T w`` and sums over rows of the pairs, the residual is ``|psi(w') - lambda psi(w)|`` over
    the root of ``|psi(w') - psi(w)|^2 + |psi(drift)|^2``, and zero where nothing moves; the share is
    ``|psi(displacement)|``. Differences are taken before squares, so that small residuals keep their digits.

    Parameters
    ----------
    left
        Left eigenvectors l, shape ``(group, mode, state)``.
    values
        Eigenvalues, shape ``(group, mode)``.
    pairs_now, pairs_next
        Starts w and ends w' of pairs, shape ``(group, row, state)``.
    drift, displacement
        Shape ``(group, state)``.

    Returns
    -------
    Residuals and shares, shape ``(group, mode)``.
    """
    n_groups, n_modes, n_states = left.shape
    n_rows = pairs_now.shape[1]
    residuals, shares = np.empty((n_groups, n_modes)), np.empty((n_groups, n_modes))
    starts, ends = np.empty((n_states, n_rows)), np.empty((n_states, n_rows))
    sums = np.empty((4, n_rows))
    for group in range(n_groups):
        for state in range(n_states):
            for row in range(n_rows):
                starts[state, row] = pairs_now[group, row, state]
                ends[state, row] = pairs_next[group, row, state]
        for mode in range(n_modes):
            vector = left[group, mode]
            drifted = moved = 0.0j
            largest = 0.0
            for state in range(n_states):
                drifted += vector[state] * drift[group, state]
                moved += vector[state] * displacement[group, state]
                largest = max(largest, abs(vector[state].real), abs(vector[state].imag))
            # Residuals do not depend on the length, which is beyond all bounds next to defective operators.
            unit = 1.0 / largest if largest > 0.0 else 1.0
            error, movement = _squares(vector, unit, values[group, mode], starts, ends, sums)
            whole = np.sqrt(movement + abs(drifted * unit) ** 2)
            residuals[group, mode] = np.sqrt(error) / whole if whole > 0.0 else 0.0
            shares[group, mode] = abs(moved)
    return residuals, shares


@jit(reorder_sums=True)
def _squares(
    vector: npt.NDArray[np.complex128],
    unit: float,
    value: complex,
    starts: Floats,
    ends: Floats,
    sums: Floats,
) -> tuple[float, float]:
    """Squared error and squared movement of one eigenfunction, times its unit, over the rows."""
    now, now_imag, following, following_imag = sums[0], sums[1], sums[2], sums[3]
    n_rows = now.shape[0]
    sums[:] = 0.0
    for state in range(vector.shape[0]):
        real, imag = vector[state].real * unit, vector[state].imag * unit
        start, end = starts[state], ends[state]
        for row in range(n_rows):
            now[row] += real * start[row]
            now_imag[row] += imag * start[row]
            following[row] += real * end[row]
            following_imag[row] += imag * end[row]
    real, imag = value.real, value.imag
    error = movement = 0.0
    for row in range(n_rows):
        off = following[row] - (real * now[row] - imag * now_imag[row])
        off_imag = following_imag[row] - (real * now_imag[row] + imag * now[row])
        way, way_imag = following[row] - now[row], following_imag[row] - now_imag[row]
        error += off * off + off_imag * off_imag
        movement += way * way + way_imag * way_imag
    return error, movement
