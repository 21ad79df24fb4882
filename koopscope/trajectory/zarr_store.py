"""The Zarr store behind the writer: created whole, grown together, committed by one counter."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from koopscope.errors import OutputExistsError, RecordingError, TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import swapped
from koopscope.trajectory.files import recording_errors, replace, sync_folder
from koopscope.trajectory.journal import find_journals, remove
from koopscope.trajectory.journal_rows import read_journal
from koopscope.trajectory.lock import StoreLock
from koopscope.trajectory.plan import ArraySpec
from koopscope.trajectory.recycling import SPARE, Recycler
from koopscope.trajectory.zarr_array import GrowingArray
from koopscope.trajectory.zarr_metadata import StoredArray, read_metadata, read_root, signed


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that exists, unless it is a recording and overwriting was asked for.

    Raises
    ------
    OutputExistsError
        Where something is in the way.
    """
    if not path.exists():
        return
    try:
        attrs = read_root(path)
    except (OSError, TrajectoryError):
        attrs = {}
    check_taken(path, attrs, overwrite=overwrite)


def check_taken(where: object, attrs: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a place that is taken, unless it is by a recording and overwriting was asked for.

    Parameters
    ----------
    where
        The place.
    attrs
        Attrs of the recording there, empty where something else is.
    overwrite
        Whether a recording may be replaced.

    Raises
    ------
    OutputExistsError
        Where it stays.
    """
    recording = fmt.FORMAT_ATTR in attrs
    if overwrite and not recording:
        raise OutputExistsError(
            f"{where} exists and is not a recording made by koopscope, so overwrite=True does not replace "
            "it; choose another path, or remove it yourself"
        )
    if not overwrite:
        unfinished = ", a recording that was not closed" if attrs.get(fmt.STATUS_ATTR) == "open" else ""
        raise OutputExistsError(
            f"{where} exists{unfinished}; choose another path, or say "
            f"{'resume=True to record on, or ' if recording else ''}overwrite=True to replace it"
        )


def create_store(
    path: Path,
    specs: Mapping[str, ArraySpec],
    attrs: Mapping[str, Any],
    *,
    overwrite: bool,
    durable: bool,
    before: Callable[[], None],
) -> None:
    """Create an empty store beside its place and rename it in, so that no half-made one is ever seen.

    Parameters
    ----------
    path
        Directory to create.
    specs
        The arrays, ``step`` among them.
    attrs
        Attrs of the root.
    overwrite
        Replace a recording that is there.
    durable
        Force it to the disk.
    before
        Called when all but the renaming is done.
    """
    check_target(path, overwrite=overwrite)
    sweep(path)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.new")
    old = fresh.with_suffix(".old")
    replaced = read_root(path).get(fmt.RUN_ATTR) if path.exists() else None
    try:
        group = zarr.create_group(fresh, zarr_format=3, attributes=dict(attrs))
        for name, spec in specs.items():
            _create_array(group, name, spec)
        for folder in (fresh, *(fresh / name for name in specs)):
            metadata = json.dumps(signed(read_metadata(folder)), indent=2).encode()
            replace(folder / "zarr.json", metadata, durable=durable)
        before()
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if durable:
        sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)
    for journal in find_journals(path, replaced) if isinstance(replaced, str) else []:
        remove(journal, durable=False)


def sweep(path: Path) -> None:
    """Remove the half-made files that a writer which was killed has left beside a store."""
    name = re.escape(path.name)
    left = re.compile(
        rf"\.{name}\.([0-9a-f]{{12}}\.(new|old)|partial)|{name}\.journal-[0-9a-f-]+(\.partial|{SPARE})"
    )
    for child in path.parent.iterdir():
        if left.fullmatch(child.name):
            if child.is_dir():
                shutil.rmtree(child, ignore_errors=True)
            else:
                child.unlink()


def _create_array(group: zarr.Group, name: str, spec: ArraySpec) -> None:
    blosc = BloscCodec(
        typesize=spec.dtype.itemsize,
        cname=fmt.BLOSC_NAME,
        clevel=fmt.BLOSC_LEVEL,
        shuffle=fmt.BLOSC_SHUFFLE,
    )
    order = swapped if spec.dims[0] == fmt.RUN else tuple
    group.create_array(
        name,
        shape=order((spec.chunks[0], *spec.shape)),
        dtype=spec.dtype,
        chunks=order(spec.chunks),
        serializer=BytesCodec(endian=fmt.ENDIAN),
        compressors=(blosc, Crc32cCodec()),
        chunk_key_encoding=dict[str, Any](fmt.CHUNK_NAMES),
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attrs),
    )


class ZarrStore:
    """A store that rows are committed to.

    Parameters
    ----------
    path
        Its directory, which is there.
    lock
        The right to write to it, held as long as anything may be folded into it; ``None`` for a mirror.
    durable
        Force what is committed to the disk.

    Raises
    ------
    TrajectoryError
        Where it is no recording, or a damaged one.
    """

    def __init__(self, path: Path, lock: StoreLock | None, *, durable: bool) -> None:
        """Open all arrays."""
        self.path = path
        self.lock = lock
        self._durable = durable
        self._root = read_metadata(path)
        self._root["attributes"] = read_root(path)
        members = sorted(child.name for child in path.iterdir() if (child / "zarr.json").is_file())
        self.arrays = {name: GrowingArray(path / name, durable=durable) for name in members}
        if fmt.STEP not in self.arrays:
            raise TrajectoryError(
                f"{path}: expected an array 'step', found {members[:10]}; the store is damaged"
            )

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attrs of the root."""
        return dict(self._root["attributes"])

    @property
    def committed(self) -> int:
        """Number of committed rows."""
        return int(self._root["attributes"][fmt.COMMITTED_ATTR])

    def last_steps(self, count: int) -> list[int]:
        """Read the steps of the last committed rows."""
        start = max(0, self.committed - count)
        stored = StoredArray(self.path / fmt.STEP, self.committed)
        return [int(step) for step in stored.read((slice(start, self.committed, 1),))]

    def write_rows(self, first: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Commit rows: they are on the disk, and counted, when this returns.

        Parameters
        ----------
        first
            Number of the first row; the number of committed ones, or less where rows are written again.
        rows
            Array names to rows.
        """
        stop = first + rows[fmt.STEP].shape[0]
        with recording_errors(self.path):
            for array in self.arrays.values():
                array.grow(stop)
            # The step numbers and the counter come last: a row they count has all its weights on disk.
            for name in sorted(rows, key=lambda name: name == fmt.STEP):
                self.arrays[name].write(first, rows[name], self.committed)
            if stop > self.committed:
                self.update(**{fmt.COMMITTED_ATTR: stop})

    def fold(self, journal: Path, recycler: Recycler | None = None) -> None:
        """Commit the rows of a journal and remove it, or have its file used again."""
        with recording_errors(journal):
            rows = read_journal(journal)
        if rows.damage or rows.first_row > self.committed:
            raise RecordingError(f"{journal}: {rows.damage or 'rows before this journal are missing'}")
        if rows.stop > self.committed:
            self.write_rows(rows.first_row, rows.views())
        if recycler is None:
            remove(journal, durable=self._durable)
            return
        with recording_errors(journal):
            recycler.keep(journal, rows.starts)

    def finish(self, *, rechunk: bool = True) -> None:
        """Trim all arrays to the committed rows, give small ones larger chunks, mark the recording closed."""
        with recording_errors(self.path):
            for array in self.arrays.values():
                if rechunk:
                    array.finish(self.committed)
                else:
                    array.trim(self.committed)
            self.update(**{fmt.STATUS_ATTR: "closed", fmt.JOURNAL_ATTR: False})

    def update(self, **attrs: Any) -> None:
        """Replace attrs of the root, all at once."""
        root = signed({**self._root, "attributes": {**self._root["attributes"], **attrs}})
        # Written beside the store: Zarr warns of files in a group that it does not know.
        partial = self.path.with_name(f".{self.path.name}.partial")
        with recording_errors(self.path):
            replace(
                self.path / "zarr.json",
                json.dumps(root, indent=2).encode(),
                durable=self._durable,
                partial=partial,
            )
        self._root = root
