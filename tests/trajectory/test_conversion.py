import json

import numpy as np
import pytest
import zarr
from chunk_files import chunk_files

from koopscope.errors import OutputExistsError, TrajectoryError
from koopscope.trajectory import TensorLayout, TrajectoryWriter, convert, open_trajectory

ROWS = 130


def one_row_chunks(path, rows=ROWS):
    rng = np.random.default_rng(0)
    told = {"up.weight": TensorLayout((1,), (0,), role="kernel")}
    with TrajectoryWriter(path, layout="torch", tensors=told, block_steps=1) as writer:
        for step in range(rows):
            tensors = {"fc.weight": rng.normal(size=(4, 3)).astype("f4"), "fc.bias": rng.normal(size=4)}
            writer.append(3 * step, {**tensors, "up.weight": rng.normal(size=(2, 2, 3, 3))}, loss=step)


def test_convert__packs_one_row_chunks(tmp_path):
    one_row_chunks(tmp_path / "slow.zarr")
    assert convert(tmp_path / "slow.zarr", tmp_path / "fast.zarr") == tmp_path / "fast.zarr"
    slow, fast = open_trajectory(tmp_path / "slow.zarr"), open_trajectory(tmp_path / "fast.zarr")
    assert fast.drop_attrs(deep=False).identical(slow.drop_attrs(deep=False))
    assert fast["up.weight"].attrs["output_axes"] == [1]
    assert zarr.open_array(tmp_path / "fast.zarr" / "fc.weight", mode="r").chunks[0] >= 64
    assert len(list((tmp_path / "fast.zarr" / "fc.weight").rglob("*"))) < 12
    assert sorted(child.name for child in tmp_path.iterdir()) == ["fast.zarr", "slow.zarr"]


def test_convert__hdf5_with_nested_names(root, tmp_path):
    source = root / "data" / "oscillator_adam.h5"
    convert(source, tmp_path / "run.zarr")
    before, after = open_trajectory(source), open_trajectory(tmp_path / "run.zarr")
    assert after.equals(before)
    for name in before.data_vars:
        assert after[name].attrs == before[name].attrs
    metadata = json.loads((tmp_path / "run.zarr" / "zarr.json").read_bytes())
    assert metadata["attributes"]["framework"] == "converted from hdf5"


def test_convert__include(root, tmp_path):
    convert(root / "data" / "oscillator_adam.h5", tmp_path / "run.zarr", include="fc1*")
    assert all(name.startswith("fc1") or name == "loss" for name in open_trajectory(tmp_path / "run.zarr"))


def test_convert__overwrite(root, tmp_path):
    source, target = root / "data" / "oscillator_adam.h5", tmp_path / "run.zarr"
    one_row_chunks(target, rows=2)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        convert(source, target)
    convert(source, target, overwrite=True)
    assert open_trajectory(target).equals(open_trajectory(source))
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").touch()
    with pytest.raises(OutputExistsError, match="is no recording"):
        convert(source, other, overwrite=True)
    assert (other / "chapter.tex").exists()


def test_convert__in_place(tmp_path):
    path = tmp_path / "run.zarr"
    one_row_chunks(path)
    before = open_trajectory(path).load()
    convert(path, path, overwrite=True)
    assert open_trajectory(path).equals(before)
    assert [child.name for child in tmp_path.iterdir()] == ["run.zarr"]


def test_convert__a_damaged_source_leaves_nothing(tmp_path):
    one_row_chunks(tmp_path / "slow.zarr", rows=5)
    for chunk in chunk_files(tmp_path / "slow.zarr" / "fc.weight"):
        chunk.write_bytes(b"garbage")
    with pytest.raises(TrajectoryError, match="damaged"):
        convert(tmp_path / "slow.zarr", tmp_path / "fast.zarr")
    assert [child.name for child in tmp_path.iterdir()] == ["slow.zarr"]


def test_convert__bfloat16_keeps_its_name(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    with TrajectoryWriter(tmp_path / "a.zarr", layout="torch") as writer:
        writer.append(0, {"fc.weight": np.full((2, 3), 1.5, ml_dtypes.bfloat16)})
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert open_trajectory(tmp_path / "b.zarr")["fc.weight"].attrs["source_dtype"] == "bfloat16"
