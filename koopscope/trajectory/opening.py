"""Opening a recording: looks at what is there, and hands it to the reader that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import xarray as xr

from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory.dataset import tensor_names, validate
from koopscope.trajectory.hdf5_reader import read_hdf5
from koopscope.trajectory.layout import LAYOUTS
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.zarr_reader import read_zarr

_EXPECTED = "expected a directory written by koopscope.TrajectoryWriter, or an HDF5 file"
_SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive, as .npz and .pt files are",
    b"\x80": "a pickle, which koopscope never loads",
    b"\x93NUMPY": "a single NumPy array",
}


def open_trajectory(
    path: str | Path,
    *,
    layout: str | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
) -> xr.Dataset:
    """Open a recording of weights lazily: no weight is read before it is asked for.

    Parameters
    ----------
    path
        A Zarr store written by `TrajectoryWriter`, or a plain HDF5 file with one dataset a tensor.
    layout
        Order of the axes, one of `koopscope.trajectory.LAYOUTS`, where the recording does not tell it right.
    include, exclude
        A glob or several on names, such as ``"fc*"``: which tensors to open, and which tensors and metrics to
        leave out. What is left out is not looked at, not even for the layout.

    Returns
    -------
    xarray.Dataset
        One variable a tensor, dims ``(step, <name>.out, <name>.in, ...)``; scalar series with
        ``role="metric"``; coord ``step``, the training iterations. How the layout is known is in the attr
        ``layout_evidence``.

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
    place = Path(path)
    selection = Selection(include, exclude)
    if (place / "zarr.json").is_file():
        dataset = read_zarr(place, layout=layout, selection=selection)
    elif place.is_file() and h5py.is_hdf5(place):
        dataset = read_hdf5(place, layout=layout, selection=selection)
    else:
        raise TrajectoryError(f"{place}: {_EXPECTED}, found {_found(place)}")
    if not tensor_names(dataset) and (include is not None or exclude is not None):
        raise UsageError(f"{place}: no tensor is left by include={include!r}, exclude={exclude!r}")
    validate(dataset)
    return dataset


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
