"""Eigenvalues of small matrices against LAPACK's, and what they promise by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.kernels.small_eigen import small_eigen
from koopscope.kernels.small_modes import LARGEST

EPS = np.finfo(np.float64).eps


def eigen_of(matrix):
    """Values and vectors, or None."""
    n = len(matrix)
    values, vectors = np.empty((2, n)), np.empty((2, n, n))
    room = np.full((n, n), np.nan), np.full((2, n), np.nan)
    found = small_eigen(np.array(matrix), *room, values, vectors)
    return (values[0] + 1j * values[1], vectors[0] + 1j * vectors[1]) if found else None


def off(matrix, values, vectors):
    """Largest entry of ``A V - V diag(values)``, in units of the size of A."""
    size = max(np.abs(matrix).max(), np.finfo(float).tiny)
    return np.abs(matrix @ vectors - vectors * values).max() / size


def in_order(values):
    return values[np.lexsort((values.imag, values.real))]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, LARGEST])
@pytest.mark.parametrize("kind", ["random", "near one", "graded", "symmetric"])
def test_small_eigen__as_lapack(n, kind):
    random = np.random.default_rng(n)
    for _ in range(6):
        matrix = random.normal(size=(n, n))
        if kind == "near one":
            matrix = np.eye(n) + 1e-3 * matrix
        elif kind == "graded":
            matrix *= 10.0 ** random.uniform(-6, 0, size=matrix.shape)
        elif kind == "symmetric":
            matrix = matrix + matrix.T
        values, vectors = eigen_of(matrix)
        # Backward errors of some steps on n rows.
        assert off(matrix, values, vectors) <= 20 * n * EPS
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1.0, rtol=4 * EPS)
        # Eigenvalues move by the rounding times their condition, which is below 1e4 here but for the graded.
        expected = in_order(reference.small_eigen(matrix))
        tolerance = (1e-7 if kind == "graded" else 1e-11) * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(in_order(values), expected, atol=tolerance)
        pairs = values.imag > 0
        assert np.array_equal(np.conj(values[pairs]), np.roll(values, -1)[pairs])
        assert np.array_equal(np.conj(vectors[:, pairs]), np.roll(vectors, -1, axis=1)[:, pairs])
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
    matrix = companion(roots)
    values, vectors = eigen_of(matrix)
    assert off(matrix, values, vectors) <= 100 * EPS
    # A double root is known to the root of the rounding.
    expected = in_order(np.array(roots, complex).round(6))
    np.testing.assert_allclose(in_order(values.round(6)), expected, atol=1e-6)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_small_eigen__vectors_next_to_defective_matrices_are_as_good_as_any(n):
    """Values that come several times, with too few vectors or enough, in directions of all kinds."""
    random, none = np.random.default_rng(n), 0
    for _ in range(300):
        blocks = np.diag(random.choice([0.5, 0.9, 1.0], n)) + np.diag((random.random(n - 1) < 0.6) * 1.0, 1)
        turn = random.normal(size=(n, n))
        rotated = turn @ blocks @ np.linalg.inv(turn)
        sparse = random.normal(size=(n, n)) * (random.random((n, n)) < 0.3)
        for matrix in (rotated, sparse):
            found = eigen_of(matrix)
            none += found is None
            # Backward errors of LAPACK are some n eps here as well.
            assert found is None or off(matrix, *found) <= 20 * n * EPS
    assert none <= 6  # of 600 are left to LAPACK, whose steps have more ways to end


@pytest.mark.parametrize("size", [1e-150, 1e-158, 1e-160, 1e-162, 1e-170])
def test_small_eigen__entries_whose_squares_underflow(size):
    random = np.random.default_rng(4)
    matrix = random.normal(size=(5, 5))
    matrix[1:, 0] *= size
    values, vectors = eigen_of(matrix)
    np.testing.assert_allclose(in_order(values), in_order(reference.small_eigen(matrix)), atol=1e-13)
    assert off(matrix, values, vectors) <= 100 * EPS


def test_small_eigen__solutions_beyond_all_numbers_are_kept_small():
    jordan = 0.9 * np.eye(LARGEST) + np.diag(np.full(LARGEST - 1, 1e6), 1)
    values, vectors = eigen_of(jordan)
    assert np.all(values == 0.9)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1.0, rtol=4 * EPS)


def test_small_eigen__of_defective_singular_huge_and_tiny_matrices():
    assert np.all(eigen_of(np.zeros((4, 4)))[0] == 0)
    jordan = 0.9 * np.eye(4) + np.diag(np.ones(3), 1)  # one eigenvector only
    values, vectors = eigen_of(jordan)
    assert np.all(values == 0.9)
    assert off(jordan, values, vectors) <= 20 * EPS
    for scale in (1e300, 1e-300):
        values, _ = eigen_of(np.diag([1.0, 2, 3, 4]) * scale)
        assert np.array_equal(np.sort(values.real), np.array([1, 2, 3, 4]) * scale)
    assert np.array_equal(eigen_of(np.eye(4))[1], np.eye(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_small_eigen__of_a_matrix_that_is_not_finite_there_are_none(bad):
    matrix = np.eye(3)
    matrix[1, 2] = bad
    assert eigen_of(matrix) is None
