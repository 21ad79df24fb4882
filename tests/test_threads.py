"""Work shared out to threads: everything once, in the caller's context, and failures end it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import pytest

from koopscope import threads as threads_module
from koopscope.parallel import limited_memory, memory_budget
from koopscope.threads import as_they_come, even_slices, in_threads, limited_threads, n_cores, one_ahead


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_in_threads__results_in_order_within_the_budget_of_the_caller(threads):
    def work(number):
        return number, memory_budget()

    with limited_threads(threads), limited_memory("5MB"):
        assert in_threads(work, range(50)) == [(number, 5_000_000) for number in range(50)]


@pytest.mark.parametrize("who", ["the caller", "another"])
def test_in_threads__a_failure_is_raised_no_other_begun_and_nothing_kept(who):
    begun, caller = [], threading.get_ident()
    both = threading.Barrier(2, timeout=60)

    class Held:
        pass

    held = Held()
    kept = weakref.ref(held)

    def work(number, held=held):
        begun.append(number)
        if number < 2:  # one of them is the caller's, the other the other's
            both.wait()
            if (threading.get_ident() == caller) == (who == "the caller"):
                raise ValueError("bad")

    gc.disable()
    try:
        with limited_threads(2):
            raised = False
            try:
                # A second of work, of which a failure stops all but moments.
                in_threads(work, range(3_000_000))
            except ValueError:  # and not kept, as pytest's own way of asking would
                raised = True
        assert raised
        del work, held
        assert kept() is None
    finally:
        gc.enable()
    assert len(begun) < 3_000_000


def test_in_threads__where_no_thread_can_be_started_the_caller_works_alone(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    threads_module._pool.cache_clear()
    done = []
    with monkeypatch.context() as patch, limited_threads(2):
        patch.setattr(threading.Thread, "start", refuse)
        assert in_threads(abs, range(-3, 0)) == [3, 2, 1]
    with limited_threads(2):
        in_threads(done.append, range(5))
    assert sorted(done) == list(range(5))


def test_in_threads__within_itself_waits_for_no_thread_that_waits_for_it():
    script = """
from koopscope.threads import in_threads, limited_threads
with limited_threads(4):
    found = in_threads(lambda number: sum(in_threads(lambda other: number * other, range(20))), range(20))
assert found == [number * 190 for number in range(20)]
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_in_threads__works_in_a_forked_process():
    """A child has none of its parent's threads; it does the work, and ends."""
    script = """
import os, sys, warnings
from koopscope.threads import in_threads, limited_threads
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
with limited_threads(3):
    assert in_threads(abs, range(-9, 0)) == list(range(9, 0, -1))
    child = os.fork()
    found = in_threads(abs, range(-9, 0)) == list(range(9, 0, -1))
    if child == 0:
        os._exit(0 if found else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


@pytest.mark.parametrize(("count", "n_parts"), [(0, 1), (7, 2), (7, 7), (550, 3)])
def test_even_slices__everything_once_in_like_lengths(count, n_parts):
    parts = even_slices(count, n_parts)
    assert [item for part in parts for item in range(count)[part]] == list(range(count))
    assert max(len(range(count)[part]) for part in parts) - min(len(range(count)[part]) for part in parts) < 2


@pytest.mark.parametrize("threads", [1, 4])
def test_as_they_come__everything_once_within_the_budget_of_the_caller(threads):
    def work(number):
        for part in range(3):
            yield number, part, memory_budget()

    with limited_memory("5MB"):
        found = list(as_they_come(work, range(20), threads))
    assert sorted(found) == [(number, part, 5_000_000) for number in range(20) for part in range(3)]


def test_as_they_come__a_failure_ends_the_others():
    done = []

    def work(number):
        for part in range(100):
            if number == 3:
                raise ValueError("three")
            done.append((number, part))
            yield part

    with pytest.raises(ValueError, match="three"):
        list(as_they_come(work, range(1000), 2))
    assert len(done) < 10_000  # of 99 900: each of those begun makes a step before it stops


def test_one_ahead__knows_the_budget_of_the_caller():
    with limited_memory("5MB"):
        assert list(one_ahead(memory_budget() for _ in range(3))) == [5_000_000] * 3


def test_limited_threads__counts_as_cores():
    before = n_cores()
    with limited_threads(1):
        assert n_cores() == 1
    assert n_cores() == before


@pytest.fixture
def moved(monkeypatch):
    """Pretend that the caller is on core 1 of three, and list what threads are told, and when."""
    told = []
    monkeypatch.setattr(threads_module, "_this_core", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda thread, cores: told.append((thread, cores)), raising=False
    )
    return told


def known_threads():
    return set(threads_module._pool(os.getpid())[1])


def test_in_threads__others_keep_off_the_core_of_their_caller_until_they_have_done(moved):
    both = threading.Barrier(2, timeout=60)
    with limited_threads(2):
        in_threads(lambda _: both.wait(), range(2))  # those of the first call are not known before it
        known = known_threads()
        moved.clear()
        in_threads(abs, range(2))
    assert known
    assert moved == [(thread, {0, 2}) for thread in known] + [(thread, {0, 1, 2}) for thread in known]


def test_in_threads__more_threads_than_cores_are_left_where_they_are(moved, monkeypatch):
    others = threads_module._Others(lambda: None, 3)
    monkeypatch.setattr(threads_module, "n_cores", lambda: 3)
    with others:
        pass
    assert moved == []


def test_move__the_caller_stays_where_it_is(moved):
    own = threading.get_native_id()
    threads_module._move([own + 1, own, own + 2], {0, 2})
    assert moved == [(own + 1, {0, 2}), (own + 2, {0, 2})]


def test_n_cores__is_that_of_the_process_in_threads_that_keep_off_a_core():
    with limited_threads(2):
        in_threads(abs, range(2))
    both = threading.Barrier(2, timeout=60)

    def count(_):
        both.wait()
        return n_cores()

    if n_cores() == 2:
        assert in_threads(count, range(2)) == [2, 2]


@pytest.mark.parametrize("core", [None, 0])
def test_in_threads__where_threads_cannot_be_moved(core, monkeypatch):
    def refuse(thread, cores):
        raise OSError("no such thread")

    monkeypatch.setattr(threads_module, "_this_core", lambda: core)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {0, 1}, raising=False)
    with limited_threads(3):
        assert in_threads(abs, range(-9, 0)) == list(range(9, 0, -1))


def test_in_threads__work_that_the_pool_was_given_but_no_thread_is_never_begun(monkeypatch):
    """A pool queues what it is given before it fails to start a thread; others may come to it later."""
    go, begun = threading.Event(), []
    pool = threads_module._pool(os.getpid())[0]
    with limited_threads(2):
        in_threads(abs, range(2))
        busy = [pool.submit(go.wait, 60) for _ in range(os.cpu_count() or 1)]  # all that there may be

        def refuse(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert in_threads(lambda number: begun.append(number) or number, range(2)) == [0, 1]
    go.set()
    for task in busy:
        task.result(timeout=60)
    assert begun == [0, 1]
