"""Loss figures against other series than ``loss``, and on running means."""

import numpy as np
import pytest

import koopscope
from koopscope.errors import UsageError
from koopscope.metrics import running_mean
from koopscope.trajectory import from_arrays

STEPS = np.arange(401)


@pytest.fixture(scope="module")
def run():
    """Record one weight that falls in a straight line, and a validation loss with noise upon it."""
    weight = 10.0 - 0.01 * STEPS
    noise = np.random.default_rng(3).normal(0, 0.6, STEPS.size)
    noise[200] = 0.0  # at t2 the callable and the recording agree
    series = {"loss": weight, "validation_loss": weight + noise}
    return from_arrays(STEPS, {"fc.weight": weight[:, None, None] * np.ones((1, 1, 3))}, series)


def loss(params):
    return float(np.mean(params["fc.weight"]))


def test_verify__finds_t_eq_on_the_running_mean_of_another_series(run):
    fit = koopscope.fit(run, "node", t2=200, lag=10)
    rough, smooth = (
        koopscope.verify(fit, run, 100, loss=loss, metric="validation_loss", smooth=rows)["loss"]
        for rows in (1, 61)
    )
    # Noise of 0.6 on a slope of 0.01 a step reaches the forecast's loss long before the loss itself does.
    assert float(rough["t_eq"][0]) < 60
    # The mean of 61 rows has noise of 0.6 / sqrt(61) = 0.08, which is eight steps; first passage is early.
    assert float(smooth["t_eq"][0]) == pytest.approx(100, abs=30)
    expected = [np.mean(run["validation_loss"].values[max(0, at - 30) : at + 31]) for at in STEPS]
    np.testing.assert_allclose(smooth["smoothed_loss"], expected)
    assert (smooth.attrs["metric"], smooth.attrs["smooth"]) == ("validation_loss", 61)


def test_verify__gives_the_losses_of_the_baselines(run):
    fit = koopscope.fit(run, "node", t2=200, lag=10, average=5)
    figures = koopscope.verify(fit, run, 100, loss=loss)["loss"].sel(lead=100)
    assert float(figures["loss_linear"]) == pytest.approx(7.0)
    assert float(figures["loss_mean"]) == pytest.approx(8.02)
    assert float(figures["loss_at_t2"]) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "accuracy"}, "holds loss, validation_loss"),
        ({"smooth": 60}, "an odd number of at least 1 and at most 401"),
        ({"smooth": 403}, "got 403"),
    ],
)
def test_verify__refuses_what_the_recording_cannot_serve(run, settings, words):
    fit = koopscope.fit(run, "node", t2=200, lag=10)
    with pytest.raises(UsageError, match=words):
        koopscope.verify(fit, run, 100, loss=loss, **settings)


def test_running_mean__leaves_out_rows_without_a_value():
    values = np.array([1.0, np.nan, 3.0, 4.0, 8.0])
    np.testing.assert_allclose(running_mean(values, 3), [1.0, 2.0, 3.5, 5.0, 6.0])
