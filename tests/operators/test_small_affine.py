"""Affine operators of many small groups, against the same step by step in NumPy."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from koopscope.operators import LARGEST_SMALL, solve_affine, solve_small_affine
from koopscope.operators.batches import NUMBERS_PER_TASK
from koopscope.partition import GroupBlock
from koopscope.statistics import PairTriangles
from koopscope.statistics.triangle import pair_triangles
from koopscope.threads import limited_threads


def decays(n_groups, d, seed=0):
    """Snapshots of weights that decay along some directions, with float32's rounding; one weight stands."""
    random = np.random.default_rng(seed)
    times = np.linspace(0, 3, 90)[:, None]
    paths = np.exp(-times * random.uniform(0.2, 3, max(1, d - 1)))
    snapshots = (paths @ random.normal(size=(max(1, d - 1), n_groups * d))).astype(np.float32)
    snapshots[:, d - 1] = 0.7
    members = np.arange(n_groups * d).reshape(n_groups, d)
    block = GroupBlock("fc", "fc", members, np.arange(n_groups))
    return pair_triangles(snapshots, block), snapshots[-1].astype(float)[members]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("d", [1, 2, 11, LARGEST_SMALL])
def test_solve_small_affine__equals_twin(d, rank):
    triangles, last = decays(5, d)
    found = solve_small_affine(triangles, last, rtol=1e-4, rank=rank)
    expected = solve_affine(triangles, last, rtol=1e-4, rank=rank)
    for field in fields(found):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if field.name not in ("basis", "members"):
            # Sums in another order, over singular values down to the tolerance: eps / rtol.
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11, err_msg=field.name)
    assert not found.operator[0, d - 1].any()  # the weight that stands
    assert not found.operator[0, :, d - 1].any()
    assert found.displacement[0, d - 1] == 0.0


def test_solve_small_affine__of_a_group_whatever_is_beside_it_and_however_many_threads():
    per_task = NUMBERS_PER_TASK // 11**2
    triangles, last = decays(2 * per_task + 1, 11)
    whole = solve_small_affine(triangles, last, rtol=1e-5)
    with limited_threads(1):
        alone = solve_small_affine(triangles, last, rtol=1e-5)
    few = slice(per_task - 3, per_task + 4)
    parts = solve_small_affine(triangles.cut(few), last[few], rtol=1e-5)
    for field in fields(whole):
        one = getattr(whole, field.name)
        if field.name not in ("basis", "members"):
            assert np.array_equal(one, getattr(alone, field.name)), field.name
            assert np.array_equal(one[few], getattr(parts, field.name)), field.name


def test_solve_small_affine__sums_that_overflow_are_no_operator_and_leave_the_others_alone():
    triangles, last = decays(3, 4)
    expected = solve_small_affine(triangles, last, rtol=1e-5)
    factors = triangles.factors.copy()
    factors[1, 2, 3] = np.inf
    found = solve_small_affine(PairTriangles(factors, triangles.reference, 89), last, rtol=1e-5)
    assert np.isnan(found.operator[1]).all()
    assert np.isnan(found.displacement[1]).all()
    for group in (0, 2):
        assert np.array_equal(found.operator[group], expected.operator[group])
        assert np.array_equal(found.displacement[group], expected.displacement[group])
