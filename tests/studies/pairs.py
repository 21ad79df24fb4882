"""Strided pairs against every pair: python tests/studies/pairs.py RUNS [SET ...].

RUNS holds folders of oscillator networks that ``data/oscillator/train.py`` recorded. Node-wise affine fits
of 10 000 steps at lags of 100 steps and of one forecast 2 500 steps on, from pairs of snapshots on the grid
and from every pair of rows a lag apart. Printed are medians over the runs of the error over the evolution
(``relative_l2``), and in how many runs every pair does better.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import koopscope

WINDOW, LEAD, LAGS = 10_000, 2_500, (100, 1)


def error(run, **settings):
    """Give the relative error of one fit's forecast."""
    first = int(run["step"][0])
    fit = koopscope.fit(run, "node", t1=first, t2=first + WINDOW, **settings)
    return float(koopscope.verify(fit, run, LEAD)["relative_l2"].sel(forecast="fit").item())


def main():
    """Print one line a set and lag."""
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or sorted(folder.name for folder in root.iterdir()):
        runs = [koopscope.open_trajectory(path).load() for path in sorted((root / name).glob("*.zarr"))]
        for lag in LAGS:
            strided, every = (
                [error(run, lag=lag, pairs=pairs) for run in runs] for pairs in ("strided", "every")
            )
            better = sum(two < one for one, two in zip(strided, every, strict=True))
            one, two = statistics.median(strided), statistics.median(every)
            line = f"{name:22} lag {lag:3}: strided {one:.3f}, every pair {two:.3f}, "
            print(f"{line}better in {better} of {len(runs)}", flush=True)


if __name__ == "__main__":
    main()
