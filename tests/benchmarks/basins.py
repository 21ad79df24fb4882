"""What sliding windows and following cost: python tests/benchmarks/basins.py RECORDING.

First, the rows a second that `BasinFollower` takes of a run of 20 000 weights, and whether later rows cost
more. Then the same of `follow_basin`, from a recording that grows between two looks, opening and decoding
included. Then `find_basin` with about 120 windows against one `fit`, both from the open recording, medians
of five in turn.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

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


def run_of(steps: np.ndarray) -> np.ndarray:
    """Decay in three directions, shape ``(row, WEIGHTS)``."""
    directions = np.random.default_rng(0).normal(size=(3, WEIGHTS))
    return (np.exp(-np.outer(steps, [0.001, 0.003, 0.01])) @ directions).astype(np.float32)


def following() -> None:
    """Feed a follower ten lags at a time."""
    empty = from_arrays([0], {"fc.weight": np.zeros((1, 100, WEIGHTS // 100), np.float32)})
    follower = BasinFollower(WeightVector.of(empty), "network", LAG, 30, None)
    times = []
    for first in range(0, ROWS, 10 * LAG):
        steps = np.arange(first, first + 10 * LAG, LAG)
        snapshots = run_of(steps)
        times.append(seconds(lambda rows=snapshots, at=first: follower.add(rows, at)))
    tell("BasinFollower", times)


def following_a_recording(rows_a_look: int = 500) -> None:
    """Record some rows, look, record more."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        with koopscope.TrajectoryWriter(path, layout="torch") as writer:
            news = koopscope.follow_basin(path, window=30 * LAG, lag=LAG, poll=0, patience=0)
            for first in range(0, ROWS, rows_a_look):
                steps = np.arange(first, first + rows_a_look)
                for step, row in zip(steps.tolist(), run_of(steps), strict=True):
                    writer.append(step, {"fc.weight": row.reshape(100, -1)})
                times.append(seconds(lambda: next(news)))
    tell("follow_basin", times)


def tell(what: str, times: list[float]) -> None:
    """Print rows a second, the first look apart (it compiles), and how the later half compares."""
    late, rows = len(times) // 2, ROWS // len(times)
    ratio = np.mean(times[late:]) / np.mean(times[1:late])
    print(f"{what}, {WEIGHTS} weights, lag {LAG} rows: {rows / np.mean(times[1:]):.0f} rows/s; ", end="")
    print(f"the later half of the rows costs {ratio:.2f}x the earlier", flush=True)


if __name__ == "__main__":
    following()
    following_a_recording()
    sliding(sys.argv[1])
