"""One growing array of a store: rows go into chunks, and its metadata are replaced whole."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import RecordingError
from koopscope.threads import n_cores
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import ChunkError, ChunkGrid, swapped
from koopscope.trajectory.columns import ColumnReader, FileFetch
from koopscope.trajectory.files import replace, sync_folder
from koopscope.trajectory.zarr_metadata import StoredArray, read_metadata, signed

_MAX_THREADS = 8
_BUFFERS_BYTES = 2**26  # of all threads together
_Piece = tuple[int, tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]


class GrowingArray:
    """An array that rows are written to.

    Parameters
    ----------
    path
        Directory of the array, which is there.
    durable
        Force what is written to the disk.

    Raises
    ------
    TrajectoryError
        Where its metadata are damaged.
    RecordingError
        Where its chunks are not encoded as koopscope encodes them.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        """Read the metadata."""
        stored = StoredArray(path, 0)
        self.path = path
        self.attrs = stored.attrs
        self.dtype = stored.dtype
        self.tail = stored.shape[1:]
        self.grid: ChunkGrid = stored.grid
        self._metadata = read_metadata(path)
        self._durable = durable
        own = self.grid.compressor == "blosc" and self.grid.checksum and self.grid.prefixed
        if not own or self.grid.dtype.newbyteorder("<") != self.grid.dtype:
            raise RecordingError(f"{path}: its chunks are not encoded as koopscope does it; record elsewhere")

    @property
    def rows(self) -> int:
        """Number of rows, those that are not committed included."""
        return int(self._metadata["shape"][1 if self.grid.run_first else 0])

    def grow(self, rows: int) -> None:
        """Make the array at least as long as that, doubling its length."""
        length = max(self.rows, self.grid.chunks[0])
        while length < rows:
            length *= 2
        if length != self.rows:
            self._describe(rows=length)

    def write(self, first: int, values: NDArray[Any], committed: int) -> None:
        """Write rows; what their chunks hold of earlier rows is kept, later ones are filled.

        A chunk with committed rows is replaced. One without is written in its place: what a writer that dies
        leaves of it is beyond the committed rows, and is written anew from the journal.

        Parameters
        ----------
        first
            Number of the first row.
        values
            The rows, shape ``(rows, ...)``.
        committed
            Number of committed rows.
        """
        length, columns = self.grid.chunks[0], list(self._columns())
        blocks = range(first // length, -(-(first + values.shape[0]) // length))
        pieces = [(block, *column) for block in blocks for column in columns]

        def write_some(some: list[_Piece]) -> None:
            chunk = np.empty(self.grid.chunks, self.grid.dtype)
            for block, columns, inside, index in some:
                begin = max(first, block * length)
                part = values[begin - first : (block + 1) * length - first]
                name = self.grid.key((block, *index))
                row = begin - block * length
                place = (slice(row, row + part.shape[0]), *inside)
                if row:
                    self._load(name, chunk)
                elif chunk[place].size < chunk.size:
                    chunk[...] = fmt.STEP_FILL if self.dtype.kind == "i" else np.nan
                chunk[place] = part[(slice(None), *columns)]
                self._put(name, chunk, self.grid, unread=block * length >= committed)

        # Threads that train wait for each other: what takes one core from them had better take all at once.
        threads = max(1, min(n_cores(), _MAX_THREADS, _BUFFERS_BYTES // self.grid.nbytes))
        shares = [some for start in range(threads) if (some := pieces[start::threads])]
        if len(shares) < 2:
            write_some(pieces)
            return
        # Threads that end: Python warns of those that stay where a training forks. And none of them the
        # caller's, in which Blosc would start threads of its own.
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(write_some, shares))

    def finish(self, rows: int) -> None:
        """Trim to the committed rows; a small tensor gets chunks of more rows, towards 1 MiB.

        New chunks are written under names of the other kind than the old ones, ``c/0/0`` or ``c.0.0``, so
        that the array changes in the one moment in which its metadata are replaced.

        Parameters
        ----------
        rows
            Number of committed rows.
        """
        one_run = (1, *self.tail[1:]) if self.grid.run_first else self.tail
        whole = rows > 0 and 0 not in self.tail and self.grid.chunks[1:] == one_run
        length = self._longer(rows) if whole else self.grid.chunks[0]
        if length != self.grid.chunks[0]:
            other = "/" if self.grid.separator == "." else "."
            self._rewrite(rows, dataclasses.replace(self.grid, chunks=(length, *one_run), separator=other))
        self.trim(rows)
        self._clean(rows)

    def trim(self, rows: int) -> None:
        """Give the array the length of the committed rows."""
        if self.rows != rows:
            self._describe(rows=rows)

    def unfinished(self, rows: int) -> list[str]:
        """Name the chunks that rows after the committed ones are to be written into, beside earlier ones."""
        block, rest = divmod(rows, self.grid.chunks[0])
        return [self.grid.key((block, *index)) for *_, index in self._columns()] if rest else []

    def _longer(self, rows: int) -> int:
        """Choose how many rows a chunk is to have; where it is not worth it, as many as now."""
        now = self.grid.chunks[0]
        row_bytes = self.dtype.itemsize * math.prod(self.grid.chunks[1:])
        length = min(-(-rows // now), fmt.TARGET_CHUNK_BYTES // (row_bytes * now)) * now
        return length if length >= 2 * now else now

    def _rewrite(self, rows: int, new: ChunkGrid) -> None:
        reader = ColumnReader((rows, *self.tail), self.grid, FileFetch(self.path))
        length = new.chunks[0]
        for block, (columns, inside, index) in product(range(-(-rows // length)), list(self._columns())):
            chunk = np.full(new.chunks, fmt.STEP_FILL if self.dtype.kind == "i" else np.nan, new.dtype)
            part = reader.read((slice(block * length, min(rows, (block + 1) * length), 1), *columns))
            chunk[(slice(0, part.shape[0]), *inside)] = part
            self._put(new.key((block, *index)), chunk, new, unread=True)
        self._describe(rows=rows, grid=new)
        self._clean(rows)

    def _columns(self) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]]:
        """Give the columns of each chunk of a block of rows, in the row and in the chunk, and its number."""
        chunks = self.grid.chunks[1:]
        counts = [-(-size // length) for size, length in zip(self.tail, chunks, strict=True)]
        for index in product(*map(range, counts)):
            columns = tuple(
                slice(i * length, min((i + 1) * length, size))
                for i, length, size in zip(index, chunks, self.tail, strict=True)
            )
            yield columns, tuple(slice(0, part.stop - part.start) for part in columns), index

    def _load(self, name: str, chunk: NDArray[Any]) -> None:
        try:
            data = np.frombuffer((self.path / name).read_bytes(), np.uint8)
            self.grid.decode(data, chunk)
        except (FileNotFoundError, ChunkError) as error:
            raise RecordingError(
                f"{self.path}: chunk {name}, which the next rows belong to, is damaged ({error}); the rows "
                "recorded since are kept in the journal"
            ) from error

    def _put(self, name: str, chunk: NDArray[Any], grid: ChunkGrid, *, unread: bool) -> None:
        path = f"{self.path}/{name}"
        partial, parts = (path if unread else None), grid.encode(chunk)
        try:
            replace(path, *parts, durable=self._durable, partial=partial)
        except FileNotFoundError:
            folder = Path(path).parent
            folder.mkdir(parents=True, exist_ok=True)
            replace(path, *parts, durable=self._durable, partial=partial)
            while self._durable and folder != self.path:
                folder = folder.parent
                sync_folder(folder)

    def _describe(self, *, rows: int, grid: ChunkGrid | None = None) -> None:
        """Replace the metadata."""
        order = swapped if self.grid.run_first else tuple
        metadata = {**self._metadata, "shape": list(order((rows, *self.tail)))}
        if grid is not None:
            chunks = list(order(grid.chunks))
            configuration = {**metadata["chunk_grid"]["configuration"], "chunk_shape": chunks}
            metadata["chunk_grid"] = {**metadata["chunk_grid"], "configuration": configuration}
            metadata["chunk_key_encoding"] = {
                "name": "default",
                "configuration": {"separator": grid.separator},
            }
        metadata = signed(metadata)
        replace(self.path / "zarr.json", json.dumps(metadata, indent=2).encode(), durable=self._durable)
        self._metadata = metadata
        self.grid = grid or self.grid

    def _clean(self, rows: int) -> None:
        """Remove the chunks that belong to no committed row, or to the array before it was rechunked."""
        folders = self.grid.separator == "/"
        blocks = -(-rows // self.grid.chunks[0])
        place = 2 if self.grid.run_first else 1  # of a block's number in the name of a chunk
        for file in [file for file in self.path.iterdir() if file.name != "c"]:
            stray = file.name.startswith("c.") and (folders or int(file.name.split(".")[place]) >= blocks)
            if stray or file.suffix == ".partial":
                file.unlink()
        for member in list((self.path / "c").glob("/".join("*" * place) if folders else "*")):
            if not folders or not member.name.isdigit() or int(member.name) >= blocks:
                shutil.rmtree(member) if member.is_dir() else member.unlink()
        if not folders and (self.path / "c").is_dir():
            (self.path / "c").rmdir()
