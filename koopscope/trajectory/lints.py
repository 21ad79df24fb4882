"""What is odd about a recording, told by a few of its rows: the first two, the last two and one between."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory.validation import tensor_names

# A row is read with its whole chunk: usually 64 rows.
_ROWS_A_CHUNK = 64
_READ_BYTES = 512 * 2**20
# Increments of fewer units in the last place than this are mostly rounding.
_ULPS = 4.0


def lint(dataset: xr.Dataset) -> list[str]:
    """Say what may spoil a fit; the words begin with the kind of trouble.

    Kinds are ``uneven``, ``non-finite``, ``dead`` (all zero), ``frozen`` (never changes), ``duplicate``
    (equal to another tensor), ``noise floor`` (increments within rounding), ``damaged`` and ``unread`` (more
    than was looked at).

    Parameters
    ----------
    dataset
        A trajectory.

    Examples
    --------
    >>> from koopscope.trajectory import from_arrays
    >>> lint(from_arrays([0, 1, 2], {"fc.weight": np.zeros((3, 4, 2))}))
    ['dead: fc.weight is all zero in the 3 rows looked at']
    """
    found = _uneven(dataset["step"].values)
    if not dataset.sizes["step"]:
        return found
    rows = _rows(dataset.sizes["step"])
    looked: dict[str, NDArray[Any]] = {}
    budget = _READ_BYTES
    for name in tensor_names(dataset):
        tensor = dataset[name]
        budget -= (
            math.prod(tensor.shape[1:]) * tensor.dtype.itemsize * min(3 * _ROWS_A_CHUNK, tensor.shape[0])
        )
        if budget < 0:
            found.append(f"unread: {name} and what follows it, beyond the {_READ_BYTES} bytes looked at")
            break
        try:
            looked[name] = np.stack([tensor[row].values for row in rows])
        except TrajectoryError as error:
            found.append(f"damaged: {error}")
            continue
        found.extend(_tensor(name, looked[name], rows))
    return [*found, *_duplicates(looked)]


def _rows(count: int) -> list[int]:
    return sorted({0, min(1, count - 1), count // 2, max(count - 2, 0), count - 1})


def _uneven(steps: NDArray[np.int64]) -> list[str]:
    gaps = np.unique(np.diff(steps))
    if gaps.size < 2:
        return []
    return [f"uneven: steps are {gaps[0]} to {gaps[-1]} apart; a fit needs an even stretch between t1 and t2"]


def _tensor(name: str, values: NDArray[Any], rows: list[int]) -> Iterator[str]:
    """Judge one tensor by some rows of it."""
    words = f"in the {len(rows)} rows looked at"
    if not np.isfinite(values).all():
        yield f"non-finite: {name} has NaN or infinity {words}"
        return
    if len(rows) < 2 or not values.size:
        return
    if not values.any():
        yield f"dead: {name} is all zero {words}"
    elif (values == values[0]).all():
        yield f"frozen: {name} does not change {words}"
    elif rows[-1] == rows[-2] + 1:
        ulps = np.abs(values[-1] - values[-2]) / np.spacing(
            np.maximum(np.abs(values[-1]), np.abs(values[-2]))
        )
        typical = float(np.median(ulps))
        if typical < _ULPS:
            yield (
                f"noise floor: the last increment of {name} is {typical:.2g} units in the last place of "
                f"{values.dtype} in the median, mostly rounding; record further apart or in more digits"
            )


def _duplicates(looked: Mapping[str, NDArray[Any]]) -> list[str]:
    first: dict[tuple[Any, ...], str] = {}
    found = []
    for name, values in looked.items():
        if values.any() and (values != values[0]).any():
            other = first.setdefault((values.shape, values.dtype.name, values.tobytes()), name)
            if other != name:
                found.append(
                    f"duplicate: {name} equals {other} in the rows looked at; tied weights count once"
                )
    return found
