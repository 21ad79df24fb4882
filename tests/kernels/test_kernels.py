"""Every kernel against its NumPy twin; the same table runs compiled and with NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import reference

import koopscope
from koopscope.kernels.accelerate import whole_rows
from koopscope.kernels.blocked_r import blocked_r
from koopscope.kernels.increment_gram import increment_gram
from koopscope.kernels.increment_products import increment_products
from koopscope.kernels.lagged_moments import lagged_moments
from koopscope.kernels.mode_figures import mode_figures
from koopscope.kernels.pair_triangle import pair_triangle
from koopscope.kernels.symmetric_product import symmetric_product
from koopscope.kernels.trend_sums import add_to_trend
from koopscope.kernels.truncated_map import truncated_map
from koopscope.kernels.wide_pairs import pack_upper, pair_columns, unpack_upper
from koopscope.statistics.moments import Tiles, padded_width

EPS = np.finfo(np.float64).eps


def walk(n_snapshots, n_weights, dtype, seed=0):
    random = np.random.default_rng(seed)
    path = random.normal(size=(n_snapshots, n_weights)).cumsum(axis=0) * 1e-3
    return (path + random.normal(size=n_weights)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_add_to_trend__sums_for_a_line_whatever_the_cut(dtype):
    rows = walk(40, 30, dtype)
    centred, origin = np.linspace(-1, 1, 12), rows[28, 4:24].astype(float)
    whole, cut = np.zeros(20), np.zeros(20)
    add_to_trend(rows, 4, centred, origin, whole)
    add_to_trend(rows[:30], 4, centred[:2], origin, cut)
    add_to_trend(rows, 4, centred[2:], origin, cut)
    np.testing.assert_array_equal(cut, whole)
    expected = reference.trend_sums(rows[:, 4:24], centred, origin)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=40 * EPS * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [4, 6, 8])  # where the line begins, where its factor is zero, where it ends
def test_add_to_trend__a_value_that_is_not_finite_is_seen(dtype, bad, row):
    rows = walk(9, 40, dtype)
    rows[3, 15] = rows[8, 9] = rows[8, 30] = bad  # outside what is added
    for expected in (20, 19):
        sums = np.zeros(20)
        with np.errstate(invalid="ignore"):  # of scalars, where the kernel is not compiled
            add_to_trend(rows, 10, np.arange(-2.0, 3.0), rows[4, 10:30].astype(float), sums)
        assert np.isfinite(sums).sum() == expected
        rows[row, 29] = bad


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 9])
def test_increment_products__equals_twin(dtype, n_rows):
    rows = walk(n_rows, 37, dtype)
    found, expected = increment_products(rows), reference.increment_products(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=40 * n_rows * EPS * expected[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n_snapshots", "n_groups", "d"), [(3, 1, 1), (65, 3, 2), (66, 2, 5), (200, 4, 11)])
def test_pair_triangle__keeps_all_inner_products(dtype, n_snapshots, n_groups, d):
    snapshots = walk(n_snapshots, n_groups * d, dtype)
    members = np.arange(n_groups * d).reshape(n_groups, d)[:, ::-1].copy()
    first = snapshots[0][members].astype(np.float64)
    triangles = pair_triangle(snapshots, members, first)
    for group in range(n_groups):
        pairs = reference.pair_matrix(snapshots, members[group], first[group])
        triangle = triangles[group]
        assert np.array_equal(triangle, np.triu(triangle))
        scale = np.linalg.norm(pairs, axis=0)
        # Backward error of Householder QR is a modest multiple of eps times each column's norm.
        difference = np.abs(triangle.T @ triangle - pairs.T @ pairs)
        assert np.all(difference <= 100 * EPS * np.outer(scale, scale))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_snapshots", [2, 16, 17, 18, 50])
def test_pair_columns__equals_twin(dtype, n_snapshots):
    snapshots, members = walk(n_snapshots, 9, dtype), np.array([7, 2, 4])
    first = snapshots[0][members].astype(np.float64)
    room = np.full((7, n_snapshots + 2), 7.0)
    pair_columns(snapshots, members, first, room[:, 3:])
    assert np.array_equal(room[:, 3:].T, reference.pair_matrix(snapshots, members, first))
    assert np.all(room[:, :3] == 7.0)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (3, 200), (300, 7), (400, 260)])
def test_blocked_r__keeps_all_inner_products(n_rows, n_columns):
    matrix = np.random.default_rng(5).normal(size=(n_rows, n_columns))
    matrix[:, n_columns // 2] = 0.0
    found = np.asfortranarray(matrix)
    blocked_r(found)
    triangle = np.triu(found[: min(n_rows, n_columns)])
    assert not triangle[:, n_columns // 2].any()
    scale = np.linalg.norm(matrix, axis=0)
    difference = np.abs(triangle.T @ triangle - reference.blocked_r(matrix))
    assert np.all(difference <= 100 * EPS * np.outer(scale, scale))


def test_blocked_r__refuses_what_it_would_read_wrongly():
    for matrix in (np.zeros((3, 2)), np.zeros((3, 2), np.float32, order="F"), np.zeros((0, 2), order="F")):
        with pytest.raises(ValueError, match="Fortran order"):
            blocked_r(matrix)


@pytest.mark.parametrize("n_rows", [1, 4, 5, 9])
def test_pack_upper__equals_twin_and_comes_back(n_rows):
    columns = np.random.default_rng(6).normal(size=(5, n_rows))
    packed = np.full(15, 7.0)
    pack_upper(columns, packed)
    np.testing.assert_array_equal(packed, reference.packed_upper(columns.T))
    for height in (0, 3, 5, 6):
        back = np.full((5, height + 2), 7.0)
        unpack_upper(packed[None], back[None, :, :height])
        whole = np.zeros((6, 5))
        whole[: min(n_rows, 5)] = np.triu(columns.T)[:5]
        np.testing.assert_array_equal(back[:, :height].T, whole[:height])
        assert np.all(back[:, height:] == 7.0)


def test_pair_triangle__singular_values_keep_their_digits():
    random = np.random.default_rng(1)
    scales = np.array([1.0, 1e-5, 1e-10])
    snapshots = random.normal(size=(300, 3)) * scales
    members = np.arange(3)[None]
    triangle = pair_triangle(snapshots, members, np.zeros((1, 3)))[0]
    pairs = reference.pair_matrix(snapshots, members[0], 0.0)
    found = np.linalg.svd(triangle[:, 1:4], compute_uv=False)
    expected = np.linalg.svd(pairs[:, 1:4], compute_uv=False)
    # A Gram matrix would lose the smallest (1e-10 squared is below eps).
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pair_triangle__frozen_weight_is_exactly_zero():
    snapshots = walk(100, 3, "float32")
    snapshots[:, 1] = 0.1
    members = np.arange(3)[None]
    triangle = pair_triangle(snapshots, members, snapshots[0][members].astype(np.float64))[0]
    assert np.all(triangle[:, 2] == 0.0)
    assert np.all(triangle[:, 5] == 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n_snapshots", "n_groups", "d"), [(3, 2, 1), (20, 1, 600), (11, 3, 7)])
def test_increment_gram__equals_twin(dtype, n_snapshots, n_groups, d):
    snapshots = walk(n_snapshots, n_groups * d, dtype)
    members = np.random.default_rng(2).permutation(n_groups * d).reshape(n_groups, d)
    found = increment_gram(snapshots, members)
    expected = reference.increment_gram(snapshots, members)
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * d * EPS * np.abs(expected).max())


@pytest.mark.parametrize("split", [None, 1, 4])  # columns of the second array; None: there is one only
@pytest.mark.parametrize("stride", [1, 9, 40])
@pytest.mark.parametrize(("n_groups", "d"), [(1, 1), (27, 3), (2, 6), (130, 5)])  # 130: two tiles a thread
def test_lagged_moments__equals_twin(n_groups, d, stride, split):
    rows = walk(300, n_groups * d, "float32")
    members = np.arange(n_groups * d).reshape(n_groups, d)[:, ::-1].copy()
    origin = rows[0][members].astype(np.float64)
    padded = padded_width(d)
    products = np.zeros((n_groups, padded, 2 * padded))
    cut = rows.shape[1] - min(split or 0, rows.shape[1] - 1)
    left, right = rows[:, :cut].copy(), rows[:, cut:].copy()
    tiles = Tiles.of(members, left.shape[1], 2)
    picked = tiles.steps, tiles.first_steps, tiles.touched, tiles.first_touched, tiles.at_once, tiles.split
    lagged_moments(left, right, *picked, origin, stride, stride, products)
    expected = reference.lagged_moments(rows, members, origin, stride)
    tolerance = {"rtol": 0, "atol": 300 * EPS * np.abs(expected).max()}
    starts = slice(1, d + 1)
    upper = np.triu(np.ones((d, d), bool))
    found = np.where(upper, products[:, :d, :d], 0.0)
    np.testing.assert_allclose(found, np.where(upper, expected[:, starts, starts], 0.0), **tolerance)
    np.testing.assert_allclose(
        products[:, :d, padded : padded + d], expected[:, starts, d + 1 :], **tolerance
    )
    np.testing.assert_allclose(products[:, :d, d], expected[:, 0, starts], **tolerance)


def test_whole_rows__of_any_layout_has_the_rows_in_its_first_columns():
    values = np.arange(60.0).reshape(6, 10)
    for rows in (values, values[:, 2:7], values[::2, 3:], values[:, ::2], values.T, values[:1], values[::-1]):
        whole = whole_rows(rows)
        assert whole.flags.c_contiguous
        assert np.array_equal(whole[:, : rows.shape[1]], rows)
    assert np.shares_memory(whole_rows(values[:, 2:7]), values)


@pytest.mark.parametrize(("n_modes", "n_states", "n_rows"), [(1, 1, 1), (2, 5, 3), (6, 11, 22), (11, 11, 22)])
def test_mode_figures__equals_twin(n_modes, n_states, n_rows):
    random = np.random.default_rng(6)
    operator = random.normal(size=(3, n_states, n_states)) / n_states
    values, right = (part.astype(complex) for part in np.linalg.eig(operator))
    left, values = np.linalg.inv(right)[:, :n_modes].copy(), values[:, :n_modes].copy()
    now = random.normal(size=(3, n_rows, n_states))
    error = 1e-8 * random.normal(size=now.shape)
    error[2] = now[2] = 0.0  # a group that does not move
    drift, displacement = random.normal(size=(2, 3, n_states))
    drift[2] = 0.0
    arguments = left, values, now, now @ operator.swapaxes(1, 2) + error, drift, displacement
    expected, expected_share = reference.mode_figures(*arguments)
    residuals, shares = mode_figures(*arguments)
    # Errors of 1e-8 are what is left of terms of about one: eight of sixteen digits, times the condition.
    np.testing.assert_allclose(residuals, expected, rtol=1e-5)
    np.testing.assert_allclose(shares, expected_share, rtol=1e-12)
    assert np.all((residuals[:2] > 1e-11) & (residuals[:2] < 1e-5))
    assert np.all(residuals[2] == 0.0)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 50), (40, 7), (5, 0), (0, 5)])
def test_symmetric_product__equals_twin(n, k):
    random = np.random.default_rng(n)
    rows, product = random.integers(-9, 9, (n, k)).astype(float), random.integers(-9, 9, (n, n)).astype(float)
    expected = reference.symmetric_product(rows, product)  # sums of integers are exact in any order
    symmetric_product(rows, product)
    assert np.array_equal(product, expected)


def test_symmetric_product__refuses_what_it_would_read_wrongly():
    rows, product, fixed = np.ones((4, 3)), np.zeros((4, 4)), np.zeros((4, 4))
    fixed.flags.writeable = False
    for wrong in (
        (rows, fixed),
        (rows.T, product),
        (np.asfortranarray(rows), product),
        (rows, product[:3, :3]),
        (rows[:, ::2], product),
        (rows.astype(np.float32), product),
        (rows, np.zeros((8, 8))[::2, ::2]),
    ):
        with pytest.raises(ValueError, match="symmetric_product needs"):
            symmetric_product(*wrong)
    assert not product.any()
    assert not fixed.any()


def test_increment_gram__adds_up_over_weights():
    snapshots = walk(15, 40, "float32")
    whole = increment_gram(snapshots, np.arange(40)[None])
    halves = increment_gram(snapshots, np.arange(40).reshape(2, 20))
    np.testing.assert_allclose(whole[0], halves.sum(axis=0), rtol=0, atol=1e-13 * np.abs(whole).max())


@pytest.mark.parametrize("rank", [0, 1, 3, 5])
def test_truncated_map__equals_twin(rank):
    random = np.random.default_rng(6)
    n_groups, d = 3, 5
    factors = np.triu(random.normal(size=(n_groups, 2 * d + 1, 2 * d + 1)) + 3 * np.eye(2 * d + 1))
    about, ahead = random.normal(size=(2, n_groups, d))
    now, following = factors[:, 1:, 1 : d + 1], factors[:, 1:, d + 1 :]
    parts = np.linalg.svd(now[:, :d])
    ranks = np.full(n_groups, rank)
    directions, operators = np.empty((n_groups, d, d)), np.empty((n_groups, d, d))
    displacement, squares = np.empty((n_groups, d)), np.empty(n_groups)
    truncated_map(factors, *parts, ranks, about, ahead, directions, operators, displacement, squares)
    for group in range(n_groups):
        expected = reference.truncated_map(now[group], following[group], rank)
        np.testing.assert_allclose(operators[group], expected, rtol=0, atol=1e-12)
        kept = directions[group]
        assert not kept[:, rank:].any()
        step = expected @ about[group] + kept @ kept.T @ ahead[group]
        np.testing.assert_allclose(displacement[group], step, rtol=0, atol=1e-12)
        increments = factors[group, :, d + 1 :] - factors[group, :, 1 : d + 1]
        assert squares[group] == pytest.approx(np.sum(increments**2), rel=1e-13)


def test_kernels__each_has_a_twin():
    """A kernel without a plain NumPy twin is not finished; the triangle's twin builds its input.

    Vectors have theirs beside them (test_vectors.py).
    """
    folder = Path(koopscope.__file__).parent / "kernels"
    twins = {
        node.name for node in ast.parse(Path(reference.__file__).read_text()).body if hasattr(node, "name")
    }
    aliases = {"pair_triangle": "pair_matrix", "wide_pairs": "pair_matrix"}
    for path in folder.glob("*.py"):
        if path.stem not in {"__init__", "accelerate", "vectors"}:
            assert aliases.get(path.stem, path.stem) in twins, path.stem
