"""Moments of every pair: against the plain sums, against the strided path, and the fits made of them."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import koopscope
from koopscope.errors import MemoryBudgetError, NonFiniteError, UsageError
from koopscope.partition import GroupBlock
from koopscope.statistics import LaggedMoments
from koopscope.statistics.moments import MomentSums
from koopscope.trajectory import from_arrays

THROUGH_BLAS = 150  # members of the groups that stand for those too wide for the kernel
EPS = np.finfo(np.float64).eps


@pytest.fixture(autouse=True)
def wide_groups(monkeypatch):
    monkeypatch.setattr("koopscope.statistics.moments.KERNEL_MEMBERS", THROUGH_BLAS - 1)


def walk(n_rows, n_weights, dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    path = random.normal(size=(n_rows, n_weights)).cumsum(axis=0) * 1e-3
    return (path + random.normal(size=n_weights)).astype(dtype)


def block_of(members):
    return GroupBlock("a", "a", members, np.arange(len(members)))


def decaying_run(n_rows=1200, units=3, width=5, dtype="float32", seed=0):
    """Sums of decays, with a bias that stays: what a smooth training looks like."""
    random = np.random.default_rng(seed)
    rates = random.uniform(0.5, 4.0, size=4)
    decays = np.exp(-np.linspace(0, 1, n_rows)[:, None] * rates)
    values = decays @ random.normal(size=(4, units * (width + 1)))
    weight = values[:, : units * width].reshape(n_rows, units, width)
    return from_arrays(
        np.arange(n_rows) * 2,
        {"a.weight": weight.astype(dtype), "a.bias": values[:, units * width :].astype(dtype)},
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n_rows", "n_groups", "d", "stride"),
    [
        (4, 1, 1, 1),
        (300, 3, 2, 1),
        (520, 30, 5, 7),
        (700, 2, 11, 40),
        (520, 2, 149, 3),
        (900, 2, THROUGH_BLAS, 3),
    ],
)
def test_lagged_moments__equals_twin(dtype, n_rows, n_groups, d, stride):
    rows = walk(n_rows, n_groups * d, dtype)
    members = np.random.default_rng(1).permutation(n_groups * d).reshape(n_groups, d)
    sums = MomentSums(block_of(members), 0, stride)
    sums.add([rows], stride)
    moments = sums.finish()
    assert moments.n_pairs == n_rows - stride
    expected = reference.lagged_moments(rows, members, moments.reference, stride)
    # Sums of n products, each within eps: errors grow with n at most.
    scale = np.sqrt(np.einsum("gii->gi", expected))
    bound = n_rows * EPS * scale[:, :, None] * scale[:, None, :]
    assert np.all(np.abs(moments.grams - expected) <= bound)


@pytest.mark.parametrize("d", [4, THROUGH_BLAS])
@pytest.mark.parametrize("stride", [1, 50])
def test_lagged_moments__split_at_whole_tiles_is_the_same_bit_for_bit(d, stride):
    rows = walk(900, 2 * d)
    members = np.arange(2 * d).reshape(2, d)
    whole, parts = (MomentSums(block_of(members), 0, stride) for _ in range(2))
    whole.add([rows], stride)
    parts.add([rows[:256]], stride)
    parts.add([rows[256 - stride : 768]], 256)
    parts.add([rows[768 - stride :]], 768)
    assert np.array_equal(whole.finish().grams, parts.finish().grams)


def test_lagged_moments__of_arrays_cut_from_wider_ones_are_the_same_bit_for_bit():
    rows = walk(300, 30)
    members = np.random.default_rng(1).permutation(30).reshape(6, 5)
    whole, cut = (MomentSums(block_of(members), 0, 2) for _ in range(2))
    whole.add([rows[:, :20].copy(), rows[:, 20:].copy()], 2)
    cut.add([rows[:, :20], rows[:, 20:]], 2)
    assert np.array_equal(whole.finish().grams, cut.finish().grams)


def test_moments__beyond_the_memory_budget_says_what_to_do():
    with pytest.raises(MemoryBudgetError, match="finer partition"):
        koopscope.collect(decaying_run(units=100, width=40), "node", pairs="every", memory="1MB")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("lag", [2, 24])
def test_fit__every_pair_equals_the_svd_of_the_data(dtype, rtol, lag):
    run = decaying_run(dtype=dtype)
    t2 = 1900
    fit = koopscope.fit(run, "node", t2=t2, lag=lag, rtol=rtol, pairs="every")
    n_lags = 400 // lag
    forecast = koopscope.predict(fit, n_lags * lag)
    for unit in range(3):
        data = np.concatenate(
            [
                run["a.weight"].values[: t2 // 2 + 1, unit],
                run["a.bias"].values[: t2 // 2 + 1, unit : unit + 1],
            ],
            axis=1,
        )
        expected = reference.affine_forecast(data, n_lags, rtol=rtol, stride=lag // 2)
        found = np.append(forecast["a.weight"].values[0, unit], forecast["a.bias"].values[0, unit])
        evolution = np.linalg.norm(expected)
        assert np.linalg.norm(found - data[-1] - expected) <= 1e-11 / rtol * evolution


def test_fit__every_pair_at_one_spacing_is_the_strided_fit():
    """At a lag of one recorded row both look at the same pairs, one through moments, one through QR."""
    run = decaying_run()
    every, strided = (
        koopscope.fit(run, "node", lag=2, rtol=1e-4, pairs=p)["a"] for p in ("every", "strided")
    )
    assert np.array_equal(every["rank"], strided["rank"])
    np.testing.assert_allclose(every["operator"], strided["operator"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(every["scale"], strided["scale"], rtol=1e-6)
    assert every["residual"].max() < 1e-2  # moments cannot tell residuals much below 1e-4 of one


def test_fit__every_pair_leaves_frozen_weights_where_they_are():
    run = decaying_run()
    run["a.weight"][:, 1, 2] = 0.25
    fit = koopscope.fit(run, "node", lag=2, pairs="every")
    assert koopscope.predict(fit, 300)["a.weight"].values[0, 1, 2] == 0.25


def test_fit__every_pair_does_not_look_past_t2():
    run = decaying_run()
    before = koopscope.fit(run, "node", t2=1000, lag=6, pairs="every")
    run["a.weight"][501:] = 1e9
    after = koopscope.fit(run, "node", t2=1000, lag=6, pairs="every")
    assert before["a"].to_dataset().identical(after["a"].to_dataset())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 3, 400, 900])
def test_collect__every_pair_names_the_first_value_that_is_not_finite(row, bad):
    run = decaying_run()
    run["a.bias"][row, 1] = bad
    with pytest.raises(NonFiniteError, match=rf"a\.bias holds .* at step {2 * row},"):
        koopscope.collect(run, "node", t2=2 * row + 400, lag=10, pairs="every")


def test_collect__every_pair_of_labels_that_cross_layers():
    run = decaying_run()
    from_labels = koopscope.Partition.from_labels({"a.weight": "one", "a.bias": "two"})
    statistics = koopscope.collect(run, from_labels, lag=4, pairs="every")
    assert all(isinstance(block.kind, LaggedMoments) for block in statistics.blocks)
    fit = koopscope.fit(statistics, pairs="every")
    assert fit.attrs["pairs"] == "every"


@pytest.mark.parametrize(
    "settings",
    [
        {"pairs": "some"},
        {"pairs": "every", "method": "paper"},
        {"pairs": "every", "delays": 2},
        {"pairs": "every", "average": 2},
        {"pairs": "every", "partition": "network", "t2": 60, "lag": 2},
    ],
)
def test_collect__pairs_that_cannot_be_used(settings):
    with pytest.raises(UsageError):
        koopscope.collect(decaying_run(), **settings)


def test_fit__every_pair_cannot_be_stabilised():
    with pytest.raises(UsageError, match="stabilise"):
        koopscope.fit(decaying_run(), lag=2, pairs="every", stabilise=True)
