import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koopscope.trajectory import TrajectoryWriter, open_trajectory
from koopscope.trajectory.chunks import ChunkError
from koopscope.trajectory.columns import ColumnReader, FileFetch
from koopscope.trajectory.zarr_metadata import StoredArray

ROWS, SHAPE = 40, (6, 4000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a recording with chunks of few units, the last ones not full, and the last rows in a journal."""
    path = tmp_path_factory.mktemp("columns") / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", block_steps=16)
    for step in range(ROWS):
        writer.append(step, {"a.weight": values()[step]})
    writer._rows._folder.drain()
    del writer
    return path


def values():
    return np.random.default_rng(0).normal(size=(ROWS, *SHAPE)).astype("float32")


def slices(length):
    return st.builds(slice, *(st.none() | st.integers(0, length) for _ in range(2)), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(key=st.tuples(slices(ROWS), slices(SHAPE[0]), slices(SHAPE[1])))
def test_read__any_slices_equal_numpy(store, key):
    variable = open_trajectory(store)["a.weight"].variable
    np.testing.assert_array_equal(variable[key].values, values()[key])


def test_read__results_share_no_memory(store):
    """Memory is used again for the next block, but only once nobody refers to the last one."""
    variable = open_trajectory(store)["a.weight"].variable
    kept = [variable[:32].values for _ in range(4)]
    part = variable[:32].values[3:4, 1]
    for _ in range(4):
        assert not any(np.shares_memory(variable[:32].values, other) for other in [*kept, part])
    for result in kept:
        np.testing.assert_array_equal(result, values()[:32])
    np.testing.assert_array_equal(part, values()[3:4, 1])


def test_read__from_many_threads(store):
    variable, expected, wrong = open_trajectory(store)["a.weight"].variable, values(), []

    def read(column):
        for _ in range(5):
            if not np.array_equal(variable[:, :, column::7].values, expected[:, :, column::7]):
                wrong.append(column)

    threads = [threading.Thread(target=read, args=(column,)) for column in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_read__after_a_fork(store):
    variable = open_trajectory(store)["a.weight"].variable
    expected = variable[:, :2].values
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(variable[:, :2].values, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_read__no_more_is_listed_than_is_read(store):
    """A hostile shape has more chunks than fit into memory; the first that is missing ends it."""
    array = StoredArray(store / "a.weight", 32)
    reader = ColumnReader((2**40, *SHAPE), array.grid, FileFetch(array.path))
    with pytest.raises(ChunkError, match="it is missing"):
        reader.read((slice(2**39, 2**39 + 2**20, 2**10), slice(0, 6), slice(0, 1)))


def test_fetch__a_file_too_large_is_not_read(tmp_path):
    (tmp_path / "c").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="expected at most 99 bytes, found 100"):
        FileFetch(tmp_path)("c", np.empty(99, np.uint8))
