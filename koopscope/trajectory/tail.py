"""The rows of an open recording that are still in its journals, as readers see them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.journal import find_journals
from koopscope.trajectory.journal_rows import JournalRows, read_journal

_ATTEMPTS = 20  # a writer may fold a journal, and drop it, between two looks at the store


@dataclass(frozen=True)
class Tail:
    """Rows ``first`` to ``stop`` of a recording, in its journals; there may be none.

    Parameters
    ----------
    first, stop
        Number of the first row, which is the number of committed ones, and of the row after the last.
    journals
        The journals that hold them, in order.
    problem
        Why there may have been more rows; ``None`` where all is well.
    """

    first: int
    stop: int
    journals: tuple[JournalRows, ...] = ()
    problem: str | None = None

    def read(self, name: str, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read one array's rows from number `start` on.

        Raises
        ------
        FileNotFoundError
            Where a journal is gone: its rows are in the store by now.
        TrajectoryError
            Where the journal describes the array in another way than the store.
        """
        parts = []
        position = max(start, self.first)
        for journal in self.journals:
            values = journal.views().get(name)
            if values is None or values.shape[1:] != shape or values.dtype.newbyteorder("=") != dtype:
                raise TrajectoryError(
                    f"{journal.path}: expected rows of {name!r}, {dtype} {shape} as in the store; the "
                    "journal is damaged"
                )
            if journal.stop > position:
                parts.append(values[position - journal.first_row :])
                position = journal.stop
        rows = np.concatenate(parts).astype(dtype, copy=False)
        for journal in self.journals:
            journal.require_in_place()
        return rows


def find_tail(store: Path, root_attrs: Callable[[], Mapping[str, Any]]) -> tuple[Mapping[str, Any], Tail]:
    """Find the rows after the committed ones, consistent with the attrs that are returned with them.

    Parameters
    ----------
    store
        The store.
    root_attrs
        Reads and checks the attrs of its root.

    Warns
    -----
    UserWarning
        Where rows may be missing: a journal is damaged, or not beside its store.
    """
    attrs = root_attrs()
    for _ in range(_ATTEMPTS):
        tail = _look(store, attrs)
        again = root_attrs() if tail is None or tail.problem else attrs
        if tail is not None and again == attrs:
            break
        attrs = again
    else:
        raise TrajectoryError(f"{store}: its journals change faster than they can be read; try again")
    if tail.problem:
        warnings.warn(f"{store}: {tail.problem}", UserWarning, stacklevel=2)
    return attrs, tail


def _look(store: Path, attrs: Mapping[str, Any]) -> Tail | None:
    """Look once; `None` where a journal went away meanwhile."""
    committed = int(attrs[fmt.COMMITTED_ATTR])
    if attrs.get(fmt.STATUS_ATTR) != "open" or not isinstance(attrs.get(fmt.RUN_ATTR), str):
        return Tail(committed, committed)
    found = find_journals(store, attrs[fmt.RUN_ATTR])
    problem = None
    if not found and attrs.get(fmt.JOURNAL_ATTR) is True:
        problem = (
            f"this recording is open, and its journal {store.name}.journal-* is not beside it: rows after "
            f"the {committed} that are committed may be missing. Copy the journal along with the store"
        )
    used: list[JournalRows] = []
    position = committed
    for path in found:
        try:
            journal = read_journal(path)
        except FileNotFoundError:
            return None
        except TrajectoryError as error:
            problem = f"{error}; {position} rows are shown"
            break
        if journal.first_row > position:
            problem = f"rows {position} to {journal.first_row - 1} are missing; {position} rows are shown"
            break
        if journal.stop > position:
            used.append(journal)
            position = journal.stop
        if journal.damage:
            problem = f"{path.name}: {journal.damage}; {position} rows are shown"
            break
    return Tail(committed, position, tuple(used), problem)
