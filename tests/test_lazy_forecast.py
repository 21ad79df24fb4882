"""Forecasts beyond the memory budget, against the same ones held in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import koopscope
from koopscope import parallel
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays


@pytest.mark.parametrize("partition", ["network", "node", "quasi-node:2", "layer"])
@pytest.mark.parametrize("drop", [None, "oscillating"])
def test_predict__beyond_the_budget_gives_the_same_weights(partition, drop, monkeypatch):
    fit = koopscope.fit(linear_run(), partition, t2=800, lag=10)
    leads = [0, 5, 200, 40]
    held = koopscope.predict(fit, leads, drop=drop)
    monkeypatch.setattr(parallel, "MEMORY_BUDGET", 100)
    lazy = koopscope.predict(fit, leads, drop=drop)
    # A product for one lead rounds differently from one for all: sums of a few terms of size one.
    for name in held:
        assert lazy[name].dims == held[name].dims
        np.testing.assert_allclose(lazy[name][2:].values, held[name][2:].values, rtol=0, atol=1e-14)
        np.testing.assert_allclose(lazy[name][:, ::2].values, held[name][:, ::2].values, rtol=0, atol=1e-14)
    assert lazy.attrs == held.attrs


def test_save__beyond_the_budget_writes_lead_by_lead(monkeypatch, tmp_path):
    fit = koopscope.fit(linear_run(), "network", t2=800, lag=10)
    held = koopscope.predict(fit, [10, 20, 30])
    monkeypatch.setattr(parallel, "MEMORY_BUDGET", 100)
    koopscope.save(koopscope.predict(fit, [10, 20, 30]), tmp_path / "forecast.zarr")
    loaded = koopscope.load(tmp_path / "forecast.zarr")
    assert loaded.attrs == held.attrs
    for name in held.variables:
        np.testing.assert_allclose(loaded[name].values, held[name].values, rtol=0, atol=1e-14)
    assert not list(tmp_path.glob(".*"))


def wide_run(n_rows=41, units=400, width=500, dtype="float32"):
    """200 000 weights that decay along three directions."""
    random = np.random.default_rng(0)
    decays = np.exp(-np.outer(np.arange(n_rows), [0.01, 0.03, 0.1]))
    values = decays @ random.normal(size=(3, units * width))
    return from_arrays(np.arange(n_rows), {"fc.weight": values.astype(dtype).reshape(n_rows, units, width)})


def test_predict__many_leads_of_a_wide_network_hold_one_at_a_time(monkeypatch):
    run = wide_run()
    fit = koopscope.fit(run, "network", t2=40, lag=1, rank=3)
    row = 200_000 * 8
    monkeypatch.setattr(parallel, "MEMORY_BUDGET", 20 * row)
    tracemalloc.start()
    try:
        forecast = koopscope.predict(fit, np.arange(1, 101))
        last = float(forecast["fc.weight"].isel(lead=99).mean())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(last)
    # The forecast is a hundred rows; held are what one is made of, and masks and indices of a row each.
    assert peak < 16 * row


def test_fit__a_wide_network_never_widens_all_its_snapshots():
    run = wide_run()
    koopscope.fit(run, "network", t2=40, lag=1, rank=3)  # what is loaded and compiled once
    tracemalloc.start()
    try:
        koopscope.fit(run, "network", t2=40, lag=1, rank=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    grid = 41 * 200_000 * 4
    # The grid in float32, the last rows as much again, a basis and a few rows in float64; widened, the grid
    # alone would be another two of them, and three more of it while the basis is made.
    assert peak < 3.5 * grid
