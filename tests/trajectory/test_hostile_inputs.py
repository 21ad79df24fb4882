"""Inputs made to harm: a typed error in less than 5 s and 300 MiB, and no code of theirs is run."""

import gzip
import json
import os
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from attacking import attacked
from bombs import GIB, in_gzip, in_npz, in_zlib, npy_header


def test_bombs__are_sound(tmp_path):
    """What is damaged besides being large would be refused for that."""
    zeros = bytes(3 * 2**20)
    assert zlib.decompress(in_zlib(len(zeros))) == zeros
    assert gzip.decompress(in_gzip(len(zeros))) == zeros
    with np.load(in_npz(tmp_path / "run", len(zeros)) / "step_1.npz") as archive:
        assert archive["w"].tobytes() == zeros


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hdf5(path, **others):
    with h5py.File(path, "w") as file:
        file["fc.weight"] = np.ones((4, 3, 5), np.float32)
        for name, values in others.items():
            file[name] = values
    return path


# HDF5


@pytest.mark.parametrize("shape", [(4, 2**40), (2**40, 3), (2_000_000_000, 2, 2)])
def test_hdf5__shapes_that_no_file_holds(tmp_path, shape):
    path = hdf5(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        file.create_dataset("big", shape, "f4", chunks=tuple(min(n, 64) for n in shape))
    assert "never written" in attacked(path)


@pytest.mark.parametrize("name", ["step", "loss", "out"])
def test_hdf5__coordinates_of_two_billion(tmp_path, name):
    path = hdf5(tmp_path / "run.nc")
    with h5py.File(path, "a") as file:
        scale = file.create_dataset(name, (2_000_000_000,), "i8", chunks=(2**20,), compression="gzip")
        scale.make_scale(name)
        if name == "loss":
            del scale.attrs["CLASS"]
        if name == "out":  # a dimension without our doing anything with it: there is nothing to refuse
            del file["fc.weight"]
    attacked(path)


@pytest.mark.parametrize("target", ["weight", "loss"])
def test_hdf5__a_deflated_bomb(tmp_path, target):
    path = hdf5(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        weights = target == "weight"
        shape = (4, 2**18) if weights else (4,)
        chunks = (4, 2**18) if weights else (4,)
        del file["fc.weight"]
        file["fc.weight"] = np.ones((4, 3, 5), np.float32)
        data = file.create_dataset("bomb", shape, "f4", chunks=chunks, compression="gzip")
        data.id.write_direct_chunk((0,) * len(shape), in_zlib(GIB))
    assert "bomb" in attacked(path, name="bomb" if weights else "") or not weights


def test_hdf5__an_lzf_bomb_needs_a_large_chunk(tmp_path):
    path = hdf5(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        data = file.create_dataset("bomb", (4, 2**24), "f4", chunks=(4, 2**22), compression="lzf")
        data[:, : 2**10] = 1
    assert "filters" in attacked(path)


def test_hdf5__a_filter_that_is_code(tmp_path):
    path = hdf5(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((4, 3))
        settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((4, 3))
        h5py.h5d.create(file.id, b"strange", h5py.h5t.IEEE_F32LE, space, settings)
    assert "filters" in attacked(path)


@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "storage"])
def test_hdf5__links_out_of_the_file(tmp_path, kind):
    path = hdf5(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        if kind == "external":
            file["evil"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "storage":
            file.create_dataset("evil", (4, 2), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 2), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 2))
            file.create_virtual_dataset("evil", layout)
        else:
            del file["fc.weight"]
            file["evil"] = h5py.SoftLink("/evil")
    attacked(path)


def test_hdf5__loops_of_links_and_deep_groups(tmp_path):
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(1000):
            group = group.create_group("g")
            group["up"] = file
            group["self"] = group
    attacked(path)


def test_hdf5__a_hundred_thousand_tensors(tmp_path):
    """Made by calls of HDF5's own, since h5py's take four times as long."""
    path = tmp_path / "run.h5"
    with h5py.File(path, "w", libver="latest") as file:
        scalar, zero = h5py.h5s.create(h5py.h5s.SCALAR), np.zeros((), np.float32)
        for number in range(75_000):
            file.id.links.create_soft(f"t{number}".encode(), b"/x")
        for number in range(75_000, 100_000):
            data = h5py.h5d.create(file.id, f"t{number}".encode(), h5py.h5t.IEEE_F32LE, scalar)
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, zero)
    assert "at most 20000" in attacked(path)


@pytest.mark.parametrize("kind", ["objects", "pickle", "strings", "references"])
def test_hdf5__objects(tmp_path, kind):
    path, harm = hdf5(tmp_path / "run.h5"), tmp_path / "harm"
    with h5py.File(path, "a") as file:
        if kind == "objects":
            file.create_dataset("evil", (4, 2), h5py.vlen_dtype(np.float32))
        elif kind == "pickle":
            file["evil"] = np.array([np.void(pickle.dumps(Harm(harm)))] * 4)
        elif kind == "strings":
            file["evil"] = [[b"a"], [b"b"], [b"c"], [b"d"]]
        else:
            file.create_dataset("evil", (4, 2), h5py.ref_dtype)
    assert "evil" in attacked(path)
    assert not harm.exists()


def test_hdf5__large_attrs_are_passed_over(tmp_path):
    path = hdf5(tmp_path / "run.h5", step=np.arange(4))
    with h5py.File(path, "a", libver="latest") as file:
        file.attrs.create("layout", np.zeros(2**12, "S8"))
        file["fc.weight"].attrs["output_axes"] = np.arange(1000)
        file["evil"] = np.zeros((4, 2), "i4")
    attacked(path)


def test_hdf5__every_thousandth_byte_prefix_and_flips(tmp_path):
    from koopscope import open_trajectory
    from koopscope.errors import KoopscopeError

    whole = hdf5(tmp_path / "run.h5", step=np.arange(4)).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path = tmp_path / "broken.h5"
        path.write_bytes(content if number % 2 else whole[: int(rng.integers(len(whole)))])
        try:
            open_trajectory(path).load()
        except KoopscopeError:
            continue


# Folders of checkpoints


def safetensors(folder, header, content=b"", length=None):
    folder.mkdir(exist_ok=True)
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "step_1.safetensors").write_bytes(
        struct.pack("<Q", len(words) if length is None else length) + words + content
    )
    return folder


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def headers():
    """Made when they are asked for: kept, so many objects would slow down every collection of garbage."""
    return [
        {"w": entry([2**40], [0, 8])},
        {"w": entry([2**40, 2**40], [0, 2**62])},
        {"w": entry([2], [8, 0])},
        {"w": entry([2], [-8, 0])},
        {"w": entry([2], [2**64, 2**64 + 8])},
        {"w": entry([-1, -2], [0, 8])},
        {"w": entry([1.0, 2.0], [0, 8])},
        {"w": entry([True, 2], [0, 8])},
        {"w": entry([1] * 9 + [2], [0, 8])},
        {"w": entry([1], [0, 8], "I64")},
        {"w": entry([2], [0, 8], {"evil": 1})},
        {"w": None},
        {"../../evil": entry([2], [0, 8])},
        {"a/../../evil": entry([2], [0, 8])},
        {"\0": entry([2], [0, 8])},
        {f"t{number}": entry([0], [0, 0]) for number in range(100_000)},
        {f"t{number}": entry([0], [0, 0]) for number in range(30_000)},
        [1, 2],
        b"[" * 10**6,
        b'{"a":' * 500_000,
        b"9" * 10**6,
        b"{",
        b"\xff\xfe",
    ]


def test_safetensors__headers(tmp_path):
    attacked(*(safetensors(tmp_path / str(n), header, b"\0" * 8) for n, header in enumerate(headers())))


def test_safetensors__length_of_the_header(tmp_path):
    header = {"w": entry([2], [0, 8])}
    lengths = [0, 2**62, 2**64 - 1, 10**9]
    attacked(*(safetensors(tmp_path / str(n), header, b"\0" * 8, n) for n in lengths))


def npz(folder, members, method=zipfile.ZIP_DEFLATED):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "step_1.npz", "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder


def test_npz__a_deflated_bomb(tmp_path):
    folder = in_npz(tmp_path / "run", GIB)
    assert "268435456" in attacked(folder, name="w")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_npz__other_methods_of_packing(tmp_path, method):
    assert "method" in attacked(npz(tmp_path / "run", {"w.npy": npy_header((4,)) + b"\0" * 16}, method))


ARRAYS = [
    npy_header((2**40, 2**20)),
    npy_header((2**40,)) + b"\0" * 64,
    npy_header((4,), "|O") + b"\0" * 64,
    b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"1" * 100,
    b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + b"{}" * 8,
    b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('true') ",
    b"",
    b"\x80\x04.",
]


def test_npz__headers_of_arrays(tmp_path):
    attacked(*(npz(tmp_path / str(n), {"w.npy": content}) for n, content in enumerate(ARRAYS)))


def test_npz__object_arrays_are_not_unpickled(tmp_path):
    folder, harm = tmp_path / "run", tmp_path / "harm"
    folder.mkdir()
    np.savez(folder / "step_1.npz", w=np.array([Harm(harm)], dtype=object))
    assert not harm.exists()
    assert "object" in attacked(folder, name="w")
    assert not harm.exists()


@pytest.mark.parametrize("name", ["../../evil.npy", "a/../evil.npy", "a\\..\\evil.npy"])
def test_npz__names(tmp_path, name):
    attacked(npz(tmp_path / "run", {name: npy_header((2, 2)) + b"\0" * 16}))


def test_npz__a_hundred_thousand_members(tmp_path):
    members = {f"t{number}.npy": b"" for number in range(100_000)}
    attacked(npz(tmp_path / "run", members, zipfile.ZIP_STORED))


def test_npz__a_directory_that_claims_too_much(tmp_path):
    folder = npz(tmp_path / "run", {"w.npy": npy_header((4,)) + b"\0" * 16})
    path = folder / "step_1.npz"
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    attacked(folder)


def pt(folder, words, method=zipfile.ZIP_STORED):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "step_1.pt", "w", method) as archive:
        archive.writestr("archive/data.pkl", words)
        archive.writestr("archive/version", "3")
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pt__pickles_are_not_run(tmp_path, protocol):
    harm = tmp_path / "harm"
    words = pickle.dumps({"w": Harm(harm)}, protocol)
    assert "only tensors are read" in attacked(pt(tmp_path / "run", words))
    assert not harm.exists()


def test_pt__a_name_taken_back_from_the_memo(tmp_path):
    harm = tmp_path / "harm"
    # STACK_GLOBAL takes its words from the stack, where the memo may have put others than were read last.
    words = (
        b"\x80\x04\x8c\x08builtins\x94\x8c\x04open\x940000"
        b"\x8c\x0bcollections\x940\x8c\x0bOrderedDict\x940h\x00h\x01\x93"
        + b"\x8c" + bytes([len(str(harm))]) + str(harm).encode() + b"\x8c\x01w\x86R."
    )  # fmt: skip
    assert "only tensors are read" in attacked(pt(tmp_path / "run", words))
    assert not harm.exists()


def test_pt__views_that_repeat_a_storage_beyond_measure(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: .pt files cannot be read")
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"w": torch.zeros(1).expand(2**38)}, folder / "step_1.pt")
    assert "RuntimeError" in attacked(folder, seconds=30.0)  # starting torch takes most of it


def test_pt__bare_pickles(tmp_path):
    folder, harm = tmp_path / "run", tmp_path / "harm"
    folder.mkdir()
    (folder / "step_1.pt").write_bytes(pickle.dumps(Harm(harm)))
    assert "bare pickle" in attacked(folder)
    assert not harm.exists()


def test_pt__packed_archives(tmp_path):
    attacked(pt(tmp_path / "run", b"\0" * 2**20, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_folder__links_and_odd_files(tmp_path, suffix):
    folder = tmp_path / "run"
    folder.mkdir()
    os.symlink("/etc/passwd", folder / f"step_1.{suffix}")
    assert "link out of it" in attacked(folder)
    (folder / f"step_1.{suffix}").unlink()
    os.mkfifo(folder / f"step_1.{suffix}")
    assert "no file" in attacked(folder)
    (folder / f"step_1.{suffix}").unlink()
    os.symlink(f"step_1.{suffix}", folder / f"step_1.{suffix}")
    attacked(folder)
