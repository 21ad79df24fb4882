"""Inputs made to harm, each opened in a process of its own that is measured."""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

MOST_SECONDS, MOST_MEBIBYTES = 5.0, 300.0
REPORT = os.environ.get("KOOPSCOPE_HOSTILE_REPORT")
RUN = Path(__file__).with_name("trajectory") / "hostile_run.py"
ROOT = Path(__file__).resolve().parents[1]


@cache
def server():
    """Start what forks a process for each input: to load koopscope anew takes longer than to open most."""
    running = subprocess.Popen(
        [sys.executable, str(RUN)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(running.communicate)
    return running


def attacked(*paths, name="", seconds=MOST_SECONDS):
    """Open inputs, each in a process of its own; give the words of their errors once costs are checked."""
    return "".join(attack(path, name, seconds) for path in paths)


def attack(path, name, seconds):
    running = server()
    running.stdin.write(json.dumps({"path": str(path), "name": name}) + "\n")
    running.stdin.flush()
    answer = json.loads(running.stdout.readline())
    assert isinstance(answer, dict), f"{path}: a process that ended with {answer}"
    assert json.loads(running.stdout.readline()) == 0
    if REPORT:
        with Path(REPORT).open("a") as report:
            report.write(f"{os.environ['PYTEST_CURRENT_TEST']} {path} {answer}\n")
    assert answer["code"] in ("not-a-trajectory", "uneven-steps"), (path, answer)
    assert answer["seconds"] < seconds, (path, answer)
    assert answer["mebibytes"] < MOST_MEBIBYTES, (path, answer)
    return answer["words"]
