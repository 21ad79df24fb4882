"""How far eigenfunctions of small operators keep what they promise over the pairs they were fitted to."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]


@jit()
def mode_figures(
    left: npt.NDArray[np.complex128],
    values: npt.NDArray[np.complex128],
    pairs_now: Floats,
    pairs_next: Floats,
    drift: Floats,
    displacement: Floats,
) -> tuple[Floats, Floats]:
    """Compute residuals and shares of modes, as `mode_figure` does of one.

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
    sums, vector = np.empty((4, n_rows)), np.empty((2, n_states))
    for group in range(n_groups):
        lay_out(pairs_now[group], pairs_next[group], starts, ends)
        for mode in range(n_modes):
            for state in range(n_states):
                vector[0, state] = left[group, mode, state].real
                vector[1, state] = left[group, mode, state].imag
            real, imag = values[group, mode].real, values[group, mode].imag
            residuals[group, mode], shares[group, mode] = mode_figure(
                vector, real, imag, starts, ends, drift[group], displacement[group], sums
            )
    return residuals, shares


@jit()
def lay_out(pairs_now: Floats, pairs_next: Floats, starts: Floats, ends: Floats) -> None:
    """Write pairs state by state, as `mode_figure` takes them."""
    for state in range(starts.shape[0]):
        for row in range(starts.shape[1]):
            starts[state, row] = pairs_now[row, state]
            ends[state, row] = pairs_next[row, state]


@jit()
def mode_figure(
    vector: Floats,
    real: float,
    imag: float,
    starts: Floats,
    ends: Floats,
    drift: Floats,
    displacement: Floats,
    sums: Floats,
) -> tuple[float, float]:
    """Give residual and share of one mode.

    With ``psi = l^T w`` and sums over rows of the pairs, the residual is ``|psi(w') - lambda psi(w)|`` over
    the root of ``|psi(w') - psi(w)|^2 + |psi(drift)|^2``, and zero where nothing moves; the share is
    ``|psi(displacement)|``. Differences are taken before squares, so that small residuals keep their digits.

    Parameters
    ----------
    vector
        Real and imaginary parts of the left eigenvector l, shape ``(2, state)``.
    real, imag
        Those of its eigenvalue.
    starts, ends
        Pairs, shape ``(state, row)``.
    drift, displacement
        Shape ``(state,)``.
    sums
        Room to work in, shape ``(4, row)``.
    """
    drifted, drifted_imag, moved, moved_imag, largest = 0.0, 0.0, 0.0, 0.0, 0.0
    for state in range(vector.shape[1]):
        one, other = vector[0, state], vector[1, state]
        drifted += one * drift[state]
        drifted_imag += other * drift[state]
        moved += one * displacement[state]
        moved_imag += other * displacement[state]
        largest = max(largest, abs(one), abs(other))
    # Residuals do not depend on the length, which is beyond all bounds next to defective operators.
    unit = 1.0 / largest if largest > 0.0 else 1.0
    error, movement = _squares(vector, unit, real, imag, starts, ends, sums)
    drifted, drifted_imag = drifted * unit, drifted_imag * unit
    whole = math.sqrt(movement + drifted * drifted + drifted_imag * drifted_imag)
    return math.sqrt(error) / whole if whole > 0.0 else 0.0, math.hypot(moved, moved_imag)


@jit(reorder_sums=True)
def _squares(
    vector: Floats, unit: float, real: float, imag: float, starts: Floats, ends: Floats, sums: Floats
) -> tuple[float, float]:
    """Squared error and squared movement of one eigenfunction, times its unit, over the rows."""
    n_rows = sums.shape[1]
    for row in range(n_rows):
        sums[0, row], sums[1, row], sums[2, row], sums[3, row] = 0.0, 0.0, 0.0, 0.0
    for state in range(vector.shape[1]):
        one, other = vector[0, state] * unit, vector[1, state] * unit
        for row in range(n_rows):
            sums[0, row] += one * starts[state, row]
            sums[1, row] += other * starts[state, row]
            sums[2, row] += one * ends[state, row]
            sums[3, row] += other * ends[state, row]
    error, movement = 0.0, 0.0
    for row in range(n_rows):
        now, now_imag, following, following_imag = sums[0, row], sums[1, row], sums[2, row], sums[3, row]
        off = following - (real * now - imag * now_imag)
        off_imag = following_imag - (real * now_imag + imag * now)
        way, way_imag = following - now, following_imag - now_imag
        error += off * off + off_imag * off_imag
        movement += way * way + way_imag * way_imag
    return error, movement
