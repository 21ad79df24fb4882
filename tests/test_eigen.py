"""Modes of operators: within the directions that are kept, and where there is no full set of them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from koopscope import eigen
from koopscope.eigen import KERNEL_STATES, decompose
from koopscope.operators import Operators, solve_affine
from koopscope.operators.batches import NUMBERS_PER_TASK
from koopscope.statistics import PairTriangles
from koopscope.threads import limited_threads


@pytest.fixture(params=["by kernel", "by LAPACK"], autouse=True)
def solver(request, monkeypatch):
    """Decompose few groups either way."""
    monkeypatch.setattr(eigen, "MANY_GROUPS", 1 if request.param == "by kernel" else 10**9)


def fitted(n_groups, d, rank=None, seed=0):
    """Fits of contractions; every third group has half of its directions below the tolerance."""
    random = np.random.default_rng(seed)
    now = np.triu(random.normal(size=(n_groups, d, d)) + 3 * np.eye(d))
    now[::3, :, (d + 1) // 2 :] *= 1e-9
    following = now @ random.normal(size=(n_groups, d, d)) / (2 * np.sqrt(d))
    factors = np.zeros((n_groups, 2 * d + 1, 2 * d + 1))
    factors[:, 0] = random.normal(size=(n_groups, 2 * d + 1))
    factors[:, 0, 0] = 7.0
    factors[:, 1 : d + 1, 1 : d + 1] = now
    factors[:, 1 : d + 1, d + 1 :] = following
    factors[:, d + 1 :, d + 1 :] = 1e-3 * np.triu(random.normal(size=(n_groups, d, d)))
    triangles = PairTriangles(factors, random.normal(size=(n_groups, d)), 50)
    return solve_affine(triangles, random.normal(size=(n_groups, d)), rtol=1e-5, rank=rank)


def plain(matrices):
    """Operators about nothing but their matrices."""
    n_groups, d = matrices.shape[:2]
    random = np.random.default_rng(1)
    vectors, pairs = random.normal(size=(n_groups, d)), random.normal(size=(n_groups, 2 * d, d))
    ones, rank = np.ones(n_groups), np.full(n_groups, d)
    ends = pairs @ np.nan_to_num(matrices).swapaxes(1, 2)
    return Operators(matrices, vectors, None, vectors, rank, ones, ones, vectors, pairs, ends)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("d", [1, 11, KERNEL_STATES + 1])
def test_decompose__within_the_kept_directions_as_on_all_weights(d, rank):
    operators = fitted(5, d, rank)
    assert len(set(operators.rank)) == 1 + (rank is None and d > 1)
    inside, outside = decompose(operators), decompose(replace(operators, directions=None))
    kept = np.arange(d) < operators.rank[:, None]
    assert np.array_equal(np.isnan(inside.eigenvalue), ~kept)
    np.testing.assert_allclose(inside.eigenvalue[kept], outside.eigenvalue[kept], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(inside.amplitude[kept], outside.amplitude[kept], rtol=1e-7)
    # On all weights the many eigenvalues of zero blur the other eigenvectors.
    np.testing.assert_allclose(inside.residual[kept], outside.residual[kept], rtol=1e-5)


def test_decompose__of_one_group_whatever_is_beside_it():
    per_task = NUMBERS_PER_TASK // 20**2
    operators = fitted(2 * per_task + 1, 20)
    whole = decompose(operators)
    with limited_threads(1):
        alone = decompose(operators)
    few = slice(per_task - 3, per_task + 4)
    parts = decompose(operators.cut(few))
    for field in fields(whole):
        assert np.array_equal(getattr(whole, field.name), getattr(alone, field.name), equal_nan=True)
        assert np.array_equal(getattr(whole, field.name)[few], getattr(parts, field.name), equal_nan=True)


@pytest.mark.parametrize("d", [1, 5, 11, 16])
def test_decompose__by_kernel_as_by_lapack(d, monkeypatch):
    operators = fitted(12, d, seed=5)
    whole = decompose(operators)
    monkeypatch.setattr(eigen, "MANY_GROUPS", 1 if eigen.MANY_GROUPS > 1 else 10**9)
    other = decompose(operators)
    # Eigenvectors of these operators have conditions below 1e3.
    np.testing.assert_allclose(whole.eigenvalue, other.eigenvalue, rtol=1e-11)
    np.testing.assert_allclose(whole.residual, other.residual, rtol=1e-8)
    np.testing.assert_allclose(whole.amplitude, other.amplitude, rtol=1e-10)


def test_decompose__a_group_without_directions_has_no_modes():
    operators = fitted(3, 4)
    rank, directions = operators.rank.copy(), operators.directions.copy()
    rank[1], directions[1] = 0, 0.0
    found = decompose(replace(operators, rank=rank, directions=directions))
    assert np.isnan(found.eigenvalue[1]).all()
    assert np.isfinite(found.eigenvalue[2]).all()


def test_decompose__conjugates_side_by_side_the_largest_first():
    angle = 0.3
    turn = 0.9 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1:3, 1:3], matrix[3, 3] = 0.5, turn, -1.1
    found = decompose(plain(matrix[None])).eigenvalue[0]
    expected = [-1.1, 0.9 * np.exp(1j * angle), 0.9 * np.exp(-1j * angle), 0.5]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_decompose__pairs_of_the_same_size_stay_side_by_side():
    matrix = np.zeros((4, 4))
    matrix[:2, :2], matrix[2:, 2:] = [[0, -1], [1, 0]], [[0.6, -0.8], [0.8, 0.6]]
    found = decompose(plain(matrix[None])).eigenvalue[0]
    np.testing.assert_allclose(found[1::2], found[::2].conj(), rtol=1e-15)


@pytest.mark.parametrize("d", [12, 16])
def test_decompose__of_a_shift_all_is_finite(d):
    found = decompose(plain(np.diag(np.ones(d - 1), 1)[None]))
    assert np.isfinite(found.residual).all()
    assert np.isfinite(found.amplitude).all()


def test_decompose__without_a_full_set_of_eigenvectors():
    """Groups beside such a one keep theirs, bit for bit."""
    jordan = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]])
    matrices = np.stack([np.diag([0.9, 0.8, 0.7]), jordan, np.diag([0.6, 0.5, 0.4]), np.zeros((3, 3))])
    matrices[3, 0, 1] = 1.0  # its eigenvectors are parallel to the last digit
    operators = plain(matrices)
    found = decompose(operators)
    np.testing.assert_allclose(found.eigenvalue[1], 0.5, rtol=1e-4)  # a root of the third order of rounding
    assert np.all(found.eigenvalue[3] == 0.0)
    assert np.isfinite(found.residual).all()
    assert np.isfinite(found.amplitude).all()
    for group in (0, 2):
        alone = decompose(operators.cut(slice(group, group + 1)))
        assert np.array_equal(found.amplitude[group], alone.amplitude[0])
        assert np.array_equal(found.residual[group], alone.residual[0])


def test_decompose__an_operator_that_is_not_finite_has_no_modes():
    matrices = np.stack([np.diag([0.9, 0.8]), np.diag([np.inf, 0.8]), np.diag([0.9, np.nan])])
    found = decompose(plain(matrices))
    np.testing.assert_allclose(found.eigenvalue[0], [0.9, 0.8], rtol=1e-12)
    for values in (found.eigenvalue, found.residual, found.amplitude):
        assert np.isnan(values[1:]).all()
        assert np.isfinite(values[0]).all()
