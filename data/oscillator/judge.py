"""Judge every way of forecasting on folders of recordings: python data/oscillator/judge.py RUNS [--peers].

RUNS holds a folder for each set of recordings that ``train.py`` made, and beside it, where peers are judged,
``<set>_dev`` with other seeds on which their settings are chosen. One line a set and method is printed:
medians over the runs, from t1 = the first recorded step, t2 = t1 + 10 000, T = 2 500.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peers
import xarray as xr
from loss import loss

import koopscope

WINDOW, LEAD = 10_000, 2_500
TUNING_RUNS = 5
FITS: dict[str, dict[str, Any]] = {
    "auto": {"method": "auto", "lead": LEAD},
    "paper, node": {"partition": "node", "method": "paper"},
    "affine, network": {"partition": "network", "lag": 100},
    "affine, network, 20 delays": {"partition": "network", "lag": 100, "delays": 20, "rtol": 1e-6},
}
Figures = dict[str, float]


def judge_fit(run: xr.Dataset, settings: Mapping[str, Any]) -> Figures:
    """Fit one recording and give its figures at the lead; for ``auto`` also what became of its promises."""
    first = int(run["step"].values[0])
    started = time.perf_counter()
    fit = koopscope.fit(run, t1=first, t2=first + WINDOW, **settings)
    seconds = time.perf_counter() - started
    table = fit["backtest"].to_dataset() if settings.get("method") == "auto" else None
    leads = [LEAD] if table is None else table["lead"].values
    verification = koopscope.verify(fit, run, leads, loss=loss)
    network = verification.to_dataset().isel(lead=-1)
    losses = verification["loss"].to_dataset().isel(lead=-1)
    figures = {
        "relative_l2": float(network["relative_l2"].sel(forecast="fit")),
        "linear": float(network["relative_l2"].sel(forecast="linear")),
        "error_to_evolution": float(network["error_to_evolution"].sel(forecast="fit")),
        "success": float(losses["success"]),
        "t_eq_ratio": float(losses["t_eq_ratio"]),
        "excursion": excursion(fit, run),
        "seconds": seconds,
    }
    if table is not None:
        figures |= promises(table, verification["relative_l2"].sel(forecast="fit").values)
    return figures


def promises(table: xr.Dataset, true: np.ndarray) -> Figures:
    """Compare what a backtest stated with the true errors at its leads."""
    predicted, horizon = table["predicted_error"].values, table.attrs["horizon"]
    within = true[table["lead"].values == horizon]
    return {
        "bound_holds": float(true[-1] <= table["error_bound"].values[-1]),
        "within_3x": float(predicted[-1] / 3 <= true[-1] <= 3 * predicted[-1]),
        "horizon": float(horizon),
        # Without a horizon nothing was promised.
        "horizon_holds": float(within[0] <= table.attrs["tolerance"]) if horizon else np.nan,
    }


def excursion(fit: xr.DataTree, run: xr.Dataset) -> float:
    """Largest distance from w(t2) of a forecast up to the lead, over the largest inside the window."""
    first = int(run["step"].values[0])
    forecast = koopscope.predict(fit, np.arange(0, LEAD + 1, 50))
    names = list(forecast.data_vars)
    last = {name: run[name].sel(step=first + WINDOW).values.astype(float) for name in names}
    window = {name: run[name].sel(step=slice(first, first + WINDOW)).values[::50] for name in names}

    def farthest(rows: Mapping[str, np.ndarray]) -> float:
        squares = [((rows[name] - last[name]) ** 2).reshape(len(rows[name]), -1).sum(1) for name in names]
        return float(np.sqrt(np.sum(squares, axis=0).max()))

    return farthest({name: forecast[name].values for name in names}) / farthest(window)


def snapshots(run: xr.Dataset, stride: int) -> np.ndarray:
    """Rows ``stride`` apart from t1 to t2 and on to t2 + T, one column a weight."""
    rows = slice(0, WINDOW + LEAD + 1, stride)
    names = [name for name in run.data_vars if run[name].ndim > 1]
    columns = [
        run[name].variable[rows].values.reshape(-1, int(np.prod(run[name].shape[1:]))) for name in names
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)


def recordings(folder: Path, limit: int | None = None) -> Iterator[xr.Dataset]:
    """Open the recordings of a set, or the first of them."""
    for path in sorted(folder.glob("*.zarr"))[:limit]:
        yield koopscope.open_trajectory(path)


def print_fits(folder: Path, names: list[str], limit: int | None) -> np.ndarray:
    """Judge koopscope's own methods on a set; returns the errors of ``auto``, one a run."""
    errors = np.empty(0)
    for name in names:
        rows = [judge_fit(run, FITS[name]) for run in recordings(folder, limit)]
        figures = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        line = {key: float(np.median(figures[key])) for key in ("relative_l2", "error_to_evolution")}
        line |= {"worst": float(figures["relative_l2"].max()), "linear": float(np.median(figures["linear"]))}
        line |= {
            "success": float(figures["success"].sum()),
            "t_eq_ratio": float(np.median(figures["t_eq_ratio"])),
        }
        line |= {
            "excursion": float(figures["excursion"].max()),
            "seconds": float(np.median(figures["seconds"])),
        }
        for key in ("bound_holds", "within_3x", "horizon_holds"):
            if key in figures:
                kept = figures[key][np.isfinite(figures[key])]
                line[key] = float(kept.sum())
                line["horizons" if key == "horizon_holds" else "runs"] = float(kept.size)
        print(
            f"{folder.name:20} {name:28}", *(f"{key} {value:.4g}" for key, value in line.items()), flush=True
        )
        errors = figures["relative_l2"] if name == "auto" else errors
    return errors


def print_peers(folder: Path, ours: np.ndarray, limit: int | None) -> None:
    """Judge the peers on a set, each at the settings that served it best on other seeds."""
    others = folder.with_name(f"{folder.name}_dev")
    tuning = [snapshots(run, peers.STRIDE) for run in recordings(others, TUNING_RUNS)]
    judged = [snapshots(run, peers.STRIDE) for run in recordings(folder, limit)]
    n_window, n_lead = WINDOW // peers.STRIDE, LEAD // peers.STRIDE
    for name, method in peers.PEERS.items():
        settings = peers.tune(method, tuning, n_window, n_lead)
        errors = np.array([peers.error(method, settings, rows, n_window, n_lead) for rows in judged])
        won = int(np.sum(ours <= errors))
        print(
            f"{folder.name:20} {name:28} relative_l2 {np.median(errors):.4g} worst {errors.max():.3g} "
            f"auto better in {won} of {errors.size} settings {settings}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--peers", action="store_true", help="judge auto against PyDMD and an autoregression")
    parser.add_argument("--limit", type=int, help="judge only the first so many recordings of each set")
    parser.add_argument("--only", nargs="*", help="sets to judge")
    given = parser.parse_args()
    for folder in sorted(path for path in given.runs.iterdir() if path.is_dir()):
        if folder.name.endswith("_dev") or (given.only and folder.name not in given.only):
            continue
        ours = print_fits(folder, ["auto"] if given.peers else list(FITS), given.limit)
        if given.peers:
            print_peers(folder, ours, given.limit)


if __name__ == "__main__":
    sys.exit(main())
