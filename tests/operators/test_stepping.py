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


@pytest.mark.parametrize(("count", "doublings"), [(1, 0), (1_000, 9), (1_000_000, 19)])
def test_affine_steps__a_thousand_times_as_far_is_ten_doublings_more(count, doublings, monkeypatch):
    counted = []

    def counting(maps, others, out):
        counted.append(maps.shape)
        return matmul(maps, others, out=out)

    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", counting)
    found = affine_steps(np.full((2, 1, 1), 0.5), np.ones((2, 1)), np.array([count]))
    assert len(counted) == doublings
    np.testing.assert_allclose(found, 2.0 - 0.5 ** (count - 1), rtol=1e-15)


def test_affine_steps__a_diverging_group_leaves_the_others_and_their_bits_alone():
    random = np.random.default_rng(4)
    operators, offsets = random.normal(size=(3, 5, 5)) / 5, random.normal(size=(3, 5))
    expected = affine_steps(operators, offsets, np.array([10_000]))
    operators[1] *= 100
    with np.errstate(over="ignore", invalid="ignore"):
        found = affine_steps(operators, offsets, np.array([3, 10_000]))
    assert np.array_equal(found[[0, 2], 1], expected[[0, 2], 0])
    assert not np.isfinite(found[1, 1]).any()
