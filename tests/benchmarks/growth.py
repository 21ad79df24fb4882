"""How the cost of a fit grows: python tests/benchmarks/growth.py.

Processor time of `koopscope.fit` on arrays in memory (0.4 GB), the fastest of three, over 64 times as many
weights and over 16 times as many steps. Printed is the slope of the line through log cost against log size;
1 is growth in proportion, and less where the fixed part of a fit still counts.
"""

from __future__ import annotations

import time

import numpy as np

import koopscope
from koopscope.trajectory import from_arrays

WIDTH = 10
FITS = {
    "node": {"partition": "node"},
    "network": {"partition": "network"},
    "node, every pair at lag 1": {"partition": "node", "lag": 1, "pairs": "every"},
}


def recording(units, rows):
    """Record a layer whose weights decay."""
    random = np.random.default_rng(0)
    decays = np.exp(-np.outer(np.arange(rows) / rows, random.uniform(0.2, 3, 8))).astype("float32")
    values = decays @ random.normal(size=(8, units * (WIDTH + 1))).astype("float32")
    weight = values[:, : units * WIDTH].reshape(rows, units, WIDTH)
    return from_arrays(np.arange(rows), {"fc.weight": weight, "fc.bias": values[:, units * WIDTH :]})


def cost(run, settings):
    """Give the processor time of one fit."""
    spent = []
    for _ in range(4):
        begin = time.process_time()
        koopscope.fit(run, t2=int(run["step"][-1]), **settings)
        spent.append(time.process_time() - begin)
    return min(spent[1:])


def grow(what, sizes):
    """Print the costs and slopes of one row of sizes: (size, units, rows)."""
    found = {name: [] for name in FITS}
    for _, units, rows in sizes:
        run = recording(units, rows)
        for name, settings in FITS.items():
            found[name].append(cost(run, settings))
    logs = np.log([size for size, _, _ in sizes])
    for name, costs in found.items():
        slope = np.polyfit(logs, np.log(costs), 1)[0]
        shown = ", ".join(f"{size}: {spent:.3f}" for (size, _, _), spent in zip(sizes, costs, strict=True))
        print(f"{what}, {name}: slope {slope:.2f} (s of processor time at {shown})", flush=True)


def main():
    """Grow weights, then steps."""
    grow("weights", [(units * (WIDTH + 1), units, 600) for units in (200, 800, 3_200, 12_800)])
    grow("steps", [(rows, 900, rows) for rows in (600, 1_200, 2_400, 4_800, 9_600)])


if __name__ == "__main__":
    main()
