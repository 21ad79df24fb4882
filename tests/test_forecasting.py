from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import ResultError, UsageError
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays


@pytest.mark.parametrize(
    ("partition", "method"), [("node", "affine"), ("network", "affine"), ("layer", "paper")]
)
def test_predict__lead_zero_is_w_t2_exactly(adadelta, partition, method):
    fit = koopscope.fit(adadelta, partition, method=method)
    forecast = koopscope.predict(fit, 0)
    for name in forecast:
        assert np.array_equal(forecast[name].values[0], adadelta[name].sel(step=fit.attrs["t2"]).values)


def test_predict__dims_coords_and_dtype():
    fit = koopscope.fit(linear_run(dtype="float32"), "node", t2=800, lag=10)
    forecast = koopscope.predict(fit, [5, 200])
    assert forecast["fc1.weight"].dims == ("lead", "fc1.weight.out", "fc1.weight.in")
    assert forecast["step"].values.tolist() == [805, 1000]
    assert forecast["fc1.weight"].dtype == np.float64


def test_predict__between_lags_interpolates_the_displacement():
    fit = koopscope.fit(linear_run(), "node", t2=800, lag=10)
    forecast = koopscope.predict(fit, [20, 24, 30])["fc1.weight"].values
    np.testing.assert_allclose(forecast[1], 0.6 * forecast[0] + 0.4 * forecast[2], rtol=0, atol=1e-14)


def test_predict__the_order_of_leads_does_not_matter():
    fit = koopscope.fit(linear_run(), "network", t2=800, lag=10)
    together = koopscope.predict(fit, [300, 7, 100])
    for position, lead in enumerate([300, 7, 100]):
        alone = koopscope.predict(fit, lead)
        assert np.array_equal(together["fc1.bias"].values[position], alone["fc1.bias"].values[0])


@pytest.mark.parametrize("lead", [-1, 1.5, [], [[1]], "10"])
def test_predict__leads_that_cannot_be_used(lead):
    fit = koopscope.fit(linear_run(), "node", t2=800, lag=10)
    with pytest.raises(UsageError, match="lead"):
        koopscope.predict(fit, lead)


def test_predict__not_a_fit():
    with pytest.raises(ResultError, match=r"koopscope\.fit"):
        koopscope.predict(linear_run(), 10)


def test_predict__a_diverging_forecast_is_flagged_not_raised():
    steps = np.arange(60)
    growing = np.exp(0.2 * steps)[:, None, None] * np.ones((1, 2, 2))
    run = from_arrays(steps, {"a.weight": growing})
    forecast = koopscope.predict(koopscope.fit(run, "node", t2=50, lag=1), [10, 100_000])
    assert forecast.attrs["diverged"] == [100_000]


def test_predict__warns_where_an_even_lag_cannot_see_an_alternation():
    steps = np.arange(200)
    values = np.exp(-0.01 * steps)[:, None] + 0.1 * (-1.0) ** steps[:, None] * np.array([1.0, -2.0])
    run = from_arrays(steps, {"a.bias": values})
    even, odd = (koopscope.fit(run, "layer", t2=150, lag=lag) for lag in (10, 11))
    with pytest.warns(UserWarning, match="odd lag such as 11"):
        koopscope.predict(even, 13)
    koopscope.predict(even, 14)
    koopscope.predict(odd, 13)


def noisy_line(n_rows=401, noise=0.5, seed=0):
    """A straight drift under white noise: means see it, single rows do not."""
    random = np.random.default_rng(seed)
    steps = np.arange(n_rows) * 2
    line = steps[:, None, None] * np.array([[1e-2, -2e-2, 3e-2]])
    return from_arrays(steps, {"a.weight": line + noise * random.normal(size=line.shape)})


def test_average__snapshots_are_means_of_rows():
    run = noisy_line()
    grid = koopscope.collect(run, "layer", t2=600, lag=40, average=8).grid
    assert grid.snapshots.dtype == np.float64
    for snapshot, row in zip(grid.snapshots, grid.window.grid_rows, strict=True):
        expected = run["a.weight"].values[row - 7 : row + 1].mean(axis=0).ravel()
        np.testing.assert_allclose(snapshot, expected, rtol=1e-13)
    assert np.array_equal(grid.last, run["a.weight"].sel(step=600).values.ravel())


def test_average__means_are_the_same_for_any_block_of_rows(monkeypatch):
    run = noisy_line()
    whole = koopscope.collect(run, "layer", t2=600, lag=40, average=8).grid
    monkeypatch.setattr("koopscope.statistics.strips.HELD_ROWS", 5)
    monkeypatch.setattr("koopscope.statistics.strips.PIECE_BYTES", 1)
    parts = koopscope.collect(run, "layer", t2=600, lag=40, average=8).grid
    assert np.array_equal(whole.snapshots, parts.snapshots)


def test_average__leads_count_from_the_middle_of_the_last_mean():
    """Without noise the line is exact, so the forecast must land on it whatever the averaging."""
    run = noisy_line(noise=0.0)
    for average in (1, 2, 9):
        fit = koopscope.fit(run, "layer", t2=600, lag=40, average=average)
        assert fit.attrs["origin_offset"] == average - 1
        forecast = koopscope.predict(fit, [0, 40, 120])
        truth = run["a.weight"].sel(step=[600, 640, 720]).values
        np.testing.assert_allclose(forecast["a.weight"].values, truth, rtol=0, atol=1e-9)


def test_average__stands_beside_the_mean_and_beats_single_rows_in_noise():
    run = noisy_line()
    errors = {}
    for average in (1, 40):
        fit = koopscope.fit(run, "layer", t2=600, lag=80, average=average, rank=1)
        errors[average] = koopscope.verify(fit, run, 200)
    assert errors[40]["forecast"].values.tolist() == ["fit", "hold", "linear", "mean"]
    assert float(errors[40]["skill_mean"][0]) > 0
    figures = {average: float(v["relative_l2"].sel(forecast="fit")[0]) for average, v in errors.items()}
    assert figures[40] < figures[1]


@pytest.mark.parametrize("settings", [{"average": 0}, {"average": 30, "lag": 40}])
def test_average__settings_that_cannot_be_used(settings):
    with pytest.raises(UsageError, match="average"):
        koopscope.fit(noisy_line(), "layer", t2=600, **settings)
