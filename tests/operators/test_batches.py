"""Groups solved in batches, in threads, against all at once."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from koopscope.operators import in_batches, solve_affine
from koopscope.operators.batches import NUMBERS_PER_TASK
from koopscope.statistics import PairTriangles

GROUPS_PER_TASK = NUMBERS_PER_TASK // 30**2  # a thread's, of 30 rows


def triangles_of(n_groups, d=30, seed=0):
    random = np.random.default_rng(seed)
    factors = np.triu(random.normal(size=(n_groups, 2 * d + 1, 2 * d + 1)))
    return PairTriangles(factors, random.normal(size=(n_groups, d)), 50), random.normal(size=(n_groups, d))


@pytest.mark.parametrize("n_groups", [1, GROUPS_PER_TASK, 2 * GROUPS_PER_TASK + 1])
def test_in_batches__equals_all_at_once(n_groups):
    triangles, last = triangles_of(n_groups)
    whole = solve_affine(triangles, last, rtol=1e-5)
    parts = in_batches(lambda part: solve_affine(triangles.cut(part), last[part], rtol=1e-5), n_groups, 30)
    assert parts.basis is None
    assert parts.members == ()
    for field in fields(whole):
        if field.name not in ("basis", "members"):
            # The same operations group by group; sums over a group's members may be taken in another order.
            np.testing.assert_allclose(
                getattr(parts, field.name), getattr(whole, field.name), rtol=1e-9, atol=1e-12
            )


def test_in_batches__raises_what_a_batch_raises():
    def fail(part):
        if part.start:
            raise np.linalg.LinAlgError(f"batch at {part.start}")
        return triangles_of(GROUPS_PER_TASK)[0]

    with pytest.raises(np.linalg.LinAlgError, match=f"batch at {GROUPS_PER_TASK}"):
        in_batches(fail, 2 * GROUPS_PER_TASK, 30)
