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
                in_threads(work, range(100_000))
            except ValueError:  # and not kept, as pytest's own way of asking would
                raised = True
        assert raised
        del work, held
        assert kept() is None
    finally:
        gc.enable()
    assert len(begun) < 100_000


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
    assert len({number for number, _ in done}) < 1000


def test_one_ahead__knows_the_budget_of_the_caller():
    with limited_memory("5MB"):
        assert list(one_ahead(memory_budget() for _ in range(3))) == [5_000_000] * 3


def test_limited_threads__counts_as_cores():
    before = n_cores()
    with limited_threads(1):
        assert n_cores() == 1
    assert n_cores() == before


def affinities(number, both=None):
    if both is not None:
        both.wait()  # so that either thread has one
    return threading.get_native_id(), os.sched_getaffinity(0), threads_module._this_core()


@pytest.mark.skipif(threads_module._this_core() is None, reason="threads cannot be moved here")
@pytest.mark.skipif(n_cores() < 2, reason="there is one core")
def test_in_threads__others_keep_off_the_core_of_their_caller():
    all_cores, caller = os.sched_getaffinity(0), threading.get_native_id()
    with limited_threads(2):
        for _ in range(3):  # those of the first call may have begun before anybody knew them
            both = threading.Barrier(2, timeout=60)
            found = in_threads(lambda number, both=both: affinities(number, both), range(2))
    own = next(entry for entry in found if entry[0] == caller)
    other = next(entry for entry in found if entry[0] != caller)
    assert own[1] == all_cores
    assert other[2] in other[1]
    assert len(other[1]) == len(all_cores) - 1
    assert other[1] < all_cores


@pytest.mark.parametrize("core", [None, 0])
def test_in_threads__where_threads_cannot_be_moved(core, monkeypatch):
    def refuse(thread, cores):
        raise OSError("no such thread")

    monkeypatch.setattr(threads_module, "_this_core", lambda: core)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {0, 1}, raising=False)
    with limited_threads(3):
        assert in_threads(abs, range(-9, 0)) == list(range(9, 0, -1))


def test_as_they_come__who_stops_asking_stops_all():
    begun = []

    def work(number):
        begun.append(number)
        for _ in range(100):
            yield number

    with limited_threads(2):
        results = as_they_come(work, range(1000), 2)
        next(results)
        results.close()
    assert len(begun) < 1000
    n_begun = len(begun)
    assert list(as_they_come(work, [5], 2)) == [5] * 100
    assert len(begun) == n_begun + 1  # nobody was still at work
