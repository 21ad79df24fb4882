"""Modes of many small operators against their NumPy twin, and where they are not found."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.kernels.small_modes import LARGEST, _invert, small_modes


def problem(n, n_states, n_groups=6, seed=0):
    """Operators on some directions of the weights, and pairs that follow them but for a little noise."""
    random = np.random.default_rng(seed)
    operators = np.eye(n) * 0.8 + random.normal(size=(n_groups, n, n)) * 0.3 / np.sqrt(n)
    ranks = random.integers(1, n + 1, n_groups)
    ranks[0] = n
    directions = np.linalg.qr(random.normal(size=(n_groups, n_states, n)))[0]
    for group, rank in enumerate(ranks):
        operators[group, rank:], operators[group, :, rank:], directions[group, :, rank:] = 0, 0, 0
    now = random.normal(size=(n_groups, 2 * n_states, n_states))
    whole = directions @ operators @ directions.swapaxes(1, 2)
    following = now @ whole.swapaxes(1, 2) + 1e-6 * random.normal(size=now.shape)
    vectors = random.normal(size=(2, n_groups, n_states))
    return operators, ranks, directions, now, following, *vectors


def modes_of(*given):
    shape = given[0].shape[:2]
    values, residuals, shares = np.full((2, *shape), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    found = small_modes(*given, values, residuals, shares)
    return found, values[0] + 1j * values[1], residuals, shares


@pytest.mark.parametrize(("n", "n_states"), [(1, 1), (2, 5), (6, 11), (LARGEST, LARGEST)])
def test_small_modes__equals_twin(n, n_states):
    given = problem(n, n_states)
    found, values, residuals, shares = modes_of(*given)
    assert found.all()
    beyond = np.arange(n) >= given[1][:, None]
    for part in (values, residuals, shares):
        assert np.array_equal(np.isnan(part), beyond)
    expected = reference.small_modes(*given)
    np.testing.assert_allclose(values[~beyond], expected[0][~beyond], rtol=1e-11)
    # Left eigenvectors as well as their condition lets them be, which is some hundreds here; residuals are of
    # the size of the noise, a millionth.
    np.testing.assert_allclose(residuals[~beyond], expected[1][~beyond], rtol=1e-7)
    np.testing.assert_allclose(shares[~beyond], expected[2][~beyond], rtol=1e-9)
    sizes = np.where(beyond, 0.0, np.abs(values))
    assert np.all(np.diff(sizes, axis=1) <= 0)


def test_small_modes__conjugates_share_their_figures_the_one_above_the_axis_first():
    turn = 0.9 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    given = list(problem(4, 4, n_groups=1))
    given[0][0] = 0.0
    given[0][0, 0, 0], given[0][0, 1:3, 1:3], given[0][0, 3, 3] = 0.5, turn, -1.1
    given[1][0], given[2][0] = 4, np.eye(4)
    found, values, residuals, shares = modes_of(*given)
    assert found.all()
    expected = [-1.1, 0.9 * np.exp(0.3j), 0.9 * np.exp(-0.3j), 0.5]
    np.testing.assert_allclose(values[0], expected, rtol=1e-14)
    assert residuals[0, 1] == residuals[0, 2]
    assert shares[0, 1] == shares[0, 2]


def test_small_modes__pairs_of_the_same_size_stay_side_by_side():
    given = list(problem(4, 4, n_groups=1))
    given[0][0] = 0.0
    given[0][0, :2, :2], given[0][0, 2:, 2:] = [[0, -1], [1, 0]], [[0.6, -0.8], [0.8, 0.6]]
    given[1][0], given[2][0] = 4, np.eye(4)
    values = modes_of(*given)[1][0]
    assert np.array_equal(values[1::2], values[::2].conj())
    assert np.all(values[::2].imag > 0)


def test_small_modes__eigenvectors_that_all_but_coincide_are_left_to_others():
    given = list(problem(LARGEST, LARGEST, n_groups=1))
    given[0][0], given[1][0] = np.diag(np.ones(LARGEST - 1), 1), LARGEST
    found, _, residuals, shares = modes_of(*given)
    assert not found[0] or (np.isfinite(residuals).all() and np.isfinite(shares).all())


def test_small_modes__a_group_without_them_leaves_the_others_alone():
    given = problem(3, 4, n_groups=4, seed=2)
    expected = modes_of(*given)
    given[1][1:3] = 3
    given[0][1] = np.diag([0.5, np.nan, 0.5])
    given[0][2] = [[0, 1, 0], [0, 0, 0], [0, 0, 0.5]]  # two eigenvectors are parallel but for the rounding
    found, *figures = modes_of(*given)
    assert found.tolist() == [True, False, True, True]
    assert figures[0][2].tolist() == [0.5, 0, 0]
    for part, other in zip(figures, expected[1:], strict=True):
        assert np.isnan(part[1]).all()
        assert np.isfinite(part[2]).all()
        assert np.array_equal(part[[0, 3]], other[[0, 3]], equal_nan=True)


def test_invert__equals_lapack_or_says_that_it_cannot():
    random = np.random.default_rng(3)
    matrix = random.normal(size=(5, 5)) + 1j * random.normal(size=(5, 5))
    matrix[0, 0] = 0.0  # needs another pivot
    parts, inverse = np.stack([matrix.real, matrix.imag]), np.empty((2, 5, 5))
    assert _invert(parts.copy(), inverse)
    np.testing.assert_allclose(inverse[0] + 1j * inverse[1], np.linalg.inv(matrix), rtol=1e-12, atol=1e-13)
    parts[:, :, 2] = 0.0
    assert not _invert(parts, inverse)
