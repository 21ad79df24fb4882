"""Writes any recording that koopscope opens as a Zarr store of its own, in blocks that read fast."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import OutputExistsError, TrajectoryError, UsageError
from koopscope.targets import require_outside_stores
from koopscope.trajectory.opening import open_trajectory
from koopscope.trajectory.place import is_url
from koopscope.trajectory.tensor_layout import TensorLayout
from koopscope.trajectory.validation import metric_names, tensor_names
from koopscope.trajectory.writer import TrajectoryWriter

_BLOCK_BYTES = 64 * 2**20


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    layout: str | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    run: int | None = None,
    overwrite: bool = False,
) -> Path | str:
    """Copy a recording of any kind into a Zarr store, rows packed into blocks.

    An HDF5 file, a folder of checkpoints, a store at a URL, or a store with one row a chunk, which reads
    slowly, becomes a store that is read at full speed. Values, steps, metrics and what is known of axes are
    kept. A `dst` that is a directory appears whole or not at all; one at a URL fills block by block.

    Parameters
    ----------
    src
        What `open_trajectory` opens.
    dst
        Directory to create, usually ``something.zarr``, or a URL.
    layout, include, exclude, run
        As for `open_trajectory`.
    overwrite
        Replace a recording that is at `dst`; anything else is never replaced.

    Returns
    -------
    pathlib.Path or str
        `dst`.

    Raises
    ------
    OutputExistsError
        Where something is at `dst`.
    TrajectoryError, StepError, LayoutError, UsageError
        As `open_trajectory` and `TrajectoryWriter` raise them.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for step in (0, 1, 10):
    ...     np.savez(folder / f"step_{step}.npz", **{"fc.weight": np.full((2, 3), step, "float32")})
    >>> open_trajectory(convert(folder, folder / "run.zarr", layout="torch"))["step"].values
    array([ 0,  1, 10])
    """
    if isinstance(dst, str) and is_url(dst):
        trajectory = _opened(src, layout=layout, include=include, exclude=exclude, run=run)
        _copy(trajectory, dst, overwrite=overwrite)
        return dst
    target = Path(dst)
    _check_target(target, overwrite=overwrite)
    if (include or exclude or run is not None) and Path(src).resolve() == target.resolve():
        raise UsageError(f"{src}: what is left out would be lost; choose another place for the copy")
    trajectory = _opened(src, layout=layout, include=include, exclude=exclude, run=run)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.new")
    try:
        _copy(trajectory, fresh)
        _replace(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.with_name(f"{fresh.name}.lock").unlink(missing_ok=True)
    return target


def _opened(src: str | Path, **opening: Any) -> xr.Dataset:
    trajectory = open_trajectory(src, **opening)
    if not trajectory.sizes["step"]:
        raise TrajectoryError(f"{src}: expected at least one row to convert, found none")
    return trajectory


def _check_target(target: Path, *, overwrite: bool) -> None:
    require_outside_stores(target)
    if not target.exists():
        return
    if not overwrite:
        raise OutputExistsError(
            f"{target} exists; choose another path, or overwrite=True (--overwrite) replaces it"
        )
    try:
        open_trajectory(target)
    except TrajectoryError as error:
        raise OutputExistsError(
            f"{target} exists and is no recording, so overwrite=True does not replace it; choose another path"
        ) from error


def _replace(fresh: Path, target: Path) -> None:
    """Rename the finished store into its place."""
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_suffix(".old")
    target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def _copy(trajectory: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    layout = trajectory.attrs.get("layout")
    told = {_source(trajectory[name]): _facts(trajectory[name]) for name in tensor_names(trajectory)}
    with TrajectoryWriter(
        path,
        layout=None if layout in (None, "unknown") else layout,
        tensors=told,
        runs=trajectory.sizes.get("run"),
        overwrite=overwrite,
        framework=f"converted from {trajectory.attrs.get('format', 'a recording')}",
    ) as writer:
        for step, tensors, metrics in _rows(trajectory):
            writer.append(step, tensors, **metrics)


def _source(variable: xr.DataArray) -> str:
    return str(variable.attrs.get("source_name") or variable.name)


def _facts(variable: xr.DataArray) -> TensorLayout:
    return TensorLayout(
        output_axes=_axes(variable, "output_axes"),
        input_axes=_axes(variable, "input_axes"),
        output_blocks=int(variable.attrs.get("output_blocks", 1)),
        role=str(variable.attrs["role"]),
        layer=str(variable.attrs["layer"]),
    )


def _axes(variable: xr.DataArray, attr: str) -> tuple[int, ...] | None:
    found = variable.attrs.get(attr)
    return None if found is None else tuple(int(axis) for axis in np.atleast_1d(found))


def _rows(trajectory: xr.Dataset) -> Iterator[tuple[int, dict[str, NDArray[Any]], dict[str, Any]]]:
    """Read the recording a block of rows at a time, and yield it row by row."""
    sources = {name: _source(trajectory[name]) for name in tensor_names(trajectory)}
    series = metric_names(trajectory)
    steps = trajectory["step"].values
    row_bytes = sum(trajectory[name].nbytes for name in sources) // max(steps.size, 1)
    block = max(1, min(64, _BLOCK_BYTES // max(row_bytes, 1)))
    for start in range(0, steps.size, block):
        part = trajectory.isel(step=slice(start, start + block))
        values = {name: _step_first(_as_recorded(part[name]), part) for name in sources}
        scalars = {name: _step_first(part[name].values, part) for name in series}
        for row, step in enumerate(part["step"].values):
            tensors = {sources[name]: array[row] for name, array in values.items()}
            yield int(step), tensors, {name: numbers[row] for name, numbers in scalars.items()}


def _step_first(values: NDArray[Any], trajectory: xr.Dataset) -> NDArray[Any]:
    return values.swapaxes(0, 1) if "run" in trajectory.dims else values


def _as_recorded(part: xr.DataArray) -> NDArray[Any]:
    """Give values in the dtype the framework had, where that is bfloat16 and its dtype is installed."""
    values = part.values
    if part.attrs.get("source_dtype") != "bfloat16":
        return values
    try:
        return np.asarray(values.astype(import_module("ml_dtypes").bfloat16))
    except ImportError:
        return values
