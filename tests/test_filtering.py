"""Forecasts without oscillating modes, on runs whose oscillation is known."""

import numpy as np
import pytest

import koopscope
from koopscope.errors import UsageError
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays

FLIP = -0.995


def alternating(n_rows=601, flip=FLIP):
    """Record a node that contracts, drifts and flips; return it with its part that does not flip."""
    random = np.random.default_rng(5)
    times = np.arange(n_rows)[:, None]
    mixing = np.linalg.qr(random.normal(size=(6, 6)))[0]
    smooth = 0.99**times * mixing[0] + 1e-3 * times * mixing[1] + random.normal(size=6)
    weights = smooth + 0.3 * flip**times * mixing[2]
    return from_arrays(times[:, 0], {"fc.weight": weights[:, None]}, losses(weights)), smooth


def losses(weights):
    return {"loss": np.sum(weights**2, axis=1)}


def loss(params):
    return float(np.sum(params["fc.weight"] ** 2))


@pytest.mark.parametrize("settings", [{"lag": 1}, {"lag": 5}, {"lag": 5, "delays": 3, "rtol": 1e-6}])
def test_predict__drops_the_oscillation_and_nothing_else(settings):
    run, smooth = alternating()
    fit = koopscope.fit(run, "node", t2=400, **settings)
    leads = [0, 1, 10, 101, 200]
    filtered = koopscope.predict(
        fit, [lead for lead in leads if lead % settings["lag"] == 0], drop="oscillating"
    )
    found = filtered["fc.weight"].values[:, 0]
    # The Gram road of the delays is good to 1e-6; the others to rounding.
    np.testing.assert_allclose(found, smooth[400 + filtered["lead"].values], atol=1e-5)
    assert filtered.attrs["dropped"] == "oscillating"


def test_predict__without_oscillation_the_filter_changes_nothing():
    fit = koopscope.fit(linear_run(), "node", t2=800, lag=10)
    plain, filtered = (koopscope.predict(fit, [0, 7, 200], drop=drop) for drop in (None, "oscillating"))
    for name in ("fc1.weight", "fc2.bias"):
        np.testing.assert_allclose(filtered[name], plain[name], atol=1e-12)


def test_verify__the_filtered_forecast_has_figures_of_its_own():
    run, smooth = alternating()
    fit = koopscope.fit(run, "node", t2=400, lag=1)
    verification = koopscope.verify(fit, run, 100, loss=loss, drop="oscillating")
    true = run["fc.weight"].values[500, 0]
    evolution = np.linalg.norm(true - run["fc.weight"].values[400, 0])
    expected = np.linalg.norm(smooth[500] - true) / evolution
    assert float(verification["relative_l2"].sel(forecast="filtered")[0]) == pytest.approx(expected, rel=1e-4)
    assert float(verification["relative_l2"].sel(forecast="fit")[0]) < 1e-6
    figures = verification["loss"].sel(lead=100)
    assert float(figures["loss_filtered"]) == pytest.approx(np.sum(smooth[500] ** 2), rel=1e-4)
    assert float(figures["loss_forecast"]) == pytest.approx(run["loss"].values[500], rel=1e-4)
    assert set(figures.data_vars) >= {"t_eq_filtered", "t_eq_ratio_filtered", "t_eq_censored_filtered"}
    assert "skill_filtered" not in verification.data_vars


def test_predict__warns_where_the_lag_cannot_see_the_oscillation():
    run, _ = alternating(flip=-1.0)
    fit = koopscope.fit(run, "node", t2=400, lag=4)
    with pytest.warns(UserWarning, match="fit with an odd lag such as 5"):
        koopscope.predict(fit, 100, drop="oscillating")


def test_predict__names_the_filters_there_are():
    fit = koopscope.fit(linear_run(), "node", t2=800, lag=10)
    with pytest.raises(UsageError, match="one of oscillating; got 'noise'"):
        koopscope.predict(fit, 10, drop="noise")
