"""A seeded linear run, fitted and verified once for all plots."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import koopscope
from koopscope.simulation import linear_run
from koopscope.trajectory import tensor_names


@pytest.fixture(scope="session")
def run():
    return linear_run(drift=0.0)


@pytest.fixture(scope="session")
def fitted(run):
    return koopscope.fit(run, "node", t2=600, lag=10)


@pytest.fixture(scope="session")
def distance_to_end(run):
    end = {name: run[name].values[-1] for name in tensor_names(run)}

    def loss(params):
        with np.errstate(over="ignore"):
            return sum(((params[name] - end[name]) ** 2).sum() for name in end) / 26

    return loss


@pytest.fixture(scope="session")
def verification(fitted, run, distance_to_end):
    return koopscope.verify(fitted, run, [50, 100, 200, 300], loss=distance_to_end)


@pytest.fixture(scope="session")
def inexact(fitted, run, distance_to_end):
    """A verification with errors well above rounding."""
    return koopscope.verify(_scaled(fitted, 1.1, ["fc1", "fc2"]), run, [50, 100, 200], loss=distance_to_end)


@pytest.fixture(scope="session")
def diverged(fitted, run, distance_to_end):
    """A verification in which the first layer leaves the finite numbers and the second does not."""
    wrong = _scaled(_scaled(fitted, 1.1, ["fc2"]), 1e20, ["fc1"])
    return koopscope.verify(wrong, run, [50, 100, 200, 300], loss=distance_to_end)


@pytest.fixture(scope="session")
def many_weights():
    """A verification of 6 000 weights in two layers."""
    random = np.random.default_rng(0)
    rate = random.uniform(0.9, 0.99, (2, 60, 50))
    values = random.normal(size=(2, 60, 50)) + rate ** np.arange(60)[:, None, None, None]
    arrays = {"fc1.weight": values[:, 0], "fc2.weight": values[:, 1]}
    wide = koopscope.trajectory.from_arrays(np.arange(60), arrays)
    return koopscope.verify(koopscope.fit(wide, "network", t2=40, lag=1, rank=2), wide)


def _scaled(fitted, factor, blocks):
    tree = fitted.copy(deep=True)
    for block in blocks:
        tree[block]["operator"][:] = tree[block]["operator"] * factor
    return tree


@pytest.fixture
def make_spectrum():
    """Make spectra of given eigenvalues, one group."""

    def make(values, layers="fc1", amplitude=1.0, residual=0.0, lag=10):
        values = np.asarray(values, np.complex128)
        columns = {
            "eigenvalue_per_step": np.where(np.isfinite(values), values, 0) ** (1 / lag),
            "amplitude": np.broadcast_to(amplitude, values.shape).astype(float),
            "residual": np.broadcast_to(residual, values.shape).astype(float),
        }
        coords = {"eigenvalue": values, "layer": np.broadcast_to(layers, values.shape).astype(object)}
        attrs = {
            "koopscope_result": "spectrum",
            "partition": "node",
            "method": "affine",
            "lag": lag,
            "delays": 1,
        }
        return xr.Dataset(
            {name: ("eigenvalue", column) for name, column in columns.items()},
            {name: ("eigenvalue", column) for name, column in coords.items()},
            attrs,
        )

    return make


@pytest.fixture
def legend_texts():
    """Read all words of an axes' legends."""
    from matplotlib.legend import Legend

    def read(ax):
        return [text.get_text() for legend in ax.findobj(Legend) for text in legend.get_texts()]

    return read
