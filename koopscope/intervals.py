"""Confidence intervals of eigenvalues: a bias-corrected block bootstrap on reduced coordinates.

The fitted map is run forward with blocks of its own one-lag errors in random order, and fitted again; twice,
the first time to learn the bias of the fit. Only a few numbers a snapshot are needed, never the weights.

Reference: Kilian, "Small-sample confidence intervals for impulse response functions", Review of Economics and
Statistics 1998, https://doi.org/10.1162/003465398557465.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are used

from koopscope.operators import Floats

Complex = npt.NDArray[np.complex128]

N_BIAS, N_RESAMPLES = 200, 400
FEWEST_LIVES = 20.0  # n (1 - |lambda|): below it coverage was measured to fall short
FEWEST_BLOCKS = 100
LAGS_TESTED = 10
CORRELATED = 0.01  # p-value, shared by the coordinates, below which errors count as correlated


@dataclass(frozen=True)
class Intervals:
    """Bounds of modulus (per lag) and angle (radians a lag), and whether they can be trusted.

    All of shape ``(mode,)``.
    """

    modulus_low: Floats
    modulus_high: Floats
    angle_low: Floats
    angle_high: Floats
    trusted: npt.NDArray[np.bool_]


def bootstrap_eigenvalues(
    states: Floats, eigenvalues: Complex, *, confidence: float, random: np.random.Generator
) -> Intervals:
    """Bound each eigenvalue of the affine map between consecutive states.

    Trusted are intervals of modes with ``n (1 - |lambda|) >= 20`` whose errors look independent from lag to
    lag, in at least 100 blocks. Elsewhere the bounds are given and were measured to be too narrow.

    Parameters
    ----------
    states
        Reduced coordinates of consecutive snapshots, shape ``(n + 1, state)``.
    eigenvalues
        Of the fit, shape ``(mode,)``; their order is the result's.
    confidence
        Such as 0.95.
    random
        Source of the resamples.
    """
    n = states.shape[0] - 1
    length = max(1, min(round(n ** (1 / 3)), n // FEWEST_BLOCKS))
    scale = np.sqrt(np.mean((states - states.mean(axis=0)) ** 2, axis=0))
    states = (states - states.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    operator, errors = fit_states(states)
    errors = errors - errors.mean(axis=0)
    first = fit_states(_simulate(operator, _draw(errors, length, N_BIAS, random), states[0]))[0]
    corrected = _shrunk(operator, first.mean(axis=0) - operator)
    again = fit_states(_simulate(corrected, _draw(errors, length, N_RESAMPLES, random), states[0]))[0]
    ours = _matched(eigenvalues, np.linalg.eigvals(corrected)[None])[0]
    drawn = _matched(ours, np.linalg.eigvals(again))
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = []
    for measure in (np.abs(drawn) - np.abs(ours), np.angle(drawn * np.exp(-1j * np.angle(ours)))):
        # Centred: the second round's bias is that of the fit once more.
        bounds.append(np.quantile(measure - measure.mean(axis=0), levels, axis=0))
    alive = n * (1 - np.abs(eigenvalues)) >= FEWEST_LIVES
    modulus, angle = np.abs(ours) + bounds[0], np.angle(ours) + bounds[1]
    # Resamples are matched to each eigenvalue by itself; of a conjugate pair the first speaks for both.
    second = np.flatnonzero(eigenvalues.imag < 0)
    second = second[(second > 0) & (eigenvalues[second - 1].imag > 0)]
    modulus[:, second] = modulus[:, second - 1]
    angle[:, second] = -angle[::-1, second - 1]
    return Intervals(
        modulus_low=np.maximum(0.0, modulus[0]),
        modulus_high=modulus[1],
        angle_low=angle[0],
        angle_high=angle[1],
        trusted=alive & _independent(errors) & (n // length >= FEWEST_BLOCKS),
    )


def fit_states(states: Floats) -> tuple[Floats, Floats]:
    """Fit an affine map to consecutive states, shape ``(..., n + 1, state)``; give it and its errors."""
    now, following = states[..., :-1, :], states[..., 1:, :]
    now = now - now.mean(axis=-2, keepdims=True)
    following = following - following.mean(axis=-2, keepdims=True)
    squares = now.swapaxes(-1, -2) @ now
    products = following.swapaxes(-1, -2) @ now
    operator = products @ np.linalg.pinv(squares, hermitian=True)
    return operator, following - now @ operator.swapaxes(-1, -2)


def _draw(errors: Floats, length: int, number: int, random: np.random.Generator) -> Floats:
    """Blocks of neighbouring errors in random order, shape ``(number, n, state)``."""
    n = errors.shape[0]
    starts = random.integers(0, n, size=(number, -(-n // length)))
    rows = (starts[:, :, None] + np.arange(length)) % n
    return np.asarray(errors[rows.reshape(number, -1)[:, :n]])


def _simulate(operator: Floats, errors: Floats, start: Floats) -> Floats:
    states = np.empty((errors.shape[0], errors.shape[1] + 1, errors.shape[2]))
    states[:, 0] = start
    transposed = operator.T
    for k in range(errors.shape[1]):
        states[:, k + 1] = states[:, k] @ transposed + errors[:, k]
    return states


def _shrunk(operator: Floats, bias: Floats) -> Floats:
    """Take the bias away, or as much of it as leaves a decaying map decaying."""
    if np.abs(np.linalg.eigvals(operator)).max() >= 1:
        return operator
    for share in np.linspace(1.0, 0.0, 21):
        corrected = operator - share * bias
        if np.abs(np.linalg.eigvals(corrected)).max() < 1:
            return np.asarray(corrected)
    return operator


def _matched(reference: Complex, drawn: npt.NDArray[Any]) -> Complex:
    """Reorder each row of eigenvalues to those they lie nearest to, shape ``(resample, mode)``."""
    if reference.size == 1:
        return np.asarray(drawn, np.complex128)
    distance = np.abs(drawn[:, None, :] - reference[None, :, None])
    order = np.stack([scipy.optimize.linear_sum_assignment(each)[1] for each in distance])
    return np.asarray(np.take_along_axis(drawn, order, axis=1), np.complex128)


def _independent(errors: Floats) -> bool:
    """Whether no coordinate's errors are correlated over ten lags, beyond chance (Ljung & Box)."""
    n, power = errors.shape[0], np.sum(errors**2, axis=0)
    statistic = np.zeros(errors.shape[1])
    for lag in range(1, min(LAGS_TESTED, n - 1) + 1):
        products = np.sum(errors[lag:] * errors[:-lag], axis=0)
        statistic += (products / np.where(power > 0, power, 1.0)) ** 2 * n * (n + 2) / (n - lag)
    # Shared by the coordinates, so that many of them do not raise false alarms.
    return bool(np.all(statistic <= scipy.special.chdtri(LAGS_TESTED, CORRELATED / max(1, errors.shape[1]))))
