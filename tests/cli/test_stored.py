from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import koopscope

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def folder(shell, recording, here):
    assert shell("fit", "run.zarr", "--lag", "5", "--t2", "300").code == 0
    return here / "run.koop"


def test_inspect__table_and_json(shell, recording):
    outcome = shell("inspect", "run.zarr")
    assert outcome.code == 0
    for word in ("fc1.weight", "4x3", "401 recorded", "0 to 400", "every 1", "torch", "loss"):
        assert word in outcome.out
    found = shell("inspect", "run.zarr", "--json").json
    assert (found["weights"], found["steps"], found["spacing"], found["metrics"]) == (26, 401, 1, ["loss"])
    assert [tensor["size"] for tensor in found["tensors"]] == [12, 4, 8, 2]


def test_inspect__costs_against_training_steps_of_a_given_length(shell, recording):
    outcome = shell("inspect", "run.zarr", "--step-seconds", "0.5")
    assert "at 5e+02 ms a step (as you say)" in outcome.out
    found = shell("inspect", "run.zarr", "--step-seconds", "0.5", "--json").json
    assert (found["step_seconds"], found["step_seconds_guessed"]) == (0.5, False)
    assert [cost["partition"] for cost in found["costs"]] == ["network", "layer", "node", "weight"]
    assert all(cost["cheaper"] for cost in found["costs"])
    assert shell("inspect", "run.zarr", "--step-seconds", "0").code == 2


def test_inspect__missing_file(shell, here):
    outcome = shell("inspect", "missing.h5", "--json")
    assert (outcome.code, outcome.out) == (3, "")


def test_predict__stores_a_forecast(shell, folder, recording):
    outcome = shell("predict", "run.koop", "--lead", "50", "100")
    assert outcome.code == 0
    assert "fc2.bias" in outcome.out
    forecast = koopscope.load(folder / "forecast.zarr")
    assert forecast["lead"].values.tolist() == [50, 100]
    assert forecast.equals(koopscope.predict(koopscope.load(folder / "fit.zarr"), [50, 100]))


def test_predict__json_measures_the_change(shell, folder):
    found = shell("predict", folder / "fit.zarr", "--lead", "50", "-o", "next.zarr", "--json").json
    fit = koopscope.load(folder / "fit.zarr")
    change = koopscope.predict(fit, 50).isel(lead=0) - koopscope.predict(fit, 0).isel(lead=0)
    assert found["leads"] == [50]
    for row in found["tensors"]:
        expected = float((change[row["tensor"]] ** 2).sum() ** 0.5)
        assert row["change"] == pytest.approx(expected)


def test_predict__replaces_only_forecasts(shell, folder, here):
    assert shell("predict", "run.koop", "--lead", "5").code == 0
    assert shell("predict", "run.koop", "--lead", "7").code == 0
    assert koopscope.load(folder / "forecast.zarr")["lead"].values.tolist() == [7]
    assert shell("predict", "run.koop", "--lead", "5", "-o", "next.zarr").code == 0
    assert shell("predict", "run.koop", "--lead", "6", "-o", "next.zarr").code == 2
    assert shell("predict", "run.koop", "--lead", "6", "-o", "next.zarr", "--overwrite").code == 0
    assert koopscope.load(here / "next.zarr")["lead"].values.tolist() == [6]
    for mine in ("run.zarr", "run.koop/fit.zarr"):
        assert shell("predict", "run.koop", "--lead", "5", "-o", mine, "--overwrite").code == 2
    assert koopscope.open_trajectory(here / "run.zarr").sizes["step"] == 401
    assert sorted(entry.name for entry in here.iterdir()) == ["next.zarr", "run.koop", "run.zarr"]


def test_predict__negative_lead_writes_nothing(shell, folder):
    outcome = shell("predict", "run.koop", "--lead", "-5")
    assert (outcome.code, outcome.out) == (2, "")
    assert not (folder / "forecast.zarr").exists()


@pytest.mark.parametrize("command", [["predict", "--lead", "5"], ["verify"], ["spectrum"]])
def test_stored__needs_a_fit(shell, folder, here, command):
    assert shell("predict", "run.koop", "--lead", "5").code == 0
    for place in ("nowhere", "run.zarr", "run.koop/forecast.zarr"):
        outcome = shell(command[0], place, *command[1:])
        assert (outcome.code, outcome.out) == (3, "")
        assert outcome.err.startswith("koopscope: error[result]: ")


def test_verify__agrees_with_fit(shell, recording):
    fitted = shell("fit", "run.zarr", "--json").json
    found = shell("verify", "run.koop", "--json").json
    assert found["verification"] == fitted["verification"]
    assert found["layers"] == fitted["layers"]


def test_verify__several_leads_and_a_moved_recording(shell, folder, here):
    outcome = shell("verify", "run.koop", "--lead", "10", "100")
    assert outcome.code == 0
    assert "10 steps after t2=300" in outcome.out
    assert "100 steps after t2=300" in outcome.out
    shutil.move(here / "run.zarr", here / "moved.zarr")
    assert shell("verify", "run.koop").code == 3
    found = shell(
        "verify", folder / "fit.zarr", "--trajectory", "moved.zarr", "--lead", "10", "20", "--json"
    ).json
    assert [figures["lead"] for figures in found["leads"]] == [10, 20]
    assert found["verification"]["lead"] == 20


def test_verify__unrecorded_lead(shell, folder):
    outcome = shell("verify", "run.koop", "--lead", "101")
    assert (outcome.code, outcome.out) == (3, "")
    assert "100" in outcome.err


def test_verify__loss(shell, folder, loss_file):
    assert "T_eq/T" in shell("verify", "run.koop", "--loss", "my_loss.py:loss").out
    found = shell("verify", "run.koop", "--loss", "my_loss:loss", "--json").json
    assert found["loss"]["lead"] == 100
    assert shell("verify", "run.koop", "--loss", "my_loss:lost").code == 2


def test_spectrum__json_holds_every_eigenvalue(shell, folder):
    found = shell("spectrum", "run.koop", "--json").json
    table = koopscope.spectrum(koopscope.load(folder / "fit.zarr"))
    assert len(found["eigenvalues"]) == table.sizes["eigenvalue"]
    assert sorted(entry["modulus"] for entry in found["eigenvalues"]) == sorted(
        table["modulus"].values.tolist()
    )
    assert all(len(entry["eigenvalue"]) == 2 for entry in found["eigenvalues"])
    assert found["not_shown"] == {"fc1": 0, "fc2": 0}


def test_spectrum__top_says_what_it_hides(shell, folder):
    outcome = shell("spectrum", "run.koop", "--top", "2")
    assert outcome.code == 0
    assert " of layer fc1" in outcome.out
    assert sum(line.startswith(" fc1") for line in outcome.out.splitlines()) == 2
    assert max(map(len, outcome.out.splitlines())) <= 100
    found = shell("spectrum", "run.koop", "--top", "2", "--json").json
    moduli = [entry["modulus"] for entry in found["eigenvalues"] if entry["layer"] == "fc1"]
    assert moduli == sorted(moduli, reverse=True)
    assert len(moduli) == 2
    assert found["not_shown"]["fc1"] > 0
    assert shell("spectrum", "run.koop", "--top", "0").code == 2


def test_spectrum__filters_sorting_and_intervals(shell, recording, blank_pictures):
    assert shell("fit", recording, "--partition", "layer", "-o", "f.koop").code == 0
    every = shell("spectrum", "f.koop", "--json").json
    assert "oscillating" in every["class_rule"]
    kinds = {entry["eigenvalue_class"] for entry in every["eigenvalues"]}
    kind = sorted(kinds)[0]
    chosen = shell("spectrum", "f.koop", "--class", kind, "--layer", "fc1", "--json").json["eigenvalues"]
    assert all(entry["eigenvalue_class"] == kind and entry["layer"] == "fc1" for entry in chosen)
    sorted_ = shell("spectrum", "f.koop", "--layer", "fc1", "--sort", "residual", "--json").json[
        "eigenvalues"
    ]
    firsts = [entry["residual"] for entry in sorted_ if entry["frequency"] >= 0]
    assert firsts == sorted(firsts)
    for earlier, later in pairwise(sorted_):
        if later["frequency"] < 0:
            assert earlier["frequency"] == -later["frequency"], "a pair was parted"
    bounded = shell("spectrum", "f.koop", "--intervals", "--json").json
    assert "interval_trusted" in bounded["eigenvalues"][0]
    assert "bounds" in shell("spectrum", "f.koop", "--intervals").out
    assert shell("spectrum", "f.koop", "--layer", "fc9").code == 2


def test_predict__exports_weights_under_their_own_names(shell, recording):
    assert shell("fit", "run.zarr", "--t2", 300, "--lag", 10).code == 0
    outcome = shell("predict", "run.koop", "--lead", 50, "--export", "weights.npz", "--json")
    assert outcome.json["export"].endswith("weights.npz")
    forecast = koopscope.load("run.koop/forecast.zarr")
    with np.load("weights.npz") as stored:
        np.testing.assert_array_equal(stored["fc1.weight"], forecast["fc1.weight"].values[0])
    refused = shell("predict", "run.koop", "--lead", 50, "--export", "weights.npz")
    assert (refused.code, "--overwrite" in refused.err) == (2, True)
    assert shell("predict", "run.koop", "--lead", 60, "--export", "weights.npz", "--overwrite").code == 0


def test_predict__exports_one_lead_alone(shell, recording):
    assert shell("fit", "run.zarr", "--t2", 300, "--lag", 10).code == 0
    refused = shell("predict", "run.koop", "--lead", 50, 60, "--export", "weights.npz")
    assert (refused.code, "give one --lead" in refused.err) == (2, True)


def test_outputs__inside_a_recording_or_over_a_pipe_are_refused(shell, recording):
    assert shell("fit", "run.zarr", "--t2", 300, "--lag", 10).code == 0
    os.mkfifo("pipe.npz")
    for words in (
        ("predict", "run.koop", "--lead", 50, "-o", "run.zarr/forecast.zarr"),
        ("prune", "run.koop", "--fraction", 0.5, "-o", "run.zarr/masks.npz"),
        ("basin", "run.zarr", "-o", "run.zarr/basin.png"),
        ("convert", "run.zarr", "run.zarr/copy.zarr"),
        ("ensemble", "run.zarr", "-o", "run.zarr/table.zarr"),
        ("convert", "run.zarr", "run.zarr", "--overwrite", "--exclude", "fc1.bias"),
        ("prune", "run.koop", "--fraction", 0.5, "-o", "pipe.npz", "--overwrite"),
        ("predict", "run.koop", "--lead", 50, "--export", "pipe.npz", "--overwrite"),
    ):
        assert shell(*words).code == 2, words
    assert Path("pipe.npz").is_fifo()
    assert set(koopscope.open_trajectory("run.zarr")) == set(koopscope.open_trajectory(recording))
    assert not [path for path in Path("run.zarr").iterdir() if path.name.startswith(".")]


def test_verify__filtered_forecast_has_a_line_of_its_own(shell, recording, loss_file):
    assert shell("fit", "run.zarr", "--t2", 300, "--lag", 10).code == 0
    words = ("verify", "run.koop", "--lead", 50, "--loss", "my_loss:loss", "--drop", "oscillating")
    outcome = shell(*words, "--smooth", 3, "--json")
    figures = outcome.json["loss"]
    # Nothing in this run flips from lag to lag, so that the filter takes nothing away.
    assert figures["filtered"]["forecast"] == pytest.approx(figures["forecast"])
    assert (figures["metric"], figures["smooth"]) == ("loss", 3)
    lines = shell(*words).out.splitlines()
    assert any(line.startswith("filtered error") for line in lines)
    assert any(line.startswith("filtered at t2") for line in lines)
    assert any("hold" in line and "linear" in line and "mean" not in line for line in lines)
