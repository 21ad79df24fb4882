import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import koopscope
from koopscope.errors import ResultError, UsageError
from koopscope.plots import plot_eigs
from koopscope.plots.style import GREY, PALETTE


def _drawn(ax, label="eigenvalues"):
    return [artist for artist in ax.collections if artist.get_label() == label]


def _positions(artist):
    return np.sort_complex(artist.get_offsets() @ [1, 1j])


def test_plot_eigs__positions_equal_the_spectrum(fitted):
    expected = koopscope.spectrum(fitted)["eigenvalue"].to_numpy()
    for result in (fitted, koopscope.spectrum(fitted)):
        (markers,) = _drawn(plot_eigs(result))
        np.testing.assert_array_equal(_positions(markers), np.sort_complex(expected))


@pytest.mark.parametrize(("per", "steps"), [("lag", 10), ("step", 1)])
def test_plot_eigs__trusted_intervals_are_bars(fitted, per, steps):
    table = koopscope.spectrum(fitted)
    growth, frequency = np.log(table["modulus"]) / 10, table["frequency"]
    table = table.assign(
        growth_low=growth - 1e-3,
        growth_high=growth + 2e-3,
        frequency_low=frequency - 1e-3,
        frequency_high=frequency + 1e-3,
        interval_trusted=("eigenvalue", np.arange(table.sizes["eigenvalue"]) < 3),
    )
    (bars,) = _drawn(plot_eigs(table, per=per), "intervals")
    drawn = np.array(bars.get_segments()) @ [1, 1j]
    assert drawn.shape[0] == 6, "one along the radius and one along the circle, for each trusted interval"
    modulus = np.exp(growth.to_numpy()[:3] * steps)
    np.testing.assert_allclose(np.abs(drawn[:3, 0]), modulus * np.exp(-1e-3 * steps))
    np.testing.assert_allclose(np.abs(drawn[:3, -1]), modulus * np.exp(2e-3 * steps))
    np.testing.assert_allclose(np.abs(drawn[3:]), np.broadcast_to(modulus[:, None], drawn[3:].shape))
    assert not _drawn(plot_eigs(fitted), "intervals")


def test_plot_eigs__per_step(fitted):
    ax = plot_eigs(fitted, per="step")
    expected = koopscope.spectrum(fitted)["eigenvalue_per_step"].to_numpy()
    np.testing.assert_array_equal(_positions(_drawn(ax)[0]), np.sort_complex(expected))
    assert ax.get_xlabel() == "Re λ (per step)"
    assert "per step" in ax.get_title(loc="left")


def test_plot_eigs__spectrum_loaded_from_disk(fitted, tmp_path):
    koopscope.save(fitted, tmp_path / "fit.zarr")
    ax = plot_eigs(koopscope.load(tmp_path / "fit.zarr"))
    np.testing.assert_array_equal(_positions(_drawn(ax)[0]), _positions(_drawn(plot_eigs(fitted))[0]))


def test_plot_eigs__draws_on_the_axes_given(fitted):
    ax = Figure().subplots()
    assert plot_eigs(fitted, ax=ax) is ax


def test_plot_eigs__leaves_pyplot_alone(fitted):
    import matplotlib.pyplot as plt

    before, settings = plt.get_fignums(), dict(plt.rcParams)
    plot_eigs(fitted).figure.draw_without_rendering()
    assert plt.get_fignums() == before
    assert dict(plt.rcParams) == settings


def test_plot_eigs__unit_circle_with_equal_aspect(fitted):
    ax = plot_eigs(fitted)
    (circle,) = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert (circle.center, circle.radius) == ((0, 0), 1.0)
    assert ax.get_aspect() == 1.0


def test_plot_eigs__conjugates_share_their_layers_colour(make_spectrum):
    ax = plot_eigs(make_spectrum([0.5 + 0.5j, 0.5 - 0.5j, 0.9, -0.2], ["fc1", "fc1", "fc2", "fc2"]))
    (markers,) = _drawn(ax)
    colours = dict(zip(markers.get_offsets() @ [1, 1j], map(tuple, markers.get_edgecolors()), strict=True))
    assert colours[0.5 + 0.5j] == colours[0.5 - 0.5j] == to_rgba(PALETTE[0])
    assert colours[0.9] == to_rgba(PALETTE[1])


def test_plot_eigs__many_layers_become_others(make_spectrum, legend_texts):
    ax = plot_eigs(make_spectrum(np.linspace(-0.9, 0.9, 50), [f"layer{i}" for i in range(50)]))
    texts = legend_texts(ax)
    assert [text for text in texts if text.startswith("layer")] == [f"layer{i}" for i in range(7)]
    assert "others (43)" in texts
    assert np.count_nonzero((_drawn(ax)[0].get_edgecolors() == to_rgba(GREY)).all(axis=1)) == 43


def test_plot_eigs__area_by_amplitude_within_bounds(make_spectrum):
    ax = plot_eigs(make_spectrum([0.1, 0.2, 0.3, 0.4], amplitude=[1.0, 0.25, 1e-12, np.nan]))
    strong, quarter, weak, unknown = _drawn(ax)[0].get_sizes()
    assert strong == pytest.approx(4 * quarter)
    assert weak == unknown > 0


def test_plot_eigs__filled_where_the_residual_is_small(make_spectrum):
    ax = plot_eigs(make_spectrum([0.1, 0.2, 0.3], amplitude=[3, 2, 1], residual=[0.05, 0.5, np.nan]))
    assert (_drawn(ax)[0].get_facecolors()[:, 3] > 0).tolist() == [True, False, False]


def test_plot_eigs__inset_where_they_crowd_near_one(make_spectrum):
    values = [0.999, 0.998 + 0.001j, 0.998 - 0.001j, 1.0, -0.5]
    ax = plot_eigs(make_spectrum(values))
    (inset,) = ax.child_axes
    low, high = inset.get_xlim()
    assert 0.99 < low < 0.998
    assert 1.0 < high < 1.01
    assert plot_eigs(make_spectrum([0.5, -0.5, 0.1, 0.95])).child_axes == []


def test_plot_eigs__far_outside_are_clipped_and_counted(make_spectrum, legend_texts):
    ax = plot_eigs(make_spectrum([0.5, 12.3, -3 + 1j, -3 - 1j]))
    assert "3 outside the view,\nlargest |λ| = 12.3" in legend_texts(ax)
    assert ax.get_xlim() == (-1.2, 1.2)
    at_border = np.concatenate([artist.get_offsets() for artist in _drawn(ax, "outside")])
    assert len(at_border) == 3
    assert np.abs(at_border).max() < 1.2
    assert _positions(_drawn(ax)[0]) == [0.5]
    assert "spectral radius 12.3" in ax.get_title(loc="left")


def test_plot_eigs__view_widens_for_the_slightly_unstable(make_spectrum):
    ax = plot_eigs(make_spectrum([0.5, 1.4]))
    assert ax.get_xlim()[1] > 1.4
    assert _drawn(ax, "outside") == []


def test_plot_eigs__title_counts_those_near_the_circle(make_spectrum):
    title = plot_eigs(make_spectrum([1.003, 0.995, 1j, 0.5]), tolerance=0.004).get_title(loc="left")
    assert title == "node, affine, lag 10 steps\n2 of 4 within 0.004 of the circle, spectral radius 1.003"


@pytest.mark.parametrize(("number", "dense"), [(5000, False), (5001, True)])
def test_plot_eigs__density_above_5000(make_spectrum, legend_texts, number, dense):
    random = np.random.default_rng(0)
    values = random.uniform(-0.9, 0.9, number) * np.exp(1j * random.uniform(0, np.pi, number))
    ax = plot_eigs(make_spectrum(values, amplitude=random.random(number)))
    cells = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    assert len(cells) == dense
    assert len(_drawn(ax)[0].get_offsets()) == (50 if dense else number)
    if dense:
        assert cells[0].get_array().sum() == number
        assert any("a cell" in text for text in legend_texts(ax))


def test_plot_eigs__no_finite_eigenvalue(make_spectrum, legend_texts):
    assert "no eigenvalues" in plot_eigs(make_spectrum([])).get_title(loc="left")
    ax = plot_eigs(make_spectrum([complex(np.nan, 0), complex(np.inf, 0)]))
    assert "2 not finite" in legend_texts(ax)


def test_plot_eigs__wrong_input_is_named(verification):
    with pytest.raises(ResultError, match=r"expected a fit or a spectrum, got a verification result"):
        plot_eigs(verification)
    with pytest.raises(ResultError, match=r"got a dict; koopscope\.fit"):
        plot_eigs({})


def test_plot_eigs__unusable_settings(fitted):
    with pytest.raises(UsageError, match="per must be 'lag' or 'step', got 'row'"):
        plot_eigs(fitted, per="row")
    with pytest.raises(UsageError, match="tolerance"):
        plot_eigs(fitted, tolerance=-1.0)
