"""Rows that are recorded to a URL: kept in memory, and put there a block at a time.

There is no journal on an object store, so a block is the unit that can be lost. It is written into a
mirror, a store in a temporary folder that holds metadata and unfinished chunks only, and what changed there
is put in its place: chunks, then metadata of arrays, then step numbers, and the root with its counter last.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import KoopscopeError, TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.files import recording_errors
from koopscope.trajectory.folding import Folder
from koopscope.trajectory.place import Place
from koopscope.trajectory.plan import Plan
from koopscope.trajectory.recovery import recorded_packer, require_attrs
from koopscope.trajectory.rows import RowPacker
from koopscope.trajectory.settings import Settings
from koopscope.trajectory.zarr_store import ZarrStore, check_taken, create_store

_MAX_WAITING = 1  # blocks in memory, besides the one that takes rows


class _Block(NamedTuple):
    first_row: int
    rows: NDArray[np.uint8]


class UploadedStore:
    """A store at a URL, open for rows.

    Parameters
    ----------
    place
        Where it is.
    store
        The mirror, whose folder goes with this object.
    packer
        Makes records of rows.
    settings
        How rows are kept.
    """

    def __init__(
        self,
        place: Place,
        store: ZarrStore,
        packer: RowPacker,
        settings: Settings,
    ) -> None:
        """Begin; no thread is started before there is work."""
        self._place = place
        self._store = store
        self._remove = weakref.finalize(self, shutil.rmtree, store.path.parent, ignore_errors=True)
        self._packer = packer
        self._settings = settings
        self._put: dict[Path, tuple[int, int]] = {}
        self._folder = Folder(self._fold, _MAX_WAITING)
        self._first_row = store.committed
        self._last_steps = store.last_steps(2)
        self._rows: list[NDArray[np.uint8]] = []

    @classmethod
    def create(cls, place: Place, plan: Plan, settings: Settings) -> UploadedStore:
        """Put an empty store in place.

        Raises
        ------
        OutputExistsError
            Where something is there.
        RecordingError
            Where it cannot be written.
        """
        attrs = check_place(place, overwrite=settings.overwrite)
        mirror = _mirror()
        with recording_errors(mirror):
            create_store(mirror, plan.specs, plan.attrs, overwrite=False, durable=False, before=lambda: None)
        store = ZarrStore(mirror, None, durable=False)
        rows = cls(place, store, plan.packer(place.url, settings.selection), settings)
        if attrs is not None:
            place.remove()
        rows._upload()
        return rows

    @classmethod
    def resume(cls, place: Place, settings: Settings, expected: Mapping[str, Any]) -> UploadedStore:
        """Open the recording that is there, to go on behind its last row.

        Raises
        ------
        TrajectoryError
            Where it is no recording, or a damaged one.
        UsageError
            Where attrs of its root are none of those expected.
        """
        mirror = _mirror()
        mirror.mkdir()
        place.copy_small_files(mirror)
        try:
            store = ZarrStore(mirror, None, durable=False)
        except TrajectoryError as error:
            raise TrajectoryError(str(error).replace(str(mirror), place.url)) from error
        require_attrs(place.url, store.attrs, expected)
        for name, array in store.arrays.items():
            missing = [
                chunk for chunk in array.unfinished(store.committed) if not (mirror / name / chunk).exists()
            ]
            place.copy(mirror, [f"{name}/{chunk}" for chunk in missing])
        rows = cls(place, store, recorded_packer(store, settings.selection), settings)
        rows._put = rows._files()
        store.update(**{fmt.STATUS_ATTR: "open"})
        rows._upload()
        return rows

    def last_steps(self, count: int) -> list[int]:
        """Give the steps of the last committed rows, before any is added."""
        return self._last_steps[-count:]

    def append(self, step: int, tensors: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Keep one row in memory; a block that is full goes to its place beside the training.

        Raises
        ------
        TrajectoryError
            Where the row differs in kind from those before.
        RecordingError
            Where an earlier block cannot be written; this row is not recorded then.
        """
        self._folder.check()
        pieces = self._packer.pack(self._first_row + len(self._rows), step, tensors, metrics)
        row = np.empty(self._packer.record_format.nbytes, np.uint8)
        np.concatenate([piece.data for piece in pieces], out=row)
        self._rows.append(row)
        if (self._first_row + len(self._rows)) % self._settings.block == 0:
            self._rotate()

    def commit(self) -> None:
        """Put all rows in place.

        Raises
        ------
        RecordingError
            Where they cannot be written; they are kept in memory.
        """
        if self._rows:
            self._rotate()
        self._folder.drain()

    def finish(self) -> None:
        """Commit all rows and mark the recording as closed.

        Raises
        ------
        RecordingError
            Where that cannot be written; it can be tried again.
        """
        self.commit()
        self._store.finish(rechunk=False)
        self._upload()

    def abandon(self) -> None:
        """Commit all rows, as far as that can be done, and leave the status ``open``."""
        with suppress(KoopscopeError):
            self.commit()

    def release(self) -> None:
        """Remove the mirror."""
        self._remove()

    def _rotate(self) -> None:
        block = _Block(self._first_row, np.stack(self._rows))
        self._first_row += len(self._rows)
        self._rows = []
        self._folder.add(block)

    def _fold(self, block: _Block) -> None:
        views = self._packer.record_format.views(block.rows.reshape(-1), 0, len(block.rows))
        self._store.write_rows(block.first_row, views)
        self._upload()

    def _files(self) -> dict[Path, tuple[int, int]]:
        """Give the files of the mirror, with what changes when one is replaced."""
        found = {}
        for path in self._store.path.rglob("*"):
            if path.is_file():
                status = path.stat()
                found[path.relative_to(self._store.path)] = (status.st_ino, status.st_mtime_ns)
        return found

    def _upload(self) -> None:
        """Put what changed in its place, in the order of a commit; then drop chunks that are finished."""
        files = self._files()
        for path in sorted((path for path in files if self._put.get(path) != files[path]), key=_order):
            self._place.put(path.as_posix(), (self._store.path / path).read_bytes())
            self._put[path] = files[path]
        kept = {
            Path(name, chunk)
            for name, array in self._store.arrays.items()
            for chunk in array.unfinished(self._store.committed)
        }
        for path in files.keys() - kept:
            if path.name != "zarr.json":
                (self._store.path / path).unlink()
                del self._put[path]


def _mirror() -> Path:
    return Path(tempfile.mkdtemp(prefix="koopscope-")) / "mirror.zarr"


def _order(path: Path) -> tuple[int, str]:
    """Order files as they are committed: a row that the counter of the root counts has all its weights."""
    metadata = path.name == "zarr.json"
    if len(path.parts) == 1:
        return 3, str(path)
    return (2 if path.parts[0] == fmt.STEP and not metadata else int(metadata)), str(path)


def check_place(place: Place, *, overwrite: bool) -> Mapping[str, Any] | None:
    """Refuse a URL that is taken, as `check_taken` does; give the attrs of what is to be replaced.

    Raises
    ------
    OutputExistsError
        Where something is there that stays.
    """
    attrs = place.root_attrs()
    if attrs is not None:
        check_taken(place.url, attrs, overwrite=overwrite)
    return attrs
