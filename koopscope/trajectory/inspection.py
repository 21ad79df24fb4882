"""What a recording holds, as a table, what it costs to fit, and what is odd about it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import UsageError
from koopscope.trajectory.lints import lint
from koopscope.trajectory.opening import open_trajectory
from koopscope.trajectory.validation import metric_names, tensor_names, validate


def inspect(
    path_or_dataset: str | Path | xr.Dataset, *, layout: str | None = None, lints: bool = True
) -> xr.Dataset:
    """Tabulate a recording: metadata, steps, and a look at five rows of the weights.

    Parameters
    ----------
    path_or_dataset
        A recording on disk, or one already open.
    layout
        As for `open_trajectory`; only with a path.
    lints
        Look at rows for what is odd; ``False`` reads no weight.

    Returns
    -------
    xarray.Dataset
        Dim ``tensor``: ``shape`` (text such as ``10x10``), ``dtype``, ``size`` (weights), ``layer``, ``role``
        and ``units`` (output units; 0 where unknown). Attrs: ``steps``, ``first_step``, ``last_step``,
        ``spacing`` (0 where uneven; then ``longest_even_stretch`` says where it is even), ``weights``,
        ``runs`` (recorded together; the table, the weights and the lints are those of the first), ``bytes``
        (uncompressed, of all runs), ``layout``, ``layout_evidence``, ``tied`` (second names to first ones),
        ``metrics``, ``format``, ``source``, ``lints`` (words on uneven steps and on dead, frozen, duplicate
        or otherwise odd tensors).

    Raises
    ------
    TrajectoryError, StepError, LayoutError, UsageError
        As `open_trajectory` raises them.

    Examples
    --------
    >>> from koopscope.trajectory import from_arrays
    >>> table = inspect(from_arrays([0, 5, 10], {"fc.weight": np.zeros((3, 4, 2))}))
    >>> str(table["shape"].item()), table["units"].item(), table.attrs["spacing"]
    ('4x2', 4, 5)
    """
    if isinstance(path_or_dataset, xr.Dataset):
        if layout is not None:
            raise UsageError("layout: only with a path; give it to open_trajectory for an open recording")
        dataset = path_or_dataset
        validate(dataset, runs=True)
    else:
        dataset = open_trajectory(path_or_dataset, layout=layout)
    runs = dataset.sizes.get("run", 1)
    dataset = dataset.isel(run=0) if "run" in dataset.dims else dataset
    attrs = _summary(dataset, runs) | {"lints": lint(dataset) if lints else []}
    names = tensor_names(dataset)
    columns: dict[str, tuple[str, NDArray[Any]]] = {
        "shape": ("tensor", _texts(_shape_text(dataset[name]) for name in names)),
        "dtype": ("tensor", _texts(str(dataset[name].dtype) for name in names)),
        "size": ("tensor", np.array([_weights(dataset[name]) for name in names], np.int64)),
        "layer": ("tensor", _texts(dataset[name].attrs["layer"] for name in names)),
        "role": ("tensor", _texts(dataset[name].attrs["role"] for name in names)),
        "units": ("tensor", np.array([_units(dataset[name]) for name in names], np.int64)),
    }
    return xr.Dataset(columns, coords={"tensor": ("tensor", _texts(names))}, attrs=attrs)


def _summary(dataset: xr.Dataset, runs: int) -> dict[str, Any]:
    steps = dataset["step"].values
    tensors = [dataset[name] for name in tensor_names(dataset)]
    n_bytes = sum(int(tensor.nbytes) for tensor in tensors)
    summary: dict[str, Any] = {
        "steps": int(steps.size),
        "first_step": int(steps[0]) if steps.size else -1,
        "last_step": int(steps[-1]) if steps.size else -1,
        **_spacing(steps),
        "runs": runs,
        "weights": sum(_weights(tensor) for tensor in tensors),
        "bytes": n_bytes * runs,
        "metrics": metric_names(dataset),
    }
    for attr in ("layout", "layout_evidence", "format", "source"):
        summary[attr] = dataset.attrs.get(attr, "")
    summary["tied"] = dict(dataset.attrs.get("tied", {}))
    return summary


def _spacing(steps: NDArray[np.int64]) -> dict[str, int | str]:
    """Give the even spacing, or 0 and the longest stretch that is evenly spaced."""
    gaps = np.diff(steps)
    if not gaps.size:
        return {"spacing": 0}
    if (gaps == gaps[0]).all():
        return {"spacing": int(gaps[0])}
    borders = np.flatnonzero(np.diff(gaps)) + 1
    starts = np.concatenate([[0], borders])
    lengths = np.diff(np.concatenate([starts, [gaps.size]]))
    longest = int(np.argmax(lengths))
    first, count = int(starts[longest]), int(lengths[longest])
    text = f"steps {steps[first]} to {steps[first + count]} every {gaps[first]} ({count + 1} rows)"
    return {"spacing": 0, "longest_even_stretch": text}


def _weights(tensor: xr.DataArray) -> int:
    return math.prod(tensor.shape[1:])


def _units(tensor: xr.DataArray) -> int:
    axes = tensor.attrs.get("output_axes")
    return 0 if axes is None else math.prod(tensor.shape[1 + axis] for axis in axes)


def _shape_text(tensor: xr.DataArray) -> str:
    return "x".join(map(str, tensor.shape[1:])) or "scalar"


def _texts(values: Any) -> NDArray[Any]:
    # Object strings: Zarr warns of fixed-width ones when such a table is saved.
    return np.array(list(values), dtype=object)
