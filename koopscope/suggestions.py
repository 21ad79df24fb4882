"""Where to put t1, t2 and the lag, and how far to jump: by hold-out on the increment Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats, GramModes, states_at

Rows = npt.NDArray[np.int64]

LAGS = 30  # snapshots a window is cut into
LENGTHS = 8  # window lengths tried, from the shortest to all that lies before t2
ORIGINS = 5
FEWEST_ROWS = 5
CLOSE_TO_BEST = 1.2  # the longest window whose hold-out error is within this factor of the best one's
BOUND = 2.0  # times the worst of the origins bounds the true error in most runs
TOLERANCE = 0.1
RTOL = 1e-5  # of the fits that are made with what is suggested


@dataclass(frozen=True)
class Suggestion:
    """Rows of the base grid: window ``first..last``, ``stride`` rows a lag, ``horizon`` rows ahead."""

    first: int
    last: int
    stride: int
    horizon: int


def suggest(products: Floats, shortest: int, last: int) -> Suggestion:
    """Choose the window that ends at a row.

    Every length forecasts the same held-out stretch, half the shortest window, from several origins
    before ``last``. The longest whose error is within ``CLOSE_TO_BEST`` of the best is chosen, since more
    data help what hold-out cannot see.

    Parameters
    ----------
    products
        Inner products of the network's increments, shape ``(n, n)``.
    shortest
        Increments in the shortest window to try.
    last
        Row of the snapshot that is t2.
    """
    gram = _about(products[:last, :last])
    ahead = max(1, shortest // 2)
    origins = np.unique(last - ahead - np.arange(ORIGINS) * max(1, ahead // ORIGINS))
    lengths = np.unique(np.geomspace(min(shortest, last), last, LENGTHS).astype(np.int64))
    leads = np.array([ahead], np.int64)
    scores = np.array([_errors(gram, origins, int(n) - ahead, leads).mean() for n in lengths])
    usable = np.isfinite(scores)
    if not usable.any():
        return Suggestion(0, last, _stride(last), 0)
    good = usable & (scores <= CLOSE_TO_BEST * max(scores[usable].min(), RTOL))  # below RTOL all is rounding
    length = int(lengths[np.flatnonzero(good)[-1]])
    return Suggestion(last - length, last, _stride(length), _horizon(gram, last, length))


def _stride(length: int) -> int:
    return max(1, round(length / LAGS))


def _horizon(gram: Floats, last: int, length: int) -> int:
    """Largest lead, up to a quarter of the window, at which twice the worst origin stays within tolerance."""
    reach = length // 4
    if reach < 1:
        return 0
    leads = np.unique(np.linspace(1, reach, 12).astype(np.int64))
    origins = np.unique(last - reach - np.arange(ORIGINS) * max(1, reach // ORIGINS))
    worst = np.max(_errors(gram, origins[origins > 3], length - reach, leads), axis=0, initial=0)
    within = BOUND * np.maximum.accumulate(worst) <= TOLERANCE
    return int(leads[within].max(initial=0))


def _about(products: Floats) -> Floats:
    sums = np.cumsum(np.cumsum(products[::-1], axis=0)[::-1][:, ::-1], axis=1)[:, ::-1]
    return np.pad(sums, ((0, 1), (0, 1)))


def _errors(gram: Floats, origins: Rows, length: int, leads: Rows) -> Floats:
    """Relative errors of forecasts from each origin by a fit on the rows before it, shape ``(origin, lead)``.

    Infinite where a fit fails or has fewer than five rows.
    """
    stride = _stride(length)
    errors = np.full((origins.size, leads.size), np.inf)
    counts = np.minimum(length, origins) // stride + 1
    for count in np.unique(counts[counts >= FEWEST_ROWS]):
        alike = counts == count
        errors[alike] = _errors_of(gram, origins[alike], int(count), stride, leads)
    return errors


def _errors_of(gram: Floats, origins: Rows, count: int, stride: int, leads: Rows) -> Floats:
    """Fit ``count`` rows before each origin, all origins at once."""
    rows = origins[:, None] - stride * np.arange(count - 1, -1, -1)
    both = np.concatenate([rows, origins[:, None] + leads], axis=1)
    towards = gram[both, origins[:, None]]
    about = gram[both[:, :, None], both[:, None, :]] - towards[:, :, None] - towards[:, None, :]
    about += gram[origins, origins][:, None, None]
    reduced = GramModes(about[:, :count, :count], 1).truncate(RTOL)
    states = states_at(reduced.operator, reduced.displacement, leads.astype(np.float64), stride)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = states @ reduced.coefficients.swapaxes(1, 2)
        inner = ((weights @ about[:, : count - 1, : count - 1]) * weights).sum(axis=2)
        across = (weights * about[:, count:, : count - 1]).sum(axis=2)
        moved = about[:, count:, count:].diagonal(axis1=1, axis2=2)
        squared = np.maximum(inner - 2 * across + moved, 0.0)
    tiny = np.finfo(np.float64).tiny
    return np.asarray(np.where(np.isfinite(squared), np.sqrt(squared / np.maximum(moved, tiny)), np.inf))
