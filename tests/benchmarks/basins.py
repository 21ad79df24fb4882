"""What sliding windows and following cost: python tests/benchmarks/basins.py RECORDING.

First, the rows a second that `BasinFollower` takes of a run of 20 000 weights, and whether later rows cost
more. Then `find_basin` with about 120 windows against one `fit`, both from the open recording, medians of
five in turn.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import koopscope
from koopscope.following import BasinFollower
from koopscope.trajectory import from_arrays
from koopscope.weight_vector import WeightVector

WEIGHTS, ROWS, LAG = 20_000, 6_000, 10


def seconds(work) -> float:
    """Time one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def sliding(path: str) -> None:
    """Compare sliding windows with one fit on the network."""
    run = koopscope.open_trajectory(path)
    works = {
        "one fit": lambda: koopscope.fit(run, "network"),
        "find_basin": lambda: koopscope.find_basin(run),
    }
    for work in works.values():
        work()  # compiles the kernels
    times = {name: [] for name in works}
    for _ in range(5):
        for name, work in works.items():
            times[name].append(seconds(work))
    medians = {name: statistics.median(each) for name, each in times.items()}
    windows = koopscope.find_basin(run).sizes["window"]
    print(f"one fit {medians['one fit']:.3f} s, {windows} windows {medians['find_basin']:.3f} s: ", end="")
    print(f"{medians['find_basin'] / medians['one fit']:.2f}x")


def following() -> None:
    """Feed a follower ten lags at a time."""
    random = np.random.default_rng(0)
    empty = from_arrays([0], {"fc.weight": np.zeros((1, 100, WEIGHTS // 100), np.float32)})
    follower = BasinFollower(WeightVector.of(empty), "network", LAG, 30, None)
    directions = random.normal(size=(3, WEIGHTS))
    times = []
    for first in range(0, ROWS, 10 * LAG):
        steps = np.arange(first, first + 10 * LAG, LAG)
        courses = np.exp(-np.outer(steps, [0.001, 0.003, 0.01]))
        snapshots = (courses @ directions).astype(np.float32)
        times.append(seconds(lambda rows=snapshots, at=first: follower.add(rows, at)))
    late = len(times) // 2
    ratio = np.mean(times[late:]) / np.mean(times[5:late])
    print(f"following {WEIGHTS} weights, lag {LAG} rows: {ROWS / sum(times):.0f} rows/s; ", end="")
    print(f"the later half of the rows costs {ratio:.2f}x the earlier")


if __name__ == "__main__":
    following()
    sliding(sys.argv[1])
