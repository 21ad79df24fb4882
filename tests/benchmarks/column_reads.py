"""Reading columns over all steps, against zarr's reader: python tests/benchmarks/column_reads.py [FOLDER].

The folder needs 1 GB. Every figure is from a warm cache, with checksums on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from koopscope import TrajectoryWriter, open_trajectory

SHAPE = (512, 512)
ROWS = 1024
COLUMNS = 32  # output units in a block: 64 MiB of all steps


def write(path):
    """Record 1 GiB of weights that drift the way trained ones do."""
    random = np.random.default_rng(0)
    weights = (random.normal(size=SHAPE) * 0.05).astype("float32")
    drift = (random.normal(size=SHAPE) * 1e-4).astype("float32")
    with TrajectoryWriter(path, layout="torch") as writer:
        for step in range(ROWS):
            weights += drift * np.float32(0.999**step)
            writer.append(step, {"fc.weight": weights})


def blocks():
    """Give the slices of each block."""
    return [slice(start, start + COLUMNS) for start in range(0, SHAPE[0], COLUMNS)]


def koopscope_blocks(path):
    """Read all blocks through the variable that open_trajectory gives."""
    variable = open_trajectory(path)["fc.weight"].variable
    return sum(float(np.asarray(variable[:, block].values)[-1, 0, 0]) for block in blocks())


def zarr_blocks(path):
    """Read all blocks with zarr alone."""
    array = zarr.open_array(path / "fc.weight", mode="r")
    return sum(float(np.asarray(array[:, block])[-1, 0, 0]) for block in blocks())


def seconds(function, path, repeats):
    """Time a reader, some times."""
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function(path)
        spent.append(time.perf_counter() - begin)
    return spent


def main():
    """Run all, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=None, type=Path)
    place = Path(tempfile.mkdtemp(dir=parser.parse_args().folder))
    try:
        write(place / "run.zarr")
        n_bytes = ROWS * SHAPE[0] * SHAPE[1] * 4
        stored = sum(file.stat().st_size for file in (place / "run.zarr").rglob("*") if file.is_file())
        print(f"{os.cpu_count()} cores, {n_bytes / 1e9:.2f} GB, stored as {stored / n_bytes:.2f} of that")
        assert koopscope_blocks(place / "run.zarr") == zarr_blocks(place / "run.zarr")
        spent = {koopscope_blocks: [], zarr_blocks: []}
        for _ in range(5):
            for function, times in spent.items():
                times += seconds(function, place / "run.zarr", 1)
        speed = {function: n_bytes / 1e9 / statistics.median(times) for function, times in spent.items()}
        print(
            f"koopscope {speed[koopscope_blocks]:.2f} GB/s, zarr {speed[zarr_blocks]:.2f} GB/s, "
            f"ratio {speed[koopscope_blocks] / speed[zarr_blocks]:.2f}"
        )
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
