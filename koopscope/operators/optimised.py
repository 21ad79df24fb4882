"""Optimised DMD: exponentials fitted to the whole trajectory at once, by variable projection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are used: scipy.optimize alone takes longer than most fits

from koopscope.operators.delay import ReducedOperators
from koopscope.operators.model import Floats

LARGEST_RANK = 8  # by default: more exponentials than a few are not told apart by a trajectory
EVALUATIONS = 200  # of the residual by the optimiser; what it has found by then is used
_LARGEST_EXPONENT = 300.0  # of e: keeps trial exponentials finite


def optimise(reduced: ReducedOperators) -> ReducedOperators:
    """Refit the eigenvalues of a least-squares fit to the trajectory of states as a whole.

    Minimises ``sum_k |z_k - c - sum_j b_j lambda_j^k|^2`` over all snapshots k, for the ``lambda_j`` by
    least squares (trust region) and for c and b by projection at each step. Pairs weigh every one-lag step
    alike; this weighs what such steps add up to. Right for long leads on runs that follow a few exponentials
    closely, and the least biased by noise; slow, and its answer depends on where it starts (here: the
    eigenvalues of the least-squares fit), so that it can be worse than its start elsewhere.

    Notes
    -----
    Askham & Kutz, "Variable projection methods for an optimized dynamic mode decomposition", SIAM J. Appl.
    Dyn. Syst. 2018, https://doi.org/10.1137/M1124176.
    """
    operator, intercept = reduced.operator.copy(), reduced.intercept.copy()
    for group, kept in enumerate(reduced.kept):
        rank = int(kept.sum())
        if rank == 0:
            continue
        states = np.concatenate([reduced.pairs_now[group], reduced.state[group][None]])[:, :rank]
        fitted, displacement = _fit_exponentials(states, operator[group, :rank, :rank])
        operator[group, :rank, :rank] = fitted
        state = reduced.state[group, :rank]
        intercept[group, :rank] = displacement + state - fitted @ state
    return reduced.replaced(operator, intercept)


def _fit_exponentials(states: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Return the operator and the change it makes in the last lag's successor."""
    signs, growth, frequency = _parameters(np.linalg.eigvals(start).astype(np.complex128))
    times = np.arange(1 - states.shape[0], 1, dtype=np.float64)
    n_growth = growth.size

    def curves(parameters: Floats) -> Floats:
        return _curves(times, signs, parameters[:n_growth], parameters[n_growth:])

    def residual(parameters: Floats) -> Floats:
        basis = np.linalg.qr(curves(parameters))[0]
        return np.asarray((states - basis @ (basis.T @ states)).ravel())

    first = np.concatenate([growth, frequency])
    found = scipy.optimize.least_squares(residual, first, x_scale=1.0 / times.size, max_nfev=EVALUATIONS).x
    coefficients = np.linalg.lstsq(curves(found), states, rcond=None)[0][1:]
    rotation = _one_lag(signs, found[:n_growth], found[n_growth:])
    last = curves(found)[-1, 1:]
    operator = coefficients.T @ rotation @ np.linalg.pinv(coefficients.T)
    return operator, np.asarray(coefficients.T @ (rotation @ last - last))


def _parameters(values: npt.NDArray[np.complex128]) -> tuple[Floats, Floats, Floats]:
    """Split eigenvalues into signs of the real ones, growth rates (real ones, then pairs), frequencies."""
    logs = np.log(np.maximum(np.abs(values), 1e-6))
    real = np.abs(values.imag) <= 1e-12 * np.abs(values)
    pairs = values.imag > 1e-12 * np.abs(values)
    signs = np.where(values[real].real < 0, -1.0, 1.0)
    return signs, np.concatenate([logs[real], logs[pairs]]), np.angle(values[pairs])


def _curves(times: Floats, signs: Floats, growth: Floats, frequency: Floats) -> Floats:
    """Evaluate one, the real exponentials, and the two halves of each oscillation: ``(time, curve)``."""
    exponents = np.clip(growth * times[:, None], -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    size = np.exp(exponents - exponents.max(axis=0))
    # Sizes are relative to each curve's largest: lengths cancel in the fit, except for the last row's.
    alternating = np.where(times[:, None] % 2 == 0, 1.0, signs)
    phase = frequency * times[:, None]
    n_real = signs.size
    waves = size[:, n_real:]
    return np.concatenate(
        [
            np.ones((times.size, 1)),
            size[:, :n_real] * alternating,
            waves * np.cos(phase),
            waves * np.sin(phase),
        ],
        axis=1,
    )


def _one_lag(signs: Floats, growth: Floats, frequency: Floats) -> Floats:
    """Map the curves' values at one time to those a lag later (the constant apart)."""
    n_real, n_pairs = signs.size, frequency.size
    size = np.exp(growth)
    matrix = np.diag(np.concatenate([signs * size[:n_real], np.zeros(2 * n_pairs)]))
    cosine, sine = size[n_real:] * np.cos(frequency), size[n_real:] * np.sin(frequency)
    first, second = np.arange(n_real, n_real + n_pairs), np.arange(n_real + n_pairs, n_real + 2 * n_pairs)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return np.asarray(matrix)
