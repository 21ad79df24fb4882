"""Opens one input in a process of its own and prints what it cost: python hostile_run.py PATH NAME-OR-EMPTY.

With a name, that tensor is read after opening. Prints "error code seconds extra-MiB".
"""

from __future__ import annotations

import resource
import sys
import time


def main(path, name):
    import koopscope
    from koopscope.errors import KoopscopeError
    from koopscope.trajectory import checkpoints, hdf5_reader, remote, zarr_reader

    assert all((checkpoints, hdf5_reader, remote, zarr_reader))  # loaded, so that only the input counts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    try:
        trajectory = koopscope.open_trajectory(path)
        if name:
            trajectory[name].load()
        code = "opened"
    except KoopscopeError as error:
        code = error.code
        sys.stderr.write(str(error))
    seconds = time.perf_counter() - start
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sys.stdout.write(f"{code} {seconds:.3f} {extra:.1f}\n")


if __name__ == "__main__":
    resource.setrlimit(
        resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30)
    )  # what goes wrong must not take the machine
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    main(*sys.argv[1:])
