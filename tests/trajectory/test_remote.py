import gzip
import json
import struct
import sys
import tracemalloc
import uuid

import numpy as np
import pytest
from numcodecs import zstd

from koopscope.errors import OutputExistsError, RecordingError, TrajectoryError, UsageError
from koopscope.trajectory import TrajectoryWriter, convert, open_trajectory

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: URLs cannot be opened")
ROWS = 150


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "run.zarr"
    rng = np.random.default_rng(0)
    with TrajectoryWriter(path, layout="torch") as writer:
        for step in range(ROWS):
            writer.append(
                7 * step, {"fc.weight": rng.normal(size=(4, 3)), "fc.bias": rng.normal(size=4)}, loss=step
            )
    return path


@pytest.fixture
def memory(local):
    url = f"memory://{uuid.uuid4().hex}/run.zarr"
    files, root = fsspec.core.url_to_fs(url)
    files.put(f"{local}/", f"{root}/", recursive=True)
    yield url
    files.rm(root, recursive=True)


def assert_same(url, local):
    found, expected = open_trajectory(url), open_trajectory(local)
    assert found.attrs["source"] == url
    assert found.drop_attrs(deep=False).identical(expected.drop_attrs(deep=False))
    assert list(found.data_vars) == list(expected.data_vars)
    key = (slice(3, 140, 9), [2, 0])
    np.testing.assert_array_equal(found["fc.weight"][key].values, expected["fc.weight"][key].values)


def test_read_url__memory(memory, local):
    assert_same(memory, local)


def test_read_url__file(local):
    assert_same(f"file://{local}", local)


def test_read_url__opening_reads_no_weight(memory):
    files, root = fsspec.core.url_to_fs(memory)
    for chunk in files.find(f"{root}/fc.weight/c"):
        files.pipe(chunk, b"garbage")
    trajectory = open_trajectory(memory)
    assert trajectory["fc.bias"].values.shape == (ROWS, 4)
    with pytest.raises(TrajectoryError, match=r"run\.zarr/fc\.weight: damaged"):
        trajectory["fc.weight"].load()


def test_read_url__layout_and_exclude(memory):
    trajectory = open_trajectory(memory, exclude="*.bias", layout="keras")
    assert list(trajectory.data_vars) == ["fc.weight", "loss"]
    assert trajectory["fc.weight"].attrs["output_axes"] == [1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://nowhere/run.zarr", r"nowhere/run\.zarr.*cannot be read"),
    ],
)
def test_read_url__nothing_there(url, words):
    with pytest.raises(TrajectoryError, match=words):
        open_trajectory(url)


def test_read_url__nothing_opens_it():
    for use in (open_trajectory, lambda url: TrajectoryWriter(url, layout="torch")):
        with pytest.raises(UsageError, match=r"koopscope\[remote\]"):
            use("spam://bucket/run.zarr")


def test_read_url__without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r"pip install 'koopscope\[remote\]'"):
        open_trajectory("s3://bucket/run.zarr")


def test_read_url__errors_name_the_url(memory):
    files, root = fsspec.core.url_to_fs(memory)
    files.pipe(f"{root}/zarr.json", b'{"zarr_format": 3, "attributes": {}}')
    with pytest.raises(TrajectoryError, match=rf"^{memory}.*not a recording"):
        open_trajectory(memory)


def test_read_url__metadata_beyond_the_limit(memory):
    files, root = fsspec.core.url_to_fs(memory)
    files.pipe(f"{root}/zarr.json", b" " * (5 * 2**20))
    with pytest.raises(TrajectoryError, match="at most 4194304 bytes"):
        open_trajectory(memory)


def test_read_url__names_do_not_lead_out_of_the_mirror(memory):
    files, root = fsspec.core.url_to_fs(memory)
    files.pipe(f"{root}/..evil/zarr.json", b"{}")
    with pytest.raises(TrajectoryError, match=r"name '\.\.evil'"):
        open_trajectory(memory)


@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip"])
def test_read_url__bombs_are_not_decoded(memory, codec):
    """A chunk that would decode to 1 GiB is refused by what its header says, or stopped on the way."""
    files, root = fsspec.core.url_to_fs(memory)
    size = 2**30
    if codec == "blosc":
        body = struct.pack("<4B3I", 2, 1, 0x21, 8, size, size, 16)
    elif codec == "zstd":
        body = zstd.compress(bytes(2**20))[:4] + b"\xa0" + struct.pack("<I", size) + bytes(16)
    else:
        body = gzip.compress(bytes(2**26))
    metadata = json.loads(files.cat_file(f"{root}/fc.weight/zarr.json"))
    codecs = [codec for codec in metadata["codecs"] if codec["name"] == "bytes"]
    metadata["codecs"] = [*codecs, {"name": codec, "configuration": {}}]
    files.pipe_file(f"{root}/fc.weight/zarr.json", json.dumps(metadata).encode())
    for chunk in files.find(f"{root}/fc.weight/c"):
        files.pipe_file(chunk, body)
    trajectory = open_trajectory(memory)
    tracemalloc.start()
    try:
        with pytest.raises(TrajectoryError, match=r"fc\.weight: damaged"):
            trajectory["fc.weight"].load()
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_read_url__chunk_beyond_its_size_is_not_fetched(memory):
    files, root = fsspec.core.url_to_fs(memory)
    for chunk in files.find(f"{root}/fc.weight/c"):
        files.pipe_file(chunk, bytes(2**22))
    with pytest.raises(TrajectoryError, match=r"expected at most \d+ bytes"):
        open_trajectory(memory)["fc.weight"].load()


@pytest.fixture(scope="module")
def bucket():
    """Start a server that speaks S3, for as long as these tests take."""
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    before = fsspec.config.conf.get("s3")
    host, port = server.get_host_and_port()
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", "key": "any", "secret": "any"}
    fsspec.core.url_to_fs("s3://bucket")[0].mkdir("bucket")
    yield "s3://bucket"
    fsspec.config.conf["s3"] = before or {}
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_read_url__s3(local, bucket):
    url = f"{bucket}/runs/{uuid.uuid4().hex}.zarr"
    files, root = fsspec.core.url_to_fs(url)
    files.put(f"{local}/", f"{root}/", recursive=True)
    assert_same(url, local)


@pytest.fixture(params=["memory", "file", "s3"])
def target(request, tmp_path):
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}.zarr"
    if request.param == "file":
        return f"file://{tmp_path}/run.zarr"
    return f"memory://{uuid.uuid4().hex}/run.zarr"


def row(step):
    random = np.random.default_rng(step)
    return {"fc.weight": random.normal(size=(4, 3)).astype("f4"), "fc.bias": random.normal(size=4)}


def assert_rows(url, rows):
    trajectory = open_trajectory(url)
    assert trajectory["step"].values.tolist() == list(range(rows))
    for name in row(0):
        np.testing.assert_array_equal(trajectory[name].values, [row(step)[name] for step in range(rows)])
    np.testing.assert_array_equal(trajectory["loss"].values, 0.5 * np.arange(rows))


def append(writer, steps):
    for step in steps:
        writer.append(step, row(step), loss=0.5 * step)


def append_and_commit(writer, rows):
    append(writer, range(writer.last_step + 1, writer.last_step + 1 + rows))
    writer.commit()


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_writer__at_a_url(target):
    writer = TrajectoryWriter(target, layout="torch", block_steps=4)
    append(writer, range(10))
    writer._rows._folder.drain()
    assert_rows(target, 8)
    writer.commit()
    assert_rows(target, 10)
    append(writer, [10])  # does not fill its block, so nothing of it is on its way
    del writer  # and lose that row, as a kill does: at a URL, a block is the unit
    with TrajectoryWriter(target, layout="torch", block_steps=4, resume=True) as writer:
        assert writer.last_step == 9
        append(writer, range(10, 18))
    assert_rows(target, 18)
    with pytest.raises(OutputExistsError, match="resume=True"):
        TrajectoryWriter(target, layout="torch")
    with TrajectoryWriter(target, layout="torch", overwrite=True) as writer:
        append(writer, range(3))
    assert_rows(target, 3)


def test_writer__many_runs_at_a_url(memory):
    url = f"{memory}/many.zarr"
    with TrajectoryWriter(url, layout="torch", runs=2, block_steps=4) as writer:
        for step in range(7):
            writer.append(step, {"a.weight": np.full((2, 3, 2), step, "f4")}, loss=[step, -step])
    one = open_trajectory(url, run=1)
    assert one["a.weight"].values[:, 0, 0].tolist() == list(range(7))
    assert one["loss"].values.tolist() == [-step for step in range(7)]
    assert open_trajectory(url)["a.weight"].shape == (2, 7, 3, 2)


def test_writer__url_that_is_taken_by_something_else(memory):
    files, root = fsspec.core.url_to_fs(f"{memory}/thesis")
    files.pipe(f"{root}/part/text", b"two years of work")
    with pytest.raises(OutputExistsError, match="not a recording"):
        TrajectoryWriter(f"{memory}/thesis", layout="torch", overwrite=True)
    assert files.cat_file(f"{root}/part/text") == b"two years of work"


def test_writer__no_power_at_a_url(memory):
    with pytest.raises(UsageError, match="a block is the unit"):
        TrajectoryWriter(f"{memory}/other.zarr", layout="torch", durability="power")


def test_writer__url_out_of_reach_for_a_while(memory, monkeypatch):
    url = f"{memory}/other.zarr"
    files, _ = fsspec.core.url_to_fs(url)
    writer = TrajectoryWriter(url, layout="torch", block_steps=4)
    append(writer, range(6))
    writer._rows._folder.drain()
    for down in range(12):
        with monkeypatch.context() as patch:
            patch.setattr(type(files), "pipe_file", failing_after(type(files).pipe_file, down))
            with pytest.raises(RecordingError, match="kept in memory"):
                append_and_commit(writer, 9)
            with pytest.raises(RecordingError):  # once more, for no thread to go on behind our back
                writer._rows._folder.drain()
        steps = open_trajectory(url)["step"].values
        assert_rows(url, steps.size)
        writer.commit()
        assert_rows(url, writer.last_step + 1)
    writer.close()
    assert_rows(url, writer.last_step + 1)


def failing_after(pipe_file, count):
    left = [count]

    def failing(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionResetError("the network is down")
        return pipe_file(*arguments, **options)

    return failing


def test_convert__to_a_url(local, memory):
    url = f"{memory}/copy.zarr"
    assert convert(local, url) == url
    assert_same(url, local)
    with pytest.raises(OutputExistsError):
        convert(local, url)
