from __future__ import annotations

import shutil

import numpy as np
import pytest

import koopscope


@pytest.fixture
def three(recording, here):
    """Put three recordings into the working folder, the last of them damaged."""
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        shutil.copytree(recording, here / name)
    shutil.rmtree(here / "c.zarr" / "step")
    return ["a.zarr", "b.zarr", "c.zarr"]


def test_ensemble__tabulates_runs_and_quantiles(shell, three, loss_file):
    words = ("--lag", 10, "--t2", 300, "--lead", 50, "--loss", "my_loss:loss", "--seconds-per-step", 0.01)
    outcome = shell("ensemble", *three[:2], *words)
    assert outcome.code == 0
    assert "50 steps after t2=300" in outcome.out
    assert "quantiles over 2 runs" in outcome.out
    assert "success  2 of 2 runs (100%)" in outcome.out
    for figure in ("T_eq / T", "speed-up", "skill vs linear", "median"):
        assert figure in outcome.out
    assert "fitting runs: 50 %" in outcome.err


def test_ensemble__quantiles_of_bounds_are_bounds(shell, three, monkeypatch):
    """Two runs that diverged, worth no steps, and one whose T_eq is a lower bound."""
    made = koopscope.ensemble

    def bounded(*args, **kwargs):
        table = made(*args, **kwargs)
        table["t_eq_ratio"] = (("run", "lead"), np.array([[np.nan], [2.0]]))
        table["t_eq_censored"] = (("run", "lead"), np.array([[False], [True]]))
        return table

    monkeypatch.setattr(koopscope, "ensemble", bounded)
    outcome = shell("ensemble", *three[:2], "--lag", 10, "--t2", 300, "--lead", 50, "--json")
    figures = outcome.json["quantiles"]["t_eq_ratio"]
    bounds = figures.pop("censored")
    assert [figures[share] for share in ("0.1", "0.5", "0.9")] == [0.0, 1.0, 2.0]
    assert bounds == [value > 0 for value in figures.values()]


def test_ensemble__a_failed_run_is_named_and_the_exit_code_tells(shell, three):
    outcome = shell("ensemble", *three, "--lag", 10, "--t2", 300, "-o", "table.zarr", "--json")
    assert outcome.code == 1
    assert outcome.err.rstrip().endswith("error[failed]: 1 of 3 runs failed: c")
    described = outcome.json
    assert described["failed"] == ["c"]
    assert [run["run"] for run in described["runs"]] == ["a", "b", "c"]
    assert [run["problem"] is None for run in described["runs"]] == [True, True, False]
    run = koopscope.open_trajectory("a.zarr")
    alone = koopscope.verify(koopscope.fit(run, "node", lag=10, t2=300), run)
    error = float(alone["relative_l2"].sel(forecast="fit")[0])
    assert described["runs"][0]["relative_l2"] == error
    assert described["quantiles"]["relative_l2"]["0.5"] == error
    assert np.isnan(koopscope.load("table.zarr")["relative_l2"].sel(run="c")).all()
    assert shell("ensemble", *three[:2], "-o", "table.zarr").code == 2
    assert shell("ensemble", *three[:2], "-o", "b.zarr", "--overwrite").code == 2
    assert shell("ensemble", *three[:2], "-o", "table.zarr", "--overwrite").code == 0
    assert koopscope.load("table.zarr").sizes["run"] == 2
