"""Opens recordings in the format trajectory/1: metadata is checked first, weights are read when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import swapped
from koopscope.trajectory.dataset import Tensor, assemble
from koopscope.trajectory.layout import LAYOUTS, Resolution, resolve
from koopscope.trajectory.lazy import lazily
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.tail import find_tail
from koopscope.trajectory.zarr_metadata import StoredArray, json_object, read_root


def read_zarr(path: Path, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open a Zarr recording lazily.

    Parameters
    ----------
    path
        Directory with a ``zarr.json``.
    layout
        Layout that overrides the one recorded, or ``None``.
    selection
        Tells which tensors to open.

    Raises
    ------
    TrajectoryError
        Where the store is no recording, is damaged, or exceeds the limits.
    """
    attrs, tail = find_tail(path, lambda: read_root(path))
    fmt.check_rows(str(path), tail.stop)
    # Listed by hand: Zarr's own listing warns of files that a killed writer left half-written.
    found = (child.name for child in path.iterdir() if (child / "zarr.json").is_file())
    members = sorted(islice(found, fmt.MAX_TENSORS + 1))  # not to look at what is refused anyway
    fmt.check_count(str(path), len(members))
    if fmt.STEP not in members:
        raise TrajectoryError(f"{path}: expected an array 'step', found {members[:10]}; the store is damaged")
    wanted = [name for name in members if name == fmt.STEP or not selection.excludes(name)]
    arrays = {name: StoredArray(path / name, tail.first, tail) for name in wanted}
    steps = arrays.pop(fmt.STEP)
    metrics = {name: array for name, array in arrays.items() if array.attrs.get("role") == "metric"}
    stored = {name: array for name, array in arrays.items() if name not in metrics}
    runs = _runs(path, arrays)
    fmt.check_series(str(path), tail.stop, 1 + len(metrics) * (runs or 1))
    tensors, resolved = _tensors(stored, attrs, layout)
    dataset = assemble(
        steps.read_all(),
        [tensor for tensor in tensors if selection.keeps(tensor.name)],
        {name: _run_first(array, array.read_all()) for name, array in metrics.items()},
        layout=resolved.layout if resolved else str(attrs.get("layout")),
        evidence=resolved.evidence if resolved else str(attrs.get("layout_evidence", "recorded")),
        source=str(path),
        format=str(attrs[fmt.FORMAT_ATTR]),
        runs=runs,
    )
    tied = json_object(attrs, "tied", path)
    return dataset.assign_attrs(tied=tied) if tied else dataset


def _tensors(
    stored: Mapping[str, StoredArray], attrs: Mapping[str, Any], layout: str | None
) -> tuple[list[Tensor], Resolution | None]:
    """Describe the tensors: as recorded, or anew where another layout is given or none was recorded."""
    if layout is None and all("role" in array.attrs for array in stored.values()):
        return [_as_recorded(name, array) for name, array in stored.items()], None
    recorded = attrs.get("layout")
    declared = layout or (recorded if recorded in LAYOUTS else None)
    order = sorted(stored, key=lambda name: (stored[name].count("layer_index", 0), name))
    resolved = resolve({name: _shape(stored[name]) for name in order}, declared=declared)
    tensors = [
        Tensor(
            name=place.name,
            array=_lazy(stored[place.source_name]),
            layer=place.layer,
            layer_index=place.layer_index,
            role=place.role,
            output_axes=place.output_axes,
            input_axes=place.input_axes,
            output_blocks=place.output_blocks,
            source_dtype=stored[place.source_name].text("source_dtype", str(stored[place.source_name].dtype)),
            source_name=stored[place.source_name].text("source_name", place.source_name),
        )
        for place in resolved.placements
    ]
    return tensors, resolved


def _as_recorded(name: str, array: StoredArray) -> Tensor:
    return Tensor(
        name=name,
        array=_lazy(array),
        layer=array.text("layer", name),
        layer_index=array.count("layer_index", 0),
        role=array.text("role", "other"),
        output_axes=array.axes("output_axes"),
        input_axes=array.axes("input_axes"),
        source_dtype=array.text("source_dtype", str(array.dtype)),
        output_blocks=array.count("output_blocks", 1),
        source_name=array.text("source_name", name),
    )


def _shape(array: StoredArray) -> tuple[int, ...]:
    """Shape of a tensor, in one row of one run."""
    return array.shape[1 if array.runs is None else 2 :]


def _runs(path: Path, arrays: Mapping[str, StoredArray]) -> int | None:
    """Tell the number of runs, which all arrays agree on.

    Raises
    ------
    TrajectoryError
        Where they do not.
    """
    found = {array.runs for array in arrays.values()}
    if len(found) > 1:
        raise TrajectoryError(f"{path}: arrays of different numbers of runs: {found}; the store is damaged")
    return next(iter(found), None)


def _run_first(array: StoredArray, values: NDArray[Any]) -> NDArray[Any]:
    return values if array.runs is None else values.swapaxes(0, 1)


def _lazy(array: StoredArray) -> Any:
    if array.runs is None:
        return lazily(array.read, array.shape, array.dtype, array.grid.chunks, array.read)

    def read(key: tuple[slice, ...]) -> NDArray[Any]:
        run, step, *rest = key
        return _run_first(array, array.read((step, run, *rest)))

    return lazily(read, swapped(array.shape), array.dtype, swapped(array.grid.chunks))
