"""Basin timeline and suggested windows of oscillator nets: tests/studies/oscillator_basins.py RUNS ...

Each RUNS is a folder of recordings made as docs/measure.py says, one optimiser a folder; about five seconds
a recording. Two tables. *Timeline*: what `koopscope.find_basin` says of each run. *Suggestions*: what lies up
to 2 500 steps before the end is given to `find_basin`, and a network fit on the t1, t2 and lag it suggests
forecasts the last recorded step; beside it a 10 x 10 grid of t1 and t2 chosen by hand, fitted with defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr

import koopscope

LEAD = 2_500
GRID = 10
SHORTEST = 500
CRITERIA = ("predictable", "contracting", "fixed_point_agrees", "on_unit_circle")


def rows(dataset: xr.Dataset, names: list[str], index: int) -> np.ndarray:
    """One row of all tensors."""
    return np.concatenate([dataset[name].to_numpy()[index].ravel() for name in names])


def error(run: xr.Dataset, t1: int, t2: int, lag: int | None = None) -> float:
    """Length of the error at the last recorded step of a network fit on t1..t2."""
    fit = koopscope.fit(run, "network", t1=t1, t2=t2, lag=lag)
    forecast = koopscope.predict(fit, int(run["step"][-1]) - t2)
    names = [str(name) for name in forecast.data_vars]
    return float(np.linalg.norm(rows(forecast, names, 0) - rows(run, names, -1)))


def suggested(run: xr.Dataset) -> tuple[float, float, float]:
    """Errors at the last step: of the suggestion, and the grid's median and best."""
    first, last = int(run["step"][0]), int(run["step"][-1])
    now = last - LEAD
    seen = run.isel(step=run["step"].to_numpy() <= now)
    found = koopscope.find_basin(seen).attrs["suggested"]
    grid = [
        error(run, int(t1), int(t2))
        for t1 in np.linspace(first, first + 0.72 * (now - first), GRID)
        for t2 in np.linspace(first + 0.28 * (now - first), now, GRID)
        if t2 - t1 >= SHORTEST
    ]
    return error(run, found["t1"], found["t2"], found["lag"]), float(np.median(grid)), min(grid)


def main(folders: list[str]) -> None:
    """Print both tables."""
    timeline, judged = [], []
    for folder in folders:
        shares, errors = [], []
        for path in sorted(Path(folder).glob("*.zarr")):
            run = koopscope.open_trajectory(path).load()
            basin = koopscope.find_basin(run)
            one = basin.isel(group=0)
            shares.append(
                [
                    *(
                        float(one[name].mean())
                        for name in ("predictable", "contracting", "fixed_point_agrees")
                    ),
                    float(one["on_unit_circle"].mean()),
                    float(one["in_basin"].any()),
                    float(one["spectral_radius"][-1]),
                    float(basin.attrs["stochastic"]),
                ]
            )
            errors.append(suggested(run))
        timeline.append((Path(folder).name, np.array(shares)))
        judged.append((Path(folder).name, np.array(errors)))
        print(f"{Path(folder).name}: {len(shares)} runs", file=sys.stderr, flush=True)
    print(
        "timeline: mean share of windows, runs ever in a basin, median radius of the last window, noisy runs"
    )
    print(f"{'runs':16}  predict contract  agrees  circle    basin  radius  noisy")
    for name, table in timeline:
        mean, total = table.mean(axis=0), len(table)
        print(
            f"{name:16} {mean[0]:8.2f} {mean[1]:8.2f} {mean[2]:7.2f} {mean[3]:7.2f} "
            f"{int(table[:, 4].sum()):>3} of {total} {np.median(table[:, 5]):7.4f} "
            f"{int(table[:, 6].sum()):6d}"
        )
    print("suggestions: runs no worse than the grid's median, and error over the grid's best")
    for name, table in judged:
        ratio = table[:, 0] / table[:, 2]
        better = np.count_nonzero(table[:, 0] <= table[:, 1])
        print(f"{name:16} {better} of {len(table)}, median {np.median(ratio):.2f}, worst {ratio.max():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
