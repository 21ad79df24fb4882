"""Operators against float64 twins written from the formulas, on real recordings and on known systems."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import koopscope
from koopscope.eigen import decompose
from koopscope.fit_tree import fitted_blocks
from koopscope.operators import mix_operators, solve_delay, straight_operators
from koopscope.simulation import CONTRACTION, ROTATION, linear_run

EPS = np.finfo(np.float64).eps
PARTITIONS = ["network", "layer", "node", "quasi-node:4", "weight", "node,fc2=quasi-node:5"]


def groups_of(fit):
    for block in fitted_blocks(fit):
        for group in range(block.sizes["group"]):
            yield block.isel(group=group)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("recording", ["adadelta", "adam"])
def test_paper__equals_twin_on_real_recordings(partition, recording, request):
    statistics = koopscope.collect(request.getfixturevalue(recording), partition, method="paper")
    fit = koopscope.fit(statistics, method="paper")
    for group in groups_of(fit):
        snapshots = statistics.grid.snapshots[:, group["member_index"].values]
        twin, singular = reference.paper_operator(snapshots)
        condition = singular[0] / singular[-1]
        error = np.linalg.norm(group["operator"].values - twin) / np.linalg.norm(twin)
        assert error <= max(1e-9, EPS * condition)


def test_paper__wide_groups_forecast_as_the_dense_operator(adadelta):
    """More weights than snapshots: the reduced form against U^m w with the d x d matrix."""
    first = int(adadelta.step[0])
    fit = koopscope.fit(adadelta, "network", method="paper", t1=first, t2=first + 300)
    group = next(groups_of(fit))
    assert "basis" in group
    snapshots = koopscope.collect(
        adadelta, "network", method="paper", t1=first, t2=first + 300
    ).grid.snapshots
    twin, _ = reference.paper_operator(snapshots)
    last = snapshots[-1].astype(np.float64)
    lag = fit.attrs["lag"]
    for count in (1, 2, 5):
        expected = np.linalg.matrix_power(twin, count) @ last
        forecast = koopscope.predict(fit, count * lag)
        found = np.concatenate([forecast[slot["name"]].values.ravel() for slot in fit.attrs["tensors"]])
        # Both solve the same near-singular problem (condition about 1e7); they agree to eps times that.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("delays", [1, 4, 10])
@pytest.mark.parametrize(("rtol", "tolerance"), [(1e-3, 1e-8), (1e-4, 1e-7), (1e-5, 1e-6), (1e-6, 1e-5)])
def test_affine__gram_road_equals_svd_of_the_data(adadelta, delays, rtol, tolerance):
    """Tolerances are 1e-11/rtol, the loss that squaring the data must bring."""
    fit = koopscope.fit(adadelta, "network", delays=delays, rtol=rtol)
    statistics = koopscope.collect(adadelta, "network", delays=delays)
    lag = fit.attrs["lag"]
    forecast = koopscope.predict(fit, 20 * lag)
    found = np.concatenate([forecast[slot["name"]].values.ravel() for slot in fit.attrs["tensors"]])
    snapshots = statistics.grid.snapshots
    expected = reference.affine_forecast(snapshots, 20, rtol=rtol, delays=delays)
    moved = found - snapshots[-1]
    assert np.linalg.norm(moved - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("many", [1, 10**9])  # groups that deserve kernels of their own
@pytest.mark.parametrize("partition", ["layer", "node", "quasi-node:4", "weight"])
def test_affine__triangle_road_equals_svd_of_the_data(adam, partition, many, monkeypatch):
    monkeypatch.setattr("koopscope.solving.MANY_GROUPS", many)
    fit = koopscope.fit(adam, partition, lag=30, rtol=1e-6)
    snapshots = koopscope.collect(adam, partition, lag=30).grid.snapshots
    forecast = koopscope.predict(fit, 300)
    flat = np.concatenate([forecast[slot["name"]].values.ravel() for slot in fit.attrs["tensors"]])
    for group in groups_of(fit):
        assert "basis" not in group
        members = group["member_index"].values
        expected = reference.affine_forecast(snapshots[:, members], 10, rtol=1e-6)
        moved = flat[members] - snapshots[-1, members]
        assert np.linalg.norm(moved - expected) <= 1e-9 * max(np.linalg.norm(expected), 1e-9)


@pytest.mark.parametrize("partition", ["network", "layer", "node", "quasi-node:3", "weight"])
def test_affine__known_system_is_recovered(partition):
    """Contraction, rotation and drift, judged where the evolution is still well above rounding."""
    run = linear_run(partition)
    fit = koopscope.fit(run, partition, t2=150, lag=2, rtol=1e-12)
    verification = koopscope.verify(fit, run, [2, 50, 250])
    # QR road 1e-8; the network and the wider layer go through the Gram matrix, 1e-6.
    on_gram = any("basis" in block for block in fitted_blocks(fit))
    assert verification["relative_l2"].sel(forecast="fit").max() <= (1e-6 if on_gram else 1e-8)


@pytest.mark.parametrize("partition", ["network", "node"])
def test_affine__known_eigenvalues_are_recovered(partition):
    fit = koopscope.fit(linear_run(partition, drift=0.0), partition, t2=400, lag=3, rtol=1e-9)
    expected = np.array([ROTATION**3, np.conj(ROTATION) ** 3, CONTRACTION**3])
    for group in groups_of(fit):
        found = group["eigenvalue"].values[:3]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if partition == "network" else 1e-8)


@pytest.mark.parametrize("partition", ["network", "node"])
def test_paper__known_system_is_recovered(partition):
    """Three moving directions and the constant one: a linear map without intercept fits from 4 weights on."""
    run = linear_run(partition, drift=0.0)
    fit = koopscope.fit(run, partition, method="paper", t2=150, lag=2, rtol=1e-10)
    truth = 1e-8 if partition == "node" else 1e-6
    for name, block in zip(fit.attrs["blocks"], fitted_blocks(fit), strict=True):
        assert block.sizes["member"] >= 4
        figures = koopscope.verify(fit, run, 100)["groups"][name]["relative_l2"].sel(forecast="fit")
        assert figures.max() <= truth


@pytest.mark.parametrize(
    ("partition", "delays"), [("node", 1), ("network", 1), ("network", 3), ("weight", 1)]
)
def test_affine__frozen_weights_stay_where_they_are(partition, delays):
    run = linear_run("network")
    run["fc1.weight"][:, 1, :] = run["fc1.weight"][0, 1, :]
    run["fc1.bias"][:, 1] = run["fc1.bias"][0, 1]
    run["fc2.bias"][:, 0] = 0.0
    forecast = koopscope.predict(koopscope.fit(run, partition, t2=800, lag=10, delays=delays), [10, 1000])
    assert np.all(forecast["fc1.weight"][:, 1] == run["fc1.weight"][0, 1])
    assert np.all(forecast["fc1.bias"][:, 1] == run["fc1.bias"][0, 1])
    assert np.all(forecast["fc2.bias"][:, 0] == 0.0)
    assert all(np.isfinite(forecast[name]).all() for name in forecast)


def test_affine__rank_limits_the_directions(adadelta):
    fit = koopscope.fit(adadelta, "network", rank=3)
    assert fit["network"]["rank"].values.tolist() == [3]
    assert np.count_nonzero(~np.isnan(fit["network"]["eigenvalue"].values)) == 3


def test_residual__separates_true_from_spurious():
    """On an exact system the true modes predict themselves; noise directions do not."""
    run = linear_run("node", drift=0.0)
    random = np.random.default_rng(5)
    run["fc1.weight"][:] += 1e-4 * random.normal(size=run["fc1.weight"].shape)
    fit = koopscope.fit(run, "node", t2=800, lag=2, rtol=1e-9)
    table = koopscope.spectrum(fit)
    exact = table.isel(eigenvalue=table["path"].values == "fc2")
    assert exact["residual"].max() < 1e-8
    noisy = table.isel(eigenvalue=table["path"].values == "fc1")
    assert noisy["residual"].max() > 0.5


def test_mix_operators__modes_are_those_of_the_block_diagonal_operator():
    """Decomposed member by member; the operator written out is the mean of both, and has the same modes."""
    random = np.random.default_rng(5)
    snapshots = np.cumsum(random.normal(size=(2, 7, 30)), axis=2)
    about = snapshots - snapshots[:, :, -1:]
    gram = about.swapaxes(1, 2) @ about
    grid, members = snapshots.reshape(14, 30).T, np.arange(14).reshape(2, 7)
    fits = [solve_delay(gram, grid, members, delays=delays, rtol=1e-2, rank=3) for delays in (1, 4)]
    line = straight_operators(random.normal(size=(2, 7)), snapshots[:, :, -1])
    mixed = mix_operators([*fits, line])
    found = decompose(mixed)
    values, vectors = np.linalg.eig(mixed.operator)
    for group in range(2):
        order = np.argsort(-np.abs(values[group]), kind="stable")
        np.testing.assert_allclose(np.abs(found.eigenvalue[group]), np.abs(values[group][order]), rtol=1e-9)
        share = np.linalg.solve(vectors[group], mixed.displacement[group].astype(complex))
        length = np.abs(share) * np.linalg.norm(mixed.basis[group] @ vectors[group], axis=0)
        np.testing.assert_allclose(np.sort(found.amplitude[group]), np.sort(length), rtol=1e-7, atol=1e-12)
    residuals = np.concatenate([decompose(fit).residual for fit in fits], axis=1)
    assert set(np.round(residuals.ravel(), 12)) <= set(np.round(found.residual.ravel(), 12))
