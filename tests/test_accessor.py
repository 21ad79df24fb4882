from __future__ import annotations

import pytest
import xarray as xr

import koopscope
from koopscope.errors import ResultError
from koopscope.simulation import linear_run


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Look up a function of koopscope, as whoever has a result has done: the first one adds .koop."""
    return koopscope.open_trajectory


@pytest.fixture(scope="module")
def run():
    return linear_run()


@pytest.fixture(scope="module")
def fitted(run):
    return run.koop.fit("node", t2=600, lag=10)


def test_koop__is_the_functions(run, fitted):
    assert fitted.koop.predict(50).equals(koopscope.predict(fitted, 50))
    assert fitted.koop.spectrum().equals(koopscope.spectrum(fitted))
    assert fitted.koop.end_point().equals(koopscope.end_point(fitted))
    assert fitted.koop.prune(0.2).equals(koopscope.prune(fitted, 0.2))
    assert fitted.koop.verify(run, 50).equals(koopscope.verify(fitted, run, 50))
    assert run.koop.inspect().equals(koopscope.inspect(run))
    assert fitted.koop.spectrum().koop.plot_eigs().get_xlabel() == fitted.koop.plot_eigs().get_xlabel()


def test_koop__save(fitted, tmp_path):
    fitted.koop.save(tmp_path / "fit.zarr")
    fitted.koop.predict(5).koop.save(tmp_path / "forecast.zarr")
    assert koopscope.load(tmp_path / "fit.zarr").equals(fitted)


def test_koop__says_what_a_result_found(run, fitted):
    assert repr(fitted.koop) == "<koopscope fit: affine, node, 6 groups, steps 0 to 600>"
    html = fitted.koop.verify(run, 50).koop._repr_html_()
    assert html.count("<tr>") == 4
    assert "closer than holding still" in html
    assert "50 steps after t2 = 600" in html
    assert "trajectory" in repr(run.koop)


def test_koop__escapes_names_in_html(fitted):
    renamed = fitted.copy()
    renamed.attrs = {**fitted.attrs, "partition": "<script>"}
    assert "<script>" not in renamed.koop._repr_html_()


def test_koop__a_tree_of_something_else():
    with pytest.raises(ResultError, match="no fit or verification"):
        repr(xr.DataTree().koop)
