"""What a resumed recording begins with: the journals of the writer before, and what its rows hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koopscope.errors import UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.files import recording_errors
from koopscope.trajectory.journal import find_journals, remove
from koopscope.trajectory.rows import RowPacker, TensorKind
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.tail import find_tail
from koopscope.trajectory.zarr_metadata import json_object, read_root
from koopscope.trajectory.zarr_store import ZarrStore, sweep


def require_attrs(where: object, attrs: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that a recording is of the kind that is to be recorded on.

    Raises
    ------
    UsageError
        Where an attr differs from an expected one that is not ``None``.
    """
    for name, asked in expected.items():
        if asked is not None and asked != attrs.get(name):
            raise UsageError(f"{where}: recorded with {name}={attrs.get(name)!r}, got {asked!r}")


def replay_journals(store: ZarrStore, *, durable: bool) -> None:
    """Commit what an earlier writer left in its journals; damaged ones are put aside, not removed.

    Warns
    -----
    UserWarning
        Where rows may be missing.
    """
    with recording_errors(store.path):
        sweep(store.path)
    _, tail = find_tail(store.path, lambda: read_root(store.path))
    for rows in tail.journals:
        store.write_rows(rows.first_row, rows.views())
    for path in find_journals(store.path, str(store.attrs.get(fmt.RUN_ATTR))):
        if tail.problem:
            with recording_errors(path):
                path.rename(path.with_name(f"{path.name}.damaged"))
        else:
            remove(path, durable=durable)


def recorded_packer(store: ZarrStore, selection: Selection) -> RowPacker:
    """Make what turns rows into records like those of a store, tensors in the order of the layers."""
    metrics = tuple(name for name, array in store.arrays.items() if array.attrs.get("role") == "metric")
    tensors = [name for name in store.arrays if name not in (*metrics, fmt.STEP)]
    kinds = tuple(
        TensorKind(
            name,
            str(store.arrays[name].attrs.get("source_name", name)),
            str(store.arrays[name].attrs.get("source_dtype", store.arrays[name].dtype.name)),
            store.arrays[name].tail,
        )
        for name in tensors
    )
    tied = json_object(store.attrs, "tied", store.path)
    return RowPacker(store.path, kinds, metrics, selection, tied, store.attrs.get(fmt.RUNS_ATTR))
