import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

import koopscope
from koopscope.errors import ResultError
from koopscope.plots import plot_loss


def _line(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def _arrows(ax):
    return [text for text in ax.texts if isinstance(text, Annotation)]


def _words(ax):
    return [text.get_text() for text in ax.texts if not isinstance(text, Annotation)]


def _remark(ax):
    return ax.get_legend().get_texts()[-1].get_text()


def _with_loss(verification, **values):
    tree = verification.copy(deep=True)
    for name, value in values.items():
        tree["loss"][name][:] = value
    return tree


def test_plot_loss__recorded_true_and_forecast(inexact, run):
    ax = plot_loss(inexact)
    np.testing.assert_array_equal(_line(ax, "recorded").get_ydata(), run["loss"].to_numpy())
    for label, name in (("true weights", "loss_true"), ("forecast weights", "loss_forecast")):
        np.testing.assert_array_equal(_line(ax, label).get_xdata(), [650, 700, 800])
        np.testing.assert_array_equal(_line(ax, label).get_ydata(), inexact["loss"][name].to_numpy())
    assert float(_line(ax, "at t2").get_ydata()[0]) == float(inexact["loss"]["loss_at_t2"])
    assert ax.get_yscale() == "log"


def test_plot_loss__arrow_of_the_saving_at_the_last_lead(inexact):
    ax = plot_loss(inexact)
    figures = inexact["loss"].to_dataset().isel(lead=-1)
    (arrow,) = _arrows(ax)
    saved = int(figures["t_eq"])
    assert arrow.xy == (600 + saved, float(figures["loss_forecast"]))
    assert arrow.xyann == (600, float(figures["loss_forecast"]))
    ratio = float(figures["t_eq_ratio"])
    expected = f"at lead 200 a loss\nreached by the\noptimiser after\n{saved} steps: T_eq/T = {ratio:.2f}"
    assert _remark(ax) == expected


def test_plot_loss__censored_saving_is_a_bound(inexact):
    ax = plot_loss(_with_loss(inexact, t_eq=400.0, t_eq_ratio=2.0, t_eq_censored=True))
    expected = "at lead 200 a loss\nnot reached by the\noptimiser within\n400 steps: T_eq/T ≥ 2.00"
    assert _remark(ax) == expected


def test_plot_loss__failed_forecast_saves_nothing(inexact):
    ax = plot_loss(_with_loss(inexact, success=False, t_eq=0.0, t_eq_ratio=0.0))
    assert _remark(ax) == "at lead 200 above\nthe loss at t2:\nno step saved"
    assert _arrows(ax) == []
    assert "0 of 3 leads" in ax.get_title(loc="left")


def test_plot_loss__diverged_says_so(diverged):
    ax = plot_loss(diverged)
    ax.figure.draw_without_rendering()
    lost = np.count_nonzero(~np.isfinite(diverged["loss"]["loss_forecast"].to_numpy()))
    assert _words(ax) == [f"forecast diverged: no loss at {lost} of 4 leads"]
    assert _arrows(ax) == []
    assert ax.get_ylim()[1] < 1e3


def test_plot_loss__recording_without_loss(fitted, run, distance_to_end):
    silent = koopscope.verify(fitted, run.drop_vars("loss"), [100, 200], loss=distance_to_end)
    ax = plot_loss(silent)
    assert "recorded" not in [line.get_label() for line in ax.lines]
    assert _remark(ax) == "the recording holds\nno loss: T_eq unknown"


@pytest.mark.parametrize(("lowest", "scale"), [(0.9, "linear"), (0.01, "log"), (-1.0, "linear")])
def test_plot_loss__log_axis_where_it_reads_better(inexact, lowest, scale):
    recorded = np.linspace(1.0, lowest, inexact["loss"].sizes["step_recorded"])
    tree = _with_loss(inexact, recorded_loss=recorded, loss_true=1.0, loss_forecast=1.0)
    tree["loss"]["loss_at_t2"][...] = 1.0
    assert plot_loss(tree).get_yscale() == scale


def test_plot_loss__draws_on_the_axes_given(inexact):
    ax = Figure().subplots()
    assert plot_loss(inexact, ax=ax) is ax


def test_plot_loss__needs_a_loss(fitted, run):
    with pytest.raises(
        ResultError, match=r"holds no loss; koopscope\.verify\(fit, trajectory, loss=\.\.\.\)"
    ):
        plot_loss(koopscope.verify(fitted, run, 100))


def test_plot_loss__wrong_input_is_named(fitted):
    with pytest.raises(ResultError, match="expected a verification, got a fit result"):
        plot_loss(fitted)
