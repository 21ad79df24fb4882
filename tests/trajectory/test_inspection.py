import numpy as np
import pytest

from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory import TrajectoryWriter, from_arrays, inspect


def recording(steps):
    rows = len(steps)
    arrays = {
        "fc.weight": np.zeros((rows, 3, 5), np.float32),
        "fc.bias": np.zeros((rows, 3)),
        "x": np.zeros(rows),
    }
    return from_arrays(steps, arrays, {"loss": np.zeros(rows)})


def test_inspect__table():
    table = inspect(recording([10, 20, 30]))
    assert table["tensor"].values.tolist() == ["fc.weight", "fc.bias", "x"]
    assert table["shape"].values.tolist() == ["3x5", "3", "scalar"]
    assert table["dtype"].values.tolist() == ["float32", "float64", "float64"]
    assert table["size"].values.tolist() == [15, 3, 1]
    assert table["layer"].values.tolist() == ["fc", "fc", "x"]
    assert table["role"].values.tolist() == ["kernel", "bias", "other"]
    assert table["units"].values.tolist() == [3, 3, 0]
    expected = {
        "steps": 3,
        "first_step": 10,
        "last_step": 30,
        "spacing": 10,
        "weights": 19,
        "bytes": 3 * (15 * 4 + 4 * 8),
        "metrics": ["loss"],
        "layout": "torch",
        "format": "memory",
    }
    assert expected.items() <= table.attrs.items()


@pytest.mark.parametrize(
    ("steps", "stretch"),
    [
        ([0, 1, 2, 10, 20, 30, 40], "steps 10 to 40 every 10 (4 rows)"),
        ([0, 1, 2, 3, 10], "steps 0 to 3 every 1 (4 rows)"),
        ([0, 1, 5], "steps 0 to 1 every 1 (2 rows)"),
    ],
)
def test_inspect__uneven_steps(steps, stretch):
    attrs = inspect(recording(steps)).attrs
    assert attrs["spacing"] == 0
    assert attrs["longest_even_stretch"] == stretch


def test_inspect__one_row():
    assert inspect(recording([7])).attrs["spacing"] == 0


def test_inspect__path_and_layout(tmp_path):
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, {"a.weight": np.zeros((2, 4))})
    assert inspect(tmp_path / "run.zarr")["units"].item() == 2
    assert inspect(tmp_path / "run.zarr", layout="keras")["units"].item() == 4


def test_inspect__wrong_arguments():
    with pytest.raises(UsageError, match="only with a path"):
        inspect(recording([0, 1]), layout="torch")
    with pytest.raises(TrajectoryError, match="koopscope_kind"):
        inspect(recording([0, 1]).drop_attrs())
