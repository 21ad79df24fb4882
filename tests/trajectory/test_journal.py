import json
import shutil
import struct
import threading

import numpy as np
import pytest
from crashing import assert_kept, loss, tensors

import koopscope.trajectory.journal
import koopscope.trajectory.recycling
from koopscope.errors import TrajectoryError
from koopscope.trajectory import TrajectoryWriter, open_trajectory
from koopscope.trajectory.chunks import crc32c
from koopscope.trajectory.journal import find_journals
from koopscope.trajectory.journal_rows import JournalRows, read_journal


def unclosed(path, rows, block=64):
    """Leave a recording as a kill does."""
    writer = TrajectoryWriter(path, layout="torch", block_steps=block)
    for step in range(rows):
        writer.append(step, tensors(step), loss=loss(step))
    writer._rows._folder.drain()
    del writer
    return only_journal(path)


def only_journal(path):
    (journal,) = path.parent.glob("run.zarr.journal-*[0-9]")
    return journal


@pytest.fixture
def small(tmp_path):
    """Give a recording whose rows are in a journal of a few hundred bytes."""
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch")
    for step in range(3):
        writer.append(step, {"a.bias": np.arange(3.0) + step})
    del writer
    return path


def written(journal):
    """Give what a journal holds up to the end of its last row, without the room for further ones."""
    return bytearray(journal.read_bytes()[: read_journal(journal).starts.stop])


def small_rows(path):
    trajectory = open_trajectory(path)
    values = trajectory["a.bias"].values
    np.testing.assert_array_equal(values, np.arange(3.0) + trajectory["step"].values[:, None])
    assert trajectory["step"].values.tolist() == list(range(len(values)))
    return len(values)


def test_read_journal__every_prefix_shows_whole_rows(small):
    journal = only_journal(small)
    content = written(journal)
    found = read_journal(journal)
    ends = [found.start + row * found.record_format.nbytes for row in range(4)]
    for length in range(len(content)):
        journal.write_bytes(content[:length])
        if length < ends[0]:
            with pytest.warns(UserWarning, match="header"):
                assert small_rows(small) == 0
        else:
            assert small_rows(small) == sum(length >= end for end in ends) - 1


def test_read_journal__every_flipped_bit_is_told(small):
    journal = only_journal(small)
    content = written(journal)
    found = read_journal(journal)
    size = found.record_format.nbytes
    padding = {found.start + size * row - byte for row in (1, 2, 3) for byte in (1, 2, 3, 4)}
    for position in sorted(set(range(len(content))) - padding):
        content[position] ^= 1 << position % 8
        journal.write_bytes(content)
        with pytest.warns(UserWarning, match=r"journal-.*(damaged|header)"):
            assert small_rows(small) < 3
        content[position] ^= 1 << position % 8


def test_read_journal__flipped_bits_where_no_row_is_yet(small):
    journal = only_journal(small)
    whole, end = bytearray(journal.read_bytes()), len(written(journal))
    size = read_journal(journal).record_format.nbytes
    assert len(whole) == read_journal(journal).start + 64 * size
    assert not any(whole[end:])
    for position in range(end, end + size):
        whole[position] ^= 1 << position % 8
        journal.write_bytes(whole)
        if position < end + 8:  # the mark of a row that is not there
            with pytest.warns(UserWarning, match="row 3 is damaged"):
                assert small_rows(small) == 3
        else:
            assert small_rows(small) == 3
        whole[position] ^= 1 << position % 8


def test_read_journal__of_another_make(small):
    journal = only_journal(small)
    head = read_journal(journal)
    for fields in (
        [],
        "x",
        [{"name": "a", "dtype": "O", "shape": []}],
        [{"name": "a", "dtype": "<f8", "shape": [-1]}],
    ):
        text = json.dumps({"run_id": head.run_id, "first_row": 0, "fields": fields}).encode()
        journal.write_bytes(struct.pack("<8sII", b"KOOPJRN1", len(text), crc32c(text)) + text)
        with pytest.raises(TrajectoryError, match="lists a field"):
            read_journal(journal)


def test_open_trajectory__journal_left_behind(tmp_path):
    path = tmp_path / "run.zarr"
    unclosed(path, 7, block=4)
    (tmp_path / "moved").mkdir()
    shutil.copytree(path, tmp_path / "moved" / "run.zarr")
    with pytest.warns(UserWarning, match=r"after the 4 that are committed may be missing") as told:
        assert open_trajectory(tmp_path / "moved" / "run.zarr").sizes["step"] == 4
    assert len(told) == 1
    assert_kept(path, list(range(7)))


def test_open_trajectory__missing_rows_between_journals(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    unclosed(path, 3, block=4)
    journal = only_journal(path)
    later = journal.with_name(journal.name[:-12] + "000000000004")
    shutil.copy(journal, later)
    content = bytearray(later.read_bytes())
    later.write_bytes(content.replace(b'"first_row":0', b'"first_row":4'))
    with pytest.warns(UserWarning, match="header of this journal is damaged; 3 rows are shown"):
        assert open_trajectory(path).sizes["step"] == 3


def test_resume__damaged_journal_is_put_aside(tmp_path):
    path = tmp_path / "run.zarr"
    journal = unclosed(path, 3)
    content = written(journal)
    content[-40] ^= 1
    journal.write_bytes(content)
    with pytest.warns(UserWarning, match="row 2 is damaged"):
        writer = TrajectoryWriter(path, layout="torch", resume=True)
    assert writer.last_step == 1
    writer.append(2, tensors(2), loss=loss(2))
    writer.close()
    assert_kept(path, [0, 1, 2])
    assert journal.with_name(f"{journal.name}.damaged").exists()
    assert find_journals(path, journal.name.split("-")[1]) == []


def test_open_trajectory__stays_readable_while_the_writer_folds_and_closes(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", block_steps=4)
    for step in range(6):
        writer.append(step, tensors(step), loss=loss(step))
    early = open_trajectory(path)
    for step in range(6, 30):
        writer.append(step, tensors(step), loss=loss(step))
    writer.commit()
    late = open_trajectory(path)
    writer.close()
    for trajectory, rows in ((early, 6), (late, 30)):
        for name in tensors(0):
            expected = [tensors(step)[name] for step in range(rows)]
            np.testing.assert_array_equal(trajectory[name].values, expected)
            np.testing.assert_array_equal(trajectory[name][1::5].values, expected[1::5])


@pytest.mark.parametrize("order", ["C", "F"])
def test_append__weights_changed_by_another_thread_on_the_way(tmp_path, monkeypatch, order):
    """A record is sound, whenever a change falls into the writing of a tensor that is not copied."""
    path = tmp_path / "run.zarr"
    live = np.zeros((100, 200), order=order)
    write_all = koopscope.trajectory.journal.write_all

    def write_while_training(descriptor, data, offset):
        write_all(descriptor, data, offset)
        live[...] += 1

    monkeypatch.setattr("koopscope.trajectory.journal.write_all", write_while_training)
    writer = TrajectoryWriter(path, layout="torch")
    for step in range(5):
        writer.append(step, {"a.weight": live, "b.bias": np.zeros(3)})
    del writer
    assert read_journal(only_journal(path)).damage is None
    values = open_trajectory(path)["a.weight"].values
    assert values.shape == (5, 100, 200)
    assert (values == values[:, :1, :1]).all()
    assert (np.diff(values[:, 0, 0]) > 0).all()


def recorded_in_turns(path, rows):
    """Record with three rows a block, each folded before the next row comes."""
    writer = TrajectoryWriter(path, layout="torch", block_steps=3)
    inodes = []
    for step in range(rows):
        writer.append(step, {"a.bias": np.arange(3.0) + step})
        writer._rows._folder.drain()
        inodes.append(only_journal(path).stat().st_ino)
    return writer, inodes


def test_journal__uses_the_file_of_one_that_is_folded(tmp_path):
    path = tmp_path / "run.zarr"
    writer, inodes = recorded_in_turns(path, 13)
    # A new journal begins with the third row of a block; two files take turns.
    first, second = inodes[0], inodes[2]
    assert first != second
    assert inodes == [first] * 2 + [second] * 3 + [first] * 3 + [second] * 3 + [first] * 2
    assert small_rows(path) == 13
    writer.close()
    assert small_rows(path) == 13
    assert sorted(child.name for child in tmp_path.iterdir()) == ["run.zarr"]


@pytest.mark.parametrize("prepared", [0, 4_000_000, 2**26])
@pytest.mark.parametrize("mapped", [True, False])
def test_journal__large_tensors_whatever_is_prepared_and_mapped(tmp_path, monkeypatch, prepared, mapped):
    """A record of 1.6 MB, in blocks of three: none, some and all of a journal is prepared."""

    def refused(*_, **__):
        raise OSError("no maps on this file system")

    monkeypatch.setattr(koopscope.trajectory.recycling, "MAX_PREPARED_BYTES", prepared)
    path = tmp_path / "run.zarr"
    values = np.random.default_rng(0).normal(size=(8, 200_003))
    with monkeypatch.context() as patch:
        if not mapped:
            patch.setattr(koopscope.trajectory.journal.mmap, "mmap", refused)
        writer = TrajectoryWriter(path, layout="torch", block_steps=3)
        for step, row in enumerate(values[:2]):
            writer.append(step, {"a.bias": row, "b.bias": row[:3]})
    # Folding looks at a journal through a map, wherever it is.
    size = writer._rows._journal._content.size
    assert size == 0 if not mapped else (size > 4_700_000) == (prepared == 2**26)
    for step, row in enumerate(values[2:], 2):
        writer.append(step, {"a.bias": row, "b.bias": row[:3]})
    writer._rows._folder.drain()
    del writer
    trajectory = open_trajectory(path)
    np.testing.assert_array_equal(trajectory["a.bias"].values, values)
    np.testing.assert_array_equal(trajectory["b.bias"].values, values[:, :3])


def test_read_journal__rows_of_an_earlier_journal_are_not_shown(tmp_path):
    path = tmp_path / "run.zarr"
    writer, _ = recorded_in_turns(path, 10)
    journal = only_journal(path)
    found = read_journal(journal)
    assert (found.first_row, found.rows, found.damage) == (9, 1, None)
    assert journal.stat().st_size == found.start + 3 * found.record_format.nbytes
    del writer
    content = bytearray(journal.read_bytes())
    for row in (1, 2):
        begin = found.start + row * found.record_format.nbytes
        assert content[begin : begin + 8] == bytes(8)
        content[begin] ^= 1
        journal.write_bytes(content)
        with pytest.warns(UserWarning, match="row 10 is damaged"):
            assert small_rows(path) == 10
        content[begin] ^= 1


def test_read_journal__record_that_was_not_finished(small):
    journal = only_journal(small)
    found = read_journal(journal)
    content = bytearray(journal.read_bytes())
    for row, damage in ((2, None), (1, "row 1 is damaged, and 2 rows from there on are not readable")):
        begin = found.start + row * found.record_format.nbytes
        kept, content[begin : begin + 8] = content[begin : begin + 8], bytes(8)
        journal.write_bytes(content)
        again = read_journal(journal)
        assert (again.rows, again.damage) == (row, damage)
        content[begin : begin + 8] = kept


def test_tail__file_that_is_used_again_while_it_is_read(tmp_path, monkeypatch):
    """What was read of it is not taken for the rows that were asked for."""
    path = tmp_path / "run.zarr"
    writer, _ = recorded_in_turns(path, 8)
    trajectory = open_trajectory(path)
    views = JournalRows.views

    def views_of_what_then_changes(rows):
        seen = views(rows)
        monkeypatch.setattr(JournalRows, "views", views)
        for step in range(8, 16):
            writer.append(step, {"a.bias": np.arange(3.0) + step})
            writer._rows._folder.drain()
        return seen

    monkeypatch.setattr(JournalRows, "views", views_of_what_then_changes)
    np.testing.assert_array_equal(trajectory["a.bias"].values, np.arange(3.0) + np.arange(8.0)[:, None])
    assert JournalRows.views is views


def test_open_trajectory__beside_a_writer_that_uses_files_again(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", block_steps=2)
    writer.append(0, {"a.bias": np.arange(3.0)})
    done = threading.Event()

    def write():
        for step in range(1, 400):
            writer.append(step, {"a.bias": np.arange(3.0) + step})
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = [small_rows(path)]
    while not done.is_set():
        seen.append(small_rows(path))
    thread.join()
    assert seen == sorted(seen)
    assert small_rows(path) == 400
    writer.close()
