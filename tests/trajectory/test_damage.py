"""A thousand flipped bits, and chunks that are bombs: never a wrong value, never much memory."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
import zarr
from crashing import loss, tensors
from numcodecs import blosc, zstd

from koopscope.errors import KoopscopeError, TrajectoryError
from koopscope.trajectory import TrajectoryWriter, open_trajectory

ROWS = 20


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("flips") / "run.zarr"
    with TrajectoryWriter(path, layout="torch", block_steps=8) as writer:
        for step in range(ROWS):
            writer.append(step, tensors(step), loss=loss(step))
    return path


def test_open_trajectory__a_thousand_flipped_bits(pristine):
    expected = {name: np.stack([tensors(step)[name] for step in range(ROWS)]) for name in tensors(0)}
    meaning = {name: open_trajectory(pristine)[name].attrs for name in expected}
    random = np.random.default_rng(0)
    files = sorted(file for file in pristine.rglob("*") if file.is_file())
    told = 0
    for flip in range(1000):
        file = files[flip % len(files)]
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[random.integers(len(damaged))] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        try:
            found = open_trajectory(pristine)
            values = {name: found[name].values for name in expected}
            losses = found["loss"].values
        except KoopscopeError:
            told += 1
        else:
            assert found["step"].values.tolist() == list(range(ROWS)), file
            assert losses.tolist() == [loss(step) for step in range(ROWS)], file
            for name in expected:
                assert values[name].tobytes() == expected[name].tobytes(), file
                assert found[name].attrs == meaning[name], file
        finally:
            file.write_bytes(content)
    assert told > 500


def bombed(tmp_path, codec, data):
    """Record one small tensor, and replace its chunk by one that claims or holds far too much."""
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        writer.append(0, {"a.weight": np.zeros((4, 4))})
    file = path / "a.weight" / "zarr.json"
    metadata = json.loads(file.read_bytes())
    metadata["codecs"] = [metadata["codecs"][0], {"name": codec, "configuration": {}}]
    file.write_text(json.dumps(metadata))
    (path / "a.weight" / "c.0.0.0").write_bytes(data)
    return path


def zstd_without_size():
    frame = bytearray(zstd.compress(bytes(64 * 128), 1))
    frame[4] &= 0x1F  # no size, no single segment
    return bytes(frame)


BOMBS = {
    "blosc": ("blosc", lambda: blosc.compress(bytes(2**28), b"lz4", 9)),
    "blosc, cut": ("blosc", lambda: blosc.compress(np.zeros(64 * 16), b"lz4", 5)[:-9]),
    "blosc, no header": ("blosc", lambda: b"x"),
    "zstd": ("zstd", lambda: zstd.compress(bytes(2**28), 1)),
    "zstd, no size": ("zstd", zstd_without_size),
    "zstd, no frame": ("zstd", lambda: b"PK" * 20),
    "gzip": ("gzip", lambda: gzip.compress(bytes(2**26), 9)[: 8192 + 100]),
    "gzip, cut": ("gzip", lambda: gzip.compress(np.zeros(64 * 16).tobytes())[:-9]),
    "gzip, none": ("gzip", lambda: b"PK" * 20),
    "file": ("blosc", lambda: bytes(2**26)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_open_trajectory__bombs(tmp_path, kind):
    codec, make = BOMBS[kind]
    trajectory = open_trajectory(bombed(tmp_path, codec, make()))
    tracemalloc.start()
    with pytest.raises(TrajectoryError, match=r"damaged.*chunk c\.0\.0\.0"):
        trajectory["a.weight"].load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


@pytest.mark.parametrize(
    "compressor", [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec(), None]
)
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("encoding", ["default", "v2"])
def test_open_trajectory__codecs_of_other_writers(tmp_path, compressor, endian, encoding):
    path = tmp_path / "run.zarr"
    attrs = {"koopscope_format": "trajectory/1", "n_committed": 5, "layout": "torch"}
    group = zarr.create_group(path, zarr_format=3, attributes=attrs)
    values = np.random.default_rng(0).normal(size=(5, 6, 7)).astype("float32")
    for name, array, chunks in (("step", np.arange(5), (2,)), ("a.weight", values, (2, 4, 3))):
        group.create_array(
            name,
            data=array,
            chunks=chunks,
            serializer=zarr.codecs.BytesCodec(endian=endian),
            compressors=[codec for codec in (compressor, zarr.codecs.Crc32cCodec()) if codec],
            chunk_key_encoding={"name": encoding, "separator": "."},
            config={"write_empty_chunks": True},
        )
    found = open_trajectory(path)["a.weight"]
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found[1::3, ::4, 5:1:-2].values, values[1::3, ::4, 5:1:-2])
