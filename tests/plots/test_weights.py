import numpy as np
import pytest
from matplotlib.figure import Figure

from koopscope.errors import ResultError, UsageError
from koopscope.plots import plot_weights
from koopscope.simulation import linear_run

ONE = [("fc1.weight", (3, 2))]


def _line(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def _true_labels(ax):
    return [line.get_label() for line in ax.lines if line.get_linestyle() == "-"]


def test_plot_weights__true_and_predicted_from_t2(inexact):
    ax = plot_weights(inexact, weights=ONE)
    evolution = inexact["evolution"]["fc1.weight"].to_numpy()[:, 3, 2]
    error = inexact["error"]["fc1.weight"].to_numpy()[:, 3, 2]
    true, predicted = _line(ax, "fc1.weight[3,2]"), _line(ax, "fc1.weight[3,2] predicted")
    np.testing.assert_array_equal(true.get_xdata(), [600, 650, 700, 800])
    np.testing.assert_array_equal(true.get_ydata(), [0, *evolution])
    np.testing.assert_array_equal(predicted.get_ydata(), [0, *(evolution + error)])
    assert (true.get_linestyle(), predicted.get_linestyle()) == ("-", "--")
    assert true.get_color() == predicted.get_color()


def test_plot_weights__leads_out_of_order(inexact):
    shuffled = inexact.isel(lead=[2, 0, 1])
    shuffled.attrs = inexact.attrs
    one, other = (_line(plot_weights(tree, weights=ONE), "fc1.weight[3,2]") for tree in (shuffled, inexact))
    np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_plot_weights__trajectory_adds_the_window(inexact, run):
    ax = plot_weights(inexact, trajectory=run, weights=ONE)
    true = _line(ax, "fc1.weight[3,2]")
    recorded = run["fc1.weight"].to_numpy()[:, 3, 2]
    np.testing.assert_array_equal(true.get_xdata(), np.arange(801))
    np.testing.assert_array_equal(true.get_ydata(), recorded[:801] - recorded[600])
    assert list(_line(ax, "t2").get_xdata()) == [600, 600]
    assert 380 < ax.get_xlim()[0] < 400 + 1


def test_plot_weights__another_trajectory_is_refused(inexact, run):
    with pytest.raises(ResultError, match=r"does not hold fc1\.weight\[3,2\] = .* at t2=600"):
        plot_weights(inexact, trajectory=linear_run(seed=1), weights=ONE)
    with pytest.raises(ResultError, match="give the recording that was fitted"):
        plot_weights(inexact, trajectory=run.isel(step=slice(0, 500)), weights=ONE)


def test_plot_weights__farthest_moved_of_each_layer(inexact):
    ax = plot_weights(inexact, weights=2)
    expected = []
    for layer in ("fc1", "fc2"):
        moved = {}
        for name in (f"{layer}.weight", f"{layer}.bias"):
            for index, value in np.ndenumerate(inexact["evolution"][name].to_numpy()[-1]):
                moved[f"{name}[{','.join(map(str, index))}]"] = abs(value)
        expected.append(max(moved, key=moved.get))
    assert _true_labels(ax) == expected
    assert len(_true_labels(plot_weights(inexact))) == 6
    assert len(set(_true_labels(plot_weights(inexact, weights=100)))) == 26


def test_plot_weights__many_do_not_crowd_the_legend(inexact, legend_texts):
    ax = plot_weights(inexact, weights=24)
    assert sum(line.get_linestyle() == "-" for line in ax.lines) == 24
    texts = legend_texts(ax)
    assert sum("[" in text for text in texts) == 10
    assert "and 14 between these" in texts
    ax.figure.draw_without_rendering()  # a legend that leaves no room for the axes warns


def test_plot_weights__one_that_never_moved(inexact):
    tree = inexact.copy(deep=True)
    for child in ("error", "evolution"):
        tree[child]["fc1.weight"][:, 3, 2] = 0.0
    ax = plot_weights(tree, weights=ONE)
    ax.figure.draw_without_rendering()
    assert not _line(ax, "fc1.weight[3,2]").get_ydata().any()


def test_plot_weights__diverged_says_so(diverged, run):
    ax = plot_weights(diverged, trajectory=run, weights=2)
    ax.figure.draw_without_rendering()
    assert [text.get_text() for text in ax.texts] == [
        "forecast diverged:\n1 of these 2 weights are not finite"
    ]
    assert np.ptp(ax.get_ylim()) < 10


def test_plot_weights__runaway_does_not_set_the_view(inexact, legend_texts):
    tree = inexact.copy(deep=True)
    tree["error"]["fc1.weight"][-1] = 1e30
    ax = plot_weights(tree, weights=ONE)
    assert "predicted leaves\nthe view" in legend_texts(ax)
    assert ax.get_ylim()[1] < 1.0


def test_plot_weights__draws_on_the_axes_given(inexact):
    ax = Figure().subplots()
    assert plot_weights(inexact, ax=ax) is ax


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([("fc9.weight", (0, 0))], "no tensor 'fc9.weight'; the fit was made on fc1.weight, fc1.bias"),
        ([("fc1.weight", (9, 0))], r"fc1.weight has shape \(4, 3\), and no weight at \(9, 0\)"),
        ([("fc1.weight", (0,))], r"no weight at \(0,\)"),
        ([], "at least one weight"),
        (0, "at least one weight"),
    ],
)
def test_plot_weights__unknown_weights(inexact, weights, message):
    with pytest.raises(UsageError, match=message):
        plot_weights(inexact, weights=weights)


def test_plot_weights__wrong_input_is_named(fitted):
    with pytest.raises(ResultError, match="expected a verification, got a fit result"):
        plot_weights(fitted)
