"""Gram matrices and R factors of wide groups, which are shared out among threads."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from koopscope.partition import GroupBlock
from koopscope.statistics import gram
from koopscope.statistics.gram import increment_grams
from koopscope.statistics.triangle import pair_triangles

EPS = np.finfo(np.float64).eps


def block_of(members):
    return GroupBlock("a", "a", members, np.arange(len(members)))


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize(("n_groups", "d"), [(2, 600), (1, 40_000)])  # several products, several stretches
def test_increment_grams__of_wide_groups_equal_twin_for_any_number_of_threads(
    monkeypatch, n_groups, d, scattered
):
    random = np.random.default_rng(0)
    snapshots = random.normal(size=(9, n_groups * d)).astype("float32")
    order = random.permutation(n_groups * d) if scattered else np.arange(n_groups * d)
    members = order.reshape(n_groups, d)
    found = increment_grams(snapshots, block_of(members)).products
    expected = reference.increment_gram(snapshots, members)
    # Sums of d products in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=d * EPS * np.abs(expected).max())
    for n_threads in (1, 3):
        monkeypatch.setattr(gram, "n_cores", lambda n=n_threads: n)
        assert np.array_equal(increment_grams(snapshots, block_of(members)).products, found)


@pytest.mark.parametrize("n", [40, 5_000])  # fewer pairs than columns, and more than are folded in at once
def test_pair_triangles__of_wide_groups_keep_all_inner_products(n):
    random = np.random.default_rng(1)
    snapshots = (1 + 1e-3 * random.normal(size=(n, 150)).cumsum(axis=0)).astype("float32")
    snapshots[:, 7] = 0.25
    members = random.permutation(150).reshape(3, 50)
    triangles = pair_triangles(snapshots, block_of(members))
    for group in range(3):
        pairs = reference.pair_matrix(snapshots, members[group], triangles.reference[group])
        scale = np.linalg.norm(pairs, axis=0)
        difference = np.abs(triangles.factors[group].T @ triangles.factors[group] - pairs.T @ pairs)
        assert np.all(difference <= 100 * EPS * np.outer(scale, scale))
        frozen = 1 + np.flatnonzero(members[group] == 7)
        assert not triangles.factors[group][:, frozen].any()
