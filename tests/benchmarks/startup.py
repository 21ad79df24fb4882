"""What a short command costs beyond its imports: python tests/benchmarks/startup.py [ROUNDS].

Runs the installed ``koopscope fit`` on the shipped recording, and ``python -c "import ..."`` of the packages
it uses, as whole processes in turn. The first run has an empty cache of compiled kernels.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = (
    "numpy, xarray, zarr, h5py, numba, matplotlib.figure, scipy.linalg, threadpoolctl, rich.table, cyclopts"
)
SAMPLE = Path(__file__).parents[2] / "data" / "oscillator_adadelta.zarr"


def seconds(command, folder, environment):
    """Time a whole process, from its start to its exit."""
    begin = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    return time.perf_counter() - begin, done.stderr.decode()


def main(rounds):
    script = shutil.which("koopscope", path=str(Path(sys.executable).parent))
    if script is None:
        raise SystemExit("koopscope is not installed beside this Python: python -m pip install .")
    fit = [script, "fit", str(SAMPLE), "--partition", "node"]
    imports = [sys.executable, "-c", f"import {PACKAGES}"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path(folder) / "kernels")}
        first, said = seconds(fit, folder, environment)
        notice = next((line for line in said.splitlines() if "compil" in line), "nothing")
        print(f"first run: {first:.2f} s, says {notice!r}")
        pairs = []
        for _ in range(rounds):
            pairs.append((seconds(fit, folder, environment)[0], seconds(imports, folder, environment)[0]))
    whole, imported = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"medians: fit {whole:.2f} s, imports {imported:.2f} s, {whole - imported:.2f} s beyond")
    beyond = [fit_seconds - import_seconds for fit_seconds, import_seconds in pairs]
    print(f"pair by pair: median {statistics.median(beyond):.2f} s, worst {max(beyond):.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
