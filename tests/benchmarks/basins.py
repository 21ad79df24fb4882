"""What sliding windows and following cost: python tests/benchmarks/basins.py RECORDING.

First, `find_basin` with 100 windows against one `fit`, both from the open recording, medians of nine
in turn. Then the rows a second that `BasinFollower` takes of a run of 20 000 weights, and whether later rows
cost more; and the same of `follow_basin`, from a recording that grows between two looks, opening and decoding
included. Times are of the clock and of the processor: on a machine that does other things too, the clock
alone says little.
"""

from __future__ import annotations

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


def seconds(work) -> tuple[float, float]:
    """Time one call by the clock and by the processor, all threads."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


def sliding(path: str) -> None:
    """Compare sliding windows with one fit on the network."""
    run = koopscope.open_trajectory(path)
    length, spacing = (int(run["step"][-1] - run["step"][at]) for at in (0, -2))
    lag = round(length / 125 / spacing) * spacing
    window = (length // lag - 99) * lag
    works = {
        "one fit": lambda: koopscope.fit(run, "network"),
        "find_basin": lambda: koopscope.find_basin(run, window=window, lag=lag),
    }
    for work in works.values():
        work()  # compiles the kernels
    times = {name: [] for name in works}
    for _ in range(9):
        for name, work in works.items():
            times[name].append(seconds(work))
    fit, basin = (np.median(times[name], axis=0) for name in works)
    windows = koopscope.find_basin(run, window=window, lag=lag).sizes["window"]
    for what, one, many in zip(("clock", "processor"), fit, basin, strict=True):
        print(f"{what}: one fit {one:.3f} s, {windows} windows {many:.3f} s: {many / one:.2f}x")


def run_of(steps: np.ndarray) -> np.ndarray:
    """Decay in three directions, shape ``(row, WEIGHTS)``."""
    directions = np.random.default_rng(0).normal(size=(3, WEIGHTS))
    return (np.exp(-np.outer(steps, [0.001, 0.003, 0.01])) @ directions).astype(np.float32)


def following() -> None:
    """Feed a follower ten lags at a time."""
    empty = from_arrays([0], {"fc.weight": np.zeros((1, 100, WEIGHTS // 100), np.float32)})
    follower = BasinFollower(WeightVector.of(empty), "network", LAG, 30, None)
    times: list[tuple[float, float]] = []
    for first in range(0, ROWS, 10 * LAG):
        steps = np.arange(first, first + 10 * LAG, LAG)
        snapshots = run_of(steps)
        times.append(seconds(lambda rows=snapshots, at=first: follower.add(rows, at)))
    tell("BasinFollower", times)


def following_a_recording(rows_a_look: int = 500) -> None:
    """Record some rows, look, record more."""
    times: list[tuple[float, float]] = []
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


def tell(what: str, times: list[tuple[float, float]]) -> None:
    """Print rows a second by the median look, and how the later half compares; the first one compiles."""
    late, rows = len(times) // 2, ROWS // len(times)
    clock, processor = rows / np.median(times[1:], axis=0)
    ratio = np.median(times[late:], axis=0)[1] / np.median(times[late // 2 : late], axis=0)[1]
    print(f"{what}, {WEIGHTS} weights, lag {LAG} rows: {clock:.0f} rows/s by the clock, ", end="")
    print(f"{processor:.0f} by the processor; the last half costs {ratio:.2f}x the quarter before")


if __name__ == "__main__":
    sliding(sys.argv[1])
    following()
    following_a_recording()
