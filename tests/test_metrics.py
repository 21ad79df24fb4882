from __future__ import annotations

import numpy as np
import pytest

from koopscope.metrics import equivalent_steps, error_to_evolution, moved_count, relative_l2, skill


def test_relative_l2__equals_the_formula():
    random = np.random.default_rng(0)
    error, evolution = random.normal(size=(2, 5, 30))
    expected = [np.linalg.norm(e) / np.linalg.norm(g) for e, g in zip(error, evolution, strict=True)]
    np.testing.assert_allclose(relative_l2(error, evolution), expected, rtol=1e-14)


def test_relative_l2__huge_and_diverged_errors():
    evolution = np.ones(4)
    assert relative_l2(np.full(4, 1e300), evolution) == pytest.approx(1e300)
    assert np.isnan(relative_l2(np.array([1.0, np.nan, 1, 1]), evolution))
    assert relative_l2(np.ones(4), np.zeros(4)) == np.inf
    assert relative_l2(np.zeros(4), np.zeros(4)) == 0.0


@pytest.mark.parametrize("n_moved", [0, 1, 2, 5, 6])
def test_error_to_evolution__median_over_the_weights_that_moved(n_moved):
    random = np.random.default_rng(1)
    error, evolution = random.normal(size=(2, 6))
    evolution[n_moved:] = 0.0
    found = error_to_evolution(error, evolution)
    if n_moved == 0:
        assert np.isnan(found)
    else:
        expected = np.median(np.abs(error[:n_moved])) / np.median(np.abs(evolution[:n_moved]))
        assert found == pytest.approx(expected, rel=1e-14)
    assert moved_count(evolution) == n_moved


def test_skill__of_hold_is_zero_and_of_truth_is_one():
    evolution = np.array([1.0, -2.0])
    assert skill(-evolution, -evolution) == 0.0
    assert skill(np.zeros(2), -evolution) == 1.0
    assert skill(-2 * evolution, -evolution) == -1.0


def test_equivalent_steps__starts_at_t2():
    steps = np.arange(0, 50, 10)
    losses = np.array([1.0, 5.0, 4.0, 3.0, 2.0])
    assert equivalent_steps(steps, losses, 10, 5.0) == (0, False)
    assert equivalent_steps(steps, losses, 10, 3.5) == (20, False)
    assert equivalent_steps(steps, losses, 10, 1.5) == (30, True)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_equivalent_steps__a_diverged_forecast_is_worth_nothing(loss):
    saved, censored = equivalent_steps(np.arange(3), np.array([3.0, 2.0, 1.0]), 0, loss)
    assert np.isnan(saved)
    assert not censored
