"""What a resumed recording begins with: the journals of the writer before, and what its rows hold."""

from __future__ import annotations

from koopscope.trajectory import format as fmt
from koopscope.trajectory.files import recording_errors
from koopscope.trajectory.journal import find_journals, remove
from koopscope.trajectory.rows import TensorKind
from koopscope.trajectory.tail import find_tail
from koopscope.trajectory.zarr_metadata import read_root
from koopscope.trajectory.zarr_store import ZarrStore, sweep


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


def recorded_kinds(store: ZarrStore) -> tuple[tuple[TensorKind, ...], tuple[str, ...]]:
    """Tell the tensors and the metrics of a store, in the order of the layers."""
    metrics = tuple(name for name, array in store.arrays.items() if array.attrs.get("role") == "metric")
    tensors = [name for name in store.arrays if name not in (*metrics, fmt.STEP)]
    kinds = [
        TensorKind(
            name,
            str(store.arrays[name].attrs.get("source_name", name)),
            str(store.arrays[name].attrs.get("source_dtype", store.arrays[name].dtype.name)),
            store.arrays[name].tail,
        )
        for name in tensors
    ]
    return tuple(kinds), metrics
