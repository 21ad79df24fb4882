"""Opens inputs, each in a process of its own, and tells what each cost.

Run as a script it loads koopscope once and reads one JSON object a line: ``path``, and the ``name`` of a
tensor to read after opening, or nothing. A forked child opens the input and prints a JSON object: error code,
its words, processor seconds of all threads, extra MiB. The exit code of the child is the next line. On a
machine that does nothing else the processor seconds are those one waits.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path


def peak():
    """Give the most memory this process has used, in KiB; ru_maxrss would count that of the parent too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def opened(path, name):
    """Open an input, and give what that was like."""
    import koopscope
    from koopscope.errors import KoopscopeError

    code, words = "opened", ""
    before = peak()
    start = time.process_time()
    try:
        trajectory = koopscope.open_trajectory(path)
        if name:
            trajectory[name].load()
    except KoopscopeError as error:
        code, words = error.code, str(error)
    seconds = time.process_time() - start
    return {"code": code, "words": words, "seconds": seconds, "mebibytes": (peak() - before) / 1024}


def serve():
    from koopscope.trajectory import checkpoints, hdf5_reader, remote, zarr_reader

    assert all((checkpoints, hdf5_reader, remote, zarr_reader))  # loaded, so that only the input counts
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(120)  # ends what waits for ever, as the limits below end what takes too much
                print(json.dumps(opened(**order)), flush=True)  # noqa: T201
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    resource.setrlimit(
        resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30)
    )  # what goes wrong must not take the machine
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    serve()
