"""Opens recordings at a URL: small files are fetched whole, chunks of weights when they are asked for.

The metadata, the steps and the metrics are copied into a temporary folder and go through the same reader,
with the same checks, as a local store; so do chunks. An object store has no journal: a block of rows is there
or is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory.chunks import ChunkError, swapped
from koopscope.trajectory.columns import ColumnReader
from koopscope.trajectory.lazy import lazily
from koopscope.trajectory.place import Place, PlaceFetch
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.validation import metric_names, tensor_names
from koopscope.trajectory.zarr_metadata import StoredArray
from koopscope.trajectory.zarr_reader import read_zarr


def read_url(url: str, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open a Zarr recording at a URL lazily.

    Parameters
    ----------
    url
        Anything fsspec opens; credentials and endpoints come from its own configuration.
    layout
        Layout that overrides the one recorded, or ``None``.
    selection
        Tells which tensors to open.

    Raises
    ------
    TrajectoryError
        Where there is no recording, a damaged one, or one beyond the limits.
    UsageError
        Where what opens such URLs is not installed.
    """
    place = Place(url)
    with tempfile.TemporaryDirectory(prefix="koopscope-") as temporary:
        mirror = Path(temporary) / "remote.zarr"
        mirror.mkdir()
        try:
            place.copy_small_files(mirror)
            local = read_zarr(mirror, layout=layout, selection=selection)
            rows = local.sizes["step"]
            stored = {name: StoredArray(mirror / name, rows) for name in tensor_names(local)}
        except TrajectoryError as error:
            raise TrajectoryError(str(error).replace(str(mirror), url)) from error
    variables = dict(local.variables)
    for name, array in stored.items():
        old = local[name].variable
        variables[name] = xr.Variable(old.dims, _lazy(place, name, array), old.attrs, old.encoding)
    names = [*tensor_names(local), *metric_names(local)]
    return xr.Dataset(
        {name: variables[name] for name in names},
        coords={"step": local["step"].values},
        attrs={**local.attrs, "source": url},
    )


def _lazy(place: Place, name: str, array: StoredArray) -> Any:
    """Read an array's chunks from its place, where they are checked as local ones are."""
    reader = ColumnReader(array.shape, array.grid, PlaceFetch(place, name))

    def read(key: tuple[slice, ...]) -> NDArray[Any]:
        try:
            if array.runs is None:
                return reader.read(key)
            run, step, *rest = key
            return reader.read((step, run, *rest)).swapaxes(0, 1)
        except (ChunkError, OSError) as error:
            raise TrajectoryError(f"{place.url}/{name}: damaged, cannot be read ({error})") from error

    order = tuple if array.runs is None else swapped
    return lazily(read, order(array.shape), array.dtype, order(array.grid.chunks))
