"""One pool of BLAS threads at a time, none where there is little to do, and memory that is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from koopscope.parallel import (
    NUMBERS_PER_POOL,
    blas_threads_for,
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
