import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from koopscope.errors import ResultError, UsageError
from koopscope.plots import plot_error_vs_evolution
from koopscope.plots.style import PALETTE
from koopscope.trajectory import tensor_names


def _points(ax, label):
    return np.concatenate([a.get_offsets() for a in ax.collections if a.get_label() == label])


def _values(verification, child, lead):
    tree = verification.sel(lead=lead)
    names = [item["name"] for item in verification.attrs["tensors"]]
    return {name: np.abs(tree[child][name].to_numpy()).ravel() for name in names}


def _tampered(verification, **errors):
    tree = verification.copy(deep=True)
    tree["error"]["fc1.bias"][:] = errors["error"]
    if "evolution" in errors:
        tree["evolution"]["fc1.bias"][:] = errors["evolution"]
    return tree


def test_plot_error_vs_evolution__a_point_a_weight_in_its_layers_colour(inexact):
    ax = plot_error_vs_evolution(inexact)
    error, evolution = _values(inexact, "error", 200), _values(inexact, "evolution", 200)
    for number, layer in enumerate(["fc1", "fc2"]):
        names = [name for name in error if name.startswith(layer)]
        expected = np.column_stack([np.concatenate([v[n] for n in names]) for v in (evolution, error)])
        np.testing.assert_array_equal(_points(ax, layer), expected)
        (artist,) = [a for a in ax.collections if a.get_label() == layer]
        assert tuple(artist.get_facecolors()[0][:3]) == to_rgba(PALETTE[number])[:3]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_plot_error_vs_evolution__draws_on_the_axes_given(inexact):
    ax = Figure().subplots()
    assert plot_error_vs_evolution(inexact, ax=ax) is ax


def test_plot_error_vs_evolution__lead(inexact):
    ax = plot_error_vs_evolution(inexact, lead=50)
    assert ax.get_xlabel() == "|evolution| of each weight over 50 steps"
    summary = inexact.to_dataset().sel(lead=50)
    title = ax.get_title(loc="left")
    assert f"error / evolution {float(summary['error_to_evolution'].sel(forecast='fit')):.3g}" in title
    assert f"skill {float(summary['skill_hold']):.3g} against hold" in title
    assert f"{float(summary['skill_linear']):.3g} against linear" in title


def test_plot_error_vs_evolution__unknown_lead(inexact):
    with pytest.raises(UsageError, match="lead=70 is not in this verification, which holds 50, 100, 200"):
        plot_error_vs_evolution(inexact, lead=70)


def test_plot_error_vs_evolution__hold_is_the_diagonal(inexact):
    (line,) = [line for line in plot_error_vs_evolution(inexact).lines if "hold" in line.get_label()]
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())


def test_plot_error_vs_evolution__medians_over_those_that_moved(inexact):
    tree = _tampered(inexact, error=5.0, evolution=0.0)
    (mark,) = [line for line in plot_error_vs_evolution(tree).lines if "medians" in line.get_label()]
    others = [name for name in tensor_names(tree["error"].to_dataset()) if name != "fc1.bias"]
    for data, child in ((mark.get_xdata(), "evolution"), (mark.get_ydata(), "error")):
        expected = np.median(np.concatenate([_values(tree, child, 200)[name] for name in others]))
        assert float(data[0]) == pytest.approx(float(expected))


def test_plot_error_vs_evolution__unmoved_and_exact_are_counted(inexact, legend_texts):
    still = plot_error_vs_evolution(_tampered(inexact, error=0.0, evolution=0.0))
    assert "4 did not move\n(not drawn)" in legend_texts(still)
    assert len(_points(still, "fc1")) == 12
    exact = plot_error_vs_evolution(_tampered(inexact, error=0.0))
    assert "4 forecast exactly\n(not drawn)" in legend_texts(exact)
    still.figure.draw_without_rendering()


def test_plot_error_vs_evolution__nothing_moved(inexact):
    tree = inexact.copy(deep=True)
    for child in ("error", "evolution"):
        for name in tree[child].data_vars:
            tree[child][name][:] = 0.0
    ax = plot_error_vs_evolution(tree)
    ax.figure.draw_without_rendering()
    assert ["nothing to draw" in text.get_text() for text in ax.texts] == [True]


def test_plot_error_vs_evolution__diverged_says_so(diverged):
    ax = plot_error_vs_evolution(diverged)
    ax.figure.draw_without_rendering()
    assert [text.get_text() for text in ax.texts] == ["forecast diverged:\n16 of 26 weights are not finite"]
    assert len(_points(ax, "fc2")) == 10
    assert "undefined" in ax.get_title(loc="left")


def test_plot_error_vs_evolution__huge_errors_stay_in_view(inexact, legend_texts):
    ax = plot_error_vs_evolution(_tampered(inexact, error=1e200))
    assert "4 beyond the view,\nlargest 1e+200" in legend_texts(ax)
    assert len(_points(ax, "beyond")) == 4
    assert ax.get_ylim()[1] < 1e6


def test_plot_error_vs_evolution__density_above_5000(many_weights, inexact):
    ax = plot_error_vs_evolution(many_weights)
    (cells,) = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    assert cells.get_array().sum() == 6000
    error, evolution = (_values(many_weights, child, 19)["fc2.weight"] for child in ("error", "evolution"))
    np.testing.assert_allclose(_points(ax, "fc2"), [[np.median(evolution), np.median(error)]])
    assert not any(isinstance(a, PolyCollection) for a in plot_error_vs_evolution(inexact).collections)


def test_plot_error_vs_evolution__wrong_input_is_named(fitted):
    with pytest.raises(ResultError, match="expected a verification, got a fit result"):
        plot_error_vs_evolution(fitted)
