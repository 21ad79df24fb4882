"""Which of the best fits a race takes the mean of."""

from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.hindcast import Candidate, line_rows, line_weights
from koopscope.members import LARGEST_CHANGE, Forecasts, is_believable
from koopscope.trajectory import from_arrays

LEADS = np.array([2, 5])


def line(share):
    return Candidate("linear", 0, 1, 1, 0.0, share)


def gram_about_end(snapshots):
    centred = snapshots - snapshots[-1]
    return centred @ centred.T


def test_most_central__leaves_out_what_strays():
    """Lines through ever less of a curve: nearest to all the others are those of middling length."""
    times = np.arange(41.0)
    snapshots = np.stack([times**2, np.sqrt(times), times], axis=1)
    groups = np.stack([gram_about_end(snapshots[:, :2]), gram_about_end(snapshots[:, 2:])])
    shares = (0.05, 0.3, 0.35, 0.4, 1.0)
    found = Forecasts([groups], LEADS).most_central([line(share) for share in shares], 3)
    used = [line_rows(40, share) for share in shares]
    ahead = np.array([LEADS[-1] * line_weights(rows) @ snapshots[rows] for rows in used])
    apart = np.linalg.norm(ahead[:, None] - ahead[None], axis=2).sum(axis=1)
    assert found == sorted(np.argsort(apart)[:3]) == [1, 2, 3]


def test_squared_changes__are_those_of_the_forecast(adadelta):
    """Against a fit and a forecast of the same settings."""
    statistics = koopscope.collect(adadelta, "network", method="auto")
    lag, t2 = statistics.grid.window.lag, statistics.grid.window.t2
    centred = statistics.grid.snapshots.astype(np.float64) - statistics.grid.snapshots[-1]
    gram = (centred @ centred.T)[None]
    fit = Candidate("affine", 0, 2, 5, 1e-3, 1.0)
    found = Forecasts([gram], 2 * LEADS).squared_changes(fit)
    single = koopscope.fit(adadelta, "network", t2=t2, lag=2 * lag, delays=5, rtol=1e-3)
    forecast = koopscope.predict(single, (2 * lag * LEADS).tolist())
    moved = [forecast[name] - adadelta[name].sel(step=t2) for name in forecast.data_vars]
    expected = sum((part.values.reshape(2, -1) ** 2).sum(axis=1) for part in moved)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "believed"),
    [([1.0, 4.0], True), ([1.0, 1.01 * 4.0], False), ([1.01, 0.0], False), ([np.nan, 1.0], False)],
)
def test_is_believable__no_farther_than_the_run_ever_moved(changes, believed):
    evolution = np.array([[0.2, 4.0], [1.0, 3.0]])
    assert is_believable(LARGEST_CHANGE**2 * np.array(changes), evolution) == believed


def test_backtest__fits_that_leap_at_t2_are_passed_over():
    """Slow growth is fitted well from every origin; a kick in the last rows sends some forecasts far off."""
    times = np.arange(801.0)
    kick = np.where(times > 780, 1e-3 * 1.6 ** (times - 780), 0.0)
    curve = np.exp(-times / 400)[:, None] * np.array([1.0, -2.0, 0.5, 3.0]) + kick[:, None]
    run = from_arrays(np.arange(801), {"a.weight": curve[:, None]})
    fit = koopscope.fit(run, "network", method="auto", t2=800)
    for lead in (20, 80, 160):  # from no origin the kick is in sight so soon
        moved = koopscope.predict(fit, lead)["a.weight"].values - curve[800]
        recorded = np.linalg.norm(curve[400 + lead : 601 + lead] - curve[400:601], axis=1).max()
        assert np.linalg.norm(moved) <= LARGEST_CHANGE * recorded
