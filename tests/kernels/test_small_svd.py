"""Singular values of many small matrices against LAPACK's, and what they promise by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.kernels.small_svd import LANES, LARGEST, small_svd

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
    for factor in (left.swapaxes(1, 2) @ left, right @ right.swapaxes(1, 2)):
        np.testing.assert_allclose(factor, np.broadcast_to(np.eye(n), factor.shape), atol=10 * n * EPS)
    assert np.all(np.diff(singular, axis=1) <= 0)
    expected = reference.small_svd(matrices)
    # LAPACK's own small values are good to eps times the largest.
    assert np.all(np.abs(singular - expected) <= 10 * n * EPS * largest[:, 0])


def test_small_svd__scaled_columns_keep_the_digits_of_small_values():
    """What the normal equations or LAPACK would lose: scaling a column scales a value."""
    random = np.random.default_rng(1)
    rotation = np.linalg.qr(random.normal(size=(6, 6)))[0]
    values = 10.0 ** -np.arange(0.0, 180.0, 30.0)
    found = small_svd((values[:, None] * rotation)[None])[1][0]
    np.testing.assert_allclose(found, values, rtol=20 * EPS)


@pytest.mark.parametrize("count", [1, LANES - 1, LANES + 1, 2 * LANES])
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
