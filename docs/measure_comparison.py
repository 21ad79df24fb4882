"""Tell optimisers apart by their spectra: python docs/measure_comparison.py A B [SEEDS] [PARTITION].

A and B are folders that hold the recordings of one optimiser each, one a seed, such as

    python data/oscillator/train.py --optimizer adam --lr 1e-3 --decay 1e-3 --seeds 100:110 --out adam
    python data/oscillator/train.py --optimizer adadelta --lr 1 --decay 1e-3 --seeds 100:110 --out adadelta

Prints the p-value of a permutation test between the two, and how p-values are spread where there is no
difference: within one optimiser, over random halves of its seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import kstest

import koopscope

HALVES = 200


def main(first: str, second: str, seeds: int = 10, partition: str = "layer") -> None:
    """Fit every recording, compare all, test."""
    folders = [Path(first), Path(second)]
    paths = [path for folder in folders for path in sorted(folder.glob("*.zarr"))[:seeds]]
    labels = [path.parent.name for path in paths]
    fits = {str(path): koopscope.fit(koopscope.open_trajectory(path), partition) for path in paths}
    distances = koopscope.compare(fits)
    test = koopscope.permutation_test(distances, labels)
    print(f"{len(paths)} recordings, partition {partition}; mean distances")
    print(test["mean_distance"].to_pandas().to_string())
    print(f"pseudo-F {float(test['statistic']):.3g}, p = {float(test['p_value']):.4f}")
    random = np.random.default_rng(0)
    for name in dict.fromkeys(labels):
        own = np.flatnonzero(np.array(labels) == name)
        halves = np.arange(own.size) % 2
        p_values = [
            float(
                koopscope.permutation_test(
                    distances[own, own], random.permutation(halves).astype(str), permutations=999, seed=draw
                )["p_value"]
            )
            for draw in range(HALVES)
        ]
        distance = kstest(p_values, "uniform")
        below = np.mean(np.array(p_values) <= 0.05)
        print(
            f"random halves of {name}: p <= .05 in {below:.1%}, KS against uniform p = {distance.pvalue:.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]), *sys.argv[4:5])
