"""One pool of threads at a time, and none where there is little to do."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from koopscope import parallel
from koopscope.parallel import (
    NUMBERS_PER_POOL,
    as_they_come,
    blas_threads_for,
    even_slices,
    in_threads,
    limited_memory,
    limited_threads,
    memory_budget,
    n_cores,
    one_ahead,
    single_threaded_blas,
)


def blas_threads():
    np.linalg.eigvals(np.eye(2))  # loads the library where nothing has
    return {pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"}


def test_blas_threads_for__little_work_has_one_and_much_has_all():
    before = blas_threads()
    with blas_threads_for(NUMBERS_PER_POOL + 1):
        assert blas_threads() == before
    with blas_threads_for(100):
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_single_threaded_blas__inside_itself_gives_the_threads_back_at_the_end():
    before = blas_threads()
    with single_threaded_blas():
        with single_threaded_blas():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == before


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

    parallel._pool.cache_clear()
    done = []
    with monkeypatch.context() as patch, limited_threads(2):
        patch.setattr(threading.Thread, "start", refuse)
        assert in_threads(abs, range(-3, 0)) == [3, 2, 1]
    with limited_threads(2):
        in_threads(done.append, range(5))
    assert sorted(done) == list(range(5))


def test_in_threads__within_itself_waits_for_no_thread_that_waits_for_it():
    script = """
from koopscope.parallel import in_threads, limited_threads
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
from koopscope.parallel import in_threads, limited_threads
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


FAULTS = """
import resource
from koopscope.parallel import malloc_keeps_memory


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        b"x" * 2**20  # 256 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


outside = faults()
with malloc_keeps_memory():
    inside = faults()
print(outside, inside, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not told by dask")
def test_malloc_keeps_memory__where_dask_has_it_given_back():
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, check=True)
    outside, inside, after = map(int, run.stdout.split())
    # A hundred times 256 pages of 4 KiB; inside only those of the first, wherever in the heap it came to lie.
    assert min(outside, after) > 20 * inside
