"""Opens plain HDF5 files of any program: one dataset a tensor, leading axis step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import StepError, TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.dataset import Tensor, assemble
from koopscope.trajectory.layout import LAYOUTS, resolve
from koopscope.trajectory.lazy import Read, lazily
from koopscope.trajectory.names import clean, is_buffer
from koopscope.trajectory.selection import Selection

_STEP_NAMES = ("step", "steps", "iteration")


def read_hdf5(path: Path, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open an HDF5 file lazily; it is open only while something is read.

    Parameters
    ----------
    path
        The file.
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
        with h5py.File(path, "r") as file:
            return _read_open(file, path, layout, selection)
    except (OSError, KeyError, RuntimeError) as error:
        raise TrajectoryError(
            f"{path}: HDF5 cannot read it ({error}); it is damaged, or still being written"
        ) from error


def _read_open(file: h5py.File, path: Path, layout: str | None, selection: Selection) -> xr.Dataset:
    found = {name: data for name, data in _datasets(file, path) if not _left_out(name, selection)}
    steps_name = next((name for name in _STEP_NAMES if name in found), None)
    steps = found.pop(steps_name) if steps_name else None
    rows = _check(found, steps, path)
    metrics = {clean(name): np.asarray(data[:], np.float64) for name, data in found.items() if data.ndim == 1}
    stored = {name: data for name, data in found.items() if data.ndim > 1}
    own = file.attrs.get("layout")
    declared = layout or (own if isinstance(own, str) and own in LAYOUTS else None)
    resolved = resolve(
        {name: data.shape[1:] for name, data in stored.items()}, declared=declared, natural=True
    )
    tensors = [
        Tensor(
            name=place.name,
            array=_lazy(path, stored[place.source_name]),
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
    return assemble(
        np.arange(rows) if steps is None else _whole(steps, path),
        tensors,
        metrics,
        layout=resolved.layout,
        evidence=resolved.evidence + unnumbered,
        source=str(path),
        format="hdf5",
    )


def _left_out(name: str, selection: Selection) -> bool:
    return is_buffer(name) or selection.excludes(clean(name))


def _datasets(file: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset once, by its path in the file; nothing outside the file is ever reached.

    Soft links are passed over, as what they point to is found under its own name.
    """
    seen: set[Any] = set()
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        for key in group:
            link = group.get(key, getlink=True)
            name = f"{prefix}{key}"
            if isinstance(link, h5py.ExternalLink):
                raise TrajectoryError(
                    f"{path}: {name!r} is a link to another file, which is not followed; copy the data "
                    "into one file"
                )
            if isinstance(link, h5py.SoftLink):
                continue
            member = group[key]
            identity = h5py.h5o.get_info(member.id).addr
            # A group may hold itself, and tied weights are one dataset under two names.
            if identity in seen:
                continue
            seen.add(identity)
            fmt.check_count(str(path), len(seen))
            if isinstance(member, h5py.Group):
                waiting.append((f"{name}/", member))
            elif isinstance(member, h5py.Dataset):
                yield name, member


def _check(found: Mapping[str, h5py.Dataset], steps: h5py.Dataset | None, path: Path) -> int:
    """Check metadata before anything is read, and give the number of rows."""
    members = dict(found) if steps is None else {str(steps.name).strip("/"): steps, **found}
    for name, data in members.items():
        _check_dataset(f"{path}: {name!r}", name, data)
    if not any(data.ndim > 1 for data in found.values()):
        raise TrajectoryError(
            f"{path}: expected at least one dataset of weights with a leading step axis, found "
            f"{sorted(members)!r:.200}"
        )
    lengths = Counter(data.shape[0] for data in members.values())
    # The step numbers know best; without them, what most datasets agree on.
    rows = int(lengths.most_common(1)[0][0] if steps is None else steps.shape[0])
    witness = next(name for name, data in members.items() if data.shape[0] == rows)
    for name, data in members.items():
        if data.shape[0] != rows:
            raise TrajectoryError(
                f"{path}: {name!r} has {data.shape[0]} rows where {witness!r} has {rows}; expected one row a "
                f"step in every dataset. Leave it out with exclude={clean(name)!r}"
            )
    fmt.check_rows(str(path), rows)
    return rows


def _check_dataset(where: str, name: str, data: h5py.Dataset) -> None:
    leave_out = f"leave it out with exclude={clean(name)!r:.200}"
    if len(name) > fmt.MAX_NAME:
        raise TrajectoryError(f"{where:.300}: expected a name of at most {fmt.MAX_NAME} characters")
    if data.is_virtual or data.external:
        raise TrajectoryError(f"{where}: its values lie in other files, which are not followed; {leave_out}")
    if data.dtype.kind not in ("f" if data.ndim > 1 else "fiub"):
        raise TrajectoryError(f"{where}: expected floating-point values, found {data.dtype}; {leave_out}")
    if data.ndim == 0:
        raise TrajectoryError(f"{where}: expected a leading step axis, found a single value; {leave_out}")
    fmt.check_limits(where, data.shape, data.dtype.itemsize * math.prod(data.chunks or (0,)))


def _whole(steps: h5py.Dataset, path: Path) -> NDArray[np.int64]:
    """Read the steps; programs without integers store them as floats."""
    values = np.asarray(steps[:])
    if values.ndim != 1 or not np.array_equal(values, np.round(values)):
        raise StepError(
            f"{path}: expected whole numbers in {steps.name!r}, found {values.dtype} {values.shape}"
        )
    return values.astype(np.int64)


def _lazy(path: Path, data: h5py.Dataset) -> Any:
    native = data.dtype.newbyteorder("=")
    return lazily(_reader(path, str(data.name), native), data.shape, native)


def _reader(path: Path, name: str, native: np.dtype[Any]) -> Read:
    def read(key: tuple[slice, ...]) -> NDArray[Any]:
        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file[name][key]).astype(native, copy=False)
        except (OSError, KeyError, RuntimeError) as error:
            raise TrajectoryError(f"{path}: {name!r} cannot be read any more ({error})") from error

    return read
