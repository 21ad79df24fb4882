"""A forecast against the training it replaces: python tests/benchmarks/equal_steps.py RECORDINGS [COUNT].

RECORDINGS is a folder of oscillator networks that ``data/oscillator/train.py`` recorded. Each of the first
COUNT (5) is fitted on 10 000 steps and forecast 2 500 steps on; T_eq is the number of optimiser steps that
reach the forecast's loss. The time of so many steps of the training script, one network alone, is divided by
the time to fit and forecast: from memory, and from the disk with opening and reading included. Everything
runs on one core, in turns, medians of five; files are in the system's cache. Needs torch.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before libraries count the cores
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import statistics
import sys
import time
from pathlib import Path

import torch

import koopscope

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data" / "oscillator"))
from loss import loss
from train import train

WINDOW, LEAD, STEPS, ROUNDS = 10_000, 2_500, 500, 5
CALLS = 10  # of a fit and forecast in a round, as a step is one of many too
FITS = {
    "affine, network": {"partition": "network", "lag": 100},
    "affine, node": {"partition": "node", "lag": 100},
    "affine, network, 20 delays": {"partition": "network", "lag": 100, "delays": 20},
    "paper, node": {"partition": "node", "method": "paper"},
}


def seconds(work, calls):
    """Time a number of calls; give the mean of one."""
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begin) / calls


def optimiser_steps(path):
    """Make what takes one more step of the training of one network, as the recording's name says."""
    optimizer, _, seed = path.stem.rpartition("_seed")
    rate = {"adadelta": 0.1, "adagrad": 0.01, "adam": 1e-4}[optimizer]
    steps = train([int(seed)], optimizer=optimizer, lr=rate, decay=1e-5, steps=10**9)
    return lambda: next(steps)


def measure(path):
    """Give the time of a step, and for every fit T_eq, its time from memory and its time from the disk."""
    run = koopscope.open_trajectory(path)
    first = int(run["step"][0])
    window = {"t1": first, "t2": first + WINDOW}
    held = run.copy(deep=True).load()
    works, calls, t_eq = {"step": optimiser_steps(path)}, {"step": STEPS}, {}
    for name, settings in FITS.items():
        settings = {**settings, **window}
        found = koopscope.verify(koopscope.fit(run, **settings), run, LEAD, loss=loss)["loss"]
        t_eq[name] = float(found["t_eq"].item())
        works[name, "memory"] = lambda settings=settings: koopscope.predict(
            koopscope.fit(held, **settings), LEAD
        )
        works[name, "disk"] = lambda settings=settings: koopscope.predict(
            koopscope.fit(koopscope.open_trajectory(path), **settings), LEAD
        )
    for work in works.values():
        work()
    rounds = [
        {name: seconds(work, calls.get(name, CALLS)) for name, work in works.items()} for _ in range(ROUNDS)
    ]
    medians = {name: statistics.median(each[name] for each in rounds) for name in works}
    return medians, t_eq


def main():
    """Print medians over recordings."""
    torch.set_num_threads(1)
    paths = sorted(Path(sys.argv[1]).glob("*.zarr"))[: int(sys.argv[2]) if len(sys.argv) > 2 else 5]
    measured = [measure(path) for path in paths]

    def middle(of):
        return statistics.median(of(medians, t_eq) for medians, t_eq in measured)

    print(f"one step of the training script: {middle(lambda m, _: m['step']) * 1e6:.0f} us")
    for name in FITS:
        line = f"{name:28} T_eq {middle(lambda _, t, n=name: t[n]):5.0f}"
        for place in ("memory", "disk"):
            took = middle(lambda m, _, n=name, p=place: m[n, p])
            ratio = middle(lambda m, t, n=name, p=place: t[n] * m["step"] / m[n, p])
            line += f"   from {place} {took * 1e3:6.2f} ms, {ratio:4.0f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
