import numpy as np
import pytest
import zarr

import koopscope
from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory import TrajectoryWriter, open_trajectory


def of_runs(step, runs=3):
    weights = np.random.default_rng(step).normal(size=(runs, 4, 2)).astype("f4")
    return {"fc.weight": weights, "fc.bias": weights[..., 0]}, np.arange(runs) + step


def assert_runs(path, rows):
    trajectory = open_trajectory(path)
    expected = [of_runs(step) for step in range(rows)]
    assert trajectory["fc.weight"].dims == ("run", "step", "fc.weight.out", "fc.weight.in")
    assert trajectory["fc.weight"].attrs["output_axes"] == [0]
    for name in ("fc.weight", "fc.bias"):
        np.testing.assert_array_equal(
            trajectory[name].values, np.stack([row[name] for row, _ in expected], axis=1)
        )
    np.testing.assert_array_equal(trajectory["loss"].values.T, [loss for _, loss in expected])
    one = open_trajectory(path, run=1)
    assert one["fc.weight"].dims == ("step", "fc.weight.out", "fc.weight.in")
    for name in ("fc.weight", "fc.bias"):
        np.testing.assert_array_equal(one[name].values, trajectory[name].values[1])


def test_writer__runs_are_a_leading_dim(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", runs=3, block_steps=4)
    for step in range(10):
        row, loss = of_runs(step)
        writer.append(step, row, loss=loss)
        assert_runs(path, step + 1)
    writer._rows._folder.drain()  # it holds the lock while it folds
    del writer
    with pytest.raises(UsageError, match="recorded with runs=3, got 4"):
        TrajectoryWriter(path, layout="torch", runs=4, resume=True)
    with TrajectoryWriter(path, layout="torch", resume=True, block_steps=4) as writer:
        for step in range(10, 18):
            row, loss = of_runs(step)
            writer.append(step, row, loss=loss)
    assert_runs(path, 18)
    stored = zarr.open_array(path / "fc.weight", mode="r")
    assert (stored.shape, stored.chunks) == ((3, 18, 4, 2), (1, 20, 4, 2))
    np.testing.assert_array_equal(stored[:], open_trajectory(path)["fc.weight"].values)


@pytest.mark.parametrize(
    ("row", "metrics", "words"),
    [
        ({"a.bias": np.zeros((2, 5))}, {}, r"leading axis of 3 runs, got shape \(2, 5\)"),
        ({"a.bias": np.zeros(())}, {}, r"got shape \(\)"),
        ({"a.bias": np.zeros((3, 5))}, {"loss": 0.5}, r"expected shape \(3,\), got \(\)"),
        ({"run": np.zeros((3, 5))}, {}, "'run' is taken"),
    ],
)
def test_writer__runs_that_do_not_fit(tmp_path, row, metrics, words):
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch", runs=3)
    with pytest.raises(TrajectoryError, match=words):
        writer.append(0, row, **metrics)


@pytest.fixture
def many(tmp_path):
    """Give a recording of two runs."""
    rng = np.random.default_rng(0)
    path = tmp_path / "many.zarr"
    with koopscope.TrajectoryWriter(path, layout="torch", runs=2) as writer:
        for step in range(30):
            writer.append(step, {"a.weight": rng.normal(size=(2, 3, 4))}, loss=np.ones(2))
    return path


def test_open_trajectory__one_of_many_runs_can_be_fitted(many):
    fit = koopscope.fit(koopscope.open_trajectory(many).isel(run=1))
    other = koopscope.fit(koopscope.open_trajectory(many, run=1))
    assert fit.attrs["fingerprint"] == other.attrs["fingerprint"]
    for wrong in (-1, 2):
        with pytest.raises(UsageError, match="expected 0 to 1, as it holds 2 runs"):
            koopscope.open_trajectory(many, run=wrong)


def test_open_trajectory__many_runs_cannot_be_fitted_at_once(many):
    runs = koopscope.open_trajectory(many)
    for function in (koopscope.fit, koopscope.collect, koopscope.backtest):
        with pytest.raises(TrajectoryError, match=r"holds 2 runs; select .*isel\(run=0\).*--run 0"):
            function(runs)


def test_inspect__many_runs(many):
    table = koopscope.inspect(many)
    assert table.attrs["runs"] == 2
    assert (table.attrs["weights"], table.attrs["bytes"]) == (12, 2 * 30 * 12 * 8)
    assert table["shape"].values.tolist() == ["3x4"]


def test_convert__many_runs_and_one_of_them(many, tmp_path):
    runs = koopscope.open_trajectory(many)
    whole = koopscope.open_trajectory(koopscope.convert(many, tmp_path / "whole.zarr"))
    one = koopscope.open_trajectory(koopscope.convert(many, tmp_path / "one.zarr", run=1))
    assert whole.drop_attrs(deep=False).identical(runs.drop_attrs(deep=False))
    np.testing.assert_array_equal(one["a.weight"].values, runs["a.weight"].values[1])
    np.testing.assert_array_equal(one["loss"].values, runs["loss"].values[1])
