from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope import parallel
from koopscope.errors import MemoryBudgetError, NonFiniteError, TrajectoryError, UsageError
from koopscope.simulation import linear_run
from koopscope.statistics import (
    IncrementGrams,
    PairTriangles,
    SnapshotTriangles,
    embed_delays,
    gram_about_last,
)
from koopscope.statistics.reading import Batch, _BatchReader
from koopscope.statistics.spilling import release
from koopscope.threads import limited_threads
from koopscope.trajectory import from_arrays


def random_run(n_rows=60, seed=0, dtype="float32"):
    random = np.random.default_rng(seed)
    path = random.normal(size=(n_rows, 7, 6)).cumsum(axis=0)
    bias = random.normal(size=(n_rows, 7)).cumsum(axis=0)
    return from_arrays(np.arange(n_rows) * 2, {"a.weight": path.astype(dtype), "a.bias": bias.astype(dtype)})


def test_collect__snapshots_are_the_grid_rows():
    run = random_run()
    statistics = koopscope.collect(run, "node", t1=10, t2=90, lag=6)
    grid = statistics.grid
    rows = grid.window.grid_rows
    expected = np.concatenate([run["a.weight"].values.reshape(60, -1), run["a.bias"].values], axis=1)
    assert np.array_equal(grid.snapshots, expected[rows])
    assert grid.snapshots.dtype == np.float32


def test_collect__slope_is_the_least_squares_line_of_the_last_fifth(monkeypatch):
    run = random_run(dtype="float64")
    monkeypatch.setattr("koopscope.statistics.strips.HELD_ROWS", 4)
    monkeypatch.setattr("koopscope.statistics.strips.PIECE_BYTES", 1)
    grid = koopscope.collect(run, "node", t1=0, t2=100).grid
    steps = run.step.values[40:51]
    values = np.concatenate([run["a.weight"].values.reshape(60, -1), run["a.bias"].values], axis=1)[40:51]
    expected = np.polyfit(steps, values, 1)[0]
    np.testing.assert_allclose(grid.slope, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pairs", ["strided", "every"])
@pytest.mark.parametrize("runs_at_once", [1, 3, 7])
def test_collect__same_bits_for_any_memory_budget(runs_at_once, pairs, monkeypatch):
    run = random_run(n_rows=2000)
    whole = koopscope.collect(run, "node", lag=6, pairs=pairs)
    row_bytes = (7 * 6 + 7 * (pairs == "every")) * 4
    for limit in ("BLOCK_BYTES", "HELD_BYTES"):
        monkeypatch.setattr(f"koopscope.statistics.reading.{limit}", runs_at_once * 256 * row_bytes)
    monkeypatch.setattr("koopscope.statistics.reading.BLOCK_ROWS", 1)
    monkeypatch.setattr("koopscope.statistics.strips.HELD_ROWS", 16 * runs_at_once)
    monkeypatch.setattr("koopscope.statistics.strips.PIECE_BYTES", 1)
    parts = koopscope.collect(run, "node", lag=6, pairs=pairs)
    same_statistics(whole, parts)


@pytest.mark.parametrize("pairs", ["strided", "every"])
@pytest.mark.parametrize("lying", ["in Fortran order", "cut from a wider array", "repeated"])
def test_collect__same_bits_however_arrays_lie_in_memory(lying, pairs):
    steps, arrays = np.arange(600), {name: random_run(600)[name].values for name in ("a.weight", "a.bias")}
    if lying == "in Fortran order":
        laid = {name: np.asfortranarray(values) for name, values in arrays.items()}
    elif lying == "cut from a wider array":
        laid = {name: np.stack([values, values], axis=1)[:, 1] for name, values in arrays.items()}
    else:
        laid = {name: np.broadcast_to(values[:1], values.shape) for name, values in arrays.items()}
        arrays = {name: values.copy() for name, values in laid.items()}
    settings = {"lag": 3, "pairs": pairs}
    expected = koopscope.collect(from_arrays(steps, arrays), "node", **settings)
    run = from_arrays(steps, laid)
    same_statistics(expected, koopscope.collect(run, "node", **settings))
    reader = _BatchReader(
        run, expected.weights, expected.grid.window, Batch.of(expected.weights, [0], 1), True
    )
    assert reader.lies_in_memory(np.dtype("f4")) == (lying == "cut from a wider array")
    assert not reader.lies_in_memory(np.dtype("f8"))


@pytest.mark.parametrize("pairs", ["strided", "every"])
def test_collect__same_bits_for_any_number_of_threads(pairs, monkeypatch):
    monkeypatch.setattr("koopscope.statistics.triangle.THREAD_PRODUCTS", 0)  # else one thread
    monkeypatch.setattr("koopscope.statistics.strips.FEW_BYTES", 0)
    run = random_run(n_rows=600)
    found = []
    for threads in (1, 2, 3):
        with limited_threads(threads):
            found.append(koopscope.collect(run, "quasi-node:2", lag=6, pairs=pairs))
    same_statistics(found[0], found[1])
    same_statistics(found[0], found[2])


def same_statistics(one, other):
    for name in ("snapshots", "last", "slope", "increment_correlation", "fingerprint"):
        assert np.array_equal(getattr(one.grid, name), getattr(other.grid, name)), name
    for block, again in zip(one.blocks, other.blocks, strict=True):
        for name, value in vars(block.kind).items():
            assert np.array_equal(value, getattr(again.kind, name)), name


@pytest.mark.parametrize(
    ("partition", "method", "delays", "kind"),
    [
        ("node", "affine", 1, PairTriangles),
        ("node", "paper", 1, PairTriangles),
        ("node", "affine", 3, IncrementGrams),
        ("layer", "affine", 1, IncrementGrams),
        ("layer", "paper", 1, SnapshotTriangles),
        ("weight", "affine", 1, PairTriangles),
    ],
)
def test_collect__keeps_the_statistic_that_serves(partition, method, delays, kind):
    statistics = koopscope.collect(random_run(), partition, method=method, delays=delays, lag=2)
    assert all(isinstance(block.kind, kind) for block in statistics.blocks)


def test_gram_about_last__equals_centring_first():
    statistics = koopscope.collect(random_run(), "layer", lag=2, delays=3)
    centred = statistics.grid.snapshots.astype(np.float64)
    centred = centred - centred[-1]
    gram = gram_about_last(statistics.blocks[0].kind)[0]
    np.testing.assert_allclose(gram, centred @ centred.T, rtol=1e-10, atol=1e-8)
    stacked = np.concatenate([centred[shift : len(centred) - 2 + shift] for shift in range(3)], axis=1)
    np.testing.assert_allclose(embed_delays(gram[None], 3)[0], stacked @ stacked.T, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_collect__non_finite_names_tensor_and_first_step(bad):
    run = random_run()
    run["a.bias"][31, 2] = bad
    run["a.bias"][33, 0] = bad
    with pytest.raises(NonFiniteError, match=r"a\.bias holds .* at step 62, .*--t2 60"):
        koopscope.collect(run, "node", lag=20)
    koopscope.collect(run, "node", t2=60)  # outside the window it does no harm


def test_collect__nothing_after_t2_is_read():
    run = random_run()
    before = koopscope.fit(run, "node", t2=60, lag=2)
    run["a.weight"][31:] = 1e9
    after = koopscope.fit(run, "node", t2=60, lag=2)
    assert before["a"].to_dataset().identical(after["a"].to_dataset())


def wide_walk(n_rows=110, weights=30_000):
    random = np.random.default_rng(0)
    path = random.normal(size=(n_rows, 100, weights // 100)).cumsum(axis=0).astype("float32")
    return from_arrays(np.arange(n_rows), {"a.weight": path})


@pytest.mark.parametrize("partition", ["network", "node"])
def test_collect__a_grid_beyond_the_budget_is_spilled_and_the_same_bits(partition):
    run = wide_walk()
    held = koopscope.collect(run, partition, lag=1)
    spilled = koopscope.collect(run, partition, lag=1, memory="20MB")
    bases = [type(grid.snapshots.base) for grid in (held.grid, spilled.grid)]
    assert bases[0] is not np.memmap
    assert bases[1] is np.memmap
    same_statistics(held, spilled)
    release(spilled.grid.snapshots)
    assert np.array_equal(held.grid.snapshots, spilled.grid.snapshots)
    one, two = koopscope.fit(held), koopscope.fit(spilled)
    for path in one.attrs["blocks"]:
        assert one[path].to_dataset().identical(two[path].to_dataset())


def test_collect__a_grid_beyond_budget_and_disk_says_what_to_do(monkeypatch):
    monkeypatch.setattr(parallel, "MEMORY_BUDGET", 1000)
    monkeypatch.setattr("koopscope.statistics.spilling.shutil.disk_usage", lambda _: NoRoom())
    with pytest.raises(MemoryBudgetError, match=r"larger --lag.*TMPDIR"):
        koopscope.collect(random_run(), "node", lag=2)


class NoRoom:
    free = 0


@pytest.mark.parametrize("settings", [{"method": "magic"}, {"delays": 0}, {"method": "paper", "delays": 2}])
def test_collect__settings_that_cannot_be_used(settings):
    with pytest.raises(UsageError):
        koopscope.collect(random_run(), "node", **settings)


def test_collect__not_a_trajectory():
    import xarray as xr

    with pytest.raises(TrajectoryError, match="open_trajectory"):
        koopscope.collect(xr.Dataset({"x": ("step", np.zeros(5))}))


def test_collect__half_precision_is_widened_exactly():
    run = random_run(dtype="float16")
    statistics = koopscope.collect(run, "node", lag=2)
    assert statistics.grid.snapshots.dtype == np.float32
    rows = statistics.grid.window.grid_rows
    assert np.array_equal(statistics.grid.snapshots[:, 42:], run["a.bias"].values[rows])


def test_collect__progress_is_told_in_order():
    heard = []
    koopscope.collect(linear_run(), "node", progress=lambda *event: heard.append(event))
    reading = [(done, total) for stage, done, total in heard if stage == "reading weights"]
    assert reading == sorted(reading)
    assert reading[0][0] == 0
    assert reading[-1][0] == reading[-1][1] > 0
