from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import ResultError, UsageError
from koopscope.intervals import bootstrap_eigenvalues, fit_states
from koopscope.simulation import CONTRACTION, ROTATION, linear_run
from koopscope.trajectory import from_arrays


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


def noisy_run(n_rows=1001, seed=0):
    """A layer of six weights that is pulled back at 0.95 and 0.8 a step, with independent noise."""
    random = np.random.default_rng(seed)
    values = np.zeros((n_rows + 200, 6))
    rates = np.array([0.95, 0.8, 0.8, 0.5, 0.5, 0.5])
    for row in range(1, values.shape[0]):
        values[row] = rates * values[row - 1] + random.normal(size=6)
    mixed = values[200:] @ np.linalg.qr(random.normal(size=(6, 6)))[0]
    return from_arrays(np.arange(n_rows), {"fc.weight": mixed.reshape(-1, 2, 3)})


def test_spectrum__intervals_hold_the_known_rates():
    run = noisy_run()
    statistics = koopscope.collect(run, "network", t1=0, t2=1000, lag=1)
    fit = koopscope.fit(statistics, "network")
    table = koopscope.spectrum(fit, statistics)
    slowest = table.isel(eigenvalue=0)
    assert float(slowest["growth_low"]) < np.log(0.95) < float(slowest["growth_high"])
    assert bool(slowest["interval_trusted"])
    assert np.all(table["growth_low"] <= table["growth_high"])
    again = koopscope.spectrum(fit, run)
    np.testing.assert_allclose(again["growth_low"], table["growth_low"])


def test_spectrum__intervals_of_a_conjugate_pair_mirror_each_other():
    random = np.random.default_rng(3)
    turn = 0.9 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    values = np.zeros((801, 2))
    for row in range(1, 801):
        values[row] = turn @ values[row - 1] + random.normal(size=2)
    run = from_arrays(np.arange(801), {"fc.weight": values.reshape(-1, 1, 2)})
    table = koopscope.spectrum(koopscope.fit(run, "network", t1=0, t2=800, lag=1), run)
    first, second = (table.isel(eigenvalue=index) for index in (0, 1))
    assert float(first["frequency"]) == -float(second["frequency"]) > 0
    assert float(first["growth_low"]) == float(second["growth_low"])
    assert float(first["growth_high"]) == float(second["growth_high"])
    assert float(first["frequency_low"]) == -float(second["frequency_high"])
    assert float(first["frequency_low"]) < 0.5 / (2 * np.pi) < float(first["frequency_high"])
    assert float(first["growth_low"]) < np.log(0.9) < float(first["growth_high"])


def test_spectrum__frequency_intervals_of_real_modes_lie_about_their_own():
    """Two close decays: resamples of them are often a conjugate pair."""
    random = np.random.default_rng(5)
    values = np.zeros((401, 3))
    for row in range(1, 401):
        values[row] = values[row - 1] * [0.9, 0.88, -0.7] + random.normal(size=3)
    run = from_arrays(np.arange(401), {"fc.weight": values.reshape(-1, 1, 3)})
    fit = koopscope.fit(run, "network", t1=0, t2=400, lag=1)
    table = koopscope.spectrum(fit, run)
    real = table["eigenvalue"].values.imag == 0
    assert real.any()
    own, low, high = (table[name].values[real] for name in ("frequency", "frequency_low", "frequency_high"))
    assert np.all(low <= own)
    assert np.all(own <= high)
    np.testing.assert_allclose(own - low, high - own, atol=1e-15)
    assert 0.5 in own  # of the mode that flips its sign: half a cycle a step


@pytest.mark.parametrize(
    "settings", [{"partition": "network", "delays": 3}, {"partition": "weight"}, {"method": "auto"}]
)
def test_spectrum__intervals_of_any_affine_fit(settings):
    run = noisy_run(n_rows=401)
    fit = koopscope.fit(run, t1=0, t2=400, **({} if "method" in settings else {"lag": 2}), **settings)
    if fit.attrs.get("kind", "affine") != "affine":
        with pytest.raises(UsageError):
            koopscope.spectrum(fit, run)
        return
    table = koopscope.spectrum(fit, run)
    assert np.isfinite(table["growth_high"]).all()


def test_spectrum__intervals_do_not_promise_what_they_cannot_hold():
    """Slow modes of a smooth run: its errors are not noise."""
    run = linear_run("network", drift=0)
    fit = koopscope.fit(run, "network", t2=800, lag=10)
    assert not koopscope.spectrum(fit, run)["interval_trusted"].any()


def test_spectrum__intervals_need_the_recording_that_was_fitted():
    fit = koopscope.fit(linear_run(seed=1), "network", t2=800, lag=10)
    with pytest.raises(ResultError):
        koopscope.spectrum(fit, linear_run(seed=2))
    paper = koopscope.fit(linear_run(), "node", method="paper")
    with pytest.raises(UsageError):
        koopscope.spectrum(paper, linear_run())
    with pytest.raises(UsageError):
        koopscope.spectrum(fit, linear_run(seed=1), confidence=95)


def test_bootstrap_eigenvalues__covers():
    """Of 40 intervals of 95 %, fewer than 34 hold the truth with probability 0.01."""
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        states = np.zeros((301, 1))
        for row in range(1, 301):
            states[row] = 0.8 * states[row - 1] + random.normal()
        found = fit_states(states)[0].ravel().astype(complex)
        bounds = bootstrap_eigenvalues(states, found, confidence=0.95, random=random)
        covered += bool(bounds.modulus_low[0] <= 0.8 <= bounds.modulus_high[0])
    assert covered >= 34


@pytest.mark.parametrize(
    ("rate", "observation", "trusted"),
    [(0.9, 0.0, True), (0.95, 0.3, False), (0.99, 0.0, False)],
    ids=["process noise", "observation noise", "few lives"],
)
def test_bootstrap_eigenvalues__says_where_it_can_be_trusted(rate, observation, trusted):
    """Of runs like these .99, .007 and .00 are called trusted (tests/studies/spectra.py has the figures)."""
    random = np.random.default_rng(4)
    states = np.zeros((601, 1))
    for row in range(1, 601):
        states[row] = rate * states[row - 1] + random.normal()
    states = states[200:] + observation * states.std() * random.normal(size=(401, 1))
    found = fit_states(states)[0].ravel().astype(complex)
    bounds = bootstrap_eigenvalues(states, found, confidence=0.95, random=random)
    assert bool(bounds.trusted[0]) is trusted
