"""What else could forecast better: python tests/studies/variants.py RUNS [SET ...].

RUNS holds folders of oscillator networks that ``data/oscillator/train.py`` recorded. One fit, of the whole
network with 20 delays at a lag of a hundredth of the window, is changed in one respect at a time, by the
singular value decomposition in float64 and nothing of koopscope but its reader. Printed are the median and
the geometric mean over the runs of the error over the evolution, 2 500 steps after a window of 10 000:

- *clock k*: snapshots evenly spaced in ``log(1 + k u)``, u the share of the window behind them, for runs
  that slow down (k > 0) or speed up;
- *forget s*: pairs weighted by ``exp(-age / s)``, age and s in windows;
- *scaled*: weights divided by the root of their excursion, or of the size of their second differences;
- *line r*: only r principal components are fitted, what is left goes on along a line through its last tenth;
- *corrected c*: c times the error that the same fit makes from one lead before t2 is added.

Then come the error of the best of all of these, chosen run by run in hindsight, and the part of the error
that lies outside the window's first 20 principal components.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import koopscope

WINDOW, LEAD, LAGS, DELAYS, RTOL, LARGEST_RANK = 10_000, 2_500, 25, 20, 1e-6, 60
CLOCKS = (-0.3, 0.3, 1.0)
MEMORIES = (0.5, 0.2, 0.1)
RANKS = (6, 12, 20)
SHARES = (0.2, 0.5)


def grid(speed):
    """Rows of the snapshots, the last at t2, so that the lead is a whole number of lags of the clock."""

    def clock(share):
        return np.log1p(speed * share) / np.log1p(speed) if speed else share

    lag = (clock(1 + LEAD / WINDOW) - 1) / LAGS
    times = 1 - lag * np.arange(int(1 / lag), -1, -1)
    shares = np.expm1(times * np.log1p(speed)) / speed if speed else times
    return shares * WINDOW


def rows_at(weights, rows):
    """Weights at rows that need not be whole numbers."""
    before = np.minimum(rows.astype(int), WINDOW - 1)
    share = (rows - before)[:, None]
    return weights[before] * (1 - share) + weights[before + 1] * share


def forecast(snapshots, memory=np.inf):
    """Forecast the change of the last snapshot over `LAGS` lags."""
    n = len(snapshots) - DELAYS + 1
    stacked = np.concatenate([snapshots[delay : delay + n] for delay in range(DELAYS)], axis=1)
    now, following = stacked[:-1], stacked[1:]
    age = np.arange(len(now))[::-1] / len(snapshots)
    shares = np.exp(-age / memory)
    shares /= shares.sum()
    mean_now, mean_next, root = shares @ now, shares @ following, np.sqrt(shares)[:, None]
    left, singular, right = np.linalg.svd(root * (now - mean_now), full_matrices=False)
    kept = (singular > RTOL * singular[0]) & (np.arange(singular.size) < LARGEST_RANK)
    left, singular, right = left[:, kept], singular[kept], right[kept]
    operator = (root * (following - mean_next) @ right.T).T @ (left / singular)
    start = state = right @ (stacked[-1] - mean_now)
    for _ in range(LAGS):
        state = operator @ state + right @ (mean_next - mean_now)
    return ((state - start) @ right)[-snapshots.shape[1] :]


def forecasts(weights):
    """Yield every variant of one run: name and forecast of the change."""
    snapshots = rows_at(weights, grid(0)) - weights[WINDOW]
    plain = forecast(snapshots)
    yield "plain", plain
    for speed in CLOCKS:
        yield f"clock {speed}", forecast(rows_at(weights, grid(speed)) - weights[WINDOW])
    for memory in MEMORIES:
        yield f"forget {memory}", forecast(snapshots, memory)
    for name, size in (
        ("excursion", snapshots.std(axis=0)),
        ("second differences", np.diff(snapshots, 2, axis=0).std(axis=0)),
    ):
        scale = np.sqrt(np.where(size > 0, size, 1.0))
        yield f"scaled by {name}", forecast(snapshots / scale) * scale
    directions = np.linalg.svd(snapshots - snapshots.mean(axis=0), full_matrices=False)[2]
    for rank in RANKS:
        reduced = snapshots @ directions[:rank].T
        rest = (snapshots - reduced @ directions[:rank])[-len(snapshots) // 10 :]
        slope = np.polyfit(np.arange(len(rest)), rest, 1)[0]
        yield f"line {rank}", forecast(reduced) @ directions[:rank] + LAGS * slope
    earlier = snapshots[:-LAGS] - snapshots[-LAGS - 1]
    error = snapshots[-1] - snapshots[-LAGS - 1] - forecast(earlier)
    for share in SHARES:
        yield f"corrected {share}", plain + share * error


def read(path):
    """Weights of one run, in float64, one row a step up to the end of the lead."""
    run = koopscope.open_trajectory(path)
    rows = slice(0, WINDOW + LEAD + 1)
    tensors = [run[name].variable[rows].values for name in run.data_vars if run[name].ndim > 1]
    return np.concatenate([values.reshape(len(values), -1) for values in tensors], axis=1).astype(float)


def main():
    """Print a line a set and variant."""
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or sorted(folder.name for folder in root.iterdir()):
        errors, outside = {}, []
        for path in sorted((root / name).glob("*.zarr")):
            weights = read(path)
            truth = weights[WINDOW + LEAD] - weights[WINDOW]
            for variant, change in forecasts(weights):
                errors.setdefault(variant, []).append(np.linalg.norm(change - truth) / np.linalg.norm(truth))
                if variant == "plain":
                    window = rows_at(weights, grid(0))
                    first = np.linalg.svd(window - window.mean(axis=0), full_matrices=False)[2][:20]
                    error = change - truth
                    rest = error - (error @ first.T) @ first
                    outside.append(np.linalg.norm(rest) / np.linalg.norm(error))
        errors["best in hindsight"] = np.min(list(errors.values()), axis=0)
        for variant, values in errors.items():
            mean = np.exp(np.mean(np.log(values)))
            line = f"{name:20} {variant:28} median {np.median(values):.4f}, geometric mean {mean:.4f}"
            print(line, flush=True)
        print(f"{name:20} outside 20 components: {np.median(outside):.2f} of the error", flush=True)


if __name__ == "__main__":
    main()
