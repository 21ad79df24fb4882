"""Powers of affine maps, against repeated application."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.operators.stepping import affine_steps


@pytest.mark.parametrize("d", [1, 3, 8])
def test_affine_steps__equals_twin(d):
    random = np.random.default_rng(3)
    operators = random.normal(size=(4, d, d)) / (2 * np.sqrt(d))
    offsets = random.normal(size=(4, d))
    counts = np.array([0, 1, 2, 7, 25, 64])
    found = affine_steps(operators, offsets, counts)
    expected = reference.affine_steps(operators, offsets, counts)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert np.all(found[:, 0] == 0.0)


def test_affine_steps__unit_eigenvalue_is_a_straight_line():
    found = affine_steps(np.ones((1, 1, 1)), np.full((1, 1), 0.25), np.array([1_000_000]))
    assert found[0, 0, 0] == 250_000.0
