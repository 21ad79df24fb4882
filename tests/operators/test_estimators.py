"""Estimators other than least squares: known systems, a peer library's formulas, and degenerate groups."""

from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import UsageError, WindowError
from koopscope.fit_tree import fitted_blocks
from koopscope.operators import ESTIMATORS
from koopscope.simulation import CONTRACTION, ROTATION, linear_run
from koopscope.trajectory import from_arrays

METHODS = ["ridge", "tls", "fb", "optimised"]


@pytest.mark.parametrize("partition", ["network", "node"])
@pytest.mark.parametrize("method", METHODS)
def test_estimators__known_eigenvalues_are_recovered(method, partition):
    """Noise-free: every estimator must find the system itself."""
    rtol = 1e-9 if method == "ridge" else 1e-6
    run = linear_run(partition, drift=0.0)
    fit = koopscope.fit(run, partition, method=method, t2=300, lag=3, rtol=rtol)
    expected = np.array([ROTATION**3, np.conj(ROTATION) ** 3, CONTRACTION**3])
    for block in fitted_blocks(fit):
        for found in block["eigenvalue"].values[:, :3]:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    verification = koopscope.verify(fit, run, [1, 3, 90])
    assert verification["relative_l2"].sel(forecast="fit").isel(lead=[1, 2]).max() <= 1e-4


@pytest.mark.parametrize("method", ["tls", "fb", "optimised"])
def test_estimators__recording_noise_biases_them_less(method):
    """Least squares reads noise in the recording as decay; these allow for it."""
    run = linear_run("network", drift=0.0, n_rows=301)
    random = np.random.default_rng(1)
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        run[name][:] += 0.02 * random.normal(size=run[name].shape)

    def bias(method):
        fit = koopscope.fit(run, "network", method=method, t2=300, lag=1, rank=3)
        values = fit["network"]["eigenvalue"].values[0]
        return np.nanmin(np.abs(values - ROTATION))

    assert bias(method) < 0.5 * bias("affine")


@pytest.mark.parametrize("method", ["ridge", "affine"])
@pytest.mark.parametrize("seed", range(6))
def test_estimators__of_weights_that_depend_on_each_other_as_lapack(method, seed, monkeypatch):
    """Directions that are rounding must not count, however singular values are computed."""
    random = np.random.default_rng(seed)
    walk = random.normal(size=(60, 2)).cumsum(axis=0)
    factors = random.choice([1.0, -1.0, 2.0, 0.5, 3.0], size=8)
    weights = (walk[:, random.integers(0, 1 + seed % 2, 8)] * factors).astype("float32")
    run = from_arrays(np.arange(60), {"a.weight": weights[:, None]})
    settings = {"method": method, "t2": 59, "lag": 1}
    found = koopscope.fit(run, "node", **settings)
    monkeypatch.setattr("koopscope.operators.affine.LARGEST", 0)
    expected = koopscope.fit(run, "node", **settings)
    forecasts = [koopscope.predict(fit, 20)["a.weight"].values for fit in (found, expected)]
    np.testing.assert_allclose(*forecasts, rtol=1e-9)
    if seed % 2 == 0:  # all are multiples of one
        np.testing.assert_allclose(
            forecasts[0].ravel() / factors, forecasts[0].ravel()[0] / factors[0], rtol=1e-6
        )


def test_tls__equals_projection_by_hand():
    random = np.random.default_rng(2)
    now, following = random.normal(size=(2, 1, 30, 4))
    kept = np.ones((1, 4), bool)
    found = ESTIMATORS["tls"](now, following, kept, rtol=0.0)[0]
    # The classical solution from the right singular vectors of [X Y]: K^T = -V12 V22^-1.
    right = np.linalg.svd(np.concatenate([now[0], following[0]], axis=1))[2].T
    expected = (-right[:4, 4:] @ np.linalg.inv(right[4:, 4:])).T
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_ridge__grows_from_least_squares_to_nothing():
    run = linear_run("network")
    size = [
        np.linalg.norm(
            koopscope.fit(run, "network", method="ridge", t2=800, rtol=rtol)["network"]["operator"]
        )
        for rtol in (1e-6, 1e-2, 0.5)
    ]
    assert size[0] > size[1] > size[2]


@pytest.mark.parametrize("method", ["affine", *METHODS])
@pytest.mark.parametrize("partition", ["network", "node"])
def test_estimators__frozen_and_rounding_noise_groups_are_defined(method, partition):
    """Dead weights, a whole frozen layer, and a weight that only flickers in its last bit."""
    run = linear_run("network", dtype="float32")
    run["fc1.weight"][:] = run["fc1.weight"][0]
    run["fc1.bias"][:] = run["fc1.bias"][0]
    flicker = np.nextafter(np.float32(1.0), np.float32(2.0)) - np.float32(1.0)
    run["fc1.bias"][:, 0] = 1.0 + flicker * (np.arange(run.sizes["step"]) % 3 == 0)
    fit = koopscope.fit(run, partition, method=method, t2=400, lag=5)
    forecast = koopscope.predict(fit, [5, 100])
    assert all(np.isfinite(forecast[name]).all() for name in forecast)
    assert np.all(forecast["fc1.weight"] == run["fc1.weight"][0])
    assert np.all(np.abs(forecast["fc1.bias"][:, 0] - 1.0) < 1e-5)


@pytest.mark.parametrize("method", ["affine", *METHODS])
def test_estimators__more_weights_than_snapshots(method):
    """From three snapshots of 60 weights on: finite, and of a rank that the pairs can hold."""
    random = np.random.default_rng(4)
    rows = np.cumsum(random.normal(size=(9, 6, 10)), axis=0)
    run = from_arrays(np.arange(9), {"a.weight": rows})
    for t2 in (2, 3, 4, 8):
        fit = koopscope.fit(run, "network", method=method, t2=t2, lag=1)
        assert int(fit["network"]["rank"][0]) < t2
        assert np.isfinite(koopscope.predict(fit, 1)["a.weight"]).all()


def test_stabilise__damps_an_unstable_fit_by_hold_out(adam):
    plain = koopscope.fit(adam, "node", method="tls")
    stable = koopscope.fit(adam, "node", method="tls", stabilise=True)
    assert stable.attrs["damping"] > 0
    assert plain.attrs["damping"] == 0
    last = int(adam.step[-1]) - plain.attrs["t2"]
    errors = [
        float(koopscope.verify(fit, adam, last)["relative_l2"].sel(forecast="fit")[0])
        for fit in (plain, stable)
    ]
    assert errors[1] < errors[0]
    for before, after in zip(fitted_blocks(plain), fitted_blocks(stable), strict=True):
        shrunk = (1 - stable.attrs["damping"]) * before["operator"].values
        np.testing.assert_array_equal(after["operator"].values, shrunk)
        np.testing.assert_array_equal(after["displacement"].values, before["displacement"].values)


def test_stabilise__leaves_an_exact_fit_alone():
    assert koopscope.fit(linear_run(), "node", t2=800, lag=10, stabilise=True).attrs["damping"] == 0


def test_stabilise__where_it_cannot_be():
    with pytest.raises(UsageError, match="auto"):
        koopscope.fit(linear_run(), method="auto", stabilise=True)
    with pytest.raises(WindowError, match="stabilising"):
        koopscope.fit(linear_run(), "node", t2=50, lag=10, stabilise=True)


@pytest.mark.parametrize(
    ("settings", "match"), [({"rank": 2, "method": "paper"}, "rank"), ({"method": "best"}, "ridge")]
)
def test_fit__methods_that_cannot_be(settings, match):
    with pytest.raises(UsageError, match=match):
        koopscope.fit(linear_run(), "node", **settings)
