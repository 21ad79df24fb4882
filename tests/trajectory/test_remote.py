import uuid

import numpy as np
import pytest

from koopscope.errors import TrajectoryError
from koopscope.trajectory import TrajectoryWriter, open_trajectory

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
        ("spam://bucket/run.zarr", "cannot be opened"),
    ],
)
def test_read_url__nothing_there(url, words):
    with pytest.raises(TrajectoryError, match=words):
        open_trajectory(url)


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


@pytest.mark.filterwarnings("ignore")
def test_read_url__s3(local, monkeypatch):
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {"endpoint_url": f"http://{host}:{port}", "key": "any", "secret": "any"}
        monkeypatch.setitem(fsspec.config.conf, "s3", settings)
        url = "s3://bucket/runs/run.zarr"
        files, root = fsspec.core.url_to_fs(url)
        files.mkdir("bucket")
        files.put(f"{local}/", f"{root}/", recursive=True)
        assert_same(url, local)
    finally:
        server.stop()
