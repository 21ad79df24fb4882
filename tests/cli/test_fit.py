from __future__ import annotations

import json

import numpy as np
import pytest

import koopscope
from koopscope.simulation import linear_run

pytestmark = pytest.mark.usefixtures("blank_pictures")

FOLDER = ["eigenvalues.png", "error_vs_evolution.png", "fit.zarr", "summary.json"]
KEYS = {
    *("partition", "method", "groups", "weights", "t1", "t2", "lag", "seconds", "output", "layers"),
    *("verification", "input", "spacing", "delays", "average", "rtol", "rank", "spectral_radius"),
    *("ill_conditioned_share", "loss", "versions", "koopscope_output"),
}
FIGURES = {"error_to_evolution", "relative_l2", "skill_hold", "skill_linear", "moved"}


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def record(here, name, *, change=None, steps=None, n_rows=60):
    run = linear_run(n_rows=n_rows)
    tensors = [tensor for tensor in run.data_vars if tensor != "loss"]
    with koopscope.TrajectoryWriter(here / name, layout="torch") as writer:
        for row, step in enumerate(steps or range(n_rows)):
            values = {tensor: run[tensor].to_numpy()[row].copy() for tensor in tensors}
            if change is not None:
                change(step, values)
            writer.append(step, values)
    return here / name


def test_fit__writes_a_folder_and_a_table(shell, recording, here):
    outcome = shell("fit", "run.zarr", "--partition", "node")
    assert outcome.code == 0
    assert names(here / "run.koop") == FOLDER
    assert names(here) == ["run.koop", "run.zarr"]
    for word in ("fc1", "fc2", "network", "closer than", "run.koop", "lag 3 steps"):
        assert word in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert "\x1b" not in outcome.out
    assert "reading weights: 100 %" in outcome.err


def test_fit__json_has_every_key_and_nothing_else_is_printed(process, recording, here):
    outcome = process("-m", "koopscope_cli", "fit", "run.zarr", "--json")
    assert outcome.code == 0
    found = outcome.json
    assert set(found) >= KEYS
    assert set(found["seconds"]) == {"read", "fit", "total"}
    assert (found["partition"], found["method"], found["groups"], found["weights"]) == (
        "node",
        "affine",
        6,
        26,
    )
    assert [layer["groups"] for layer in found["layers"]] == [4, 2]
    assert set(found["verification"]) >= FIGURES | {"lead", "layers"}
    assert all(set(layer) >= FIGURES | {"layer"} for layer in found["verification"]["layers"])
    assert found["verification"]["lead"] == 400 - found["t2"]
    assert found["output"] == str(here / "run.koop")
    assert found["input"] == str(recording)
    assert json.loads((here / "run.koop" / "summary.json").read_text()) == found
    for picture in ("eigenvalues.png", "error_vs_evolution.png"):
        assert (here / "run.koop" / picture).read_bytes().startswith(b"\x89PNG")


def test_fit__says_what_the_library_says(shell, recording, here):
    found = shell("fit", "run.zarr", "--lag", "5", "--t2", "300", "--lead", "50", "--json").json
    run = koopscope.open_trajectory(recording)
    fit = koopscope.fit(run, "node", lag=5, t2=300)
    verification = koopscope.verify(fit, run, 50)
    assert (found["t2"], found["lag"], found["verification"]["lead"]) == (300, 5, 50)
    assert found["verification"]["skill_hold"] == verification["skill_hold"].item()
    assert found["spectral_radius"] == float(abs(koopscope.spectrum(fit)["eigenvalue"]).max())
    assert koopscope.load(here / "run.koop" / "fit.zarr").equals(fit)


def test_fit__twice_replaces(shell, recording, here):
    first = shell("fit", "run.zarr", "--lag", "5", "--json")
    second = shell("fit", "run.zarr", "--lag", "10", "--json")
    assert (first.code, second.code) == (0, 0)
    assert json.loads((here / "run.koop" / "summary.json").read_text())["lag"] == 10
    assert names(here / "run.koop") == FOLDER
    assert names(here) == ["run.koop", "run.zarr"]


def test_fit__replaces_its_own_forecast_but_not_a_stranger(shell, recording, here):
    assert shell("fit", "run.zarr").code == 0
    assert shell("predict", "run.koop", "--lead", "5").code == 0
    assert shell("fit", "run.zarr").code == 0
    assert names(here / "run.koop") == FOLDER
    (here / "run.koop" / "notes.txt").write_text("mine")
    for words in ([], ["--overwrite"]):
        outcome = shell("fit", "run.zarr", *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert "notes.txt" in outcome.err
    assert (here / "run.koop" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_fit__foreign_folder_is_untouched(shell, recording, here, words):
    (here / "out").mkdir()
    (here / "out" / "thesis.tex").write_text("years of work")
    outcome = shell("fit", "run.zarr", "-o", "out", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("koopscope: error[output-exists]: ")
    assert "thesis.tex" in outcome.err
    assert "reading" not in outcome.err
    assert (here / "out" / "thesis.tex").read_text() == "years of work"
    assert names(here) == ["out", "run.zarr"]


def test_fit__file_in_the_way_is_untouched(shell, recording, here):
    (here / "run.koop").write_text("a file")
    for words in ([], ["--overwrite"]):
        assert shell("fit", "run.zarr", *words).code == 2
    assert (here / "run.koop").read_text() == "a file"


def test_fit__other_input_and_empty_folder_need_overwrite(shell, recording, here):
    record(here, "second.zarr")
    (here / "empty").mkdir()
    assert shell("fit", "run.zarr", "-o", "out").code == 0
    for target in ("out", "empty"):
        refused = shell("fit", "second.zarr", "-o", target)
        assert refused.code == 2
        assert "--overwrite" in refused.err
        assert shell("fit", "second.zarr", "-o", target, "--overwrite").code == 0
        assert json.loads((here / target / "summary.json").read_text())["input"] == str(here / "second.zarr")


def test_fit__makes_missing_parents_only_when_it_succeeds(shell, recording, here):
    record(
        here, "spoilt.zarr", change=lambda step, tensors: tensors["fc1.bias"].fill(np.inf if step == 7 else 0)
    )
    assert shell("fit", "spoilt.zarr", "-o", "a/b/c").code == 3
    assert not (here / "a").exists()
    assert shell("fit", "run.zarr", "-o", "a/b/c").code == 0
    assert names(here / "a" / "b" / "c") == FOLDER


def test_fit__output_inside_the_recording_is_refused(shell, recording):
    before = names(recording)
    assert shell("fit", "run.zarr", "-o", "run.zarr").code == 2
    assert shell("fit", "run.zarr", "-o", "run.zarr/out", "--overwrite").code == 2
    assert names(recording) == before


def test_fit__nothing_after_t2_is_not_verified(shell, recording, here):
    outcome = shell("fit", "run.zarr", "--t2", "400")
    assert outcome.code == 0
    assert "not verified" in outcome.out
    assert names(here / "run.koop") == ["eigenvalues.png", "fit.zarr", "summary.json"]
    assert shell("fit", "run.zarr", "--t2", "400", "--json").json["verification"] is None


def test_fit__paper_tells_the_conditioning(shell, recording):
    outcome = shell("fit", "run.zarr", "--method", "paper", "--lag", "1")
    assert outcome.code == 0
    assert "cond > 1e8 in" in outcome.out


@pytest.mark.parametrize("partition", ["network", "layer", "weight", "node,fc1=quasi-node:2"])
def test_fit__every_partition(shell, recording, partition):
    found = shell("fit", "run.zarr", "--partition", partition, "--json").json
    assert found["partition"] == partition
    assert [layer["layer"] for layer in found["layers"]] == ["fc1", "fc2"]
    assert sum(layer["weights"] for layer in found["layers"]) == 26
    assert shell("fit", "run.zarr", "--partition", partition).code == 0


def test_fit__frozen_weights_moved_nowhere(shell, here):
    def freeze(step, tensors):
        for name in ("fc2.weight", "fc2.bias"):
            tensors[name].fill(0.5)

    record(here, "frozen.zarr", change=freeze)
    outcome = shell("fit", "frozen.zarr")
    assert outcome.code == 0
    assert "nothing moved (0 of 10" in " ".join(outcome.out.split())
    assert shell("fit", "frozen.zarr", "--json").json["layers"][1]["spectral_radius"] is None


def test_fit__include_is_kept_for_verify(shell, recording):
    found = shell("fit", "run.zarr", "--include", "fc1.*", "--exclude", "*.bias", "--json").json
    assert found["weights"] == 12
    assert shell("verify", "run.koop").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.zarr"], 3, "missing.zarr"),
        (["text.zarr"], 3, "not-a-trajectory"),
        (["run.zarr", "--t1", "5000"], 3, "400"),
        (["run.zarr", "--t1", "10", "--t2", "11"], 3, "window"),
        (["run.zarr", "--lead", "100000"], 3, "lead"),
        (["nan.zarr"], 3, "fc1.bias"),
        (["uneven.zarr"], 3, "even"),
        (["run.zarr", "--partition", "nodes"], 2, "partition"),
        (["run.zarr", "--method", "magic"], 2, "magic"),
        (["run.zarr", "--rtol", "2"], 2, "rtol"),
    ],
)
@pytest.mark.parametrize("json_too", [False, True])
def test_fit__bad_input_leaves_nothing(shell, recording, here, words, code, said, json_too):
    (here / "text.zarr").write_text("not a recording")
    if "nan.zarr" in words:
        record(here, "nan.zarr", change=lambda step, t: t["fc1.bias"].fill(np.nan if step == 20 else step))
    if "uneven.zarr" in words:
        record(here, "uneven.zarr", steps=[*range(20), *range(21, 61)])
    before = names(here)
    outcome = shell("fit", *words, *(["--json"] if json_too else []))
    assert (outcome.code, outcome.out) == (code, "")
    assert "koopscope: error[" in outcome.err
    assert said in outcome.err
    assert names(here) == before


def test_fit__loss_adds_its_figures(shell, loss_file):
    outcome = shell("fit", "run.zarr", "--loss", "my_loss:loss", "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json["loss"]
    keys = {"lead", "at_t2", "true", "forecast", "success", "t_eq", "t_eq_ratio", "t_eq_censored"}
    keys |= {"linear", "mean", "filtered", "metric", "smooth"}
    assert set(found) == keys
    assert "a loss may print" in outcome.err
    by_path = shell("fit", "run.zarr", "--loss", f"{loss_file}:loss")
    assert by_path.code == 0
    assert "T_eq/T" in by_path.out


@pytest.mark.parametrize(
    ("spelling", "code", "said"),
    [
        ("my_loss", 2, "module:function"),
        ("nowhere:loss", 2, "nowhere"),
        ("./nowhere.py:loss", 2, "nowhere.py"),
        ("my_loss:lost", 2, "lost"),
        ("my_loss:NUMBER", 2, "not a function"),
        ("broken:loss", 2, "ZeroDivisionError"),
        ("needy:loss", 2, "no_such_package"),
        ("my_loss:other", 3, "error[loss]"),
    ],
)
def test_fit__unusable_loss_leaves_nothing(shell, loss_file, here, spelling, code, said):
    (here / "broken.py").write_text("1 / 0\n")
    (here / "needy.py").write_text("import no_such_package\n")
    outcome = shell("fit", "run.zarr", "--loss", spelling)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err
    assert not (here / "run.koop").exists()


def test_fit__sends_many_recordings_to_ensemble(shell, recording, here):
    outcome = shell("fit", "run.zarr", "my other.zarr", "--t2", "40")
    assert outcome.code == 2
    assert "koopscope ensemble run.zarr 'my other.zarr'" in " ".join(outcome.err.split())
    assert names(here) == ["run.zarr"]


def test_fit__the_root_of_all_folders_is_no_place_for_results(shell, recording):
    seen = shell("fit", recording, "-o", "/")
    assert seen.code == 2
    assert "not results of koopscope" in seen.err
