"""Decompositions of many small matrices against LAPACK's, and what they promise by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.kernels.small_eigen import small_eigen
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


def residual(matrices, values, vectors):
    """Largest entry of ``A V - V diag(values)``, in units of the size of A."""
    size = np.maximum(np.abs(matrices).max(axis=(1, 2)), np.finfo(float).tiny)
    off = np.abs(matrices @ vectors - vectors * values[:, None])
    return (off.max(axis=(1, 2)) / size).max()


def sorted_values(values):
    return np.take_along_axis(values, np.lexsort((values.imag, values.real), axis=-1), axis=-1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, LARGEST])
@pytest.mark.parametrize("kind", ["random", "near one", "graded", "symmetric"])
def test_small_eigen__as_lapack(n, kind):
    random = np.random.default_rng(n)
    matrices = random.normal(size=(6, n, n))
    if kind == "near one":
        matrices = np.eye(n) + 1e-3 * matrices
    elif kind == "graded":
        matrices *= 10.0 ** random.uniform(-6, 0, size=matrices.shape)
    elif kind == "symmetric":
        matrices = matrices + matrices.swapaxes(1, 2)
    values, vectors = small_eigen(matrices)
    assert residual(matrices, values, vectors) <= 20 * n * EPS
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=4 * EPS)
    # Eigenvalues move by the rounding times their condition, which is below 1e4 here but for the graded.
    tolerance = 1e-7 if kind == "graded" else 1e-11
    expected = sorted_values(reference.small_eigen(matrices))
    np.testing.assert_allclose(
        sorted_values(values), expected, atol=tolerance * max(1.0, np.abs(expected).max())
    )
    pairs = values.imag > 0
    np.testing.assert_array_equal(np.conj(values[pairs]), np.roll(values, -1, axis=1)[pairs])
    if kind == "symmetric":
        assert np.all(values.imag == 0)


def companion(roots):
    """A matrix with these eigenvalues: their polynomial's companion."""
    n = len(roots)
    matrix = np.diag(np.ones(n - 1), -1)
    matrix[0] = -np.poly(roots)[1:].real
    return matrix


@pytest.mark.parametrize(
    "roots",
    [
        [0.9 + 0.3j, 0.9 - 0.3j, -0.99, 0.5],
        [1.0, -1.0, 1j, -1j],  # on the circle: no shift tells them apart
        [0.0, 0.0, 0.7],
        np.exp(2j * np.pi * np.arange(8) / 8),
    ],
)
def test_small_eigen__of_known_roots(roots):
    matrix = companion(roots)[None]
    values, vectors = small_eigen(matrix)
    assert residual(matrix, values, vectors) <= 100 * EPS
    # A double root is known to the root of the rounding.
    found, expected = sorted_values(values.round(6)), sorted_values(np.array(roots, complex)[None].round(6))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_small_eigen__of_defective_singular_huge_tiny_and_not_finite_matrices():
    matrices = np.zeros((6, 4, 4))
    matrices[1] = 0.9 * np.eye(4) + np.diag(np.ones(3), 1)  # one eigenvector only
    matrices[2] = np.diag([1.0, 2, 3, 4]) * 1e300
    matrices[3] = np.diag([1.0, 2, 3, 4]) * 1e-300
    matrices[4] = np.eye(4)
    matrices[5, 1, 2] = np.inf
    values, vectors = small_eigen(matrices)
    assert np.all(values[0] == 0)
    assert np.all(values[1] == 0.9)
    np.testing.assert_array_equal(np.sort(values[2:4].real), np.outer([1e300, 1e-300], [1, 2, 3, 4]))
    np.testing.assert_array_equal(vectors[4], np.eye(4))
    assert residual(matrices[:5], values[:5], vectors[:5]) <= 20 * EPS
    assert np.isnan(values[5]).all()
    assert np.isnan(vectors[5]).all()
