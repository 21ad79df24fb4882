"""What ``auto`` costs beside fixed fits: python tests/benchmarks/race.py RECORDING [ROUNDS].

Whole calls of `koopscope.fit` on one recording held in memory, the first 10 000 steps of it as the window,
in turn; medians in wall and processor time, and the ratio of ``auto`` to each. RECORDING is an oscillator
network as ``data/oscillator/train.py`` records it.
"""

from __future__ import annotations

import statistics
import sys
import time

import koopscope

WINDOW, LEAD = 10_000, 2_500
FITS = {
    "affine, network": {"partition": "network"},
    "affine, network, 20 delays": {"partition": "network", "delays": 20},
    "affine, node": {},
    "paper, node": {"method": "paper"},
    "auto": {"method": "auto", "lead": LEAD},
}


def times(path, rounds):
    """Wall and processor seconds of every fit, a list each."""
    run = koopscope.open_trajectory(path).load()
    first = int(run["step"].values[0])
    found = {name: [] for name in FITS}
    for number in range(rounds + 1):
        for name, settings in FITS.items():
            wall, processor = time.perf_counter(), time.process_time()
            koopscope.fit(run, t1=first, t2=first + WINDOW, **settings)
            if number:  # the first round compiles
                found[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return found


def main():
    """Print a line a fit."""
    found = times(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 9)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    for name, (wall, processor) in medians.items():
        ratios = [auto / own for auto, own in zip(medians["auto"], (wall, processor), strict=True)]
        print(
            f"{name:28} wall {wall:.3f} s, processor {processor:.3f} s; "
            f"auto is {ratios[0]:.1f} and {ratios[1]:.1f} times that"
        )


if __name__ == "__main__":
    main()
