"""Opening a recording: looks at what is there, and hands it to the reader that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import xarray as xr

from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory.layout import LAYOUTS
from koopscope.trajectory.place import is_url
from koopscope.trajectory.remote import read_url
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.validation import tensor_names, validate
from koopscope.trajectory.zarr_reader import read_zarr

_EXPECTED = (
    "expected a directory written by koopscope.TrajectoryWriter, an HDF5 or netCDF4 file, or a folder of "
    "step_N.safetensors, step_N.npz or step_N.pt files"
)
_SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive, as .npz and .pt files are",
    b"\x80": "a pickle, which koopscope never loads",
    b"\x93NUMPY": "a single NumPy array",
    b"CDF": "a file of classic netCDF, which koopscope does not read (nccopy -k nc4 IN OUT makes netCDF4)",
}


def open_trajectory(
    path: str | Path,
    *,
    layout: str | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    run: int | None = None,
) -> xr.Dataset:
    """Open a recording of weights lazily: no weight is read before it is asked for.

    Parameters
    ----------
    path
        A Zarr store written by `TrajectoryWriter`, here or at a URL such as ``s3://bucket/run.zarr``; a plain
        HDF5 or netCDF4 file with one dataset a tensor; a folder of ``step_100.safetensors``, ``.npz`` or
        ``.pt`` files, one a step.
    layout
        Order of the axes, one of `koopscope.trajectory.LAYOUTS`, where the recording does not tell it right.
    include, exclude
        A glob or several on names, such as ``"fc*"``: which tensors to open, and which tensors and metrics to
        leave out. What is left out is not looked at, not even for the layout.
    run
        Number of one run, from 0, where a recording holds many; ``None`` shows them all, as the dim ``run``.

    Returns
    -------
    xarray.Dataset
        One variable a tensor, dims ``(step, <name>.out, <name>.in, ...)``; scalar series with
        ``role="metric"``; coord ``step``, the training iterations. Where many runs were recorded together,
        the dim ``run`` comes first, and ``.isel(run=3)`` is a trajectory that can be fitted. How the layout
        is known is in the attr ``layout_evidence``.

    Raises
    ------
    TrajectoryError
        Where there is no recording at `path`, or a damaged one.
    StepError
        Where its steps do not increase.
    LayoutError
        Where names and bias lengths contradict each other or the layout.
    UsageError
        Where an argument cannot be used.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    selection = Selection(include, exclude)
    dataset = _read(path, layout, selection)
    if not tensor_names(dataset) and (include is not None or exclude is not None):
        raise UsageError(f"{path}: no tensor is left by include={include!r}, exclude={exclude!r}")
    validate(dataset, runs=True)
    return dataset if run is None else _one_run(dataset, run)


def _one_run(dataset: xr.Dataset, run: int) -> xr.Dataset:
    runs = dataset.sizes.get("run", 0)
    if not 0 <= run < runs:
        expected = f"expected 0 to {runs - 1}, as it holds {runs} runs" if runs else "it holds one run only"
        raise UsageError(f"{dataset.attrs['source']}: run={run}: {expected}")
    return dataset.isel(run=run)


def _read(path: str | Path, layout: str | None, selection: Selection) -> xr.Dataset:
    """Hand a path to the reader that knows what is there."""
    if is_url(path):
        return read_url(str(path), layout=layout, selection=selection)
    place = Path(path)
    if (place / "zarr.json").is_file():
        return read_zarr(place, layout=layout, selection=selection)
    if place.is_file() and h5py.is_hdf5(place):
        from koopscope.trajectory.hdf5_reader import read_hdf5

        return read_hdf5(place, layout=layout, selection=selection)
    from koopscope.trajectory.checkpoints import checkpoint_files, read_checkpoints

    if place.is_dir() and checkpoint_files(place):
        return read_checkpoints(place, layout=layout, selection=selection)
    raise TrajectoryError(f"{place}: {_EXPECTED}, found {_found(place)}")


def _found(place: Path) -> str:
    """Say in words what is at a path that no reader knows."""
    if not place.exists():
        return "nothing; is the path right?"
    if place.is_dir():
        if (place / ".zgroup").exists() or (place / ".zarray").exists():
            return "a Zarr store of version 2"
        members = sorted(child.name for child in place.iterdir())[:5]
        return f"a directory with {', '.join(members)}" if members else "an empty directory"
    with place.open("rb") as file:
        head = file.read(8)
    if not head:
        return "an empty file"
    for signature, words in _SIGNATURES.items():
        if head.startswith(signature):
            return words
    return f"a file that begins with {head!r}"
