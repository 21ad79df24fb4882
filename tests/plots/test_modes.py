import numpy as np
import pytest
from matplotlib.figure import Figure

import koopscope
from koopscope.errors import ResultError, UsageError
from koopscope.plots import plot_modes


def test_plot_modes__all_modes_add_up_to_the_first_lag(run):
    """Shares of the modes, a pair counted once, sum to what the forecast moves in one lag."""
    fit = koopscope.fit(run, "network", t2=600, lag=10)
    moved = (koopscope.predict(fit, 10) - koopscope.predict(fit, 0).isel(lead=0)).isel(lead=0)
    table = koopscope.spectrum(fit)
    total = np.zeros((4, 3))
    for mode in range(table.sizes["eigenvalue"]):
        if table["eigenvalue"].values[mode].imag >= 0:
            total += plot_modes(fit, "fc1.weight", mode=mode).images[0].get_array()
    np.testing.assert_allclose(total, moved["fc1.weight"], atol=1e-9)


def test_plot_modes__the_title_names_the_eigenvalue(run):
    fit = koopscope.fit(run, "network", t2=600, lag=10)
    value = koopscope.spectrum(fit)["eigenvalue"].values[2]
    assert f"{value.real:.6g}" in plot_modes(fit, mode=2).get_title(loc="left")


def test_plot_modes__a_bias_and_groups_without_such_a_mode(fitted):
    rank = fitted["fc1"]["rank"].to_numpy()
    ax = plot_modes(fitted, "fc1.bias", mode=int(rank.min()) - 1)
    assert ax.images[0].get_array().shape == (4, 1)
    smaller = fitted.copy(deep=True)
    smaller["fc1"]["rank"][0] = 0
    picture = plot_modes(smaller, "fc1.weight").images[0].get_array()
    assert np.ma.getmaskarray(picture)[0].all()
    assert not np.ma.getmaskarray(picture)[1:].any()


def test_plot_modes__draws_on_the_axes_given(fitted):
    ax = Figure().subplots()
    assert plot_modes(fitted, ax=ax) is ax
    ax.figure.draw_without_rendering()


def test_plot_modes__what_it_refuses(fitted, verification):
    with pytest.raises(UsageError, match=r"made on fc1\.weight"):
        plot_modes(fitted, "fc9")
    with pytest.raises(UsageError, match="counts from 0"):
        plot_modes(fitted, mode=-1)
    with pytest.raises(ResultError, match="largest rank"):
        plot_modes(fitted, mode=99)
    with pytest.raises(ResultError, match="expected a fit"):
        plot_modes(verification)
