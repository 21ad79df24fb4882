"""Compute the table of docs/explanation/methods.md: python docs/measure.py RUNS, a folder of recordings.

RUNS holds what this makes, about four minutes on one core:

    python data/oscillator/train.py --optimizer adadelta --lr 0.1 --decay 1e-5 --seeds 100:125 --out RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import koopscope

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "oscillator"))

WINDOW, LEAD = 10_000, 2_500
FITS: dict[str, dict[str, Any]] = {
    "paper, node": {"partition": "node", "method": "paper"},
    "affine, node": {"partition": "node", "lag": 100},
    "affine, layer": {"partition": "layer", "lag": 100},
    "affine, network": {"partition": "network", "lag": 100},
    "affine, network, 20 delays": {"partition": "network", "lag": 100, "delays": 20, "rtol": 1e-6},
    "auto": {"method": "auto", "lead": LEAD},
}


def figures(path: Path, settings: dict[str, Any]) -> list[float]:
    """Fit one recording and give its figures at the lead."""
    from loss import loss

    run = koopscope.open_trajectory(path)
    first = int(run["step"].values[0])
    fit = koopscope.fit(run, t1=first, t2=first + WINDOW, **settings)
    verification = koopscope.verify(fit, run, LEAD, loss=loss)
    network = verification.to_dataset().sel(lead=LEAD)
    of_fit = network.sel(forecast="fit")
    losses = verification["loss"].to_dataset().sel(lead=LEAD)
    return [
        float(of_fit["error_to_evolution"]),
        float(of_fit["relative_l2"]),
        float(network["relative_l2"].sel(forecast="linear")),
        float(losses["success"]),
        float(losses["t_eq_ratio"]),
    ]


def main(folder: str) -> None:
    """Print one row a fit: medians over the recordings, and how many succeeded."""
    paths = sorted(Path(folder).glob("*.zarr"))
    print(f"{len(paths)} recordings, medians")
    print(f"{'fit':28} {'e/g':>8} {'rel. l2':>8} {'worst':>8} {'linear':>8} {'success':>9} {'T_eq/T':>7}")
    for name, settings in FITS.items():
        table = np.array([figures(path, settings) for path in paths])
        ratio, error, line, _, saved = np.median(table, axis=0)
        success = f"{int(table[:, 3].sum())} of {len(paths)}"
        worst = table[:, 1].max()
        print(f"{name:28} {ratio:8.4f} {error:8.4f} {worst:8.3f} {line:8.4f} {success:>9} {saved:7.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
