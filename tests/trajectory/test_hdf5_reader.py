import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import xarray as xr

from koopscope.errors import StepError, TrajectoryError
from koopscope.trajectory import metric_names, open_trajectory, tensor_names

ROWS = 6


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


def weights():
    return np.random.default_rng(0).normal(size=(ROWS, 3, 5)).astype(np.float32)


def write(path, **others):
    datasets = {"fc1/weight": weights(), "fc1/bias": np.zeros((ROWS, 3), np.float32), **others}
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


def test_read_hdf5__nested_groups_steps_and_metrics(path):
    write(path, step=np.arange(0, 60, 10), loss=np.linspace(1, 0, ROWS))
    trajectory = open_trajectory(path)
    assert tensor_names(trajectory) == ["fc1.weight", "fc1.bias"]
    assert metric_names(trajectory) == ["loss"]
    assert trajectory["step"].values.tolist() == [0, 10, 20, 30, 40, 50]
    assert trajectory["fc1.weight"].attrs["source_name"] == "fc1/weight"
    assert trajectory["fc1.weight"].attrs["output_axes"] == [0]
    assert trajectory.attrs["format"] == "hdf5"
    assert trajectory.attrs["layout_evidence"] == "bias lengths: the kernel of fc1 is (out, in)"
    np.testing.assert_array_equal(trajectory["fc1.weight"].values, weights())
    np.testing.assert_array_equal(
        trajectory["fc1.weight"][::-2, [2, 0], 1].values, weights()[::-2, [2, 0], 1]
    )


@pytest.mark.parametrize("name", ["steps", "iteration"])
def test_read_hdf5__other_names_for_steps_and_floats(path, name):
    write(path, **{name: np.arange(ROWS) * 2.0})
    trajectory = open_trajectory(path)
    assert trajectory["step"].values.tolist() == [0, 2, 4, 6, 8, 10]
    assert trajectory["step"].dtype == np.int64
    assert name not in trajectory


def test_read_hdf5__without_steps_rows_are_numbered(path):
    write(path)
    trajectory = open_trajectory(path)
    assert trajectory["step"].values.tolist() == list(range(ROWS))
    assert "numbered from 0" in trajectory.attrs["layout_evidence"]


def test_read_hdf5__layers_in_natural_order(path):
    square = np.zeros((ROWS, 4, 4))
    write(path, **{"fc10/weight": square, "fc2/weight": square})
    assert tensor_names(open_trajectory(path)) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc10.weight"]


def test_read_hdf5__layout_attr_of_the_file_declares(path):
    write(path, **{"fc1/weight": np.zeros((ROWS, 3, 3))})
    assert open_trajectory(path).attrs["layout"] == "unknown"
    with h5py.File(path, "a") as file:
        file.attrs["layout"] = "keras"
    assert open_trajectory(path)["fc1.weight"].attrs["output_axes"] == [1]
    assert open_trajectory(path, layout="torch")["fc1.weight"].attrs["output_axes"] == [0]


def test_read_hdf5__big_endian_values_become_native(path):
    write(path, **{"fc1/weight": weights().astype(">f4")})
    found = open_trajectory(path)["fc1.weight"]
    assert found.dtype == np.dtype(np.float32)
    assert found.values.dtype.isnative
    np.testing.assert_array_equal(found.values, weights())


def test_read_hdf5__file_is_free_after_opening(path):
    write(path)
    trajectory = open_trajectory(path)
    with h5py.File(path, "a") as file:
        file.attrs["note"] = "still writable"
    assert trajectory["fc1.weight"].shape == (ROWS, 3, 5)


def test_read_hdf5__running_statistics_are_left_out(path):
    write(path, **{"bn/running_mean": np.zeros((ROWS, 2)), "bn/num_batches_tracked": np.arange(ROWS)})
    assert list(open_trajectory(path).data_vars) == ["fc1.weight", "fc1.bias"]


def test_read_hdf5__tied_and_looping_links_count_once(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["head"] = file["fc1"]
        file["fc1/self"] = file["/"]
        file["soft"] = h5py.SoftLink("/fc1/weight")
        file["nowhere"] = h5py.SoftLink("/does/not/exist")
    assert len(tensor_names(open_trajectory(path))) == 2


@pytest.mark.parametrize(
    ("others", "error", "words"),
    [
        ({"fc2/bias": np.zeros((4, 2))}, TrajectoryError, r"'fc2/bias' has 4 rows where 'fc1/bias' has 6"),
        ({"loss": np.zeros(4)}, TrajectoryError, "exclude='loss'"),
        ({"step": np.arange(4)}, TrajectoryError, "'step' has 4"),
        ({"note": "hello"}, TrajectoryError, "expected floating-point values, found object"),
        ({"labels": np.zeros((ROWS, 2), int)}, TrajectoryError, "found int64"),
        ({"rate": 0.1}, TrajectoryError, "found a single value"),
        ({"x": np.zeros((ROWS,) + (1,) * 8)}, TrajectoryError, "at most 8 dimensions"),
        ({"step": np.arange(ROWS) / 2}, StepError, "whole numbers"),
        ({"step": np.arange(ROWS, dtype=np.uint64) + 2**63}, StepError, r"below 2\^63"),
        ({"step": np.arange(ROWS)[::-1]}, StepError, "strictly increasing"),
        ({"n" * 300: np.zeros((ROWS, 2))}, TrajectoryError, "at most 200 characters"),
    ],
)
def test_read_hdf5__wrong_datasets(path, others, error, words):
    write(path, **others)
    with pytest.raises(error, match=words):
        open_trajectory(path)


def test_read_hdf5__what_is_wrong_can_be_left_out(path):
    write(path, note="hello", labels=np.zeros((ROWS, 2), int))
    assert len(open_trajectory(path, exclude=["note", "labels"]).data_vars) == 2


def test_read_hdf5__nothing_but_series(path):
    with h5py.File(path, "w") as file:
        file["loss"] = np.zeros(4)
    with pytest.raises(TrajectoryError, match=r"at least one dataset of weights.*\['loss'\]"):
        open_trajectory(path)


def test_read_hdf5__external_link(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["fc2"] = h5py.ExternalLink("elsewhere.h5", "/fc2")
    with pytest.raises(TrajectoryError, match="'fc2' is a link to another file"):
        open_trajectory(path)


def test_read_hdf5__values_in_other_files(path, tmp_path):
    write(path)
    with h5py.File(path, "a") as file:
        external = [(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("fc2/bias", (ROWS, 2), "f4", external=external)
    with pytest.raises(TrajectoryError, match="lie in other files"):
        open_trajectory(path)
    with h5py.File(path, "a") as file:
        del file["fc2/bias"]
        virtual = h5py.VirtualLayout((ROWS, 2), "f4")
        virtual[:] = h5py.VirtualSource("elsewhere.h5", "data", (ROWS, 2))
        file.create_virtual_dataset("fc2/bias", virtual)
    with pytest.raises(TrajectoryError, match="lie in other files"):
        open_trajectory(path)


def test_read_hdf5__chunks_too_large(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("a/bias", (ROWS, 10**9), "f4", chunks=(1, 10**8))
    with pytest.raises(TrajectoryError, match="chunks of at most"):
        open_trajectory(path)


def test_read_hdf5__too_many_rows(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("a/bias", (10**12, 2), "f4", chunks=(1000, 2))
        file.create_dataset("loss", (10**12,), "f4", chunks=(1000,))
    with pytest.raises(TrajectoryError, match="never written"):
        open_trajectory(path)


def test_read_hdf5__truncated_file(path):
    write(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrajectoryError, match="HDF5 cannot read it"):
        open_trajectory(path)


def test_read_hdf5__file_gone_after_opening(path):
    write(path)
    trajectory = open_trajectory(path)
    path.unlink()
    with pytest.raises(TrajectoryError, match="cannot be read any more"):
        trajectory["fc1.weight"].load()


def test_read_hdf5__tied_datasets_are_named(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["head/weight"] = file["fc1/weight"]
    assert open_trajectory(path).attrs["tied"] == {"head.weight": "fc1.weight"}


def test_read_hdf5__attrs_of_datasets_declare_their_axes(path):
    write(path, **{"up/weight": np.ones((ROWS, 4, 4, 2, 2))})
    with h5py.File(path, "a") as file:
        file["up/weight"].attrs.update({"role": "kernel", "output_axes": [1], "input_axes": 0, "layer": "up"})
    found = open_trajectory(path)["up.weight"].attrs
    assert (found["output_axes"], found["input_axes"]) == ([1], [0])
    with h5py.File(path, "a") as file:
        file["up/weight"].attrs["output_axes"] = [7]
    with pytest.raises(TrajectoryError, match="attrs of a dataset do not fit"):
        open_trajectory(path)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_read_hdf5__netcdf(path, engine):
    pytest.importorskip(engine if engine == "h5netcdf" else "netCDF4", reason=f"{engine} is not installed")
    values = weights()
    dataset = xr.Dataset(
        {"fc1.weight": (("step", "out", "in"), values), "fc1.bias": (("step", "out"), values[:, :, 0])},
        coords={"step": [0, 1, 2, 4, 8, 16], "out": [1, 2, 3], "epoch": ("step", np.arange(6.0))},
    )
    dataset["loss"] = ("step", np.arange(6.0))
    dataset.to_netcdf(path, engine=engine)
    trajectory = open_trajectory(path)
    assert trajectory["step"].values.tolist() == [0, 1, 2, 4, 8, 16]
    assert tensor_names(trajectory) == ["fc1.weight", "fc1.bias"]
    assert set(metric_names(trajectory)) == {"loss", "epoch"}
    np.testing.assert_array_equal(trajectory["fc1.weight"].values, values)


def test_read_hdf5__packed_netcdf_values(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["fc1/weight"].attrs["scale_factor"] = 0.5
    with pytest.raises(TrajectoryError, match="scale_factor"):
        open_trajectory(path)


WRITER = """
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    options = dict(maxshape=(None, 3, 5), chunks=(4, 3, 5), compression="gzip")
    weight = file.create_dataset("fc1/weight", (0, 3, 5), "f4", **options)
    step = file.create_dataset("step", (0,), "i8", maxshape=(None,), chunks=(64,))
    file.swmr_mode = True
    for row in range(10**6):
        weight.resize(row + 1, 0)
        weight[row] = row
        weight.flush()
        step.resize(row + 1, 0)
        step[row] = 10 * row
        step.flush()
        if row == 20:
            print("ready", flush=True)
"""


def test_read_hdf5__while_it_is_written_in_swmr_mode(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "ready\n"
        lengths = []
        for _ in range(5):
            trajectory = open_trajectory(path)
            rows = trajectory.sizes["step"]
            lengths.append(rows)
            assert trajectory["step"].values.tolist() == list(range(0, 10 * rows, 10))
            np.testing.assert_array_equal(trajectory["fc1.weight"].values[:, 2, 4], np.arange(rows))
            time.sleep(0.05)
        assert lengths[-1] > lengths[0] >= 20
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_read_hdf5__rows_beyond_the_counter_are_not_there(path):
    write(path, step=np.arange(ROWS), n_committed=np.int64(4))
    trajectory = open_trajectory(path)
    assert trajectory.sizes["step"] == 4
    assert trajectory["fc1.weight"].values.shape == (4, 3, 5)
