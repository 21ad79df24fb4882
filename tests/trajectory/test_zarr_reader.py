import json

import numpy as np
import pytest
import xarray as xr
import zarr
from chunk_files import chunk_files

from koopscope.errors import TrajectoryError
from koopscope.trajectory import TrajectoryWriter, inspect, open_trajectory

ROWS = 23


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch", block_steps=5) as writer:
        for step in range(ROWS):
            writer.append(10 * step, {"fc.weight": weight(step), "fc.bias": np.arange(3.0) + step}, loss=step)
    return path


def weight(step):
    return (100 * step + np.arange(12.0)).reshape(3, 4)


def everything():
    return np.stack([weight(step) for step in range(ROWS)])


def edit(path, change):
    """Change metadata on purpose, which their checksum would tell."""
    file = path / "zarr.json"
    metadata = json.loads(file.read_bytes())
    if isinstance(metadata["attributes"], dict):
        metadata["attributes"].pop("checksum", None)
    change(metadata)
    file.write_text(json.dumps(metadata))


def chunk_of(store, name):
    return chunk_files(store / name)[0]


def test_read_zarr__recorded_attrs(store):
    trajectory = open_trajectory(store)
    assert list(trajectory.data_vars) == ["fc.weight", "fc.bias", "loss"]
    assert trajectory["fc.weight"].attrs["output_axes"] == [0]
    assert trajectory["fc.weight"].attrs["layer"] == "fc"
    assert trajectory.attrs["layout"] == "torch"
    assert trajectory.attrs["layout_evidence"].startswith("declared: torch")
    assert trajectory.attrs["format"] == "trajectory/1"
    assert trajectory.attrs["source"] == str(store)


@pytest.mark.parametrize(
    "key",
    [
        (slice(None),),
        (slice(3, 20, 4),),
        (slice(None, None, -1),),
        (slice(20, 3, -5), slice(1, 3)),
        (7,),
        (-1, 2, slice(None)),
        (slice(8, 8),),
        ([5, 1, 20], slice(None), [3, 0]),
        (slice(None), [2, 0], 1),
        (np.arange(ROWS) % 2 == 0,),
    ],
)
def test_read_zarr__selections_equal_numpy(store, key):
    found = open_trajectory(store)["fc.weight"][key].values
    expected = everything()
    for axis in reversed(range(len(key))):
        part = key[axis]
        expected = expected[(slice(None),) * axis + (part,)]
    np.testing.assert_array_equal(found, expected)


def test_read_zarr__pointwise_selection(store):
    trajectory = open_trajectory(store)
    pick = xr.DataArray([0, 2], dims="pick")
    found = trajectory["fc.weight"].isel({"fc.weight.out": pick, "fc.weight.in": pick + 1})
    np.testing.assert_array_equal(found.transpose("step", "pick").values, everything()[:, [0, 2], [1, 3]])


def test_read_zarr__opening_reads_no_weight(store):
    for chunk in chunk_files(store / "fc.weight"):
        chunk.write_bytes(b"garbage")
    trajectory = open_trajectory(store)
    assert inspect(trajectory).attrs["weights"] == 15
    with pytest.raises(TrajectoryError, match=r"fc\.weight: damaged"):
        trajectory["fc.weight"].load()


def test_read_zarr__flipped_bit_is_found(store):
    chunk = chunk_of(store, "fc.bias")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(TrajectoryError, match=r"damaged.*chunk c/0/0: its checksum"):
        open_trajectory(store)["fc.bias"].load()


def test_read_zarr__lost_chunk_is_found(store):
    chunk_of(store, "fc.bias").unlink()
    with pytest.raises(TrajectoryError, match=r"damaged.*chunk c/0/0: it is missing"):
        open_trajectory(store)["fc.bias"].load()


def test_read_zarr__lost_steps_are_found(store):
    chunk_of(store, "step").unlink()
    with pytest.raises(TrajectoryError, match="step: damaged"):
        open_trajectory(store)


def test_read_zarr__changed_metadata_are_found(store):
    for folder in (store, store / "fc.weight"):
        file = folder / "zarr.json"
        text = file.read_text()
        file.write_text(text.replace('"layout": "torch"', '"layout": "keras"').replace('"kernel"', '"bias"'))
        with pytest.raises(TrajectoryError, match="its checksum is wrong"):
            open_trajectory(store)
        file.write_text(text)
    assert open_trajectory(store).sizes["step"] == ROWS


def test_read_zarr__attrs_may_be_added(store):
    for place in (zarr.open_group(store, mode="r+"), zarr.open_array(store / "fc.weight", mode="r+")):
        place.attrs["note"] = "the good one"
    assert open_trajectory(store).sizes["step"] == ROWS


def test_read_zarr__rows_not_committed_stay_unseen(store):
    edit(store, lambda root: root["attributes"].update(n_committed=7))
    trajectory = open_trajectory(store)
    np.testing.assert_array_equal(trajectory["fc.weight"].values, everything()[:7])
    assert trajectory["step"].values.tolist() == list(range(0, 70, 10))


def test_read_zarr__half_written_files_are_passed_over(store):
    (store / "zarr.0123.partial").write_bytes(b"{")
    (store / "notes").mkdir()
    assert open_trajectory(store).sizes["step"] == ROWS


def test_read_zarr__another_layout_overrides_the_recorded_one(tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        writer.append(0, {"fc.weight": np.zeros((4, 4))})
    assert open_trajectory(path)["fc.weight"].attrs["output_axes"] == [0]
    other = open_trajectory(path, layout="keras")
    assert other["fc.weight"].attrs["output_axes"] == [1]
    assert other.attrs["layout"] == "keras"


def test_read_zarr__attrs_of_another_writer_are_not_needed(store):
    for name in ("fc.weight", "fc.bias"):
        edit(store / name, lambda array: array.update(attributes={}))
    trajectory = open_trajectory(store)
    assert trajectory["fc.weight"].attrs["role"] == "kernel"
    assert trajectory["fc.weight"].attrs["output_axes"] == [0]


def set_committed(value):
    return lambda metadata: metadata["attributes"].update(n_committed=value)


@pytest.mark.parametrize(
    ("member", "change", "words"),
    [
        ("", lambda m: m["attributes"].update(koopscope_format="trajectory/2"), "reads trajectory/1"),
        ("", lambda m: m["attributes"].clear(), "not a recording made by"),
        ("", lambda m: m.update(attributes=[1]), "JSON object"),
        ("", lambda m: m.update(zarr_format=2), "Zarr version 3"),
        ("", set_committed(-1), "expected a count"),
        ("", set_committed("many"), "expected a count"),
        ("", set_committed(True), "expected a count"),
        ("", set_committed(10**12), "at most .* rows"),
        ("", set_committed(1000), "damaged"),
        ("fc.weight", lambda m: m.update(data_type="string"), "expected values of"),
        ("fc.weight", lambda m: m.update(data_type={"name": "numpy.datetime64"}), "expected values of"),
        ("fc.weight", lambda m: m.update(codecs=[{"name": "numcodecs.pickle"}]), "expected codecs"),
        ("fc.weight", lambda m: m.update(codecs=None), "expected codecs"),
        ("fc.weight", lambda m: m.update(shape=[23] * 9), "leading step axis"),
        ("fc.weight", lambda m: m.update(shape=[23, -3, 4]), "leading step axis"),
        ("fc.weight", lambda m: m["chunk_grid"].update(configuration={}), "leading step axis"),
        (
            "fc.weight",
            lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[5, 10**6, 10**6]),
            "chunks of at most",
        ),
        ("fc.weight", lambda m: m["attributes"].update(output_axes=[2]), "list of axes below 2"),
        ("fc.weight", lambda m: m["attributes"].update(layer_index="first"), "expected a count"),
    ],
)
def test_read_zarr__strange_metadata(store, member, change, words):
    edit(store / member, change)
    with pytest.raises(TrajectoryError, match=words):
        open_trajectory(store)


def test_read_zarr__damaged_json(store):
    (store / "fc.weight" / "zarr.json").write_text("{")
    with pytest.raises(TrajectoryError, match="expected JSON"):
        open_trajectory(store)


def test_read_zarr__what_is_damaged_can_be_left_out(store):
    (store / "fc.weight" / "zarr.json").write_text("{")
    assert list(open_trajectory(store, exclude=["fc.weight", "loss"]).data_vars) == ["fc.bias"]


def test_read_zarr__metadata_too_long(store):
    (store / "fc.weight" / "zarr.json").write_text(" " * (5 * 2**20))
    with pytest.raises(TrajectoryError, match="expected at most"):
        open_trajectory(store)


def test_read_zarr__no_steps(tmp_path):
    attrs = {"koopscope_format": "trajectory/1", "n_committed": 0}
    zarr.create_group(tmp_path / "run.zarr", zarr_format=3, attributes=attrs)
    with pytest.raises(TrajectoryError, match="expected an array 'step'"):
        open_trajectory(tmp_path / "run.zarr")
