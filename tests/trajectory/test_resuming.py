"""Any order of appending, committing, dying, resuming and closing leaves exactly what was appended."""

import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from chunk_files import chunk_files, use_folders
from crashing import assert_kept, loss, tensors
from faulty import FaultyDisk, Killed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from koopscope.errors import OutputExistsError, RecordingError, StepError, UsageError
from koopscope.trajectory import TrajectoryWriter


class Recording(RuleBasedStateMachine):
    """A writer that may die at any operation, and the list of rows that it must hold."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "run.zarr"
        self.patch = pytest.MonkeyPatch()
        self.disk = FaultyDisk(self.patch)
        self.rows = []
        self.writer = None

    @initialize(block=st.integers(1, 5))
    def begin(self, block):
        self.block = block
        self.open()

    def open(self):
        self.writer = TrajectoryWriter(self.path, layout="torch", block_steps=self.block, resume=True)
        assert self.writer.last_step == (self.rows[-1] if self.rows else None)

    def attempt(self, action):
        """Do something; where it dies of it, see to what is left, and resume."""
        died = True
        with suppress(Killed):
            action()
            died = False
        if died:
            self.die()

    def die(self):
        self.writer = None
        self.disk.bury()
        self.rows = assert_kept(self.path, self.rows)
        self.open()

    @rule(gap=st.integers(1, 5), count=st.integers(1, 6))
    def append(self, gap, count):
        def some():
            for _ in range(count):
                step = self.rows[-1] + gap if self.rows else 0
                self.writer.append(step, tensors(step), loss=loss(step))
                self.rows.append(step)

        self.attempt(some)

    @rule()
    def commit(self):
        self.attempt(lambda: self.writer.commit())

    @rule(operations=st.integers(0, 30))
    def die_soon(self, operations):
        self.disk.arm(operations, kill=True)

    @rule()
    def die_now(self):
        self.disk.arm(0, kill=True)
        self.die()

    @rule()
    def close_and_record_on(self):
        self.attempt(lambda: self.writer.close())
        if self.writer._closed:
            self.attempt_open()

    def attempt_open(self):
        with suppress(Killed):
            self.open()
            return
        self.disk.bury()
        self.open()

    @precondition(lambda self: self.rows)
    @rule(back=st.integers(0, 5))
    def steps_never_go_back(self, back):
        with pytest.raises(StepError):
            self.writer.append(max(0, self.rows[-1] - back), tensors(0))

    @invariant()
    def holds_what_was_appended(self):
        if self.writer is not None:
            assert assert_kept(self.path, self.rows) == self.rows

    def teardown(self):
        self.writer = None
        self.disk.retire()
        self.patch.undo()
        shutil.rmtree(self.folder)


TestRecording = Recording.TestCase
TestRecording.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def record(path, steps, **options):
    with TrajectoryWriter(path, layout="torch", **options) as writer:
        for step in steps:
            writer.append(step, tensors(step), loss=loss(step))


def test_resume__closed_recordings_grow_on(tmp_path):
    path = tmp_path / "run.zarr"
    for start in range(0, 90, 30):
        record(path, range(start, start + 30), block_steps=4, resume=True)
        assert_kept(path, list(range(start + 30)))
    assert len(chunk_files(path / "fc1.bias")) <= 3


def test_resume__chunks_in_folders(tmp_path):
    """A recording by an earlier version: as it was closed, recorded on and cut off, and closed again."""
    path = tmp_path / "whole" / "run.zarr"
    record(path, range(10), block_steps=4)
    use_folders(path)
    assert_kept(path, list(range(10)))
    writer = TrajectoryWriter(path, layout="torch", resume=True)
    for step in range(10, 21):
        writer.append(step, tensors(step), loss=loss(step))
        if step == 18:
            writer.commit()
    assert_kept(path, list(range(21)))
    shutil.copytree(path.parent, tmp_path / "cut")
    writer.close()
    for left in (path, tmp_path / "cut" / "run.zarr"):
        assert_kept(left, list(range(21)))
        record(left, range(21, 30), resume=True)
        assert_kept(left, list(range(30)))
        for array in [child for child in left.iterdir() if child.is_dir()]:
            assert len({chunk.parent == array for chunk in chunk_files(array)}) == 1, array


def test_resume__nothing_there_begins_anew(tmp_path):
    record(tmp_path / "run.zarr", range(3), resume=True)
    assert_kept(tmp_path / "run.zarr", [0, 1, 2])


def test_resume__power(tmp_path):
    record(tmp_path / "run.zarr", range(5), block_steps=2, durability="power")
    record(tmp_path / "run.zarr", range(5, 8), block_steps=2, durability="power", resume=True)
    assert_kept(tmp_path / "run.zarr", list(range(8)))


def test_resume__other_tensors_or_layout(tmp_path):
    path = tmp_path / "run.zarr"
    record(path, range(3))
    with pytest.raises(UsageError, match="recorded with layout='torch', got 'keras'"):
        TrajectoryWriter(path, layout="keras", resume=True)
    with TrajectoryWriter(path, layout=None, resume=True) as writer:
        for change, words in (
            ({"scale": np.zeros(2, "f4")}, "'scale': expected float32"),
            ({"scale": np.zeros(())}, "got float64"),
            ({"new": np.zeros(2)}, "new"),
        ):
            with pytest.raises(ValueError, match=words):
                writer.append(3, {**tensors(3), **change})
    assert_kept(path, [0, 1, 2])


def test_writer__open_recording_says_how_to_resume(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch")
    writer.append(0, tensors(0), loss=loss(0))
    with pytest.raises(OutputExistsError, match=r"was not closed.*resume=True.*overwrite=True"):
        TrajectoryWriter(path, layout="torch")
    with pytest.raises(UsageError, match="say one of them"):
        TrajectoryWriter(path, layout="torch", resume=True, overwrite=True)


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_writer__a_second_one_is_refused(tmp_path, option):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch")
    writer.append(0, tensors(0), loss=loss(0))
    code = (
        "import sys, numpy, koopscope\n"
        f"writer = koopscope.TrajectoryWriter(sys.argv[1], layout='torch', {option}=True)\n"
        "writer.append(9, {'a': numpy.zeros(1)})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "RecordingError" in done.stderr
    assert "another writer records to it" in done.stderr
    writer.append(1, tensors(1), loss=loss(1))
    writer.close()
    assert_kept(path, [0, 1])


def test_writer__no_locks_to_be_had(tmp_path, monkeypatch):
    from koopscope.trajectory import lock

    monkeypatch.setattr(lock, "flock", None)
    with pytest.warns(UserWarning, match="a second writer to it would not be noticed"):
        record(tmp_path / "run.zarr", range(2))
    assert_kept(tmp_path / "run.zarr", [0, 1])


def test_writer__exception_leaves_nothing_beside_the_store(tmp_path):
    def failing():
        yield from range(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(tmp_path / "run.zarr", failing())
    assert [child.name for child in tmp_path.iterdir()] == ["run.zarr"]
    assert_kept(tmp_path / "run.zarr", list(range(5)))


def test_writer__disk_trouble_does_not_hide_the_exception(tmp_path, monkeypatch):
    disk = FaultyDisk(monkeypatch)

    def failing():
        yield from range(5)
        disk.arm(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(tmp_path / "run.zarr", failing())
    disk.arm(None)
    assert_kept(tmp_path / "run.zarr", list(range(5)))
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch", resume=True)
    writer.append(5, tensors(5), loss=loss(5))
    disk.arm(0)
    with pytest.raises(RecordingError):
        writer.__exit__(None, None, None)
    disk.retire()
    assert_kept(tmp_path / "run.zarr", list(range(6)))
