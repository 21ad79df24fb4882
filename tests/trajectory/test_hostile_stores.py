"""Zarr stores made to harm, as the other inputs in test_hostile_inputs.py."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from attacking import attacked
from bombs import GIB, in_gzip
from chunk_files import chunk_files
from numcodecs import blosc, zstd

from koopscope.trajectory import TrajectoryWriter
from koopscope.trajectory.chunks import crc32c
from koopscope.trajectory.zarr_metadata import signed


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "run.zarr"
    with TrajectoryWriter(path, layout="torch") as writer:
        for step in range(3):
            writer.append(step, {"fc.weight": np.ones((3, 5), "f4"), "fc.bias": np.ones(3, "f4")}, loss=1.0)
    return path


def change(path, **entries):
    """Change metadata, with the checksum that belongs to it."""
    metadata = json.loads((path / "zarr.json").read_bytes())
    (path / "zarr.json").write_text(json.dumps(signed({**metadata, **entries})))


def copies(store, count):
    """Give further stores of the same kind."""
    places = [store.with_name(f"copy{number}.zarr") for number in range(count)]
    for place in places:
        shutil.copytree(store, place)
    return places


@pytest.fixture(scope="module")
def bombs():
    zeros = np.zeros(GIB, np.uint8)
    return {
        "blosc": bytes(blosc.compress(zeros, b"lz4", 5)),
        "zstd": bytes(zstd.compress(zeros, 1)),
        "gzip": in_gzip(GIB),
    }


@pytest.mark.parametrize("array", ["fc.weight", "loss", "step"])
def test_store__a_chunk_of_one_gibibyte(store, bombs, array):
    kinds = [(codec, checksum) for codec in bombs for checksum in (False, True)]
    stores = copies(store, len(kinds))
    for (codec, checksum), place in zip(kinds, stores, strict=True):
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        codecs.append({"name": codec, "configuration": {}})
        change(place / array, codecs=[*codecs, *([{"name": "crc32c"}] if checksum else [])])
        seal = struct.pack("<I", crc32c(bombs[codec])) if checksum else b""
        for chunk in chunk_files(place / array):
            chunk.write_bytes(bombs[codec] + seal)
    assert attacked(*stores, name="fc.weight").count("damaged") == len(kinds)


def test_store__shapes_that_no_memory_holds(store):
    stores = copies(store, 4)
    for place, columns in zip(stores[:2], (2**40, 2**62), strict=True):
        change(place / "fc.weight", shape=[3, columns, 5])
    for place, rows in zip(stores[2:], (2**20, 2**40), strict=True):
        change(place / "fc.weight", shape=[rows, 3, 5])
        attrs = json.loads((place / "zarr.json").read_bytes())["attributes"]
        change(place, attributes={**attrs, "n_committed": rows})
    words = attacked(*stores, name="fc.weight")
    assert words.count("fits into memory") == 2
    assert "expected at least the 1048576 rows" in words
    assert "at most 134217728 rows" in words


def test_store__chunks_that_no_memory_holds(store):
    grid = {"name": "regular", "configuration": {"chunk_shape": [2**31, 3, 5]}}
    change(store / "fc.weight", chunk_grid=grid)
    assert "at most 268435456 bytes" in attacked(store)


def test_store__metadata_without_end(store):
    stores = copies(store, 4)
    for place, member in zip(stores, ("", "fc.weight", "", "fc.weight"), strict=True):
        deep = place in stores[:2]
        (place / member / "zarr.json").write_bytes(b'{"a":' * 200_000 if deep else b" " * (5 * 2**20))
    words = attacked(*stores)
    assert words.count("expected JSON") == 2
    assert words.count("at most 4194304 bytes") == 2


def test_store__a_hundred_thousand_tensors(store):
    shared = f"{store}/shared"
    shutil.copy(store / "fc.bias" / "zarr.json", shared)
    for number in range(20_000):  # beyond the limit; what is not opened costs nothing more
        os.mkdir(f"{store}/t{number}")
        os.link(shared, f"{store}/t{number}/zarr.json")
    for number in range(20_000, 100_000):
        os.symlink("t0", f"{store}/t{number}")
    assert "at most 20000" in attacked(store)


def test_store__values_and_codecs_that_are_not_read(store):
    dtypes = ["object", "string", {"name": "null_terminated_bytes"}]
    codecs = ["pickle", "vlen-utf8", "numcodecs.pickle", "sharding_indexed"]
    stores = copies(store, len(dtypes) + len(codecs))
    for place, dtype in zip(stores, dtypes, strict=False):
        change(place / "fc.weight", data_type=dtype)
    for place, codec in zip(stores[len(dtypes) :], codecs, strict=True):
        change(place / "fc.weight", codecs=[{"name": codec, "configuration": {}}])
    words = attacked(*stores)
    assert words.count("expected values of float16") == len(dtypes)
    assert words.count("expected codecs bytes") == len(codecs)
