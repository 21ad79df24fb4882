from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import ResultError
from koopscope.simulation import CONTRACTION, ROTATION, linear_run


def test_spectrum__units_are_training_steps():
    table = koopscope.spectrum(koopscope.fit(linear_run("node", drift=0), "node", t2=400, lag=3, rtol=1e-9))
    one = table.isel(eigenvalue=(table["path"].values == "fc1") & (table["group"].values == 0))
    per_step = np.array([ROTATION, np.conj(ROTATION), CONTRACTION])
    np.testing.assert_allclose(one["eigenvalue_per_step"][:3], per_step, atol=1e-8)
    np.testing.assert_allclose(one["growth_rate"][:3], np.log(np.abs(per_step)), atol=1e-8)
    np.testing.assert_allclose(one["frequency"][:3], np.angle(per_step) / (2 * np.pi), atol=1e-8)
    np.testing.assert_allclose(one["e_folding_time"][:3], -1 / np.log(np.abs(per_step)), rtol=1e-6)


def test_spectrum__one_entry_a_kept_mode():
    fit = koopscope.fit(linear_run(), "node,fc1=quasi-node:3", t2=800, lag=10)
    table = koopscope.spectrum(fit)
    kept = sum(int(fit[path]["rank"].sum()) for path in fit.attrs["blocks"])
    assert table.sizes["eigenvalue"] == kept
    assert set(table["layer"].values) == {"fc1", "fc2"}


def test_spectrum__not_a_fit():
    with pytest.raises(ResultError):
        koopscope.spectrum(linear_run())


def test_spectrum__an_eigenvalue_of_zero_decays_at_once():
    """A weight that jumps to its final value in one lag has eigenvalue 0 (to rounding)."""
    fit = koopscope.fit(linear_run(), "weight", t2=800, lag=10)
    fit["fc1"]["eigenvalue"][:] = 0.0
    table = koopscope.spectrum(fit)
    zero = table.isel(eigenvalue=table["path"].values == "fc1")
    assert np.all(zero["growth_rate"] == -np.inf)
    assert np.all(zero["e_folding_time"] == 0.0)
    assert np.all(zero["eigenvalue_per_step"] == 0.0)
