"""Singular values of many small matrices against LAPACK's, and what they promise by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.kernels.small_svd import LARGEST, TOGETHER, small_svd

EPS = np.finfo(np.float64).eps


def graded_triangles(count, n, digits, seed=0):
    random = np.random.default_rng(seed)
    return np.triu(random.normal(size=(count, n, n))) * 10.0 ** -np.linspace(0, digits, n)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 11, LARGEST])
@pytest.mark.parametrize("digits", [0, 4, 9])
def test_small_svd__of_triangles(n, digits):
    matrices = graded_triangles(5, n, digits)
    left, singular, right = small_svd(matrices)
    largest = singular[:, :1, None]
    # Backward errors of a Jacobi sweep are some n eps; eight sweeps at most.
    assert np.all(np.abs((left * singular[:, None]) @ right - matrices) <= 10 * n * EPS * largest)
    unit = np.broadcast_to(np.eye(n), matrices.shape)
    np.testing.assert_allclose(left.swapaxes(1, 2) @ left, unit, atol=10 * n * EPS)
    np.testing.assert_allclose(
        right @ right.swapaxes(1, 2), (singular > 0)[:, :, None] * unit, atol=10 * n * EPS
    )
    assert np.all(np.diff(singular, axis=1) <= 0)
    expected = reference.small_svd(matrices)
    # LAPACK's own small values are good to eps times the largest.
    assert np.all(np.abs(singular - expected) <= 10 * n * EPS * largest[:, 0])


@pytest.mark.parametrize("n", [2, 5, 11, LARGEST])
def test_small_svd__rounding_is_no_direction(n):
    """Of dense matrices whose rows depend on each other: what is not zero is orthonormal."""
    random = np.random.default_rng(n)
    matrices = random.choice([-1.0, 1.0], size=(60, n, n))
    matrices[:, -1] = matrices[:, 0]
    matrices[:20, :, -1] = -2.0 * matrices[:20, :, 0]
    matrices[20:30] = random.normal(size=(10, n, 1)) * random.normal(size=(10, 1, n))
    left, singular, right = small_svd(matrices)
    largest = singular[:, :1]
    assert np.all(np.abs(singular - reference.small_svd(matrices)) <= 10 * n * EPS * largest)
    assert np.all((singular > n * EPS * largest) | (singular == 0))
    kept = singular > 0
    assert np.all(kept.sum(axis=1) == np.linalg.matrix_rank(matrices))
    projection = right @ right.swapaxes(1, 2)
    expected = kept[:, :, None] * np.eye(n)
    np.testing.assert_allclose(projection, expected, atol=10 * n * EPS)
    assert np.all(np.abs((left * singular[:, None]) @ right - matrices) <= 10 * n * EPS * largest[:, None])


@pytest.mark.parametrize("count", [1, TOGETHER - 1, TOGETHER + 1, 2 * TOGETHER])
def test_small_svd__of_a_matrix_whatever_is_beside_it(count):
    matrices = graded_triangles(count, 4, 3)
    together, alone = small_svd(matrices), small_svd(matrices[-1:])
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one[-1:], other)


def test_small_svd__of_what_is_deficient_huge_tiny_or_not_finite():
    matrices = np.zeros((6, 3, 3))
    matrices[1] = np.diag([3.0, 0, 0])
    matrices[2, :, :2] = [[1, 2], [0, 5], [0, 0]]  # a weight that does not move: a column of zeros
    matrices[3], matrices[4] = 1e300 * np.diag([1.0, 2, 3]), 1e-300 * np.diag([1.0, 2, 3])
    matrices[5, 0, 1] = np.nan
    left, singular, right = small_svd(matrices)
    assert singular[:2].tolist() == [[0, 0, 0], [3, 0, 0]]
    np.testing.assert_allclose(singular[3:5], np.outer([1e300, 1e-300], [3, 2, 1]), rtol=4 * EPS)
    assert np.all(right[2][:, 2] == 0.0)
    assert np.all(right[0] == 0.0)
    np.testing.assert_array_equal(left[0], np.eye(3))
    assert all(np.isnan(part[5]).all() for part in (left, singular, right))
