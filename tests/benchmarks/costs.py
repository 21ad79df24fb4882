"""Predicted against measured costs: python tests/benchmarks/costs.py [--set SET] [FOLDER].

Records some networks in FOLDER (0.3 GB each set), asks `koopscope.inspect` what fits cost, and measures them:
fit and forecast from the disk, medians of five, and the peak of what NumPy holds in a run of its own. Each
line gives what was predicted and what was measured, and the larger ratio of the two. The constants of
`koopscope/costs.py` were set on the set ``calibration``; ``judged`` is of other shapes, looked at afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

import koopscope
from koopscope.trajectory import columns

NETWORKS = {
    "calibration": {
        "oscillator 1:10:10:2": ([(10, 1), (10, 10), (2, 10)], 12_500),
        "perceptron 784:20:20:20:10": ([(20, 784), (20, 20), (20, 20), (10, 20)], 1_500),
        "a layer 1000:200": ([(200, 1000)], 250),
    },
    "judged": {
        "autoencoder 64:32:8:32:64": ([(32, 64), (8, 32), (32, 8), (64, 32)], 4_000),
        "24 layers of 16": ([(16, 16)] * 24, 2_000),
        "convolutions 1:8:16, 400:10": ([(8, 1, 3, 3), (16, 8, 3, 3), (10, 400)], 6_000),
        "a layer 4000:100": ([(100, 4000)], 140),
    },
}


def write(path, shapes, rows):
    """Record weights that decay along ten directions."""
    random = np.random.default_rng(0)
    start = {}
    for index, shape in enumerate(shapes):
        start[f"fc{index}.weight"] = random.normal(size=(10, *shape)) * 0.1
        start[f"fc{index}.bias"] = random.normal(size=(10, shape[0])) * 0.1
    rates = random.uniform(0.3, 5, 10) / rows
    with koopscope.TrajectoryWriter(path, layout="torch") as writer:
        for step in range(rows):
            decays = np.exp(-rates * step)
            row = {name: np.tensordot(decays, value, 1).astype("float32") for name, value in start.items()}
            writer.append(step, row)


def measure(path, partition, lead):
    """Give seconds of a fit, seconds of a forecast, and the peak in bytes."""
    fits, forecasts = [], []
    for _ in range(6):
        begin = time.perf_counter()
        fit = koopscope.fit(koopscope.open_trajectory(path), partition)
        fits.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        koopscope.predict(fit, lead)
        forecasts.append(time.perf_counter() - begin)
    del fit
    columns._kept.clear()  # memory of earlier reads, which would not be counted
    tracemalloc.start()
    koopscope.fit(koopscope.open_trajectory(path), partition)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(fits[1:]), statistics.median(forecasts[1:]), peak


def main():
    """Print one line a network and partition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=None)
    parser.add_argument("--set", choices=NETWORKS, default="calibration")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for name, (shapes, rows) in NETWORKS[asked.set].items():
            path = Path(folder) / f"{rows}.zarr"
            write(path, shapes, rows)
            table = koopscope.inspect(path)
            for cost in table.attrs["costs"]:
                if cost["partition"] == "weight" and table.attrs["weights"] > 10_000:
                    continue
                found = measure(path, cost["partition"], table.attrs["lead"])
                told = cost["fit_seconds"], cost["forecast_seconds"], cost["fit_memory_bytes"]
                line = f"{name:28} {cost['partition']:8}"
                for what, one, other, unit in zip(
                    ("fit", "forecast", "memory"), told, found, (1e3, 1e3, 1e-6), strict=True
                ):
                    ratio = max(one / other, other / one)
                    line += f"  {what} {one * unit:7.1f} told, {other * unit:7.1f} found ({ratio:.1f}x)"
                print(line, flush=True)
            print(f"    rates {table.attrs['rates']}")


if __name__ == "__main__":
    main()
