"""Little that unpacks to much: zeros in the packings that recordings use."""

import io
import struct
import zipfile
import zlib
from functools import cache

import numpy as np

MIB, GIB = 2**20, 2**30


@cache
def deflated(size, head=b""):
    """Deflate a head and zeros: a MiB is packed once, up to where it stands for itself, and repeated.

    Deflating a GiB takes longer than all that reads it.
    """
    machine = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    pieces = [machine.compress(part) + machine.flush(zlib.Z_FULL_FLUSH) for part in (head, bytes(MIB))]
    return pieces[0] + pieces[1] * (size // MIB) + machine.flush()


@cache
def checksum(function, size, head=b""):
    """Run ``zlib.adler32`` or ``zlib.crc32`` over what :func:`deflated` holds."""
    value, zeros = function(head), bytes(MIB)
    for _ in range(size // MIB):
        value = function(zeros, value)
    return value


def in_zlib(size):
    return b"\x78\xda" + deflated(size) + checksum(zlib.adler32, size).to_bytes(4, "big")


def in_gzip(size):
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return head + deflated(size) + struct.pack("<II", checksum(zlib.crc32, size), size)


def npy_header(shape, descr="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def in_npz(folder, size):
    """Put in what is deflated already as if it were stored, and then call it deflated in both places."""
    head = npy_header((size // 4,))
    total, crc = len(head) + size, checksum(zlib.crc32, size, head)
    folder.mkdir()
    path = folder / "step_1.npz"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("w.npy")
        archive.writestr(member, deflated(size, head))
        member.compress_type, member.CRC, member.file_size = zipfile.ZIP_DEFLATED, crc, total
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, 8, zipfile.ZIP_DEFLATED)
    struct.pack_into("<I", content, 14, crc)
    struct.pack_into("<I", content, 22, total)
    path.write_bytes(content)
    return folder
