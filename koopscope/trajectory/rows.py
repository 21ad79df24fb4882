"""What every row of one recording holds, and how the framework's values become the bytes of a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.names import clean, is_buffer
from koopscope.trajectory.records import MARK_BYTES, Field, Piece, RecordFormat
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.shared_memory import SharedMemory

_LARGE_BYTES = 2**17  # a tensor of fewer is copied faster than it is written by itself


@dataclass(frozen=True)
class TensorKind:
    """What one tensor is in every row: its name here and there, its dtype there, its shape."""

    name: str
    source: str
    source_dtype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype it is stored in, which holds that of the framework exactly."""
        return np.dtype("float32" if self.source_dtype == "bfloat16" else self.source_dtype)

    @cached_property
    def plain(self) -> np.dtype[Any] | None:
        """NumPy's one object for the dtype of native arrays that are stored as they are."""
        return None if self.source_dtype == "bfloat16" else np.dtype(self.source_dtype)


class RowPacker:
    """Checks rows and packs them into the pieces of a record: large tensors as they lie, the rest copied.

    Parameters
    ----------
    where
        The recording, for messages.
    tensors
        The tensors of every row.
    metrics
        Names of its scalars.
    selection
        Tells which tensors are recorded at all.
    tied
        Second names of tied tensors, which are offered with every row and recorded under their first.
    runs
        Number of runs recorded together, in a leading axis of tensors and metrics; ``None``: one, without.
    """

    def __init__(
        self,
        where: object,
        tensors: tuple[TensorKind, ...],
        metrics: tuple[str, ...],
        selection: Selection,
        tied: Iterable[str] = (),
        runs: int | None = None,
    ) -> None:
        """Lay out the record."""
        self._where = where
        self._tensors = tensors
        self._metrics = metrics
        self._selection = selection
        self._tied = frozenset(tied)
        self._kept = frozenset(kind.source for kind in tensors)
        self._offered = self._kept
        self._metric_shape = () if runs is None else (runs,)
        scalars = [Field(fmt.STEP, "<i8", ()), *(Field(name, "<f8", self._metric_shape) for name in metrics)]
        values = [Field(kind.name, kind.dtype.newbyteorder("<").str, kind.shape) for kind in tensors]
        self.record_format = RecordFormat((*scalars, *values))
        self._record = np.zeros(self.record_format.nbytes, np.uint8)
        views = self.record_format.views(self._record, 0, 1)
        self._views = {name: view[0, ...] for name, view in views.items()}
        starts = zip(self.record_format.fields, self.record_format.offsets, strict=False)
        self._large = {field.name: start for field, start in starts if field.nbytes >= _LARGE_BYTES}
        self._memory = SharedMemory()

    def pack(
        self, row: int, step: int, tensors: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> list[Piece]:
        """Give the pieces of one row's record; they hold until the next row is packed.

        The first is its mark, the last ends with room for the seal.

        Raises
        ------
        TrajectoryError
            Where the row differs in kind from the first; names the first thing that does.
        """
        self._check_names(tensors, metrics)
        pieces, begin = [Piece(self._record[:MARK_BYTES], shared=False)], MARK_BYTES
        for kind in self._tensors:
            start = self._large.get(kind.name)
            data = self._data_of(kind, tensors[kind.source], copied=start is None)
            if data is not None and start is not None:
                pieces += [Piece(self._record[begin:start], shared=False), Piece(data, shared=True)]
                begin = start + data.nbytes
        pieces.append(Piece(self._record[begin:], shared=False))
        for name in self._metrics:
            value = metrics[name] if name in metrics else np.full(self._metric_shape, np.nan)
            self._views[name][...] = as_metric(self._where, name, value, self._metric_shape)
        self._views[fmt.STEP][...] = step
        self.record_format.begin(self._record, row)
        return pieces

    def _data_of(self, kind: TensorKind, value: Any, *, copied: bool) -> NDArray[np.uint8] | None:
        """Copy a tensor into the record, or give its bytes where they can be written as they lie."""
        view = self._views[kind.name]
        if copied and type(value) is np.ndarray and value.dtype is kind.plain and value.shape == kind.shape:
            view[...] = value  # the most usual case by the shortest way
            return None
        shown = self._memory.find(kind.source, value)
        if shown is not None:
            if not copied:
                return shown.data
            view[...] = shown.array
            return None
        array, dtype = as_floats(kind.source, value)
        if array.shape != kind.shape or dtype != kind.source_dtype:
            raise TrajectoryError(
                f"{self._where}: tensor {kind.source!r}: expected {kind.source_dtype} {kind.shape} as in "
                f"the first row, got {dtype} {array.shape}"
            )
        if array.dtype == view.dtype:
            if type(value) is not np.ndarray:
                self._memory.remember(kind.source, value, array)
            if not copied and array.flags.c_contiguous:
                return array.reshape(-1).view(np.uint8)
        view[...] = array
        return None

    def _check_names(self, tensors: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        if tensors.keys() != self._offered:
            kept = {
                source
                for source in tensors
                if is_kept(source, self._selection) and clean(source) not in self._tied
            }
            missing = [kind.source for kind in self._tensors if kind.source not in kept]
            added = [source for source in tensors if source in kept - self._kept]
            if missing or added:
                raise TrajectoryError(
                    f"{self._where}: expected the tensors of the first row; missing {missing}, new {added}"
                )
            self._offered = frozenset(tensors)
        for name in metrics:
            if name not in self._metrics:
                raise TrajectoryError(
                    f"{self._where}: metric {name!r} is not in the first row; give it there too, if need be "
                    "as float('nan')"
                )


def is_kept(source: str, selection: Selection) -> bool:
    """Tell whether a tensor of the framework is recorded: no running statistic, and not deselected."""
    return not is_buffer(source) and selection.keeps(clean(source))


def as_metric(where: object, name: str, value: Any, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
    """Give a metric as a number, or as numbers of a shape.

    Raises
    ------
    TrajectoryError
        Where it is none.
    """
    try:
        if not shape:
            return float(value)
        numbers = np.asarray(_as_array(name, value), np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise TrajectoryError(f"{where}: metric {name!r}: expected a number ({error})") from error
    if numbers.shape != shape:
        raise TrajectoryError(f"{where}: metric {name!r}: expected shape {shape}, got {numbers.shape}")
    return numbers


def as_floats(source: str, value: Any) -> tuple[NDArray[Any], str]:
    """View a value as an array of native floats, and name the dtype it came in.

    A tensor of torch is detached, and copied from its device where that is not the CPU.

    Raises
    ------
    TrajectoryError
        Where it is no array of floating-point values.
    """
    if type(value) is not np.ndarray:
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            return _as_array(source, value.float()), "bfloat16"
        value = _as_array(source, value)
    name = _float_name(value.dtype)
    if name is None:
        raise TrajectoryError(
            f"tensor {source!r}: expected float16, bfloat16, float32 or float64, got {value.dtype}; leave it "
            "out with exclude= if it is no weight, else convert it with .astype('float32')"
        )
    return value.astype(np.float32) if name == "bfloat16" else value, name


@lru_cache
def _float_name(dtype: np.dtype[Any]) -> str | None:
    """Name a floating dtype that is recorded, whatever its byte order; kept, as NumPy is slow to tell."""
    plain = dtype.kind == "f" and dtype.itemsize <= 8
    return dtype.name if plain or dtype.name == "bfloat16" else None


def _as_array(source: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value.numpy(force=True) if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrajectoryError(
            f"tensor {source!r}: expected an array or a tensor, got {type(value).__name__} ({error})"
        ) from error
