"""What a basin of attraction asks of each window, and when it was first true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats
from koopscope.window_fits import WindowFits, fit_windows

Flags = npt.NDArray[np.bool_]

LARGEST_ERROR = 0.1  # of a predictable window's single lags and of its hindcast
SMALL_HINDCAST = 0.02  # needs no comparison with the straight line
BEATS_BASELINE = 1.05
CONSECUTIVE = 3  # windows, one after another, that must contract
SAME_POINT = 0.1  # of the way that is left to it may a fixed point have moved since the window before
STRAY = 2.5
ROUNDING = 1e-3  # of an e-folding a window: a smaller rate is rounding, and its fixed point at infinity
ON_CIRCLE = 0.01  # | |lambda| - 1 | per training step that counts as on the unit circle


@dataclass(frozen=True)
class Judged:
    """Criteria of every window, each of shape ``(window,)``; ``fits`` has the figures behind them."""

    fits: WindowFits
    predictable: Flags
    contracting: Flags
    fixed_point_agrees: Flags
    in_basin: Flags


def slices(products: Floats, m: int, first: int = 0) -> Floats:
    """Blocks of m increments along the diagonal, one a window, shape ``(window, m, m)``; a view."""
    blocks = np.lib.stride_tricks.sliding_window_view(products[first:, first:], (m, m))
    return np.asarray(blocks.diagonal().transpose(2, 0, 1))


def judge_windows(products: Floats, m: int, rounding: float) -> Judged:
    """Judge all windows of m increments, the next one an increment later.

    Parameters
    ----------
    products
        Inner products of all increments, shape ``(n, n)``.
    rounding
        Squared length of one snapshot's rounding error.
    """
    return judge_fits(products, m, fit_windows(slices(products, m), rounding), rounding)


def judge_fits(products: Floats, m: int, fits: WindowFits, rounding: float) -> Judged:
    """Judge windows that were fitted already, all of those that the increments fill."""
    return combine(fits, contracts_alone(fits, m), _fixed_points_agree(products, m, fits, rounding))


def combine(fits: WindowFits, alone: Flags, agrees: Flags) -> Judged:
    """Put the criteria together; windows ``m`` increments apart follow one another."""
    m = fits.fixed_point.shape[1]
    predictable = is_predictable(fits)
    contracting = alone.copy()
    for back in range(1, CONSECUTIVE):
        contracting &= _earlier(alone, back * m)
    return Judged(fits, predictable, contracting, agrees, predictable & contracting & agrees)


def is_predictable(fits: WindowFits) -> Flags:
    """One-step and hindcast errors within a tenth, and the hindcast no worse than hold and linear."""
    baseline = np.minimum(1.0, fits.linear)  # holding still misses all that moves
    close = (fits.one_step <= LARGEST_ERROR) & (fits.hindcast <= LARGEST_ERROR)
    return np.asarray(close & (fits.hindcast <= np.maximum(SMALL_HINDCAST, BEATS_BASELINE * baseline)))


def contracts_alone(fits: WindowFits, m: int) -> Flags:
    """``r < 1`` and ``m (1 - r) >= 1``: one e-folding or more within the window, or nothing moves."""
    return np.asarray(fits.still | (m * (1 - fits.spectral_radius) >= 1))


def _earlier(flags: Flags, shift: int) -> Flags:
    moved = np.zeros_like(flags)
    moved[shift:] = flags[: max(0, flags.size - shift)]
    return moved


def _fixed_points_agree(products: Floats, m: int, fits: WindowFits, rounding: float) -> Flags:
    """``|w*_i - w*_(i-1)| <= 0.1 |w(end of window i-1) - w*_i|``, window i-1 ending where i begins."""
    agrees = np.zeros(fits.still.size, np.bool_)
    if fits.still.size <= m:
        return agrees
    pairs = slices(products, 2 * m)
    before, now = fits.fixed_point[:-m], fits.fixed_point[m:]
    apart = np.concatenate([-before, 1 + now], axis=1)  # from one fixed point to the other
    left = np.concatenate([np.zeros_like(now), 1 + now], axis=1)  # from the end of window i-1 to w*_i
    moved, way = (np.einsum("wi,wi->w", (c[:, None, :] @ pairs)[:, 0], c) for c in (apart, left))
    agrees[m:] = moved <= np.maximum(SAME_POINT**2 * way, 4 * rounding)
    return agrees & (fits.still | (m * (1 - fits.spectral_radius) >= ROUNDING))


@dataclass(frozen=True)
class Entry:
    """First snapshot of a basin, and the two between which it was entered; in rows of the grid."""

    row: float
    low: float
    high: float


NEVER = Entry(np.nan, np.nan, np.nan)


def find_entry(in_basin: Flags, m: int, *, look_back: int = CONSECUTIVE - 1) -> Entry:
    """Find the first sustained stretch of windows in a basin.

    Sustained: all windows of the next half window length, or to the end. The criteria look back over
    ``look_back`` windows, so the run was in the basin when the first of these ended, and not yet when it
    began or, where a window before it failed, no earlier than that.
    """
    for index in np.flatnonzero(in_basin).tolist():
        if in_basin[index : index + max(1, m // 2)].all():
            first = index - look_back * m
            return Entry(float(first + m), float(first), float(first + m))
    return NEVER


def settled_windows(products: Floats, m: int) -> Flags:
    """Which windows of a noisy run have their mean where the run ends up: shape ``(window,)``.

    Where it ends up is the mean over the second half; any window may stray from it ``STRAY`` times as far as
    the windows of that half do.
    """
    n = products.shape[0]
    walked = np.cumsum(np.pad(np.cumsum(products, axis=0), ((1, 0), (1, 0))), axis=1)  # about the first row
    starts = np.arange(n - m + 1)[:, None]
    rows = np.arange(n + 1)
    of_window = ((rows >= starts) & (rows <= starts + m)) / (m + 1)
    of_half = (rows >= n // 2) / (n + 1 - n // 2)
    apart = of_window - of_half
    squares = np.einsum("wi,wi->w", apart @ walked, apart)
    late = starts[:, 0] >= n // 2
    return np.asarray(squares <= STRAY**2 * squares[late].max(initial=0.0))
