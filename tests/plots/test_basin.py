from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import koopscope
from koopscope.errors import ResultError
from koopscope.simulation import linear_run, settling_run


@pytest.fixture(scope="module")
def settled():
    return koopscope.find_basin(settling_run("contraction", rate=4 / 300))


def many(basin, number):
    """Repeat one group so that there are many."""
    scalars = basin[["recorded_loss"]]
    groups = basin.drop_vars("recorded_loss")
    return xr.concat([groups] * number, "group").merge(scalars).assign_attrs(basin.attrs)


def test_plot_basin__panels_and_entry(settled):
    ax = koopscope.plot_basin(settled)
    radius = ax.lines[-2] if len(ax.lines) > 3 else ax.lines[2]
    np.testing.assert_array_equal(radius.get_ydata(), settled["spectral_radius"][0])
    strip, loss = ax.child_axes
    assert [label.get_text() for label in strip.get_yticklabels()][3] == "in a basin"
    shares = strip.collections[0].get_array().reshape(5, -1)
    np.testing.assert_array_equal(shares[3], settled["in_basin"][0])
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), settled["recorded_loss"])
    assert any("in a basin by" in text.get_text() for text in ax.get_legend().get_texts())


def test_plot_basin__many_groups_are_quantiles(settled):
    ax = koopscope.plot_basin(many(settled, 50))
    assert any("50 groups" in text.get_text() for text in ax.get_legend().get_texts())
    assert len(ax.lines) <= 4


def test_plot_basin__without_loss_or_entry():
    run = linear_run("layer", n_rows=301).drop_vars("loss")
    ax = koopscope.plot_basin(koopscope.find_basin(run, "layer"))
    assert len(ax.child_axes) == 1
    assert any("no basin" in text.get_text() for text in ax.get_legend().get_texts())


def test_plot_eigs_over_time__every_eigenvalue(settled):
    ax = koopscope.plot_eigs_over_time(settled)
    drawn = ax.collections[0].get_offsets()
    assert len(drawn) == int(np.isfinite(settled["window_eigenvalue"]).sum())
    dense = koopscope.plot_eigs_over_time(many(settled, 50))
    assert any("a cell" in text.get_text() for text in dense.get_legend().get_texts())


def test_plot_basin__other_results():
    with pytest.raises(ResultError):
        koopscope.plot_basin(xr.Dataset())
    with pytest.raises(ResultError):
        koopscope.plot_eigs_over_time(linear_run())
