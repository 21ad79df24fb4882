"""How often `koopscope.find_basin` is right on known runs: python tests/studies/basins.py.

Two hundred seeded runs a kind by default, about a quarter of an hour on one core; kept.py has the options.
Prints, a line a kind, how many runs are called a basin, how many the raw unit-circle indicator calls one (all
eigenvalues within 0.01 of the circle per step in the last window), and where the entry is found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from kept import Kept, options, seeds_of

import koopscope
from koopscope.simulation import settling_run
from koopscope.trajectory import from_arrays

WINDOW = 300  # a fifth of a run


def uniform(seed: int, low: float, high: float) -> float:
    """Draw one number from a seed of its own."""
    return float(np.random.default_rng(1_000_000 + seed).uniform(low, high))


def late_contraction(seed: int, begin: int = 600) -> xr.Dataset:
    """Drift straight until ``begin``, then settle at four e-foldings a window."""
    random = np.random.default_rng(seed)
    direction, away = random.normal(size=(2, 20))
    times = np.arange(1501.0)
    after = np.maximum(times - begin, 0.0)
    course = np.minimum(times, begin) / begin
    settling = (1 - np.exp(-4 / WINDOW * after)) * (WINDOW / 4 / begin)
    turned = 1 - np.exp(-6 / WINDOW * after)
    values = random.normal(size=20) + np.outer(course + settling, direction) + np.outer(turned, away)
    return from_arrays(times.astype(np.int64), {"fc.weight": values.reshape(-1, 4, 5)})


def noisy_drift(seed: int) -> xr.Dataset:
    """A random walk with a drift that is half of its displacement at the end."""
    walk, drift = settling_run("walk", seed=seed), settling_run("drift", seed=seed)
    return walk.assign({name: walk[name] + 0.5 * drift[name] for name in ("fc.weight", "fc.bias")}).assign(
        {
            name: (walk[name] + 0.5 * drift[name]).assign_attrs(walk[name].attrs)
            for name in ("fc.weight", "fc.bias")
        }
    )


# Kind, whether it settles, and how a seed makes a run.
KINDS: dict[str, tuple[bool, Callable[[int], xr.Dataset]]] = {
    "contraction, n(1-r) of 2 to 10": (
        True,
        lambda seed: settling_run("contraction", rate=uniform(seed, 2.1, 10) / WINDOW, seed=seed),
    ),
    "the same, float32": (
        True,
        lambda seed: settling_run(
            "contraction", rate=uniform(seed, 2.1, 10) / WINDOW, seed=seed, dtype="float32"
        ),
    ),
    "contraction with noise 1e-3": (
        True,
        lambda seed: settling_run("contraction", rate=uniform(seed, 2.1, 10) / WINDOW, seed=seed, noise=1e-3),
    ),
    "drift, then contraction from 600": (True, late_contraction),
    "Ornstein-Uhlenbeck, rate 0.02": (
        True,
        lambda seed: settling_run("ornstein-uhlenbeck", rate=0.02, seed=seed),
    ),
    "drift": (False, lambda seed: settling_run("drift", seed=seed)),
    "drift, float32": (False, lambda seed: settling_run("drift", seed=seed, dtype="float32")),
    "random walk": (False, lambda seed: settling_run("walk", seed=seed)),
    "random walk with drift": (False, noisy_drift),
    "decay (t + t0)^-1/2": (False, lambda seed: settling_run("power", seed=seed)),
    "log (t + t0)": (False, lambda seed: settling_run("log", seed=seed)),
    "oscillation": (False, lambda seed: settling_run("oscillation", rate=0.02, seed=seed)),
    "growth": (False, lambda seed: settling_run("growth", rate=0.005, seed=seed)),
}


def judge(make: Callable[[int], xr.Dataset], seed: int) -> list[float]:
    """Give both verdicts on one run, and the entry with its interval."""
    basin = koopscope.find_basin(make(seed)).isel(group=0)
    entry = [float(basin[name]) for name in ("entry_step", "entry_low", "entry_high")]
    return [float(np.isfinite(entry[0])), float(basin["on_unit_circle"][-1]), *entry]


def main() -> None:
    """Print a line a kind: the shares called by `find_basin` and by the raw indicator, and the entry."""
    asked = options(__doc__, "0:200").parse_args()
    kept, seeds = Kept(asked.keep, asked.seconds), seeds_of(asked.seeds)
    print(f"window {WINDOW} of 1500 steps")
    print(f"{'kind':34} {'settles':>8} {'runs':>5} {'called':>7} {'circle':>7} {'entry':>6} {'interval':>14}")
    for name, (settles, make) in KINDS.items():
        if asked.only not in name:
            continue
        found = np.array(kept.outcomes(name, seeds, lambda seed, make=make: judge(make, seed)))
        if not found.size:
            continue
        called, raw = found[:, 0].mean(), found[:, 1].mean()
        entry, interval = "-", "-"
        if called:
            ends = np.nanmedian(found[:, 2:], axis=0)
            entry, interval = f"{ends[0]:.0f}", f"{ends[1]:.0f} to {ends[2]:.0f}"
        print(
            f"{name:34} {'yes' if settles else 'no':>8} {len(found):5} {called:7.3f} {raw:7.3f} {entry:>6} "
            f"{interval:>14}",
            flush=True,
        )
    print(f"{kept.missing} runs missing")


if __name__ == "__main__":
    main()
