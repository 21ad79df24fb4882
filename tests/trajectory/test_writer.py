import json
import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from koopscope.errors import LayoutError, OutputExistsError, StepError, TrajectoryError, UsageError
from koopscope.trajectory import TrajectoryWriter, open_trajectory


def weights(step, dtype=np.float32):
    rng = np.random.default_rng(step)
    return {
        "fc1/weight": rng.normal(size=(4, 3)).astype(dtype),
        "fc1/bias": rng.normal(size=4).astype(dtype),
    }


def record(path, steps, **options):
    with TrajectoryWriter(path, layout="torch", **options) as writer:
        for step in steps:
            writer.append(step, weights(step), loss=1.0 / (1 + step))


def assert_rows(path, steps):
    trajectory = open_trajectory(path)
    assert trajectory["step"].values.tolist() == list(steps)
    for row, step in enumerate(steps):
        for source, expected in weights(step).items():
            found = trajectory[source.replace("/", ".")].values[row]
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(trajectory["loss"].values, [1.0 / (1 + step) for step in steps])


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 9), max_size=24).map(lambda gaps: [0, *gaps]),
    block=st.integers(1, 7),
    commits=st.sets(st.integers(0, 24)),
)
def test_append__any_blocks_and_commits_reopen_equal(tmp_path_factory, gaps, block, commits):
    path = tmp_path_factory.mktemp("any") / "run.zarr"
    steps = np.cumsum(gaps).tolist()
    with TrajectoryWriter(path, layout="torch", block_steps=block) as writer:
        for row, step in enumerate(steps):
            writer.append(step, weights(step), loss=1.0 / (1 + step))
            if row in commits:
                writer.commit()
    assert_rows(path, steps)
    assert zarr.open_array(path / "fc1.weight", mode="r").shape[0] == len(steps)


@pytest.mark.parametrize("rows", [1, 3, 4, 11, 12])
def test_append__what_returned_is_kept(tmp_path, rows):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", block_steps=4)
    for step in range(rows):
        writer.append(step, weights(step), loss=1.0 / (1 + step))
        assert_rows(path, range(step + 1))
    del writer
    assert_rows(path, range(rows))


def test_commit__rows_are_in_the_store_for_any_reader_of_zarr(tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch", block_steps=64) as writer:
        for step in range(5):
            writer.append(step, weights(step), loss=1.0 / (1 + step))
            if step == 2:
                writer.commit()
                attrs = zarr.open_group(path, mode="r").attrs
                assert (attrs["n_committed"], attrs["status"]) == (3, "open")
                expected = [weights(step)["fc1/bias"] for step in range(3)]
                np.testing.assert_array_equal(zarr.open_array(path / "fc1.bias", mode="r")[:3], expected)
        assert_rows(path, range(5))


def test_exit__after_an_exception_rows_stay_and_status_is_open(tmp_path):
    path = tmp_path / "run.zarr"

    def failing_steps():
        yield from range(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(path, failing_steps())
    assert_rows(path, range(5))
    assert json.loads((path / "zarr.json").read_bytes())["attributes"]["status"] == "open"


def test_close__marks_the_store_and_ends_the_writer(tmp_path):
    path = tmp_path / "run.zarr"
    record(path, range(3), framework="mine")
    attrs = json.loads((path / "zarr.json").read_bytes())["attributes"]
    assert attrs["koopscope_format"] == "trajectory/1"
    assert attrs["status"] == "closed"
    assert attrs["n_committed"] == 3
    assert attrs["framework"] == "mine"
    writer = TrajectoryWriter(tmp_path / "other.zarr", layout="torch")
    writer.close()
    writer.close()
    assert not (tmp_path / "other.zarr").exists()
    with pytest.raises(UsageError, match="closed"):
        writer.append(0, weights(0))


def test_append__stores_what_the_format_says(tmp_path):
    path = tmp_path / "run.zarr"
    record(path, range(3))
    metadata = json.loads((path / "fc1.weight" / "zarr.json").read_bytes())
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "blosc", "crc32c"]
    assert metadata["codecs"][0]["configuration"] == {"endian": "little"}
    blosc = metadata["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["clevel"], blosc["shuffle"]) == ("lz4", 5, "shuffle")
    assert metadata["fill_value"] == "NaN"
    assert metadata["dimension_names"] == ["step", "fc1.weight.out", "fc1.weight.in"]
    assert metadata["attributes"]["source_name"] == "fc1/weight"
    step = json.loads((path / "step" / "zarr.json").read_bytes())
    assert (step["data_type"], step["fill_value"]) == ("int64", -1)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["run.zarr"]


def test_append__zeros_are_written_as_chunks(tmp_path):
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, {"a.bias": np.zeros(2)})
    assert (tmp_path / "run.zarr" / "a.bias" / "c.0.0").is_file()


def test_append__takes_a_copy(tmp_path):
    live = {"a.bias": np.zeros(2)}
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        for step in range(3):
            live["a.bias"] += 1
            writer.append(step, live)
    assert open_trajectory(tmp_path / "run.zarr")["a.bias"].values[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_append__every_float(tmp_path, dtype):
    values = np.array([0.1, -2.5], dtype)
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, {"a.bias": values})
    found = open_trajectory(tmp_path / "run.zarr")["a.bias"]
    assert found.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.values[0], values)


def test_append__running_statistics_are_left_out(tmp_path):
    row = {"bn.weight": np.ones(2), "bn.running_mean": np.ones(2), "bn.num_batches_tracked": np.array(3)}
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, row)
        writer.append(1, row)
    assert list(open_trajectory(tmp_path / "run.zarr").data_vars) == ["bn.weight"]


def test_append__metric_left_out_later_is_nan(tmp_path):
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, {"a.bias": np.zeros(2)}, accuracy=0.5)
        writer.append(1, {"a.bias": np.zeros(2)})
    np.testing.assert_array_equal(open_trajectory(tmp_path / "run.zarr")["accuracy"].values, [0.5, np.nan])


@pytest.mark.parametrize(
    ("row", "metrics", "words"),
    [
        ({"a.bias": np.zeros(2)}, {}, "missing"),
        (
            {"a.bias": np.zeros(2), "a.weight": np.zeros((2, 3)), "b.bias": np.zeros(2)},
            {},
            r"new \['b.bias'\]",
        ),
        ({"a.bias": np.zeros(3), "a.weight": np.zeros((2, 3))}, {}, r"expected float64 \(2,\)"),
        ({"a.bias": np.zeros(2, "f4"), "a.weight": np.zeros((2, 3))}, {}, "got float32"),
        ({"a.bias": np.zeros(2, int), "a.weight": np.zeros((2, 3))}, {}, "got int64"),
        ({"a.bias": np.zeros(2), "a.weight": np.zeros((2, 3))}, {"extra": 1.0}, "metric 'extra' is not"),
        ({"a.bias": np.zeros(2), "a.weight": np.zeros((2, 3))}, {"loss": "low"}, "expected a number"),
    ],
)
def test_append__a_row_of_another_kind_leaves_nothing(tmp_path, row, metrics, words):
    first = {"a.bias": np.zeros(2), "a.weight": np.zeros((2, 3))}
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, first, loss=1.0)
        with pytest.raises(TrajectoryError, match=words):
            writer.append(1, row, **metrics)
        writer.append(1, first, loss=0.5)
    assert open_trajectory(tmp_path / "run.zarr")["loss"].values.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("steps", "words"), [((5, 5), "more than 5, got 5"), ((5, 4), "got 4"), ((-1,), "0 or")]
)
def test_append__steps_must_increase(tmp_path, steps, words):
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch")
    for step in steps[:-1]:
        writer.append(step, weights(step))
    with pytest.raises(StepError, match=words):
        writer.append(steps[-1], weights(0))


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        ({}, TrajectoryError, "at least one tensor"),
        ({"a b": np.zeros(2)}, TrajectoryError, "expected 1 to 200 letters"),
        ({"step": np.zeros(2)}, TrajectoryError, "taken by the step numbers"),
        ({"a.bias": ["x", "y"]}, TrajectoryError, "leave it out"),
        ({"a.bias": [[1.0], [1.0, 2.0]]}, TrajectoryError, "an array or a tensor, got list"),
        ({"a.weight": np.zeros((2, 3)), "a.bias": np.zeros(3)}, LayoutError, "--layout"),
    ],
)
def test_append__first_row_that_cannot_be_recorded(tmp_path, row, error, words):
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch")
    with pytest.raises(error, match=words):
        writer.append(0, row)
    assert list(tmp_path.iterdir()) == []


def test_writer__arguments():
    with pytest.raises(UsageError, match=r"layout: expected one of torch, .* or None, got 'tf'"):
        TrajectoryWriter("never.zarr", layout="tf")
    with pytest.raises(UsageError, match="block_steps"):
        TrajectoryWriter("never.zarr", layout="torch", block_steps=0)


def test_writer__existing_path_is_never_replaced_unasked(tmp_path):
    record(tmp_path / "run.zarr", range(3))
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        TrajectoryWriter(tmp_path / "run.zarr", layout="torch")
    assert_rows(tmp_path / "run.zarr", range(3))


def test_writer__overwrite_replaces_a_recording_with_the_first_row(tmp_path):
    path = tmp_path / "run.zarr"
    record(path, range(3))
    writer = TrajectoryWriter(path, layout="torch", overwrite=True)
    assert_rows(path, range(3))
    writer.append(7, weights(7), loss=1 / 8)
    writer.close()
    assert_rows(path, [7])
    assert [child.name for child in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("kind", ["file", "folder", "zarr"])
def test_writer__overwrite_replaces_nothing_else(tmp_path, kind):
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("two years of work")
    elif kind == "folder":
        path.mkdir()
    else:
        zarr.create_group(path, zarr_format=3)
    with pytest.raises(OutputExistsError, match="not a recording"):
        TrajectoryWriter(path, layout="torch", overwrite=True)
    assert path.exists()


def test_writer__path_taken_meanwhile(tmp_path):
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch")
    record(tmp_path / "run.zarr", range(3))
    with pytest.raises(OutputExistsError):
        writer.append(0, weights(0))
    assert_rows(tmp_path / "run.zarr", range(3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_append__torch_tensors(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    linear = torch.nn.Linear(3, 2, dtype=getattr(torch, dtype))
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, dict(linear.named_parameters()), loss=torch.tensor(0.5))
        other = torch.float32 if dtype == "bfloat16" else torch.bfloat16
        with pytest.raises(TrajectoryError, match=f"'weight': expected {dtype}"):
            writer.append(1, {name: value.to(other) for name, value in linear.named_parameters()})
    found = open_trajectory(tmp_path / "run.zarr")["weight"]
    assert found.attrs["source_dtype"] == dtype
    assert found.dtype == ("float32" if dtype == "bfloat16" else dtype)
    np.testing.assert_array_equal(found.values[0], linear.weight.detach().double().numpy())


def test_append__bfloat16_of_ml_dtypes(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    values = np.array([0.1, -2.5, 3e38], ml_dtypes.bfloat16)
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        writer.append(0, {"a.bias": values})
    found = open_trajectory(tmp_path / "run.zarr")["a.bias"]
    assert (found.dtype, found.attrs["source_dtype"]) == (np.float32, "bfloat16")
    np.testing.assert_array_equal(found.values[0].astype(ml_dtypes.bfloat16), values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_append__bit_for_bit(tmp_path, dtype):
    info = np.finfo(dtype)
    odd = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, info.smallest_subnormal, -info.tiny / 2, info.max]
    grid = np.resize(np.array(odd, dtype), (6, 8))
    row = {
        "f.weight": np.asfortranarray(grid),
        "s.weight": grid[::2, ::-3],
        "t.weight": grid.T,
        "zero.d": np.array(-0.0, dtype),
        "none.weight": grid[:0],
    }
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch", block_steps=2) as writer:
        for step in range(5):
            writer.append(step, row)
            assert_bits(path, row, step + 1)
    assert_bits(path, row, 5)


def assert_bits(path, row, rows):
    trajectory = open_trajectory(path)
    for name, expected in row.items():
        values = trajectory[name].values
        assert values.dtype == expected.dtype
        assert [value.tobytes() for value in values] == [expected.tobytes()] * rows


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"include": "fc*"}, ["fc.weight", "fc.bias"]),
        ({"exclude": ["*.bias", "emb*"]}, ["fc.weight"]),
        ({"include": ["*.weight"], "exclude": "emb*"}, ["fc.weight"]),
    ],
)
def test_writer__include_and_exclude(tmp_path, options, kept):
    row = {"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2), "embed.weight": np.ones((5, 4))}
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch", **options) as writer:
        writer.append(0, row)
        writer.append(1, {**row, "fc.running_mean": np.ones(2)})
    assert list(open_trajectory(tmp_path / "run.zarr").data_vars) == kept


def test_writer__include_that_leaves_nothing(tmp_path):
    writer = TrajectoryWriter(tmp_path / "run.zarr", layout="torch", include="conv*")
    with pytest.raises(TrajectoryError, match="at least one tensor"):
        writer.append(0, weights(0))


def test_writer__every(tmp_path):
    path = tmp_path / "run.zarr"
    writer = TrajectoryWriter(path, layout="torch", every=3)
    for step in range(8):
        writer.append(step, weights(step), loss=1.0 / (1 + step))
    del writer
    with TrajectoryWriter(path, layout="torch", every=3, resume=True) as writer:
        assert writer.last_step == 6
        for step in range(5, 14):
            writer.append(step, weights(step), loss=1.0 / (1 + step))
    assert_rows(path, [0, 3, 6, 9, 12])


def test_writer__imports_neither_xarray_nor_h5py():
    code = (
        "import sys; from koopscope import TrajectoryWriter; "
        "heavy = ('xarray', 'h5py', 'pandas', 'numba', 'scipy', 'dask', 'torch', 'matplotlib'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
