"""Many runs under the same settings."""

import numpy as np
import pytest
import xarray as xr

import koopscope
from koopscope.errors import ResultError, UsageError, WindowError
from koopscope.simulation import linear_run


def losses(run):
    end = {name: run[name].values[-1] for name in ("fc1.weight", "fc2.weight")}
    return lambda params: float(sum(np.sum((params[name] - end[name]) ** 2) for name in end))


@pytest.fixture(scope="module")
def runs():
    return {f"seed {seed}": linear_run(seed=seed, n_rows=401) for seed in range(4)}


def test_ensemble__figures_are_those_of_each_run_alone(runs):
    heard = []
    table = koopscope.ensemble(
        runs, "node", t2=300, lag=10, progress=lambda stage, done, total: heard.append((stage, done, total))
    )
    assert table["run"].values.tolist() == list(runs)
    assert table["lead"].values.tolist() == [100]
    for name, run in runs.items():
        alone = koopscope.verify(koopscope.fit(run, "node", t2=300, lag=10), run, 100)
        for figure in ("relative_l2", "error_to_evolution", "skill_linear", "moved"):
            np.testing.assert_array_equal(table[figure].sel(run=name), alone[figure])
    assert heard == [("fitting runs", number, 4) for number in range(5)]
    assert (table["seconds_fit"] > 0).all()


def test_ensemble__a_failed_run_is_named_and_loses_no_other(runs, tmp_path):
    mixed = {"short": runs["seed 0"].isel(step=slice(0, 100)), **runs, "missing": tmp_path / "missing.zarr"}
    table = koopscope.ensemble(mixed, "node", t2=300, lag=10)
    assert table.attrs["failed"] == ["short", "missing"]
    problems = dict(zip(table["run"].values, table["problem"].values, strict=True))
    assert problems["short"].startswith("window: t2=300 is outside the recording")
    assert problems["missing"].startswith("not-a-trajectory")
    assert [problems[name] for name in runs] == [""] * 4
    assert np.isnan(table["relative_l2"].sel(run="short")).all()
    plain = koopscope.ensemble(runs, "node", t2=300, lag=10)
    np.testing.assert_array_equal(table["relative_l2"].sel(run=list(runs)), plain["relative_l2"])
    spread = koopscope.quantiles(table)
    assert spread.attrs["runs"] == 4
    np.testing.assert_array_equal(spread["relative_l2"], koopscope.quantiles(plain)["relative_l2"])
    koopscope.save(table, tmp_path / "table.zarr")
    again = koopscope.load(tmp_path / "table.zarr")
    assert again["problem"].values.tolist() == table["problem"].values.tolist()
    np.testing.assert_array_equal(again["relative_l2"], table["relative_l2"])


def test_ensemble__runs_recorded_together_count_one_by_one(runs):
    together = xr.concat(list(runs.values()), dim="run", combine_attrs="override")
    table = koopscope.ensemble({"all": together}, "node", t2=300, lag=10)
    assert table["run"].values.tolist() == [f"all[{index}]" for index in range(4)]
    plain = koopscope.ensemble(runs, "node", t2=300, lag=10)
    np.testing.assert_array_equal(table["relative_l2"], plain["relative_l2"])


def test_ensemble__survives_a_disk_that_fails(runs, monkeypatch):
    def broken(path, **_):
        raise OSError("the disk is gone")

    monkeypatch.setattr("koopscope.ensembles.open_trajectory", broken)
    table = koopscope.ensemble({"a": "a.zarr", "b": runs["seed 0"]}, "node", t2=300, lag=10)
    assert table["problem"].values.tolist() == ["OSError: the disk is gone", ""]


def test_ensemble__speed_up_is_time_of_steps_over_time_of_forecast(runs):
    run = runs["seed 0"]
    same = {"a": run, "b": run}
    loss = losses(run)
    recorded = run.assign(loss=("step", [loss(row(run, step)) for step in range(401)], {"role": "metric"}))
    same = {"a": recorded, "b": recorded}
    table = koopscope.ensemble(same, "node", t2=200, lag=10, lead=100, loss=loss, seconds_per_step=0.5)
    seconds = table["seconds_read"] + table["seconds_fit"] + table["seconds_forecast"]
    np.testing.assert_allclose(table["speed_up"], table["t_eq"] * 0.5 / seconds)
    assert table["success"].dtype == bool
    assert float(koopscope.quantiles(table)["success"][0]) == 1.0
    assert float(table["t_eq_ratio"].sel(run="a")[0]) == pytest.approx(1.0, abs=0.02)


def row(run, step):
    return {name: run[name].values[step] for name in run.data_vars if name != "loss"}


def test_quantiles__diverged_runs_are_infinitely_wrong_and_worth_nothing(runs):
    table = koopscope.ensemble(runs, "node", t2=300, lag=10)
    table["relative_l2"][:, 0, 0] = [0.1, 0.3, np.nan, 0.2]
    table["t_eq_ratio"] = (("run", "lead"), np.array([[1.0], [0.9], [np.nan], [0.8]]))
    spread = koopscope.quantiles(table, [0.2, 0.4, 0.7, 1.0])
    assert spread["relative_l2"].sel(forecast="fit", lead=100).values.tolist() == [0.1, 0.2, 0.3, np.inf]
    assert spread["t_eq_ratio"].sel(lead=100).values.tolist() == [0.0, 0.8, 0.9, 1.0]


def test_quantiles__a_diverged_run_has_no_skill(runs):
    table = koopscope.ensemble(runs, "node", t2=300, lag=10)
    table["relative_l2"][:, 0, 0] = [0.1, np.nan, np.nan, 0.2]
    table["skill_linear"][:, 0] = [0.9, np.nan, np.nan, 0.7]
    spread = koopscope.quantiles(table, [0.5, 0.7, 1.0])
    assert spread["skill_linear"].sel(lead=100).values.tolist() == [-np.inf, 0.7, 0.9]


def test_quantiles__of_an_even_number_of_runs_lie_in_the_middle(runs):
    table = koopscope.ensemble(runs, "node", t2=300, lag=10)
    table["relative_l2"][:, 0, 0] = [0.1, 0.4, np.nan, 0.2]
    spread = koopscope.quantiles(table, [0.0, 0.5, 0.6, 0.75])
    found = spread["relative_l2"].sel(forecast="fit", lead=100).values
    np.testing.assert_allclose(found, [0.1, 0.3, 0.4, np.inf])


def test_ensemble__refuses_what_it_cannot_serve(runs):
    run = runs["seed 0"]
    with pytest.raises(UsageError, match="at least one run"):
        koopscope.ensemble([])
    with pytest.raises(UsageError, match="takes a list of runs"):
        koopscope.ensemble(run)
    with pytest.raises(UsageError, match=r"given twice: a\.zarr"):
        koopscope.ensemble(["a.zarr", "a.zarr"])
    with pytest.raises(WindowError, match="outside the recording"):
        koopscope.ensemble([run, run], "node", t2=10_000)
    with pytest.raises(ResultError, match=r"koopscope\.ensemble makes one"):
        koopscope.quantiles(run)
