"""From the first row of a recording to what its store will hold: kinds of tensors, arrays, attrs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.layout import Placement, resolve
from koopscope.trajectory.names import clean, dimension_names, is_buffer
from koopscope.trajectory.rows import RowPacker, TensorKind, as_floats, as_metric
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.tensor_layout import TensorLayout


@dataclass(frozen=True)
class ArraySpec:
    """What one array of the store is: trailing shape, dtype, chunks, dims and attrs.

    Shape and chunks have the step first; `dims` are as on the disk, where ``run`` comes before it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]

    @property
    def fill(self) -> float | int:
        """Value of rows never written; the float one is NaN so that a lost chunk cannot pass for weights."""
        return fmt.STEP_FILL if self.dtype.kind == "i" else float("nan")


@dataclass(frozen=True)
class Plan:
    """What a recording will hold.

    Parameters
    ----------
    kinds
        The tensors.
    metrics
        Names of the scalars.
    specs
        Its arrays: tensors, metrics, ``step``.
    attrs
        Attrs of its root.
    """

    kinds: tuple[TensorKind, ...]
    metrics: tuple[str, ...]
    specs: Mapping[str, ArraySpec]
    attrs: Mapping[str, Any]

    def packer(self, where: object, selection: Selection) -> RowPacker:
        """Make what turns rows into records."""
        tied = self.attrs.get("tied", ())
        return RowPacker(where, self.kinds, self.metrics, selection, tied, self.attrs.get(fmt.RUNS_ATTR))


def plan_recording(
    where: object,
    tensors: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    selection: Selection,
    layout: str | None,
    told: Mapping[str, TensorLayout],
    framework: str,
    block: int,
    runs: int | None = None,
) -> Plan:
    """Learn names, shapes and dtypes of the first row.

    Parameters
    ----------
    where
        The recording, for messages.
    tensors, metrics
        The first row.
    selection
        Tells which tensors are recorded; those left out by its ``exclude`` are no evidence of the layout.
    layout
        Layout that is declared, or ``None``.
    told
        Framework names to what is known for sure of single tensors.
    framework
        Kept as an attr.
    block
        Rows in a chunk.
    runs
        Length of the leading axis of every tensor and metric, ``run``; ``None`` where there is none.

    Raises
    ------
    TrajectoryError, LayoutError
        Where the row cannot be recorded.
    """
    arrays = {
        source: as_floats(source, value)
        for source, value in tensors.items()
        if not is_buffer(source) and not selection.excludes(clean(source))
    }
    ahead = () if runs is None else (runs,)
    for source, (array, _) in arrays.items():
        if array.shape[: len(ahead)] != ahead:
            raise TrajectoryError(
                f"{where}: tensor {source!r}: expected a leading axis of {runs} runs, got shape {array.shape}"
            )
    shapes = {source: array.shape[len(ahead) :] for source, (array, _) in arrays.items()}
    known = {source: item for source, item in told.items() if source in shapes or source not in tensors}
    resolved = resolve(shapes, declared=layout, told=known)
    places = [place for place in resolved.placements if selection.keeps(place.name)]
    if not places:
        raise TrajectoryError(f"{where}: expected at least one tensor to record, got {list(tensors)!r:.300}")
    for name, value in metrics.items():
        as_metric(where, name, value, ahead)
    kinds = tuple(
        TensorKind(
            place.name, place.source_name, arrays[place.source_name][1], arrays[place.source_name][0].shape
        )
        for place in places
    )
    fmt.check_names([*(kind.name for kind in kinds), *metrics])
    if runs is not None and fmt.RUN in (*(kind.name for kind in kinds), *metrics):
        raise TrajectoryError(f"{where}: the name {fmt.RUN!r} is taken by the axis of runs; choose another")
    fmt.check_count(str(where), len(kinds) + len(metrics))
    attrs: dict[str, Any] = {"layout": resolved.layout, "layout_evidence": resolved.evidence}
    if runs is not None:
        attrs[fmt.RUNS_ATTR] = runs
    if resolved.tied:
        attrs["tied"] = dict(resolved.tied)
    specs = _specs(where, places, kinds, tuple(metrics), block, ahead)
    return Plan(kinds, tuple(metrics), specs, {**_root_attrs(framework), **attrs})


def _root_attrs(framework: str) -> dict[str, Any]:
    from koopscope.versions import __version__

    return {
        fmt.FORMAT_ATTR: fmt.FORMAT,
        fmt.COMMITTED_ATTR: 0,
        fmt.STATUS_ATTR: "open",
        fmt.RUN_ATTR: uuid.uuid4().hex,
        "framework": framework,
        "writer": f"koopscope {__version__}",
    }


def _specs(
    where: object,
    places: list[Placement],
    kinds: tuple[TensorKind, ...],
    metrics: tuple[str, ...],
    block: int,
    ahead: tuple[int, ...],
) -> dict[str, ArraySpec]:
    """Say what each array of the store is; `ahead` is the number of runs, where there is an axis of them."""
    one, run = (1,) * len(ahead), (fmt.RUN,) * len(ahead)
    taken = {fmt.STEP, *metrics, *(place.name for place in places)}
    specs: dict[str, ArraySpec] = {}
    for place, kind in zip(places, kinds, strict=True):
        shape = kind.shape[len(ahead) :]
        rank = len(shape)
        dims = dimension_names(place.name, rank, place.output_axes, place.input_axes, taken)
        taken.update(dims)
        steps, *chunk = fmt.chunk_shape(shape, block, kind.dtype.itemsize, place.output_axes)
        chunks = (steps, *one, *chunk)
        chunk_bytes = kind.dtype.itemsize * int(np.prod(chunks, dtype=np.int64))
        fmt.check_limits(f"{where}: {place.name!r}", (block, *kind.shape), chunk_bytes)
        attrs = _tensor_attrs(place, kind)
        specs[place.name] = ArraySpec(kind.shape, kind.dtype, chunks, (*run, *dims), attrs)
    for name in metrics:
        attrs = {"role": "metric"}
        specs[name] = ArraySpec(ahead, np.dtype(np.float64), (block, *one), (*run, fmt.STEP), attrs)
    specs[fmt.STEP] = ArraySpec((), np.dtype(np.int64), (block,), (fmt.STEP,), {})
    return specs


def _tensor_attrs(place: Placement, kind: TensorKind) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "layer": place.layer,
        "layer_index": place.layer_index,
        "role": place.role,
        "source_dtype": kind.source_dtype,
        "output_blocks": place.output_blocks,
        "source_name": place.source_name,
    }
    if place.output_axes is not None:
        attrs["output_axes"] = list(place.output_axes)
    if place.input_axes is not None:
        attrs["input_axes"] = list(place.input_axes)
    return attrs
