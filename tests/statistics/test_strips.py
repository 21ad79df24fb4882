"""The pass strip by strip: every cut of the window gives the same grid, and what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import MemoryBudgetError, NonFiniteError, TrajectoryError
from koopscope.parallel import limited_memory
from koopscope.statistics import reading, strips
from koopscope.statistics.strips import cut_into_strips
from koopscope.trajectory import from_arrays
from koopscope.trajectory.zarr_array import GrowingArray
from koopscope.weight_vector import WeightVector

ROWS = 300


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "a.weight": random.normal(size=(ROWS, 37, 5)).cumsum(axis=0).astype("float32"),
        "a.bias": random.normal(size=(ROWS, 37)).cumsum(axis=0).astype("float32"),
        "b.weight": random.normal(size=(ROWS, 3, 2, 4, 4)).cumsum(axis=0).astype("float64"),
    }


@pytest.fixture
def store(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("koopscope.trajectory.format.TARGET_CHUNK_BYTES", 2**12)  # cuts every tensor
    path = tmp_path / "run.zarr"
    with koopscope.TrajectoryWriter(path, layout="torch") as writer:
        for step in range(ROWS):
            writer.append(2 * step, {name: values[step] for name, values in arrays.items()})
    return path


def same(one, other):
    for name in ("snapshots", "last", "slope", "fingerprint"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    # Summed strip by strip, and strips of arrays in memory are cut elsewhere.
    np.testing.assert_allclose(one.increment_products, other.increment_products, rtol=1e-13)


@pytest.mark.parametrize("settings", [{}, {"lag": 2, "t1": 22, "t2": 590}, {"lag": 20, "average": 7}])
def test_read_grid__from_disk_as_from_memory(store, arrays, settings, monkeypatch):
    held = koopscope.collect(from_arrays(2 * np.arange(ROWS), arrays), "node", **settings).grid
    run = koopscope.open_trajectory(store)
    same(koopscope.collect(run, "node", **settings).grid, held)
    monkeypatch.setattr(strips, "STRIP_BYTES", 1)
    monkeypatch.setattr(strips, "PIECE_BYTES", 1)
    monkeypatch.setattr(strips, "FEW_BYTES", 0)  # in threads
    assert len(cut_into_strips(run, WeightVector.of(run))) > 6
    same(koopscope.collect(run, "node", **settings).grid, held)


def test_read_strips__each_piece_lies_where_the_one_before_it_lay(tmp_path):
    path = tmp_path / "run.zarr"
    with koopscope.TrajectoryWriter(path, layout="torch", block_steps=64) as writer:
        for step in range(1000):
            writer.append(step, {"a.weight": np.full((8, 512), step, "float32")})
    run = koopscope.open_trajectory(path)
    weights = WeightVector.of(run)
    places = []

    def add(piece):
        places.append((piece.stop - piece.start, piece.rows.ctypes.data))
        return True

    strip = cut_into_strips(run, weights)[0]
    strips.read_strips(run, weights, np.ones(1000, bool), [(strip, add)], lambda *said: None)
    longest = max(rows for rows, _ in places)
    found = [place for rows, place in places if rows == longest]
    assert len(found) > 2
    assert len(set(found)) == 1


@pytest.fixture
def short_chunks(arrays, tmp_path, monkeypatch):
    """Chunks of 16 rows, which are not joined when the recording is closed."""
    monkeypatch.setattr(GrowingArray, "finish", GrowingArray.trim)
    path = tmp_path / "short.zarr"
    with koopscope.TrajectoryWriter(path, layout="torch", block_steps=16) as writer:
        for step in range(ROWS):
            writer.append(2 * step, {name: values[step] for name, values in arrays.items()})
    return path


@pytest.mark.parametrize("pieces", [1, 2**14, 2**22])
def test_read_strips__pieces_hold_whole_chunks_of_what_is_wanted(short_chunks, arrays, pieces, monkeypatch):
    monkeypatch.setattr(strips, "PIECE_BYTES", pieces)
    run = koopscope.open_trajectory(short_chunks)
    weights = WeightVector.of(run)
    strip = cut_into_strips(run, weights)[0]
    number = np.arange(ROWS)
    for wanted in (number[:200] >= 7, number % 50 == 49, number[:251] % 125 == 0):
        numbers = []

        def add(piece, numbers=numbers):
            np.testing.assert_array_equal(piece.values, arrays["a.weight"][piece.start : piece.stop])
            numbers.append(np.arange(piece.start, piece.stop))
            return True

        strips.read_strips(run, weights, wanted, [(strip, add)], lambda *said: None)
        rows = np.flatnonzero(wanted)
        chunks = number[(number >= rows[0]) & (number <= rows[-1]) & np.isin(number // 16, rows // 16)]
        np.testing.assert_array_equal(np.concatenate(numbers), chunks)


def test_read_grid__chunks_without_a_used_row_are_not_read(short_chunks, arrays):
    settings = {"lag": 100, "t2": 598}
    held = koopscope.collect(from_arrays(2 * np.arange(ROWS), arrays), "node", **settings).grid
    run = koopscope.open_trajectory(short_chunks)
    # Rows 49, 99, ... are on the grid, and from 239 on all are used.
    for chunk in (0, 1, 2, 4, 5, 8, 10, 11, 13):
        for name in arrays:
            for path in (short_chunks / name).glob(f"c.{chunk}.*"):
                path.write_bytes(b"damaged")
    same(koopscope.collect(run, "node", **settings).grid, held)
    with pytest.raises(TrajectoryError, match="damaged"):
        koopscope.collect(run, "node", **{**settings, "lag": 98})


def test_read_grid__the_first_step_that_is_not_finite_may_be_between_used_ones(short_chunks, arrays):
    settings = {"lag": 100, "t2": 598}
    healthy = koopscope.collect(from_arrays(2 * np.arange(ROWS), arrays), "node", **settings).grid
    arrays["b.weight"][110, 1, 0, 2, 2] = np.nan  # never used
    run = from_arrays(2 * np.arange(ROWS), arrays)
    same(koopscope.collect(run, "node", **settings).grid, healthy)
    arrays["a.bias"][151:, 7] = np.inf  # used from row 199 on
    arrays["a.bias"][180:, 3] = np.nan
    run = from_arrays(2 * np.arange(ROWS), arrays)
    with pytest.raises(NonFiniteError, match=r"a\.bias holds inf at step 302, .*--t2 300"):
        koopscope.collect(run, "node", **settings)


def test_read_grid__of_scalars(tmp_path):
    path, values = tmp_path / "run.zarr", np.linspace(1, 2, ROWS).astype("float32") ** 2
    with koopscope.TrajectoryWriter(path, layout="torch") as writer:
        for step in range(ROWS):
            writer.append(step, {"temperature": values[step]})
    grid = koopscope.collect(koopscope.open_trajectory(path), "weight", t2=ROWS - 1).grid
    assert grid.last.tolist() == [4.0]
    np.testing.assert_array_equal(grid.snapshots[:, 0], values[grid.window.grid_rows])
    assert grid.slope[0] == pytest.approx(np.polyfit(np.arange(240, ROWS), values[240:], 1)[0], rel=1e-3)


def test_read_grid__sums_beyond_all_bounds_are_refused():
    huge = np.full((ROWS, 3), 1e308)
    huge[::2] *= -1
    run = from_arrays(np.arange(ROWS), {"a.bias": huge})
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(NonFiniteError, match="so large"):
        koopscope.collect(run, "weight", t2=ROWS - 1)


@pytest.mark.parametrize("pairs", ["strided", "every"])
def test_collect__numbers_whose_squares_are_infinite_are_refused(pairs):
    values = np.random.default_rng(0).normal(size=(ROWS, 3)).cumsum(axis=0)
    for scale in (1e140, 1e160):
        run = from_arrays(np.arange(ROWS), {"a.bias": values * scale})
        with np.errstate(over="ignore", invalid="ignore"):
            if scale < 1e150:
                koopscope.collect(run, "weight", t2=ROWS - 1, lag=4, pairs=pairs)
                continue
            with pytest.raises(NonFiniteError, match=r"a(\.bias)? holds numbers so large"):
                koopscope.collect(run, "weight", t2=ROWS - 1, lag=4, pairs=pairs)


@pytest.mark.parametrize("bad", [None, np.nan])
def test_read_grid__of_arrays_that_are_cut_from_one(arrays, bad):
    """What lies beside a tensor is neither copied nor looked at."""
    cut = {}
    for name, values in arrays.items():
        wide = np.full((ROWS, values[0].size + 9), np.nan, values.dtype)
        wide[:, 4:-5] = values.reshape(ROWS, -1)
        cut[name] = wide[:, 4:-5].reshape(values.shape)
        assert np.shares_memory(cut[name], wide)
    steps = np.arange(ROWS)
    if bad is not None:
        cut["a.bias"][-1, -1] = bad
        with pytest.raises(NonFiniteError, match=rf"a\.bias.*{ROWS - 1}"):
            koopscope.collect(from_arrays(steps, cut), "node", t2=ROWS - 1)
        return
    held = koopscope.collect(from_arrays(steps, arrays), "node", t2=ROWS - 1).grid
    same(koopscope.collect(from_arrays(steps, cut), "node", t2=ROWS - 1).grid, held)


def test_read_grid__of_a_file_without_known_chunks_in_threads(adam, monkeypatch):
    monkeypatch.setattr(strips, "FEW_BYTES", 0)
    monkeypatch.setattr(strips, "UNKNOWN_BYTES", 1)
    same(koopscope.collect(adam, "node").grid, koopscope.collect(adam.compute(), "node").grid)


@pytest.mark.parametrize("few", [0, 2**30])
def test_read_grid__first_value_not_finite_whichever_thread_finds_one(few, store, arrays, monkeypatch):
    monkeypatch.setattr(strips, "HELD_WEIGHTS", 9)
    monkeypatch.setattr(strips, "FEW_BYTES", few)
    run = koopscope.open_trajectory(store).load()
    for row, unit in ((200, 2), (130, 30), (131, 1)):
        run["a.weight"][row, unit, 3] = np.inf
    run["a.bias"][5, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"a\.weight holds inf at step 260, .*--t2 258"):
        koopscope.collect(run, "node")


def test_read_grid__a_chunk_beyond_the_budget_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "run.zarr"
    weight = np.random.default_rng(0).normal(size=(100, 16)).astype("float32")
    with koopscope.TrajectoryWriter(path, layout="torch", block_steps=100_000) as writer:
        for step in range(100):
            writer.append(step, {"a.weight": weight[step, None]})
    run = koopscope.open_trajectory(path)
    koopscope.collect(run, "layer")
    with pytest.raises(MemoryBudgetError, match=r"100000 rows of 16 weights of a\.weight.*block_steps="):
        koopscope.collect(run, "layer", memory="10MB")
    with (
        limited_memory("10MB"),
        pytest.raises(MemoryBudgetError, match=r"a chunk of shape \(100000, 1, 16\)"),
    ):
        koopscope.inspect(path)


def test_pace__what_came_before_the_first_piece_does_not_count(monkeypatch):
    told, clock = [], iter([100.0, 100.5, 102.0, 104.0])  # a hundred seconds of compiling
    monkeypatch.setattr(reading.time, "perf_counter", lambda: next(clock))
    pace = reading.Pace(lambda *said: told.append(said), 70_000_000)
    for n_bytes in (10_000_000, 0, 20_000_000, 20_000_000):
        pace.add(n_bytes)
    assert told[0] == ("reading weights", 0, 70_000_000)
    assert [what for what, *_ in told if "MB/s" in what] == [
        "reading 10 MB/s, 4 s left",
        "reading 10 MB/s, 2 s left",
    ]
    assert told[-1] == ("reading weights", 50_000_000, 70_000_000)
