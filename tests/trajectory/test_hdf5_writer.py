import h5py
import numpy as np
import pytest
from crashing import loss, tensors

from koopscope.errors import OutputExistsError, StepError, TrajectoryError, UsageError
from koopscope.trajectory import open_trajectory
from koopscope.trajectory.hdf5_writer import Hdf5TrajectoryWriter


def test_hdf5_writer__round_trip(tmp_path):
    path = tmp_path / "run.h5"
    with Hdf5TrajectoryWriter(path, layout="torch", block_steps=4) as writer:
        for step in range(10):
            writer.append(step, tensors(step), loss=loss(step))
    trajectory = open_trajectory(path, exclude=["scale", "n_committed"])
    np.testing.assert_array_equal(
        trajectory["fc1.weight"].values, [tensors(i)["fc1.weight"] for i in range(10)]
    )
    assert trajectory["step"].values.tolist() == list(range(10))
    with h5py.File(path) as file:
        assert file["n_committed"][()] == 10


def test_hdf5_writer__is_read_while_it_is_written(tmp_path):
    path = tmp_path / "run.h5"
    writer = Hdf5TrajectoryWriter(path, layout="torch", block_steps=4)
    for step in range(10):
        writer.append(step, tensors(step), loss=loss(step))
        if step in (3, 9):
            with h5py.File(path, "r", swmr=True) as file:
                assert file["step"][:].tolist() == list(range(4 if step == 3 else 8))
                assert file["n_committed"][()] == (4 if step == 3 else 8)
    writer.close()


def test_hdf5_writer__refusals(tmp_path):
    path = tmp_path / "run.h5"
    writer = Hdf5TrajectoryWriter(path, layout="torch", block_steps=2)
    writer.append(3, tensors(0), loss=0.5)
    with pytest.raises(StepError, match="more than 3"):
        writer.append(3, tensors(0))
    with pytest.raises(TrajectoryError, match="missing"):
        writer.append(4, {})
    writer.close()
    writer.close()
    with pytest.raises(UsageError, match="closed"):
        writer.append(5, tensors(0))
    with pytest.raises(OutputExistsError):
        Hdf5TrajectoryWriter(path, layout="torch")
    with pytest.raises(UsageError, match="layout"):
        Hdf5TrajectoryWriter(tmp_path / "other.h5", layout="tf")
