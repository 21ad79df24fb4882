"""kill -9 at random moments: what append() returned from is there, nothing else is, and it always opens."""

import signal

import numpy as np
import pytest
from crashing import Recorders, acknowledged_steps, assert_kept

ROWS = 150


@pytest.fixture(scope="module")
def recorders():
    server = Recorders()
    yield server
    server.close()


def kill_often(recorders, folder, kills, seed):
    """Kill until it was done so often; every few kills a new recording begins. Returns what was seen."""
    random = np.random.default_rng(seed)
    done = ended = runs = 0
    while done < kills:
        runs += 1
        path, acknowledged = folder / f"run{runs}.zarr", folder / f"run{runs}.acks"
        block = int(random.choice([1, 3, 8, 16]))
        for _ in range(int(random.integers(2, 7))):
            code = recorders.run(
                kill_after=int(random.integers(0, ROWS)),
                delay=float(random.exponential(0.01)),
                path=str(path),
                acknowledged=str(acknowledged),
                seed=int(random.integers(2**31)),
                rows=ROWS,
                block=block,
            )
            assert code in (0, -signal.SIGKILL), code
            done += code != 0
            ended += code == 0
            steps = assert_kept(path, acknowledged_steps(acknowledged))
            # The row under way was recorded, if it is there: from now on the model holds it too.
            np.array(steps, "<i8").tofile(acknowledged)
    return {"kills": done, "ended by themselves": ended, "recordings": runs}


def test_writer__twenty_kills(recorders, tmp_path):
    assert kill_often(recorders, tmp_path, kills=20, seed=1)["kills"] >= 20


@pytest.mark.long
def test_writer__five_hundred_kills(recorders, tmp_path):
    assert kill_often(recorders, tmp_path, kills=500, seed=2)["kills"] >= 500
