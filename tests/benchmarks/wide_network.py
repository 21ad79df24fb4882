"""Memory of a network of two million weights: python tests/benchmarks/wide_network.py [FOLDER].

Records 110 rows (0.9 GB, in FOLDER), fits the network and the layers from the disk under two budgets,
forecasts 200 leads (3.2 GB in memory) and reads ten of them. Every line is a process of its own: seconds, and
the peak of its memory, from which what Python and its libraries take is subtracted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import koopscope

JOBS = {
    "network, --memory 1GB": 'fit(run, "network", t2=109, lag=1, memory="1GB")',
    "network, --memory 300MB": 'fit(run, "network", t2=109, lag=1, memory="300MB")',
    "layers, --memory 300MB": 'fit(run, "layer", t2=109, lag=1, memory="300MB")',
    "... and 200 leads": 'predict(fit(run, "network", t2=109, lag=1, memory="300MB"), np.arange(200))',
}
FRAME = """
import sys, time
import numpy as np
from koopscope import collect, fit, open_trajectory, predict, save
from koopscope.simulation import linear_run
fit(linear_run(), "network")
def peak():  # not ru_maxrss, which begins with that of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1e6
run = open_trajectory(sys.argv[1])
before, begin = peak(), time.perf_counter()
result = {job}
if result.attrs["koopscope_result"] == "forecast":
    for lead in range(0, 200, 20):
        result.isel(lead=lead).load()
print(f"{{time.perf_counter() - begin:6.2f}} s, peak {{peak() - before:.2f}} GB")
"""


def main():
    """Write the recording, run the jobs, and remove it."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        path, random = Path(folder) / "run.zarr", np.random.default_rng(0)
        layers = {f"fc{index}.weight": random.normal(size=(3, 700, 700)) for index in range(4)}
        layers = {name: values.astype("float32") for name, values in layers.items()}
        with koopscope.TrajectoryWriter(path, layout="torch") as writer:
            for step in range(110):
                decays = np.exp(-np.array([0.5, 2, 5], np.float32) * np.float32(step / 110))
                writer.append(step, {name: np.tensordot(decays, w, 1) for name, w in layers.items()})
        for name, job in JOBS.items():
            script = FRAME.format(job=job)
            found = subprocess.run(
                [sys.executable, "-c", script, path], check=True, capture_output=True, text=True
            )
            print(f"{name:28} {found.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
