"""Fits of a short lag written as fits of a longer one."""

from __future__ import annotations

import numpy as np
import pytest

from koopscope.eigen import decompose
from koopscope.operators import coarsen, increment_scale, solve_delay, states_at
from koopscope.simulation import linear_run


def snapshots_and_fit(delays, noise=0.0, rtol=1e-4):
    run = linear_run("network")
    rows = np.concatenate([run[name].values.reshape(run.sizes["step"], -1) for name in run.data_vars], axis=1)
    grid = rows[:401:5].astype(np.float64)
    grid += noise * np.random.default_rng(2).normal(size=grid.shape)
    centred = grid - grid[-1]
    gram = (centred @ centred.T)[None]
    members = np.arange(grid.shape[1])[None]
    return gram, solve_delay(gram, grid, members, delays=delays, rtol=rtol)


@pytest.mark.parametrize("delays", [1, 3])
@pytest.mark.parametrize("times", [2, 3])
def test_coarsen__forecasts_at_multiples_of_the_longer_lag_are_the_same(delays, times):
    gram, fine = snapshots_and_fit(delays, noise=1e-3)
    coarse = coarsen(fine, times, scale=increment_scale(gram, times))
    counts = np.arange(1, 9)
    found = states_at(coarse.operator, coarse.displacement, counts.astype(float), 1)
    expected = states_at(fine.operator, fine.displacement, times * counts.astype(float), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_coarsen__eigenvalues_are_powers_and_residuals_those_over_the_longer_lag():
    gram, fine = snapshots_and_fit(1, rtol=1e-6)
    coarse = coarsen(fine, 2, scale=increment_scale(gram, 2))
    short, long = decompose(fine), decompose(coarse)
    order = np.argsort(-np.abs(short.eigenvalue[0] ** 2), kind="stable")
    np.testing.assert_allclose(np.abs(long.eigenvalue[0]), np.abs(short.eigenvalue[0, order]) ** 2, rtol=1e-9)
    # Four modes of the linear system, and rounding: what holds over one lag holds as well over two.
    assert np.all(long.residual[0, :4] < 1e-9)
    np.testing.assert_allclose(long.residual[0, 4], short.residual[0, 4], rtol=0.1)


def test_coarsen__pairs_are_the_states_so_many_rows_apart():
    gram, fine = snapshots_and_fit(2, noise=1e-2)
    coarse = coarsen(fine, 3, scale=increment_scale(gram, 3))
    n = fine.pairs_now.shape[1]
    states = np.concatenate([
        fine.pairs_now[0],
        fine.pairs_next[0, -1:] + fine.drift[0] / np.sqrt(n),
    ])  # fmt: skip
    starts, ends = states[:-3], states[3:]
    np.testing.assert_allclose(coarse.pairs_now[0], starts - starts.mean(0), atol=1e-9 * np.abs(states).max())
    np.testing.assert_allclose(coarse.pairs_next[0], ends - ends.mean(0), atol=1e-9 * np.abs(states).max())
    change = (ends - starts).mean(0) * np.sqrt(len(starts))
    np.testing.assert_allclose(coarse.drift[0], change, atol=1e-9 * np.abs(change).max())


def test_increment_scale__is_the_distance_of_snapshots():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    gram = ((rows - rows[-1]) @ (rows - rows[-1]).T)[None]
    for apart in (1, 2, 5):
        expected = np.sqrt(np.mean(np.sum((rows[apart:] - rows[:-apart]) ** 2, axis=1)))
        assert increment_scale(gram, apart)[0] == pytest.approx(expected, rel=1e-12)
