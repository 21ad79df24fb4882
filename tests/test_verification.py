from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import LossError, NonFiniteError, ResultError, TrajectoryError, WindowError
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays

NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")


@pytest.fixture(scope="module")
def run():
    return linear_run("network")


@pytest.fixture(scope="module")
def fit(run):
    return koopscope.fit(run, "node", t2=800, lag=10, rtol=1e-3)


def flat(dataset):
    return np.concatenate([dataset[name].values.ravel() for name in NAMES])


def test_verify__equals_the_definitions(run, fit):
    verification = koopscope.verify(fit, run, 150)
    true = flat(run.sel(step=950))
    start = flat(run.sel(step=800))
    error = flat(koopscope.predict(fit, 150)) - true
    evolution = true - start
    figures = verification.sel(lead=150, forecast="fit")
    assert figures["relative_l2"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(evolution))
    median = np.median(np.abs(error)) / np.median(np.abs(evolution))
    assert figures["error_to_evolution"] == pytest.approx(median)
    assert figures["moved"] == 26
    np.testing.assert_array_equal(flat(verification["error"].to_dataset()), error)
    np.testing.assert_array_equal(flat(verification["evolution"].to_dataset()), evolution)
    steps = np.arange(640, 801)
    slope = np.polyfit(steps, np.stack([flat(run.sel(step=step)) for step in steps]), 1)[0]
    linear = np.linalg.norm(150 * slope - evolution)
    assert figures["skill_linear"] == pytest.approx(1 - np.linalg.norm(error) / linear, rel=1e-6)
    assert figures["skill_hold"] == pytest.approx(1 - figures["relative_l2"])


def test_verify__baselines_are_beside_the_fit(run, fit):
    verification = koopscope.verify(fit, run)
    assert verification["forecast"].values.tolist() == ["fit", "hold", "linear"]
    assert verification["lead"].values.tolist() == [200]
    assert verification["relative_l2"].sel(forecast="hold") == 1.0
    assert verification["layers"]["layer"].values.tolist() == ["fc1", "fc2"]
    assert verification["groups/fc1"]["relative_l2"].dims == ("group", "lead", "forecast")


@pytest.mark.parametrize("first", [2**53 + 30, 1_700_000_000_000_000_000])
def test_verify__large_steps_change_nothing(run, fit, first):
    """Steps may be nanoseconds since 1970, of which floats cannot tell neighbours apart."""
    tensors = {name: run[name].to_numpy() for name in NAMES}
    late = from_arrays(run["step"].to_numpy() + first, tensors, layout="torch")
    again = koopscope.fit(late, "node", t1=first, t2=first + 800, lag=10, rtol=1e-3)
    found, expected = koopscope.verify(again, late, 150), koopscope.verify(fit, run, 150)
    np.testing.assert_array_equal(found["relative_l2"], expected["relative_l2"])


def test_verify__a_tensor_that_is_a_single_number(run):
    tensors = {name: run[name].to_numpy() for name in NAMES}
    tensors["logit_scale"] = run["fc1.bias"].to_numpy()[:, 0]
    trajectory = from_arrays(run["step"].to_numpy(), tensors, layout="torch")
    fit = koopscope.fit(trajectory, "layer", t2=800, lag=10)
    verification = koopscope.verify(fit, trajectory, 150)
    assert verification["error"]["logit_scale"].dims == ("lead",)
    assert koopscope.state_dict(koopscope.predict(fit, 150))["logit_scale"].shape == ()


def test_verify__tensors_of_other_shapes_are_named(run, fit):
    other = linear_run(n_rows=1001).isel({run["fc1.bias"].dims[1]: slice(0, 3)})
    with pytest.raises(ResultError, match=r"fc1\.bias of shape \(4,\), in the recording it has \(3,\)"):
        koopscope.verify(fit, other, 150)


@pytest.mark.parametrize("partition", ["network", "layer", "node", "quasi-node:2", "weight"])
def test_verify__tensors_without_weights_change_nothing(run, partition):
    tensors = {name: run[name].to_numpy() for name in NAMES}
    empty = {"fc0.weight": np.zeros((run.sizes["step"], 3, 0), np.float32)}
    found = []
    for some in (tensors, empty | tensors):
        trajectory = from_arrays(run["step"].to_numpy(), some, layout="torch")
        fit = koopscope.fit(trajectory, partition, t2=800, lag=10, rtol=1e-3)
        found.append(koopscope.verify(fit, trajectory, 150)["relative_l2"].to_numpy())
    np.testing.assert_array_equal(*found)
    with pytest.raises(TrajectoryError, match="at least one weight, found none in 'fc0"):
        koopscope.fit(from_arrays(run["step"].to_numpy(), empty, layout="torch"), partition)


def test_verify__layer_and_group_figures_add_up(run, fit):
    verification = koopscope.verify(fit, run, 100)
    error = verification["error"].to_dataset()
    evolution = verification["evolution"].to_dataset()
    node = [
        np.concatenate([d["fc1.weight"].values[0, 2], d["fc1.bias"].values[0, 2:3]])
        for d in (error, evolution)
    ]
    expected = np.linalg.norm(node[0]) / np.linalg.norm(node[1])
    found = verification["groups/fc1"]["relative_l2"].sel(forecast="fit").values[2, 0]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("lead", "words"), [(201, "nearest recorded lead is 200"), ([10, 500], "largest 200")]
)
def test_verify__lead_outside_the_recording(run, fit, lead, words):
    with pytest.raises(WindowError, match=words):
        koopscope.verify(fit, run, lead)


def test_verify__nothing_after_t2(run):
    fit = koopscope.fit(run, "node", t2=1000, lag=10)
    with pytest.raises(WindowError, match="nothing to verify"):
        koopscope.verify(fit, run)


def test_verify__another_recording_is_refused(fit):
    with pytest.raises(ResultError, match="not those that were fitted"):
        koopscope.verify(fit, linear_run("network", seed=1))
    with pytest.raises(ResultError, match=r"fc1\.weight"):
        koopscope.verify(fit, linear_run("network")[["fc1.bias"]].assign_attrs(koopscope_kind="trajectory"))


def test_verify__a_truth_that_is_not_finite_is_named(run, fit):
    broken = run.copy(deep=True)
    broken["fc2.bias"][950, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"fc2\.bias\[1\] is nan at step 950"):
        koopscope.verify(fit, broken, 150)


def recorded_loss(run):
    final = {name: run[name].values[-1] for name in NAMES}

    def loss(params):
        squares = [np.sum((params[name] - final[name]) ** 2) for name in NAMES]
        return float(sum(squares) / 26)

    return loss


def test_verify__loss_success_and_equivalent_steps(run):
    fit = koopscope.fit(run, "network", t2=800, lag=10)
    figures = koopscope.verify(fit, run, 100, loss=recorded_loss(run))["loss"]
    assert bool(figures["success"][0])
    # An exact forecast reaches the loss of step 900 when the optimiser does, give or take one row.
    assert abs(float(figures["t_eq"][0]) - 100) <= 1
    assert not bool(figures["t_eq_censored"][0])
    assert figures["t_eq_ratio"][0] == figures["t_eq"][0] / 100
    assert float(figures["loss_true"][0]) == pytest.approx(float(run["loss"].sel(step=900)))


def test_verify__a_loss_of_another_run_is_refused(run, fit):
    with pytest.raises(LossError, match="not the loss of this run"):
        koopscope.verify(fit, run, 100, loss=lambda params: 12.0)


def test_verify__a_loss_that_raises_is_reported_as_the_users(run, fit):
    with pytest.raises(LossError, match="KeyError: 'fc9'"):
        koopscope.verify(fit, run, 100, loss=lambda params: params["fc9"])


def test_verify__without_a_recorded_loss_there_is_no_t_eq(run, fit):
    figures = koopscope.verify(fit, run.drop_vars("loss"), 100, loss=recorded_loss(run))["loss"]
    assert "t_eq" not in figures
    assert "success" in figures
