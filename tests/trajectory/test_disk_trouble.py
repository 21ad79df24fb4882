"""A disk that fills up, forbids or dies in any phase: a typed error, nothing lost, and recording goes on."""

import os
import shutil
import subprocess
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
from chunk_files import chunk_files
from crashing import assert_kept, loss, tensors
from faulty import FaultyDisk, Killed

from koopscope.errors import RecordingError, UsageError
from koopscope.trajectory import TrajectoryWriter, open_trajectory

STEPS = range(8)


@pytest.fixture
def disk(monkeypatch):
    disk = FaultyDisk(monkeypatch)
    yield disk
    disk.retire()


def record(path, acknowledged):
    """Record what is missing of all steps, with a commit on the way, and close."""
    writer = TrajectoryWriter(path, layout="torch", block_steps=3, resume=True)
    for step in STEPS:
        if writer.last_step is None or step > writer.last_step:
            writer.append(step, tensors(step), loss=loss(step))
            acknowledged.append(step)
            if step == 4:
                writer.commit()
    writer.close()


def recorded_whole(path):
    assert_kept(path, list(STEPS))
    assert sorted(child.name for child in path.parent.iterdir()) == [path.name]


# Every operation takes half a minute; the usual run takes samples.
SAMPLES = [
    pytest.param(0, 9, id="samples"),
    *(pytest.param(first, 5, id=f"every-{first}", marks=pytest.mark.long) for first in range(5)),
]


@pytest.mark.parametrize(("first", "stride"), SAMPLES)
def test_writer__death_at_every_operation(disk, tmp_path, first, stride):
    record(tmp_path / "whole.zarr", [])
    for at in range(first, disk.operations, stride):
        folder = tmp_path / str(at)
        folder.mkdir()
        path, acknowledged = folder / "run.zarr", []
        disk.arm(at, kill=True)
        with suppress(Killed):
            record(path, acknowledged)
        disk.bury()
        steps = assert_kept(path, acknowledged)
        record(path, list(steps))
        recorded_whole(path)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(("first", "stride"), SAMPLES)
def test_writer__full_disk_at_every_operation(disk, tmp_path, resumed, first, stride):
    """Whether the same writer goes on once there is space, or another one resumes."""
    fill_and_close(TrajectoryWriter(tmp_path / "whole.zarr", layout="torch", block_steps=3))
    attempts, times_full = range(first, disk.operations, stride), 0
    for at in attempts:
        folder = tmp_path / str(at)
        folder.mkdir()
        path = folder / "run.zarr"
        disk.arm(at)
        writer = TrajectoryWriter(path, layout="torch", block_steps=3)
        disk.failed = False
        told = trouble(writer)
        if not disk.failed:
            # Whether a journal finds a file to use again depends on the folding: some runs take less.
            assert told is None
            recorded_whole(path)
            continue
        assert "the disk is full" in told
        times_full += 1
        rows = [] if writer.last_step is None else list(range(writer.last_step + 1))
        assert assert_kept(path, rows) == rows
        disk.arm(None)
        if resumed:
            writer.__exit__(RecordingError, RecordingError(), None)
            writer = TrajectoryWriter(path, layout="torch", block_steps=3, resume=True)
            assert writer.last_step == (rows[-1] if rows else None)
        go_on(writer, STEPS[len(rows) :])
        recorded_whole(path)
    assert times_full >= 0.8 * len(attempts)


WIDE = np.random.default_rng(0).normal(size=(40, 4096)).astype("float32")  # 5 chunks a block


def record_wide(path, acknowledged):
    writer = TrajectoryWriter(path, layout="torch", block_steps=8, resume=True)
    for step in range(0 if writer.last_step is None else writer.last_step + 1, 20):
        writer.append(step, {"wide.weight": WIDE + step})
        acknowledged.append(step)
        if step == 10:
            writer.commit()
    writer.close()


@pytest.mark.parametrize("kill", [True, False])
def test_writer__death_or_full_disk_while_threads_write_chunks(disk, tmp_path, kill):
    """At some of the operations of a recording whose blocks have many chunks, which threads share."""
    record_wide(tmp_path / "whole.zarr", [])
    assert len(chunk_files(tmp_path / "whole.zarr" / "wide.weight")) == 15
    for at in range(0, disk.operations, 17):
        path, acknowledged = tmp_path / f"{at}.zarr", []
        disk.arm(at, kill=kill)
        with suppress(Killed, RecordingError):
            record_wide(path, acknowledged)
        disk.bury()
        if acknowledged:
            steps = open_trajectory(path)["step"].values.tolist()
            assert steps[: len(acknowledged)] == acknowledged
            assert len(steps) <= len(acknowledged) + 1
        record_wide(path, [])
        found = open_trajectory(path)
        assert found["step"].values.tolist() == list(range(20))
        np.testing.assert_array_equal(found["wide.weight"].values, [WIDE + step for step in range(20)])
        shutil.rmtree(path)


def trouble(writer):
    """Record all and close; give the message of what went wrong, if anything did."""
    try:
        fill_and_close(writer)
    except RecordingError as error:
        return str(error)
    return None


def fill_and_close(writer):
    fill(writer, STEPS)
    writer.close()


def fill(writer, steps):
    for step in steps:
        writer.append(step, tensors(step), loss=loss(step))


def go_on(writer, steps):
    """Append the rest and close; what failed while the disk was full may be told once more."""
    attempts = count()
    for step in steps:
        while writer.last_step != step:
            try:
                fill(writer, [step])
            except RecordingError:
                assert next(attempts) < 2
    try:
        writer.close()
    except RecordingError:
        writer.close()


def test_append__a_full_disk_leaves_the_row_out_and_says_so(disk, tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        fill(writer, range(3))
        disk.arm(0)
        for _ in range(3):
            with pytest.raises(RecordingError, match=r"the disk is full: free some space.*resume=True"):
                writer.append(3, tensors(3), loss=loss(3))
            assert_kept(path, [0, 1, 2])
        disk.arm(None)
        fill(writer, [3])
    assert assert_kept(path, [0, 1, 2, 3]) == [0, 1, 2, 3]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("ballast", [0, 1_400_000, 2_500_000, 3_100_000])
def test_writer__full_tmpfs(small_disk, ballast):
    """Filled beforehand so far that it ends in recording, folding, growing or creating."""
    path = small_disk / "run.zarr"
    filler = small_disk / "ballast"
    with filler.open("wb") as file:
        try:
            file.write(bytes(ballast))
        except OSError:
            assert ballast > 3 * 2**20 - 10**5
    written = []
    random = np.random.default_rng(0).normal(size=(4, 4000)).astype("float32")
    with pytest.raises(RecordingError, match="the disk is full"):
        record_until_full(path, random, written)
    if written:
        trajectory = open_trajectory(path)
        assert trajectory["step"].values.tolist() == written
        np.testing.assert_array_equal(trajectory["a.weight"].values, [random + step for step in written])
    filler.unlink()
    for stale in (small_disk / "other").glob("*"):
        stale.unlink()
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    with TrajectoryWriter(path, layout="torch", block_steps=8, resume=True) as writer:
        assert writer.last_step == (written[-1] if written else None)
        for step in range(len(written), len(written) + 20):
            writer.append(step, {"a.weight": random + step})
    assert open_trajectory(path)["step"].values.tolist() == list(range(len(written) + 20))


def record_until_full(path, values, written):
    with TrajectoryWriter(path, layout="torch", block_steps=8) as writer:
        for step in range(1000):
            writer.append(step, {"a.weight": values + step})
            written.append(step)


def test_writer__read_only_file_system(small_disk):
    path = small_disk / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        fill(writer, STEPS)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RecordingError, match="read-only"):
        TrajectoryWriter(path, layout="torch", resume=True)
    with pytest.raises(RecordingError, match="read-only"):
        TrajectoryWriter(small_disk / "new.zarr", layout="torch").append(0, tensors(0))
    assert_kept(path, list(STEPS))


def test_writer__permission_denied(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(RecordingError, match="permission denied"):
        TrajectoryWriter(tmp_path / "run.zarr", layout="torch").append(0, tensors(0))
    tmp_path.chmod(0o700)


def test_writer__permission_denied_by_the_system(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch")
    fill(writer, range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(RecordingError, match="permission denied: make the folder writable"):
            fill(writer, [2])
    fill(writer, [2])
    assert_kept(path, [0, 1, 2])
    writer.close()


def test_writer__the_copy_of_a_fork_records_nothing(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch")
    fill(writer, range(2))
    writer._process += 1
    with pytest.raises(UsageError, match="copied by a fork"):
        fill(writer, [2])
    writer.close()
    assert assert_kept(path, [0, 1]) == [0, 1]
    writer._process -= 1
    writer.close()
