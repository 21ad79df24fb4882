import numpy as np
import pytest

import koopscope
from koopscope.errors import ResultError
from koopscope.plots import plot_skill


@pytest.fixture(scope="module")
def race(run):
    return koopscope.backtest(run, "network", t2=600)


def _line(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def test_plot_skill__errors_of_the_forecast_and_the_baselines(inexact):
    ax = plot_skill(inexact)
    for label, name in (("forecast", "fit"), ("hold", "hold"), ("linear", "linear")):
        errors = inexact["relative_l2"].sel(forecast=name).to_numpy()
        np.testing.assert_array_equal(_line(ax, label).get_xdata(), [50, 100, 200])
        np.testing.assert_array_equal(_line(ax, label).get_ydata(), np.where(errors > 10, np.nan, errors))
    assert ax.get_yscale() == "log"


def test_plot_skill__the_promise_and_its_horizon(inexact, race):
    ax = plot_skill(inexact, backtest=race)
    np.testing.assert_array_equal(_line(ax, "horizon").get_xdata(), [race.attrs["horizon"]] * 2)
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(max(1e-6, race["error_bound"].values.max()))
    assert f"{race.attrs['horizon']} steps" in ax.get_title(loc="left")


def test_plot_skill__a_backtest_alone_without_a_horizon(race):
    poor = race.copy()
    poor["error_bound"] = race["error_bound"] * 0 + np.inf
    poor.attrs = race.attrs | {"horizon": 0}
    ax = plot_skill(poor)
    assert "no lead" in ax.get_title(loc="left")
    assert not [line for line in ax.lines if line.get_label() == "horizon"]


def test_plot_skill__diverged_forecasts_are_marked_at_the_border(diverged):
    ax = plot_skill(diverged)
    marked = [line for line in ax.lines if line.get_marker() == "^"]
    assert marked
    assert np.isfinite(ax.get_ylim()).all()


def test_plot_skill__takes_nothing_else(fitted, inexact, run):
    with pytest.raises(ResultError, match="verification"):
        plot_skill(fitted)
    with pytest.raises(ResultError, match="backtest"):
        plot_skill(inexact, backtest=run)
