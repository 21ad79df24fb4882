"""Steps written for whole vectors against their plain twins; without compiling, both are the same."""

from __future__ import annotations

import numpy as np
import pytest

from koopscope.kernels import vectors
from koopscope.kernels.accelerate import jit
from koopscope.kernels.vectors import LANES, MOST_VECTORS, ROWS


@jit()
def multiplied(values, left, right, pitch, count, n_vectors, sums, place, width):
    vectors.add_products(values, left, right, pitch, count, n_vectors, sums, place, width)


@jit()
def projected(values, first, others, pitch, n_vectors, sums):
    vectors.project(values, first, others, pitch, n_vectors, sums)


@jit()
def subtracted(values, first, others, pitch, n_vectors, factors):
    vectors.subtract(values, first, others, pitch, n_vectors, factors)


@jit()
def widened(recorded, start, count, origin, member, values, place):
    vectors.widen(recorded, start, count, origin, member, values, place)


@jit()
def touched(recorded, index):
    vectors.touch(recorded, index)


@pytest.mark.parametrize("n_vectors", range(1, MOST_VECTORS + 1))
@pytest.mark.parametrize("count", [1, 2, 7])
def test_add_products__equals_twin(n_vectors, count):
    random = np.random.default_rng(n_vectors)
    width, pitch = n_vectors * LANES, 10
    values = random.integers(-9, 9, 400).astype(np.float64)  # sums of integers are exact in any order
    found = random.integers(-9, 9, (ROWS + 1, width + 3)).astype(np.float64)
    expected = found.copy()
    arguments = values, 5, 3, pitch, count, n_vectors
    multiplied(*arguments, found, 2, width + 3)
    vectors._plain_add_products(*arguments, expected, 2, width + 3)
    assert np.array_equal(found, expected)
    assert np.any(found[ROWS - 1] != 0)


@pytest.mark.parametrize("n_vectors", [1, 2, 5])
@pytest.mark.parametrize("misplaced", [0, 3])
def test_project_and_subtract__equal_twins(n_vectors, misplaced):
    random = np.random.default_rng(n_vectors)
    pitch = n_vectors * LANES + misplaced
    values = random.integers(-9, 9, (ROWS + 2) * pitch + 8).astype(np.float64)  # exact in any order
    place = misplaced, misplaced + pitch, pitch, n_vectors
    found, expected = np.full(ROWS + 1, 7.0), np.full(ROWS + 1, 7.0)
    projected(values, *place, found)
    vectors._plain_project(values, *place, expected)
    assert np.array_equal(found, expected)
    assert found[ROWS] == 7.0
    other = values.copy()
    subtracted(values, *place, found)
    vectors._plain_subtract(other, *place, expected)
    assert np.array_equal(values, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", range(1, LANES + 1))
def test_widen__equals_twin_and_touches_nothing_else(dtype, count):
    random = np.random.default_rng(count)
    recorded, origin = random.normal(size=(3, 20)).astype(dtype), random.normal(size=30)
    recorded[1, 4 + count :] = np.nan
    found, expected = np.full(30, 7.0), np.full(30, 7.0)
    widened(recorded, 24, count, origin, 3, found, 5)
    vectors._plain_widen(recorded, 24, count, origin, 3, expected, 5)
    assert np.array_equal(found, expected)
    assert np.count_nonzero(found == 7.0) == 30 - count


def test_widen__reads_to_the_end_of_the_memory_and_not_beyond():
    recorded, found = np.arange(5, dtype=np.float32), np.zeros(2)
    widened(recorded, 3, 2, np.array([0.5, 1.0]), 0, found, 0)
    assert found.tolist() == [2.5, 3.0]


def test_touch__changes_nothing():
    recorded = np.arange(6.0)
    touched(recorded, 5)
    assert recorded.tolist() == list(range(6))
