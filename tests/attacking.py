"""Inputs made to harm, opened in a process of their own that is measured."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

GIB = 2**30
SECONDS, MIB = 5.0, 300.0
REPORT = os.environ.get("KOOPSCOPE_HOSTILE_REPORT")
RUN = Path(__file__).with_name("trajectory") / "hostile_run.py"
ROOT = Path(__file__).resolve().parents[1]


def attacked(*paths, name="", seconds=SECONDS):
    """Open inputs in a process of its own; give the words of their errors once the costs are checked."""
    done = subprocess.run(
        [sys.executable, str(RUN), name, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        if REPORT:
            with Path(REPORT).open("a") as report:
                report.write(f"{os.environ['PYTEST_CURRENT_TEST']} {path} {line}\n")
        code, took, extra = line.split()
        assert code in ("not-a-trajectory", "uneven-steps"), (path, code, done.stderr)
        assert float(took) < seconds, (path, took)
        assert float(extra) < MIB, (path, extra)
    return done.stderr


def deflated(size, byte=b"\0", *, wbits=zlib.MAX_WBITS):
    machine = zlib.compressobj(9, wbits=wbits)
    piece = byte * 2**20
    return b"".join([*(machine.compress(piece) for _ in range(size // 2**20)), machine.flush()])
