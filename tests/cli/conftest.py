"""Small recordings on disk, and the shell run in this process or in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import koopscope
from koopscope.simulation import linear_run

LOSS = """
import numpy as np

FINAL = {final!r}
SIZE = {size}


def loss(params):
    print("a loss may print")
    return sum(np.sum((params[name] - np.array(FINAL[name])) ** 2) for name in FINAL) / SIZE


def other(params):
    return 123.0


NUMBER = 3
"""


@dataclass(frozen=True)
class Outcome:
    """What a run of the shell left."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as strict JSON."""

        def refuse(constant):
            raise ValueError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Record a linear run of two layers once, 401 steps, through the public writer."""
    path = tmp_path_factory.mktemp("recorded") / "run.zarr"
    run = linear_run(n_rows=401)
    columns = {str(name): run[name].to_numpy() for name in run.data_vars}
    losses = columns.pop("loss")
    with koopscope.TrajectoryWriter(path, layout="torch") as writer:
        for row, step in enumerate(run["step"].to_numpy().tolist()):
            writer.append(step, {name: values[row] for name, values in columns.items()}, loss=losses[row])
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder, and leave the import path as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def recording(here, recorded):
    """Put a recording into the working folder as run.zarr."""
    return Path(shutil.copytree(recorded, here / "run.zarr"))


@pytest.fixture
def loss_file(here, recording):
    """Write the loss that linear_run records as my_loss.py in the working folder."""
    run = linear_run(n_rows=401)
    final = {name: run[name].to_numpy()[-1].tolist() for name in run.data_vars if name != "loss"}
    size = sum(np.size(values) for values in final.values())
    (here / "my_loss.py").write_text(LOSS.format(final=final, size=size))
    return here / "my_loss.py"


@pytest.fixture
def blank_pictures(monkeypatch):
    """Write empty files for pictures: drawing takes longer than all the rest of a small fit."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).write_bytes(b""))


@pytest.fixture
def shell(capsys):
    """Run the shell in this process."""
    from koopscope_cli.main import main

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def process(here):
    """Run Python in a process of its own, with the same import path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def run(*words, **extra):
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=here,
            env={**environment, **extra},
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
