import pickle
import zipfile

import numpy as np
import pytest
import zarr

from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory import TrajectoryWriter, open_trajectory, tensor_names


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        writer.append(
            0, {f"fc{k}.{part}": np.zeros(3) for k in (1, 2) for part in ("weight", "bias")}, loss=1
        )
    return path


def test_open_trajectory__text_or_path(store):
    assert open_trajectory(store).identical(open_trajectory(str(store)))


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (None, None, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]),
        ("fc1*", None, ["fc1.weight", "fc1.bias"]),
        (["fc1*", "*.bias"], None, ["fc1.weight", "fc1.bias", "fc2.bias"]),
        (None, "*.bias", ["fc1.weight", "fc2.weight"]),
        ("fc1*", ["*.bias"], ["fc1.weight"]),
    ],
)
def test_open_trajectory__include_and_exclude(store, include, exclude, names):
    trajectory = open_trajectory(store, include=include, exclude=exclude)
    assert tensor_names(trajectory) == names
    assert "loss" in trajectory


def test_open_trajectory__nothing_left(store):
    with pytest.raises(UsageError, match="no tensor is left by include='conv"):
        open_trajectory(store, include="conv*")


def test_open_trajectory__arguments(store):
    with pytest.raises(UsageError, match="layout: expected one of"):
        open_trajectory(store, layout="tf")
    with pytest.raises(UsageError, match="expected a glob"):
        open_trajectory(store, include=[1])


def test_open_trajectory__missing_path(tmp_path):
    with pytest.raises(TrajectoryError, match="found nothing; is the path right"):
        open_trajectory(tmp_path / "run.zarr")


def test_open_trajectory__zarr_group_of_another_kind(tmp_path):
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(TrajectoryError, match=r"not a recording made by koopscope\.TrajectoryWriter"):
        open_trajectory(tmp_path / "other.zarr")


def test_open_trajectory__directories(tmp_path):
    with pytest.raises(TrajectoryError, match="found an empty directory"):
        open_trajectory(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrajectoryError, match=r"a directory with notes\.txt"):
        open_trajectory(tmp_path)
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(TrajectoryError, match="Zarr store of version 2"):
        open_trajectory(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (pickle.dumps({"a": 1}), "a pickle, which koopscope never loads"),
        (b"step,loss\n", "a file that begins with"),
    ],
)
def test_open_trajectory__other_files(tmp_path, content, words):
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(TrajectoryError, match=words):
        open_trajectory(tmp_path / "run")


def test_open_trajectory__archives_and_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "run.pt", "w") as archive:
        archive.writestr("data", "")
    with pytest.raises(TrajectoryError, match="a ZIP archive"):
        open_trajectory(tmp_path / "run.pt")
    np.save(tmp_path / "run.npy", np.zeros(3))
    with pytest.raises(TrajectoryError, match="a single NumPy array"):
        open_trajectory(tmp_path / "run.npy")
