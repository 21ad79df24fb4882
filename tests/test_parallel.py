"""One pool of threads at a time, and none where there is little to do."""

from __future__ import annotations

import numpy as np
from threadpoolctl import ThreadpoolController

from koopscope.parallel import NUMBERS_PER_POOL, blas_threads_for, single_threaded_blas


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
