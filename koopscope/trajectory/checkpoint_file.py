"""What every kind of checkpoint file is read as: named arrays, described before any of them is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[slice, ...]


@dataclass(frozen=True)
class StoredTensor:
    """One array in one file: what it is, and how to read a part of it.

    Parameters
    ----------
    shape
        Its shape.
    dtype
        Dtype it is read as; bfloat16 is read as float32, which holds it exactly.
    source_dtype
        Name of the dtype in the file.
    read
        Reads, from a file at a path, slices with positive steps, one an axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source_dtype: str
    read: Callable[[Path, Index], NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """The arrays of one file by name, and second names of tied ones.

    Files of one size with one header, which `signature` holds, have the same description.
    """

    tensors: Mapping[str, StoredTensor]
    tied: Mapping[str, str] = field(default_factory=dict)
    signature: tuple[int, bytes] | None = None
