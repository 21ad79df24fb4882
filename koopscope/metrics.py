"""Definitions of error and of loss figures, in one place.

Everywhere, error ``e = forecast - true`` and evolution ``g = true(t2 + lead) - w(t2)``; axes to reduce
over come last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def relative_l2(error: Floats, evolution: Floats) -> Floats:
    """``|e|_2 / |g|_2`` over the last axis; infinite where something is wrong though nothing moved.

    >>> float(relative_l2(np.array([3.0, 4.0]), np.array([0.0, 10.0])))
    0.5
    """
    return _ratio(_norm(error), _norm(evolution))


def error_to_evolution(error: Floats, evolution: Floats) -> Floats:
    """``median|e| / median|g|`` over the weights that moved, along the last axis; NaN where none did.

    The source's figure of merit: Dogra & Redman, NeurIPS 2020, https://doi.org/10.48550/arXiv.2006.02361.

    >>> float(error_to_evolution(np.array([1.0, 2.0, 9.0]), np.array([10.0, 20.0, 0.0])))
    0.1
    """
    moved = evolution != 0
    return _ratio(_median_where(np.abs(error), moved), _median_where(np.abs(evolution), moved))


def skill(error: Floats, baseline_error: Floats) -> Floats:
    """``1 - |e|_2 / |e_baseline|_2`` over the last axis: 1 is perfect, 0 no better, below 0 worse.

    >>> float(skill(np.array([1.0]), np.array([4.0])))
    0.75
    """
    return 1.0 - _ratio(_norm(error), _norm(baseline_error))


def moved_count(evolution: Floats) -> npt.NDArray[np.int64]:
    """Count the weights that moved, along the last axis."""
    return np.asarray(np.count_nonzero(evolution, axis=-1), np.int64)


def equivalent_steps(
    steps: npt.NDArray[np.int64], losses: Floats, t2: int, loss_forecast: float
) -> tuple[float, bool]:
    """Optimiser steps after t2 that first reach the forecast's loss, by the recorded loss.

    Returns
    -------
    steps, censored
        Where the loss is not reached inside the recording, the steps up to its end, and True: a lower
        bound. NaN and False for a loss that is not finite: a diverged forecast is worth no steps.

    Examples
    --------
    >>> equivalent_steps(np.array([0, 10, 20, 30]), np.array([4.0, 3.0, 2.0, 1.0]), 10, 2.5)
    (10.0, False)
    >>> equivalent_steps(np.array([0, 10, 20, 30]), np.array([4.0, 3.0, 2.0, 1.0]), 10, 0.5)
    (20.0, True)
    """
    if not np.isfinite(loss_forecast):
        return float("nan"), False
    after = steps >= t2
    reached = np.flatnonzero(after & (losses <= loss_forecast))
    if reached.size:
        return float(steps[reached[0]] - t2), False
    return float(steps[-1] - t2), True


def running_mean(values: Floats, rows: int) -> Floats:
    """Centred running mean over an odd number of rows; towards the ends, and around rows that
    hold none, over the rows there are.

    The first passage of a noisy loss is luck; that of its mean over about a tenth of an epoch is not.

    >>> running_mean(np.array([0.0, 3.0, 0.0, 3.0, 6.0]), 3).tolist()
    [1.5, 1.0, 2.0, 3.0, 4.5]
    """
    if rows == 1:
        return values
    window, known = np.ones(rows), np.isfinite(values)
    with np.errstate(invalid="ignore"):
        sums = np.convolve(np.where(known, values, 0.0), window, "same")
        return np.asarray(sums / np.convolve(known, window, "same"))


def _norm(values: Floats) -> Floats:
    # Scaled by the largest entry: a diverging forecast must not overflow before its norm is taken.
    with np.errstate(invalid="ignore"):
        largest = np.max(np.abs(values), axis=-1, keepdims=True, initial=0.0)
        scaled = np.where(largest > 0, values / np.where(largest > 0, largest, 1.0), 0.0)
        return np.asarray(largest[..., 0] * np.sqrt(np.sum(scaled * scaled, axis=-1)))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(numerator / denominator)
    return np.where((numerator == 0) & (denominator == 0), 0.0, ratio)


def _median_where(values: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    masked = np.where(chosen, values, np.inf)
    counts = np.count_nonzero(chosen, axis=-1)
    ordered = np.sort(masked, axis=-1)
    safe = np.maximum(counts, 1)[..., None]
    lower = np.take_along_axis(ordered, (safe - 1) // 2, axis=-1)[..., 0]
    upper = np.take_along_axis(ordered, safe // 2, axis=-1)[..., 0]
    return np.where(counts > 0, (lower + upper) / 2, np.nan)
