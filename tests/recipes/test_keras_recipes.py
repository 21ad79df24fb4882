import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from koopscope.errors import UsageError
from koopscope.recipes import KerasCallback

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_callback__node_rows_are_those_of_the_model(tmp_path, backend):
    for needed in ("keras", backend):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install 'koopscope[frameworks]'")
    script = TESTS / "recipes" / "keras_training.py"
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    settings = {"KERAS_BACKEND": backend, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    settings["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # they take longer than they save
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run.zarr")],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{backend} agrees" in done.stdout


def test_keras_callback__arguments(tmp_path):
    with pytest.raises(UsageError, match="every"):
        KerasCallback(tmp_path / "run.zarr", every=0)
    callback = KerasCallback(tmp_path / "run.zarr")
    assert callback.on_epoch_end(3) is None
    with pytest.raises(AttributeError):
        callback.spam  # noqa: B018
