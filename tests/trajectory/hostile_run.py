"""Opens inputs in a process of its own and prints what each cost: python hostile_run.py NAME-OR-EMPTY PATH...

With a name, that tensor is read after opening. Prints a line an input: error code, processor seconds of
all threads, extra MiB. On a machine that does nothing else they are the seconds one waits.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path


def peak():
    """Give the most memory this process has used, in KiB; ru_maxrss would count that of the parent too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def main(name, *paths):
    import koopscope
    from koopscope.errors import KoopscopeError
    from koopscope.trajectory import checkpoints, hdf5_reader, remote, zarr_reader

    assert all((checkpoints, hdf5_reader, remote, zarr_reader))  # loaded, so that only the input counts
    for path in paths:
        before = peak()
        start = time.process_time()
        try:
            trajectory = koopscope.open_trajectory(path)
            if name:
                trajectory[name].load()
            code = "opened"
        except KoopscopeError as error:
            code = error.code
            sys.stderr.write(f"{error}\n")
        seconds = time.process_time() - start
        sys.stdout.write(f"{code} {seconds:.3f} {(peak() - before) / 1024:.1f}\n")


if __name__ == "__main__":
    resource.setrlimit(
        resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30)
    )  # what goes wrong must not take the machine
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    main(*sys.argv[1:])
