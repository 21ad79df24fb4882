"""Recorders that are killed: a server that forks them, to save them the imports, and the model they obey.

Run as a script it reads one JSON object a line: what to record. Each is done by a forked child, whose
process id is printed, and at last its exit code; the child acknowledges every row in a file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import suppress

import numpy as np

# The large one is written without a copy.
SHAPES = {
    "fc1.weight": (7, 5),
    "fc1.bias": (7,),
    "large.weight": (4, 4200),
    "wide.weight": (3, 400),
    "scale": (),
}


def tensors(step):
    random = np.random.default_rng(step)
    return {name: random.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


def loss(step):
    return 1.0 / (1 + step)


def record(path, acknowledged, *, seed, rows, block):
    """Resume or begin, append rows, commit and close at random."""
    from koopscope import TrajectoryWriter

    random = np.random.default_rng(seed)
    writer = TrajectoryWriter(path, layout="torch", block_steps=block, resume=True)
    step = -1 if writer.last_step is None else writer.last_step
    acks = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(rows):
        step += int(random.integers(1, 4))
        writer.append(step, tensors(step), loss=loss(step))
        os.write(acks, int(step).to_bytes(8, "little"))
        if random.random() < 0.02:
            writer.commit()
    if random.random() < 0.5:
        writer.close()


def acknowledged_steps(file):
    return np.fromfile(file, "<i8").tolist() if os.path.exists(file) else []


def assert_kept(path, acknowledged):
    """Hold a store against the model: all acknowledged rows, and at most the one under way, bit for bit."""
    from koopscope import open_trajectory

    if not acknowledged and not os.path.exists(path):
        return []
    trajectory = open_trajectory(path)
    steps = trajectory["step"].values.tolist()
    assert steps[: len(acknowledged)] == acknowledged
    assert len(steps) <= len(acknowledged) + 1
    found = {name: trajectory[name].values for name in SHAPES}
    for row, step in enumerate(steps):
        for name, expected in tensors(step).items():
            assert found[name][row].tobytes() == expected.tobytes(), (name, step)
    np.testing.assert_array_equal(trajectory["loss"].values, [loss(step) for step in steps])
    return steps


def serve():
    import koopscope.trajectory.writer  # noqa: F401 - loaded once, for all children

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                record(**order)
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(child, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


class Recorders:
    """The server, seen from a test."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, kill_after, delay, **order):
        """Have rows recorded, and kill a moment after so many are acknowledged. Returns the exit code."""
        before = len(acknowledged_steps(order["acknowledged"]))
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        child = int(self._server.stdout.readline())
        ended = []
        waiter = threading.Thread(target=lambda: ended.append(int(self._server.stdout.readline())))
        waiter.start()
        while waiter.is_alive() and len(acknowledged_steps(order["acknowledged"])) < before + kill_after:
            waiter.join(0.0005)
        waiter.join(delay)
        if waiter.is_alive():
            with suppress(ProcessLookupError):  # it has ended by itself, this very moment
                os.kill(child, signal.SIGKILL)
        waiter.join()
        return ended[0]

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


if __name__ == "__main__":
    serve()
