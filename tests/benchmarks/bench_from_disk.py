"""Recordings larger than memory: python tests/benchmarks/bench_from_disk.py FOLDER [GIGABYTES] [PART].

Writes a recording of 4 GB (needs 3 GB of disk), reads and decodes it, fits it node by node, and removes it;
or measures on one that is there, where FOLDER is that. PART of a line's name leaves out the others. Every
measurement is a process of its own, so that its peak memory is its own; all are done in turn, five times
over, and medians given, with the least and the most of the seconds. A fit of 2 000 rows comes before, which
loads modules and kernels (tests/benchmarks/startup.py measures those); workers are started and have done
theirs. Processor time and memory are those of the process that asks, without its workers.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from koopscope import TrajectoryWriter

WIDTH, ROWS = 10, 10_000
ROUNDS = 5

# Blocks that the reader decodes into the memory of those before: larger ones take a quarter longer.
READ = """
for start in range(0, run.sizes["step"], 128):
    run["fc.weight"].variable[start : start + 128].values
    run["fc.bias"].variable[start : start + 128].values
"""
ONLY, STRIDED = "reading and decoding only", "fit, default lag"
JOBS = {
    ONLY: READ,
    STRIDED: 'koopscope.fit(run, "node", t2=last)',
    "fit, every pair at lag 1": 'koopscope.fit(run, "node", t2=last, lag=1, pairs="every")',
    f"{STRIDED}, two dask workers": 'koopscope.fit(run, "node", t2=last, scheduler=address)',
}
# Made beforehand, so that the first fit of them has been done with some rows.
CLUSTER = """
import distributed
settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
cluster = distributed.LocalCluster(**settings)
address = cluster.scheduler_address
"""
FRAME = """
import json, resource, sys, time
import numpy, koopscope
from koopscope import collect, fit
if __name__ == "__main__":
    run = koopscope.open_trajectory(sys.argv[1])
    last = int(run["step"][-1])
{before}
    begin, cpu = time.perf_counter(), time.process_time()
{job}
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps([seconds, time.process_time() - cpu, peak]))
"""


def write(path, gigabytes):
    """Record a layer whose weights decay to where they end."""
    random = np.random.default_rng(0)
    units = round(gigabytes * 1e9 / 4 / ROWS / (WIDTH + 1))
    weight = (random.normal(size=(units, WIDTH)) * 0.05).astype("float32")
    speed = (random.normal(size=(units, WIDTH)) * 1e-4).astype("float32")
    rates = (random.uniform(0.2, 3, size=(units, 1)) / ROWS).astype("float32")
    bias = np.zeros(units, "float32")
    with TrajectoryWriter(path, layout="torch") as writer:
        for step in range(ROWS):
            decay = np.exp(-rates * step)
            weight, bias = weight + speed * decay, bias + np.float32(1e-4) * decay[:, 0]
            writer.append(step, {"fc.weight": weight, "fc.bias": bias})


def _indented(lines):
    return "\n".join("    " + line for line in lines.strip().splitlines())


def measure(job, path, folder):
    """Run one job in a process of its own."""
    script = folder / "job.py"
    before = CLUSTER if "address" in job else ""
    if "fit(" in job:
        before += job.replace("last", 'int(run["step"][2000])')
    script.write_text(FRAME.format(job=_indented(job), before=_indented(before or "pass")))
    found = subprocess.run([sys.executable, script, path], check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def tell(name, rounds):
    """Print a line: medians, and how many times as long as reading, or for workers as the threads."""
    columns = list(zip(*(found[name] for found in rounds), strict=True))
    seconds, cpu, peak = map(statistics.median, columns)
    reference = STRIDED if "workers" in name else ONLY
    ratio = seconds / statistics.median(found[reference][0] for found in rounds)
    against = "" if name == reference else f"{ratio:.2f} x {reference}, "
    print(
        f"{name:36} {seconds:6.2f} s ({min(columns[0]):.2f} to {max(columns[0]):.2f}), "
        f"{against}processor {cpu:5.2f} s, peak {peak:.2f} GB"
    )


def main():
    """Run all, in a folder that is removed afterwards."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    folder = Path(tempfile.mkdtemp(dir=None if place is None or (place / "zarr.json").exists() else place))
    try:
        path = folder / "run.zarr"
        if place is not None and (place / "zarr.json").exists():
            path = place
        else:
            write(path, float(sys.argv[2]) if len(sys.argv) > 2 else 4.0)
        part = sys.argv[3] if len(sys.argv) > 3 else ""
        jobs = {name: job for name, job in JOBS.items() if part in name or name in (ONLY, STRIDED)}
        rounds = [{name: measure(job, path, folder) for name, job in jobs.items()} for _ in range(ROUNDS)]
        for name in jobs:
            tell(name, rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
