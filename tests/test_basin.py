from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope import following
from koopscope.basin_criteria import judge_windows, slices
from koopscope.errors import UsageError, WindowError
from koopscope.following import BasinFollower
from koopscope.recent_windows import RecentWindows
from koopscope.simulation import KINDS, linear_run, settling_run
from koopscope.statistics import IncrementGrams, gram_about_last
from koopscope.surrogates import judge_contraction
from koopscope.weight_vector import WeightVector
from koopscope.window_fits import fit_windows


def flat(run):
    weights = WeightVector.of(run)
    return np.concatenate(
        [run[slot.name].to_numpy().reshape(run.sizes["step"], -1) for slot in weights.tensors], axis=1
    ).astype(np.float64)


def products_of(values):
    increments = np.diff(values, axis=0)
    return increments @ increments.T


@pytest.mark.parametrize(
    ("kind", "rate", "settles"),
    [
        ("contraction", 3 / 300, True),
        ("ornstein-uhlenbeck", 0.02, True),
        ("drift", 0.01, False),
        ("walk", 0.01, False),
        ("power", 0.01, False),
        ("log", 0.01, False),
        ("oscillation", 0.01, False),
        ("growth", 0.01, False),
    ],
)
def test_find_basin__known_runs(kind, rate, settles):
    assert kind in KINDS
    basin = koopscope.find_basin(settling_run(kind, rate=rate))
    assert bool(np.isfinite(basin["entry_step"]).all()) == settles
    assert basin.attrs["stochastic"] == (kind in ("walk", "ornstein-uhlenbeck"))


def test_find_basin__unit_circle_holds_for_a_drift_too():
    basin = koopscope.find_basin(settling_run("drift"))
    assert basin["on_unit_circle"].all()
    assert not basin["in_basin"].any()


def test_find_basin__rounding_is_no_motion():
    """A run that has converged in float32 moves by rounding alone: that is at rest, not noise."""
    basin = koopscope.find_basin(settling_run("contraction", rate=30 / 300, dtype="float32"))
    assert not basin.attrs["stochastic"]
    assert bool(basin["in_basin"][0, -1])


def test_find_basin__windows_are_fits_of_their_own_rows():
    """A window's spectral radius is that of a least-squares fit on its rows, computed from the weights."""
    run = settling_run("contraction", rate=3 / 300)
    basin = koopscope.find_basin(run).isel(group=0, window=17)
    rows = slice(int(basin["window_start"]), int(basin["window_end"]) + 1, basin.attrs["lag"])
    values = flat(run)[rows]
    now, following = (part - part.mean(axis=0) for part in (values[:-1], values[1:]))
    left, singular, right = np.linalg.svd(now, full_matrices=False)
    rank = int(np.isfinite(basin["window_eigenvalue"]).sum())
    reduced = (left[:, :rank] / singular[:rank]).T @ following @ right[:rank].T
    expected = np.sort(np.abs(np.linalg.eigvals(reduced)))[::-1]
    # Squaring in the Gram matrix leaves half of the digits of directions a millionth of the first.
    np.testing.assert_allclose(np.abs(basin["window_eigenvalue"][:rank]), expected, atol=1e-6)


def test_find_basin__groups_and_statistics():
    run = linear_run(drift=0, n_rows=801)
    basin = koopscope.find_basin(run, "node")
    assert basin.sizes["group"] == 6
    assert list(basin["path"].values) == ["fc1"] * 4 + ["fc2"] * 2
    statistics = koopscope.collect(run, "node", t1=0, t2=800, lag=basin.attrs["lag"])
    again = koopscope.find_basin(statistics, window=basin.attrs["window"])
    np.testing.assert_array_equal(again["in_basin"], basin["in_basin"])


def test_find_basin__suggestions_lie_in_the_recording():
    basin = koopscope.find_basin(settling_run("power"))
    found = basin.attrs["suggested"]
    assert 0 <= found["t1"] < found["t2"] == 1500
    assert 20 <= (found["t2"] - found["t1"]) / found["lag"] <= 50
    fit = koopscope.fit(
        settling_run("power"), "network", **{name: found[name] for name in ("t1", "t2", "lag")}
    )
    assert fit.attrs["lag"] == found["lag"]


def test_find_basin__entry_is_not_before_the_run_settles():
    drift, settling = settling_run("drift"), settling_run("contraction", rate=6 / 300)
    names = ("fc.weight", "fc.bias")
    values = {}
    for name in names:  # 600 steps straight on, then the contraction
        early = drift[name].to_numpy()[:601] * 20
        late = settling[name].to_numpy()[: 1501 - 600]
        values[name] = np.concatenate([early - early[-1] + late[0], late[1:]])
    run = settling.assign({name: (settling[name].dims, values[name], settling[name].attrs) for name in names})
    basin = koopscope.find_basin(run).isel(group=0)
    assert float(basin["entry_low"]) <= 600 <= float(basin["entry_high"]) + 300


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"window": 30, "lag": 10}, WindowError), ({"window": 3000}, WindowError), ({"lag": -1}, UsageError)],
)
def test_find_basin__windows_that_cannot_be(settings, error):
    with pytest.raises(error):
        koopscope.find_basin(settling_run("drift"), **settings)


def test_fit_windows__recovers_rates_and_the_fixed_point():
    run = settling_run("contraction", rate=3 / 300)
    values = flat(run)[::10]
    products = products_of(values)
    fits = fit_windows(slices(products, 30), 0.0)
    np.testing.assert_allclose(fits.spectral_radius, np.exp(-3 / 300 * 10), atol=1e-6)
    final = flat(settling_run("contraction", rate=3 / 300, n_rows=20_001))[-1]
    for window in (0, 60, 120):
        increments = np.diff(values[window : window + 31], axis=0)
        resting = values[window + 30] + fits.fixed_point[window] @ increments
        np.testing.assert_allclose(resting, final, atol=1e-6)


def test_slices__are_windows_of_increments():
    values = np.random.default_rng(0).normal(size=(20, 3))
    own = slices(products_of(values), 6)
    np.testing.assert_allclose(own[4], products_of(values[4:11]), atol=1e-12)
    assert gram_about_last(IncrementGrams(own)).shape == (14, 7, 7)


def test_judge_contraction__walks_are_not_called():
    """At p <= 0.02 a walk is called by chance in up to 4 % (two tests): of 5 seeds at most 1 (p < 0.02)."""
    called = [
        judge_contraction(products_of(flat(settling_run("walk", seed=seed))[::10])).contracting
        for seed in range(5)
    ]
    assert sum(called) <= 1
    pulled = judge_contraction(products_of(flat(settling_run("ornstein-uhlenbeck", rate=0.05))[::10]))
    assert pulled.contracting
    assert pulled.modes >= 1


@pytest.mark.parametrize(
    ("kind", "partition"),
    [("contraction", "network"), ("drift", "network"), ("power", "network"), ("contraction", "node")],
)
def test_follower__gives_the_verdicts_of_find_basin(kind, partition):
    run = settling_run(kind, rate=3 / 300)
    basin = koopscope.find_basin(run, partition)
    snapshots = flat(run)[::10]
    follower = BasinFollower(WeightVector.of(run), partition, 10, 30, None)
    tables = [follower.add(snapshots[start : start + 7], 10 * start) for start in range(0, 151, 7)]
    found = [table for table in tables if table is not None]
    for name in ("in_basin", "predictable", "contracting", "fixed_point_agrees"):
        joined = np.concatenate([table[name].to_numpy() for table in found], axis=1)
        np.testing.assert_array_equal(joined, basin[name], err_msg=name)
    ends = np.concatenate([table["window_end"].to_numpy() for table in found])
    np.testing.assert_array_equal(ends, basin["window_end"])
    np.testing.assert_array_equal(found[-1]["entry_step"], basin["entry_step"])


def test_recent_windows__judge_as_all_windows_at_once():
    """A ring of 40 increments that 100 went through, in portions, against the last 40 alone."""
    random, m = np.random.default_rng(2), 8
    values = np.exp(-0.05 * np.arange(101))[:, None] * random.normal(size=(1, 5))
    values = values + 1e-4 * random.normal(size=(101, 5))
    increments = np.diff(values, axis=0)
    recent = RecentWindows(5, m, 40)
    start = 0
    for count in (3, 1, 8, 7, 2, 8, 8, 5, 8, 8, 8, 8, 8, 8, 8, 2):
        recent.extend(increments[start : start + count], 0.0)
        start += count
    assert (start, recent.kept) == (100, 40)
    last = increments[-40:]
    np.testing.assert_allclose(recent.products, last @ last.T, rtol=0, atol=1e-15)
    for first in (0, 11):
        expected, found = judge_windows(recent.products[first:, first:], m, 0.0), recent.judge(first, 0.0)
        np.testing.assert_allclose(found.fits.eigenvalue, expected.fits.eigenvalue, atol=1e-12)
        for name in ("predictable", "contracting", "fixed_point_agrees", "in_basin"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_follow_basin__many_rows_are_read_in_portions(tmp_path, monkeypatch):
    run = settling_run("contraction", rate=3 / 300)
    with koopscope.TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        for step in range(1501):
            writer.append(step, {name: run[name].to_numpy()[step] for name in ("fc.weight", "fc.bias")})
    monkeypatch.setattr(following, "_BYTES_AT_ONCE", 200 * 20 * 8)  # 200 rows of 20 weights
    tables = list(koopscope.follow_basin(tmp_path / "run.zarr", poll=0, patience=0))
    assert len(tables) > 3
    joined = np.concatenate([table["in_basin"].to_numpy() for table in tables], axis=1)
    np.testing.assert_array_equal(joined, koopscope.find_basin(run)["in_basin"])


def test_follow_basin__rows_that_arrive(tmp_path):
    run = settling_run("contraction", rate=3 / 300)
    columns = {name: run[name].to_numpy() for name in ("fc.weight", "fc.bias")}
    path = tmp_path / "run.zarr"
    with koopscope.TrajectoryWriter(path, layout="torch") as writer:

        def record(first, stop):
            for step in range(first, stop):
                writer.append(step, {name: values[step] for name, values in columns.items()})

        record(0, 400)
        news = koopscope.follow_basin(path, window=300, lag=10, poll=0, patience=0)
        assert int(next(news)["window_end"][-1]) == 390
        record(400, 1501)
        later = next(news)
        assert int(later["window_end"][0]) == 400
        assert int(later["window_end"][-1]) == 1500
        assert list(news) == []
    np.testing.assert_array_equal(later["in_basin"], koopscope.find_basin(run)["in_basin"][:, 10:])
