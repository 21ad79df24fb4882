"""Rows that are recorded to a directory: into a journal at once, into the store block by block."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from koopscope.errors import KoopscopeError, RecordingError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.files import recording_errors
from koopscope.trajectory.folding import Folder
from koopscope.trajectory.journal import Journal, find_journals, journal_path, spare_path
from koopscope.trajectory.lock import StoreLock
from koopscope.trajectory.plan import Plan
from koopscope.trajectory.recovery import recorded_packer, replay_journals, require_attrs
from koopscope.trajectory.recycling import Recycler
from koopscope.trajectory.rows import RowPacker
from koopscope.trajectory.settings import Settings
from koopscope.trajectory.zarr_store import ZarrStore, create_store


class JournaledStore:
    """A store in a directory with its journal, open for rows.

    Parameters
    ----------
    store
        The store, with its lock.
    packer
        Makes records of rows.
    settings
        How rows are kept.
    journal
        The journal that takes the next row.
    """

    def __init__(self, store: ZarrStore, packer: RowPacker, settings: Settings, journal: Journal) -> None:
        """Begin; no thread is started before there is work."""
        self._store = store
        self._packer = packer
        self._settings = settings
        self._journal = journal
        self._first_row = journal.first_row
        # Writing to the disk at once takes so long that the pages of the file do not matter.
        spare = spare_path(store.path, journal.run_id)
        self._recycler = None if settings.durable else Recycler(spare)
        if self._recycler is not None:
            journal.prepare(self._recycler)
        self._folder = Folder(partial(store.fold, recycler=self._recycler))

    @classmethod
    def create(cls, path: Path, plan: Plan, settings: Settings) -> JournaledStore:
        """Make an empty store and its journal.

        Raises
        ------
        OutputExistsError
            Where something is at `path`.
        RecordingError
            Where another writer records there, or the disk does not take it.
        """
        packer = plan.packer(path, settings.selection)
        run_id = str(plan.attrs[fmt.RUN_ATTR])
        journals: list[Journal] = []
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = StoreLock(path)
        try:
            with recording_errors(path):
                create_store(
                    path,
                    plan.specs,
                    {**plan.attrs, fmt.JOURNAL_ATTR: True},
                    overwrite=settings.overwrite,
                    durable=settings.durable,
                    before=lambda: journals.append(_journal(path, run_id, 0, packer, settings)),
                )
            store = ZarrStore(path, lock, durable=settings.durable)
        except BaseException:
            for left in find_journals(path, run_id):
                left.unlink()
            lock.release()
            raise
        return cls(store, packer, settings, journals[0])

    @classmethod
    def resume(cls, path: Path, settings: Settings, expected: Mapping[str, Any]) -> JournaledStore:
        """Open the recording that is there, and commit what its journals hold.

        Parameters
        ----------
        path
            Its directory.
        settings
            How rows are kept.
        expected
            Attrs of the root that it must have, ``None`` for any value.

        Raises
        ------
        UsageError
            Where its attrs are others; it is left as it is.
        TrajectoryError
            Where it is no recording, or a damaged one.
        RecordingError
            Where another writer records there, or the disk does not take it.
        """
        lock = StoreLock(path)
        try:
            store = ZarrStore(path, lock, durable=settings.durable)
            require_attrs(path, store.attrs, expected)
            replay_journals(store, durable=settings.durable)
            packer = recorded_packer(store, settings.selection)
            journal = _journal(path, str(store.attrs[fmt.RUN_ATTR]), store.committed, packer, settings)
            store.update(**{fmt.STATUS_ATTR: "open", fmt.JOURNAL_ATTR: True})
        except BaseException:
            lock.release()
            raise
        return cls(store, packer, settings, journal)

    def last_steps(self, count: int) -> list[int]:
        """Give the steps of the last committed rows."""
        return self._store.last_steps(count)

    def append(self, step: int, tensors: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Keep one row: when this returns, it survives the end of the process.

        Raises
        ------
        TrajectoryError
            Where the row differs in kind from those before.
        RecordingError
            Where the disk does not take it, or has not taken rows before, which the journal keeps then.
        """
        self._folder.check()
        if self._journal.full:
            self._rotate()
        row = self._first_row + self._journal.rows
        self._journal.append(self._packer.pack(row, step, tensors, metrics))
        if self._journal.full:
            # The row is safe: what fails here is tried again, and raised, with the next one.
            with suppress(RecordingError):
                self._rotate()

    def commit(self) -> None:
        """Fold all rows into the store.

        Raises
        ------
        RecordingError
            Where the disk does not take them; they are kept in the journal.
        """
        if self._journal.rows:
            self._rotate()
        self._folder.drain()

    def finish(self) -> None:
        """Commit all rows and mark the recording as closed.

        Raises
        ------
        RecordingError
            Where the disk does not take them; they are kept, and it can be tried again.
        """
        self.commit()
        self._store.finish()
        self._journal.drop()

    def abandon(self) -> None:
        """Commit all rows, as far as that can be done, and leave the status ``open``."""
        with suppress(KoopscopeError):
            self.commit()
            self._store.update(**{fmt.JOURNAL_ATTR: False})
            self._journal.drop()

    def release(self) -> None:
        """Let go of the files, whatever is in them."""
        self._journal.close()
        if self._recycler is not None:
            self._recycler.drop()
        if self._store.lock is not None:
            self._store.lock.release()

    def _rotate(self) -> None:
        old = self._journal
        first_row = self._first_row + old.rows
        self._journal = _journal(
            self._store.path, old.run_id, first_row, self._packer, self._settings, self._recycler
        )
        self._first_row = self._journal.first_row
        old.close()
        self._folder.add(old.path)


def _journal(
    path: Path,
    run_id: str,
    first_row: int,
    packer: RowPacker,
    settings: Settings,
    recycler: Recycler | None = None,
) -> Journal:
    """Begin a journal that takes rows to the end of the block."""
    return Journal(
        journal_path(path, run_id, first_row),
        run_id,
        first_row,
        settings.block - first_row % settings.block,
        packer.record_format,
        durable=settings.durable,
        recycler=recycler,
    )
