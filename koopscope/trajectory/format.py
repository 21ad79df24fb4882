"""The format trajectory/1: names of attrs, version, codecs, the rule for names, limits, chunk shapes.

Described in full in ``docs/reference/trajectory_format.md``. Nothing here touches a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from koopscope.errors import TrajectoryError

FORMAT = "trajectory/1"
MAJOR_VERSIONS_READ = (1,)

FORMAT_ATTR = "koopscope_format"
COMMITTED_ATTR = "n_committed"
STATUS_ATTR = "status"
RUN_ATTR = "run_id"
JOURNAL_ATTR = "journal"
RUNS_ATTR = "runs"
STEP = "step"
RUN = "run"

ENDIAN: Final = "little"
# Chunk c.0.0 rather than c/0/0: of folders there would be as many as chunks, and each takes as long to make
# and to remove.
CHUNK_NAMES: Final = {"name": "default", "separator": "."}
BLOSC_NAME: Final = "lz4"
BLOSC_LEVEL: Final = 5
BLOSC_SHUFFLE: Final = "shuffle"
STEP_FILL = -1

MAX_TENSORS = 20_000
MAX_RANK = 8
MAX_NAME = 200
MAX_ROWS = 2**27
MAX_SERIES_BYTES = 128 * 2**20
MAX_CHUNK_BYTES = 256 * 2**20
MAX_METADATA_BYTES = 4 * 2**20
TARGET_CHUNK_BYTES = 2**20

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_VERSION = re.compile(r"trajectory/(\d+)(\.\d+)*")


def check_names(names: Iterable[str]) -> None:
    """Check names of tensors and metrics against the rule of the format, which any file system can hold.

    Raises
    ------
    TrajectoryError
        Where a name is illegal, or equal to another but for upper and lower case.

    Examples
    --------
    >>> check_names(["fc1.weight", "loss"])
    """
    seen: dict[str, str] = {STEP: STEP}
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name or name == "zarr.json":
            raise TrajectoryError(
                f"name {name[:220]!r}: expected 1 to 200 letters, digits, '_', '.' or '-', the first no '.' "
                "or '-', no '..', not 'zarr.json'; rename the tensor before recording it"
            )
        twin = name.lower()
        if twin in seen:
            raise TrajectoryError(
                f"names {seen[twin]!r} and {name!r} are equal but for upper and lower case, which some file "
                "systems cannot tell apart ('step' is taken by the step numbers); rename one of them"
            )
        seen[twin] = name


def check_version(found: object, where: str) -> None:
    """Check that a store's format is one that this koopscope reads.

    Raises
    ------
    TrajectoryError
        Where it is another format, or a newer major version.
    """
    read = ", ".join(f"trajectory/{major}" for major in MAJOR_VERSIONS_READ)
    match = _VERSION.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        raise TrajectoryError(
            f"{where}: a Zarr group, but not a recording made by koopscope.TrajectoryWriter: its attr "
            f"{FORMAT_ATTR} is {'missing' if found is None else repr(found)[:80]} (read here: {read})"
        )
    if int(match[1]) not in MAJOR_VERSIONS_READ:
        raise TrajectoryError(
            f"{where}: written as {found}; this koopscope reads {read}. Upgrade: pip install -U koopscope"
        )


def check_limits(where: str, shape: tuple[int, ...], chunk_bytes: int) -> None:
    """Check one array's metadata against the limits, before any of it is read.

    Raises
    ------
    TrajectoryError
        Where rank or chunk size exceed what a recording can need.
    """
    if len(shape) > MAX_RANK:
        raise TrajectoryError(f"{where}: expected at most {MAX_RANK} dimensions, found {len(shape)}")
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise TrajectoryError(
            f"{where}: expected chunks of at most {MAX_CHUNK_BYTES} bytes, found {chunk_bytes}; "
            "write it again with smaller chunks"
        )


def check_count(where: str, count: int) -> None:
    """Check the number of tensors and metrics against the limit.

    Raises
    ------
    TrajectoryError
        Where there are more than a recording can need.
    """
    if count > MAX_TENSORS:
        raise TrajectoryError(f"{where}: expected at most {MAX_TENSORS} tensors and metrics, found more")


def check_rows(where: str, rows: int) -> None:
    """Check the number of rows against the limit: steps and metrics are read whole on opening.

    Raises
    ------
    TrajectoryError
        Where there are more than a recording can need.
    """
    if rows > MAX_ROWS:
        raise TrajectoryError(f"{where}: expected at most {MAX_ROWS} rows, found {rows}")


def check_series(where: str, rows: int, count: int) -> None:
    """Check what the steps and metrics, which are read whole on opening, take in memory.

    Raises
    ------
    TrajectoryError
        Where it is more than a recording can need.
    """
    if 8 * rows * count > MAX_SERIES_BYTES:
        raise TrajectoryError(
            f"{where}: expected steps and metrics of at most {MAX_SERIES_BYTES} bytes, found {count} "
            f"of {rows} rows; leave metrics out with exclude=..., or record fewer rows"
        )


def chunk_shape(
    shape: tuple[int, ...], rows: int, itemsize: int, output_axes: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Choose chunks of `rows` steps, whole nodes along the output axes, of about 1 MiB.

    A node is only cut where it alone would be beyond what readers accept.

    Parameters
    ----------
    shape
        Shape of the tensor without the step axis.
    rows
        Steps in a chunk.
    itemsize
        Bytes of one value.
    output_axes
        Axes that count output units; ``None`` (unknown) takes the first for them.

    Examples
    --------
    >>> chunk_shape((1000, 784), 64, 4, (0,))
    (64, 5, 784)
    """
    outputs = output_axes if output_axes is not None else tuple(range(min(1, len(shape))))
    others = [axis for axis in range(len(shape)) if axis not in outputs]
    chunk = list(shape)
    for axes, target in ((outputs, TARGET_CHUNK_BYTES), (others, MAX_CHUNK_BYTES // 4)):
        for axis in axes:
            per_unit = rows * itemsize * math.prod(chunk) // max(chunk[axis], 1)
            chunk[axis] = max(1, min(chunk[axis], target // max(per_unit, 1)))
    return (rows, *chunk)
