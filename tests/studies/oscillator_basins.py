"""Basin timeline and suggested windows of oscillator nets: tests/studies/oscillator_basins.py RUNS ...

Each RUNS is a folder of recordings made as docs/measure.py says, one optimiser a folder; about five seconds
a recording; kept.py has the options. Two tables. *Timeline*: what `koopscope.find_basin` says of each run.
*Suggestions*: what lies up to 2 500 steps before the end is given to `find_basin`, and a network fit on the
t1, t2 and lag it suggests forecasts the last recorded step; beside it a 10 x 10 grid of t1 and t2 chosen by
hand, fitted with defaults (the pairs that are 500 steps apart or more).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from kept import Kept, options, seeds_of

import koopscope

LEAD = 2_500
GRID = 10
SHORTEST = 500
SHARES = ("predictable", "contracting", "fixed_point_agrees", "on_unit_circle")


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


def judge(path: Path) -> list[float]:
    """Give shares of windows, verdicts and errors of one recording."""
    run = koopscope.open_trajectory(path).load()
    basin = koopscope.find_basin(run)
    one = basin.isel(group=0)
    shares = [float(one[name].mean()) for name in SHARES]
    ever, radius = float(one["in_basin"].any()), float(one["spectral_radius"][-1])
    return [*shares, ever, radius, float(basin.attrs["stochastic"]), *suggested(run)]


def main() -> None:
    """Print both tables."""
    parser = options(__doc__, "100:125")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of recordings")
    asked = parser.parse_args()
    kept, seeds = Kept(asked.keep, asked.seconds), seeds_of(asked.seeds)
    tables = {}
    for folder in asked.runs:
        paths = [path for seed in seeds for path in sorted(folder.glob(f"*seed{seed}.zarr"))]
        found = kept.outcomes(folder.name, paths, judge) if asked.only in folder.name else []
        if found:
            tables[folder.name] = np.array(found)
    print(
        "timeline: mean share of windows, runs ever in a basin, median radius of the last window, noisy runs"
    )
    print(f"{'runs':16}  predict contract  agrees  circle    basin  radius  noisy")
    for name, table in tables.items():
        mean = table.mean(axis=0)
        print(
            f"{name:16} {mean[0]:8.2f} {mean[1]:8.2f} {mean[2]:7.2f} {mean[3]:7.2f} "
            f"{int(table[:, 4].sum()):>3} of {len(table)} {np.median(table[:, 5]):7.4f} "
            f"{int(table[:, 6].sum()):6d}"
        )
    print("suggestions: runs no worse than the grid's median, and error over the grid's best")
    for name, table in tables.items():
        error, median, best = table[:, 7:].T
        better, ratio = np.count_nonzero(error <= median), error / best
        print(f"{name:16} {better} of {len(table)}, median {np.median(ratio):.2f}, worst {ratio.max():.2f}")
    print(f"{kept.missing} runs missing")


if __name__ == "__main__":
    main()
