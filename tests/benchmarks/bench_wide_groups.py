"""Wide groups against the machine's own GEMM: python -m pytest -n 0 -s tests/benchmarks/bench_wide_groups.py.

Prints the rate of the statistic beside that of a float64 matrix product, measured before every round, since
machines do not keep their speed for long. Needs pytest-benchmark and 4 GB of memory.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from koopscope.partition import GroupBlock
from koopscope.statistics.gram import increment_grams
from koopscope.statistics.triangle import pair_triangles

MEMORY = 400 * 10**6  # bytes, about what is allocated in a round


class Gemm:
    """Multiplications and additions a second of float64 matrix products, in turns with what is measured."""

    def __init__(self, n=1500):
        self.matrix, self.spent = np.random.default_rng(0).standard_normal((n, n)), []

    def __call__(self):
        for _ in range(5):
            begin = time.perf_counter()
            self.matrix @ self.matrix
            self.spent.append(time.perf_counter() - begin)
        time.sleep(0.3)  # BLAS's threads keep a core busy for a tenth of a second after the last product
        # The product's own memory is in use; a hypervisor may have taken what was given back.
        np.ones(MEMORY // 8)

    @property
    def rate(self):
        return 2 * len(self.matrix) ** 3 / np.median(self.spent)


def block_of(n_groups, d):
    members = np.arange(n_groups * d).reshape(n_groups, d)
    return GroupBlock("fc", "fc", members, np.arange(n_groups))


def report(name, flops, benchmark, gemm):
    rate, reference = flops / benchmark.stats.stats.median, gemm.rate
    benchmark.extra_info["gemm_share"] = rate / reference
    print(f"\n{name}: {rate / 1e9:.1f} of {reference / 1e9:.1f} GFLOP/s, {rate / reference:.0%} of GEMM")


@pytest.mark.benchmark(group="20 nodes, d = 785, n = 2000")
def test_pair_triangles(benchmark):
    n, n_groups, d = 2000, 20, 785
    snapshots = np.random.default_rng(0).standard_normal((n, n_groups * d), dtype=np.float32)
    gemm, block = Gemm(), block_of(n_groups, d)
    pair_triangles(snapshots, block)
    benchmark.pedantic(lambda: pair_triangles(snapshots, block), setup=gemm, rounds=5)
    width, rows = 2 * d + 1, n - 1
    report("QR of pairs", n_groups * (2 * rows * width**2 - 2 * width**3 / 3), benchmark, gemm)


@pytest.mark.benchmark(group="network of 1 M weights, n = 500")
def test_increment_gram(benchmark):
    n, d = 500, 1_000_000
    snapshots = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    gemm, block = Gemm(), block_of(1, d)
    increment_grams(snapshots, block)
    benchmark.pedantic(lambda: increment_grams(snapshots, block), setup=gemm, rounds=5)
    # BLAS computes one half of a symmetric product, and that is what is counted.
    report("increment Gram", (n - 1) * n * d, benchmark, gemm)
