"""Opens plain HDF5 files of any program, netCDF4 among them: one dataset a tensor, leading axis step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import KoopscopeError, StepError, TrajectoryError, UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.dataset import Tensor, assemble
from koopscope.trajectory.hdf5_safety import check_dataset, check_unpacking, datasets
from koopscope.trajectory.layout import LAYOUTS, Resolution, resolve
from koopscope.trajectory.lazy import Read, lazily
from koopscope.trajectory.names import clean, is_buffer
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.tensor_layout import TensorLayout

_STEP_NAMES = ("step", "steps", "iteration")
_COUNTER = "n_committed"
_FAULTS = (OSError, KeyError, RuntimeError, TypeError, ValueError)


def read_hdf5(path: Path, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open an HDF5 file lazily; it is open only while something is read.

    Parameters
    ----------
    path
        The file, which another program may be writing in SWMR mode.
    layout
        Layout that overrides the file's attr ``layout``, or ``None``.
    selection
        Tells which tensors to open.

    Raises
    ------
    TrajectoryError
        Where the file is no recording, points outside itself, or exceeds the limits.
    StepError
        Where its steps are not whole numbers.
    """
    try:
        with _opened(path) as (file, live):
            return _read_open(file, path, layout, selection, live=live)
    except KoopscopeError:
        raise
    except _FAULTS as error:
        raise TrajectoryError(
            f"{path}: HDF5 cannot read it ({error}); it is damaged, or being written without SWMR mode"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, bool]]:
    """Open a file for reading, and say whether somebody is writing it in SWMR mode meanwhile."""
    try:
        file, live = h5py.File(path, "r"), False
    except OSError as error:
        try:
            file, live = h5py.File(path, "r", libver="latest", swmr=True), True
        except (OSError, ValueError):
            raise error from None
    with file:
        yield file, live


def _read_open(
    file: h5py.File, path: Path, layout: str | None, selection: Selection, *, live: bool
) -> xr.Dataset:
    tied: dict[str, str] = {}
    found = {name: data for name, data in datasets(file, path, tied) if not _left_out(name, data, selection)}
    counter = found.pop(_COUNTER, None)
    steps_name = next((name for name in _STEP_NAMES if name in found), None)
    steps = found.pop(steps_name) if steps_name else None
    rows = _check(found, steps, path, growing=live or counter is not None)
    if counter is not None:
        rows = min(rows, _counted(counter, path))
    numbers = np.arange(rows) if steps is None else _whole(steps, rows, path)
    if live:
        # The writer grows a dataset before it fills it: what does not increase is not there yet.
        falls = np.flatnonzero(numbers[1:] <= numbers[:-1])
        numbers = numbers[: int(falls[0]) + 1] if falls.size else numbers
        rows = numbers.size
    series = {name: data for name, data in found.items() if data.ndim == 1}
    stored = {name: data for name, data in found.items() if data.ndim > 1}
    resolved = _resolve(file, stored, layout)
    tensors = [
        Tensor(
            name=place.name,
            array=_lazy(path, stored[place.source_name], rows),
            layer=place.layer,
            layer_index=place.layer_index,
            role=place.role,
            output_axes=place.output_axes,
            input_axes=place.input_axes,
            output_blocks=place.output_blocks,
            source_dtype=stored[place.source_name].dtype.name,
            source_name=place.source_name,
        )
        for place in resolved.placements
        if selection.keeps(place.name)
    ]
    unnumbered = "" if steps is not None else "; steps are not recorded: rows are numbered from 0"
    dataset = assemble(
        numbers,
        tensors,
        {clean(name): _values(data, rows, path).astype(np.float64) for name, data in series.items()},
        layout=resolved.layout,
        evidence=resolved.evidence + unnumbered,
        source=str(path),
        format="hdf5",
    )
    return dataset.assign_attrs(tied=tied) if tied else dataset


def _resolve(file: h5py.File, stored: Mapping[str, h5py.Dataset], layout: str | None) -> Resolution:
    """Place the tensors: by the attrs of each where it has them, else by the layout of the file."""
    own = _attr(file, "layout")
    declared = layout or (own if isinstance(own, str) and own in LAYOUTS else None)
    told = {} if layout else {name: facts for name, data in stored.items() if (facts := _told(data))}
    shapes = {name: data.shape[1:] for name, data in stored.items()}
    try:
        return resolve(shapes, declared=declared, natural=True, told=told)
    except UsageError as error:
        if layout not in (None, *LAYOUTS):
            raise
        raise TrajectoryError(f"{file.filename}: attrs of a dataset do not fit it: {error}") from error


def _told(data: h5py.Dataset) -> TensorLayout | None:
    """Read what a tensor's attrs say of it, where a program wrote them as trajectory/1 has them."""
    role, outputs = _attr(data, "role"), _attr(data, "output_axes")
    if not isinstance(role, str) or outputs is None:
        return None
    inputs, layer = _attr(data, "input_axes"), _attr(data, "layer")
    return TensorLayout(
        output_axes=_axes(outputs),
        input_axes=None if inputs is None else _axes(inputs),
        output_blocks=int(_attr(data, "output_blocks") or 1),
        role=role,
        layer=layer if isinstance(layer, str) else None,
    )


def _axes(value: Any) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.atleast_1d(value))


def _attr(member: h5py.Dataset | h5py.File, name: str) -> Any:
    """Read a small attr of text or numbers; ``None`` where there is none such."""
    if name not in member.attrs:
        return None
    found = member.attrs.get_id(name)
    plain = found.dtype.kind in "iuf" or h5py.check_string_dtype(found.dtype) is not None
    return member.attrs[name] if plain and np.prod(found.shape) <= fmt.MAX_RANK else None


def _left_out(name: str, data: h5py.Dataset, selection: Selection) -> bool:
    if is_buffer(name) or selection.excludes(clean(name)):
        return True
    # netCDF keeps each dimension, and the coords along it, as a dataset; only the steps are ours.
    scale = data.ndim == 1 and _attr(data, "CLASS") in ("DIMENSION_SCALE", b"DIMENSION_SCALE")
    return scale and name not in _STEP_NAMES


def _check(
    found: Mapping[str, h5py.Dataset], steps: h5py.Dataset | None, path: Path, *, growing: bool
) -> int:
    """Check metadata before anything is read, and give the number of rows."""
    members = dict(found) if steps is None else {str(steps.name).strip("/"): steps, **found}
    for name, data in members.items():
        check_dataset(path, name, data)
    if not any(data.ndim > 1 for data in found.values()):
        raise TrajectoryError(
            f"{path}: expected at least one dataset of weights with a leading step axis, found "
            f"{sorted(members)!r:.200}"
        )
    lengths = Counter(data.shape[0] for data in members.values())
    # The step numbers know best; without them, what most datasets agree on.
    rows = int(lengths.most_common(1)[0][0] if steps is None else steps.shape[0])
    if growing:
        rows = min(lengths)
    witness = next(name for name, data in members.items() if data.shape[0] == rows)
    for name, data in members.items():
        if data.shape[0] != rows and not growing:
            raise TrajectoryError(
                f"{path}: {name!r} has {data.shape[0]} rows where {witness!r} has {rows}; expected one row a "
                f"step in every dataset. Leave it out with exclude={clean(name)!r}"
            )
    fmt.check_rows(str(path), rows)
    fmt.check_series(str(path), rows, sum(data.ndim == 1 for data in members.values()))
    return rows


def _counted(counter: h5py.Dataset, path: Path) -> int:
    if counter.shape not in ((), (1,)) or counter.dtype.kind not in "iu":
        raise TrajectoryError(f"{path}: expected one whole number in {_COUNTER!r}, found {counter.dtype}")
    return max(0, int(np.asarray(counter[()]).item()))


def _whole(steps: h5py.Dataset, rows: int, path: Path) -> NDArray[np.int64]:
    """Read the steps; programs without integers store them as floats."""
    if steps.ndim != 1:
        raise StepError(f"{path}: expected steps of shape (n,) in {steps.name!r}, found {steps.shape}")
    values = _values(steps, rows, path)
    if not np.array_equal(values, np.round(values)):
        raise StepError(f"{path}: expected whole numbers in {steps.name!r}, found {values.dtype}")
    if values.size and not -(2.0**63) <= values.min() <= values.max() < 2.0**63:
        raise StepError(f"{path}: expected steps below 2^63 in {steps.name!r}, found {values.max()}")
    return values.astype(np.int64)


def _values(data: h5py.Dataset, rows: int, path: Path) -> NDArray[Any]:
    check_unpacking(str(path), data, (slice(0, rows),))
    return np.asarray(data[:rows])


def _lazy(path: Path, data: h5py.Dataset, rows: int) -> Any:
    native = data.dtype.newbyteorder("=")
    return lazily(_reader(path, str(data.name), native), (rows, *data.shape[1:]), native)


def _reader(path: Path, name: str, native: np.dtype[Any]) -> Read:
    def read(key: tuple[slice, ...]) -> NDArray[Any]:
        try:
            with _opened(path) as (file, _):
                data = file[name]
                check_unpacking(f"{path}: {name!r}", data, key)
                return np.asarray(data[key]).astype(native, copy=False)
        except TrajectoryError:
            raise
        except _FAULTS as error:
            raise TrajectoryError(f"{path}: {name!r} cannot be read any more ({error})") from error

    return read
