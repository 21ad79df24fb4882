"""Compare partitions read off the recording with random ones of the same sizes, and with the architecture's.

    python data/partitions.py --runs RUNS

RUNS holds sets of oscillator networks as ``reproduce.py`` beside this file makes them. Every fit is
``affine`` with a lag of 100, on 10 000 iterations, and judged 2 500 iterations later.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import xarray as xr

import koopscope
from koopscope import Partition

SETS = ("adadelta0.1", "adagrad0.01", "adadelta1_decayed", "adam_decayed", "adadelta1")
ARCHITECTURE = ("network", "layer", "node")
GROUPS = (2, 4, 8, 22)  # 3 layers and 22 nodes are what the architecture has
T1, T2, LEAD, LAG = 35_000, 44_999, 2_500, 100


def errors(run: xr.Dataset, seed: int) -> dict[str, float]:
    """Give the relative error of every partition on one recording."""
    found = {partition: error(run, partition)[0] for partition in ARCHITECTURE}
    for groups in GROUPS:
        partition = f"correlated:{groups}"
        found[partition], fit = error(run, partition)
        found[f"random, sizes of {partition}"] = error(run, shuffled(fit, run, seed))[0]
    return found


def error(run: xr.Dataset, partition: str | Partition) -> tuple[float, xr.DataTree]:
    """Fit one partition; give its relative error and the fit."""
    fit = koopscope.fit(run, partition, t1=T1, t2=T2, lag=LAG)
    verification = koopscope.verify(fit, run, LEAD)
    return float(verification["relative_l2"].sel(lead=LEAD, forecast="fit")), fit


def shuffled(fit: xr.DataTree, run: xr.Dataset, seed: int) -> Partition:
    """Deal the weights at random to groups of the sizes that a fit has."""
    names = [tensor["name"] for tensor in fit.attrs["tensors"]]
    shapes = [run[name].shape[1:] for name in names]
    sizes = [int(np.prod(shape)) for shape in shapes]
    groups = [members for path in fit.attrs["blocks"] for members in fit[path]["member_index"].values]
    labels = np.repeat(np.arange(len(groups)), [len(members) for members in groups])
    dealt = np.split(np.random.default_rng(seed).permutation(labels), np.cumsum(sizes)[:-1])
    return Partition.from_labels(
        {name: part.reshape(shape) for name, part, shape in zip(names, dealt, shapes, strict=True)}
    )


def main() -> None:
    """Print one table: a row a partition, a column a set, medians over the networks."""
    parser = argparse.ArgumentParser(description="Compare partitions on sets of oscillator networks.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of sets of recordings")
    parser.add_argument("--sets", nargs="+", default=SETS, help="which of them")
    options = parser.parse_args()
    columns: dict[str, dict[str, list[float]]] = {}
    for name in options.sets:
        for seed, path in enumerate(sorted((options.runs / name).glob("*.zarr"))):
            for partition, value in errors(koopscope.open_trajectory(path), seed).items():
                columns.setdefault(name, {}).setdefault(partition, []).append(value)
        sys.stderr.write(f"{name} done\n")
    rows = next(iter(columns.values()))
    print("| partition |", " | ".join(columns), "|")
    print("|---" * (1 + len(columns)) + "|")
    for partition in rows:
        print(
            f"| {partition} |", " | ".join(f"{np.median(of[partition]):.3g}" for of in columns.values()), "|"
        )


if __name__ == "__main__":
    main()
