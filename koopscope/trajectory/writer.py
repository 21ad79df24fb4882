"""Recording: what a training script calls to keep its weights as it goes. Needs numpy and zarr only."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import StepError, TrajectoryError, UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.layout import LAYOUTS, Placement, Resolution, resolve
from koopscope.trajectory.names import dimension_names, is_buffer
from koopscope.trajectory.tensor_layout import TensorLayout
from koopscope.trajectory.zarr_store import ArraySpec, ZarrStore, check_target


class TrajectoryWriter:
    """Record weights during training, as a Zarr store that `koopscope.open_trajectory` opens.

    Rows are kept in memory and written in blocks of `block_steps`. A killed process therefore loses up to
    ``block_steps - 1`` of the rows appended last; everything before them opens intact. Call `commit` where
    a row must be on disk at once.

    Parameters
    ----------
    path
        Directory to create, by custom ``something.zarr``. It appears with the first row.
    layout
        Order of the axes: one of `koopscope.trajectory.LAYOUTS`; ``None`` infers it from names and shapes.
    tensors
        Framework names to what is known for sure of single tensors, as `koopscope.recipes.torch_layout` reads
        it off a module; outranks `layout`. A tensor with ``tied_to`` is left out.
    framework
        Free words on what trained the network, kept as an attr.
    block_steps
        Rows in a block, and in a chunk on disk. Memory used is that of `block_steps` rows.
    overwrite
        Replace a recording that is at `path`, when the first row arrives. Anything else is never replaced.

    Raises
    ------
    OutputExistsError
        Where something is at `path`.
    UsageError
        Where an argument cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from koopscope import open_trajectory
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with TrajectoryWriter(path, layout="torch") as writer:
    ...     for step in range(3):
    ...         writer.append(step, {"fc.weight": np.full((2, 3), step, "float32")}, loss=0.5)
    >>> open_trajectory(path)["fc.weight"].shape
    (3, 2, 3)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        layout: str | None,
        tensors: Mapping[str, TensorLayout] | None = None,
        framework: str = "",
        block_steps: int = 64,
        overwrite: bool = False,
    ) -> None:
        """Check the arguments; nothing is written before the first row."""
        if layout is not None and layout not in LAYOUTS:
            raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)} or None, got {layout!r}")
        if operator.index(block_steps) < 1:
            raise UsageError(f"block_steps: expected at least 1, got {block_steps}")
        self._path = Path(path)
        check_target(self._path, overwrite=overwrite)
        self._layout = layout
        self._told = dict(tensors or {})
        self._framework = framework
        self._block = operator.index(block_steps)
        self._overwrite = overwrite
        self._closed = False
        self._last_step: int | None = None
        self._count = 0
        self._committed = 0
        self._store: ZarrStore | None = None
        self._sources: frozenset[str] = frozenset()
        self._kept: dict[str, str] = {}
        self._tensors: dict[str, NDArray[Any]] = {}
        self._dtypes: dict[str, str] = {}
        self._metrics: dict[str, NDArray[Any]] = {}
        self._steps = np.full(self._block, fmt.STEP_FILL, np.int64)

    def append(self, step: int, tensors: Mapping[str, Any], **metrics: float) -> None:
        """Record one row: the weights at one training step, and scalars that belong to the same weights.

        Values are copied. Running statistics such as ``running_mean`` are left out.

        Parameters
        ----------
        step
            Training iteration; larger than that of the row before.
        tensors
            Framework names to arrays (numpy, or a tensor on the CPU); the same names, shapes and dtypes in
            every row.
        metrics
            Scalars such as ``loss=0.1``. The first row fixes which there are; one left out later is NaN.

        Raises
        ------
        StepError
            Where `step` does not increase.
        TrajectoryError
            Where the row cannot be recorded, or differs in kind from the rows before. Nothing of it is kept.
        UsageError
            Where the writer is closed.
        """
        if self._closed:
            raise UsageError(f"{self._path}: this writer is closed; open a new one at another path")
        number = operator.index(step)
        if number < 0 or (self._last_step is not None and number <= self._last_step):
            before = "0 or more" if self._last_step is None else f"more than {self._last_step}"
            raise StepError(f"{self._path}: expected a step of {before}, got {number}")
        scalars = {name: self._scalar(name, value) for name, value in metrics.items()}
        if self._store is None:
            self._begin(tensors, metrics)
        self._check_names(tensors, metrics)
        values = {name: self._value(name, tensors[source]) for name, source in self._kept.items()}
        row = self._count % self._block
        for name, value in values.items():
            self._tensors[name][row] = value
        for name, scalar in scalars.items():
            self._metrics[name][row] = scalar
        self._steps[row] = number
        self._last_step = number
        self._count += 1
        if self._count % self._block == 0:
            self.commit()

    def commit(self) -> None:
        """Write the rows appended since the last commit, safe from a kill and open to readers."""
        if self._store is None or self._committed == self._count:
            return
        index = self._committed // self._block
        rows = {**self._tensors, **self._metrics, fmt.STEP: self._steps}
        self._store.write_block(index, rows, self._count)
        self._committed = self._count
        if self._count % self._block == 0:
            for buffer in (*self._tensors.values(), *self._metrics.values()):
                buffer.fill(np.nan)
            self._steps.fill(fmt.STEP_FILL)

    def close(self) -> None:
        """Commit the remaining rows and mark the recording as closed; without any row nothing is written."""
        if self._closed:
            return
        self.commit()
        if self._store is not None:
            self._store.close(self._committed)
        self._closed = True

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recording; after an exception keep its rows but leave its status ``open``."""
        if kind is None:
            self.close()
        else:
            self.commit()
            self._closed = True

    def _begin(self, tensors: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Learn names, shapes and dtypes of the first row, and create the store."""
        arrays: dict[str, NDArray[Any]] = {}
        dtypes: dict[str, str] = {}
        for source, value in tensors.items():
            if not is_buffer(source):
                arrays[source], dtypes[source] = _as_floats(source, value)
        if not arrays:
            raise TrajectoryError(f"{self._path}: expected at least one tensor, got {list(tensors)}")
        shapes = {source: array.shape for source, array in arrays.items()}
        resolved = resolve(shapes, declared=self._layout, told=self._told)
        kept = {place.name: place.source_name for place in resolved.placements}
        fmt.check_names([*kept, *metrics])
        fmt.check_count(str(self._path), len(kept) + len(metrics))
        specs = self._specs(resolved, arrays, dtypes, metrics)
        for name, spec in specs.items():
            bytes_a_chunk = spec.dtype.itemsize * int(np.prod(spec.chunks, dtype=np.int64))
            fmt.check_limits(f"{self._path}: {name!r}", (self._block, *spec.shape), bytes_a_chunk)
        self._store = ZarrStore(
            self._path, specs, self._attrs(resolved), block=self._block, overwrite=self._overwrite
        )
        self._sources, self._kept = frozenset(tensors), kept
        self._dtypes = {name: dtypes[source] for name, source in kept.items()}
        self._tensors = {
            name: np.full((self._block, *arrays[source].shape), np.nan, arrays[source].dtype)
            for name, source in kept.items()
        }
        self._metrics = {name: np.full(self._block, np.nan) for name in metrics}

    def _attrs(self, resolved: Resolution) -> dict[str, Any]:
        from koopscope.versions import __version__

        return {
            fmt.FORMAT_ATTR: fmt.FORMAT,
            fmt.COMMITTED_ATTR: 0,
            fmt.STATUS_ATTR: "open",
            "run_id": uuid.uuid4().hex,
            "framework": self._framework,
            "writer": f"koopscope {__version__}",
            "layout": resolved.layout,
            "layout_evidence": resolved.evidence,
            **({"tied": dict(resolved.tied)} if resolved.tied else {}),
        }

    def _specs(
        self,
        resolved: Resolution,
        arrays: Mapping[str, NDArray[Any]],
        dtypes: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> dict[str, ArraySpec]:
        """Say what each array of the store is."""
        taken = {fmt.STEP, *metrics, *(place.name for place in resolved.placements)}
        specs: dict[str, ArraySpec] = {}
        for place in resolved.placements:
            array = arrays[place.source_name]
            dims = dimension_names(place.name, array.ndim, place.output_axes, place.input_axes, taken)
            taken.update(dims)
            chunks = fmt.chunk_shape(array.shape, self._block, array.itemsize, place.output_axes)
            attrs = _tensor_attrs(place, dtypes[place.source_name])
            specs[place.name] = ArraySpec(array.shape, array.dtype, chunks, dims, attrs)
        for name in metrics:
            attrs = {"role": "metric"}
            specs[name] = ArraySpec((), np.dtype(np.float64), (self._block,), (fmt.STEP,), attrs)
        specs[fmt.STEP] = ArraySpec((), np.dtype(np.int64), (self._block,), (fmt.STEP,), {})
        return specs

    def _check_names(self, tensors: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        if tensors.keys() != self._sources:
            missing = sorted(self._sources - tensors.keys())
            added = sorted(tensors.keys() - self._sources)
            raise TrajectoryError(
                f"{self._path}: expected the tensors of the first row; missing {missing}, new {added}"
            )
        new = sorted(metrics.keys() - self._metrics.keys())
        if new:
            raise TrajectoryError(
                f"{self._path}: metrics {new} are not in the first row; give them there too, if need be "
                "as float('nan')"
            )

    def _scalar(self, name: str, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TrajectoryError(f"{self._path}: metric {name!r}: expected a number ({error})") from error

    def _value(self, name: str, value: Any) -> NDArray[Any]:
        array, dtype = _as_floats(self._kept[name], value)
        expected = self._tensors[name].shape[1:]
        if array.shape != expected or dtype != self._dtypes[name]:
            raise TrajectoryError(
                f"{self._path}: tensor {self._kept[name]!r}: expected {self._dtypes[name]} {expected} as in "
                f"the first row, got {dtype} {array.shape}"
            )
        return array


def _tensor_attrs(place: Placement, source_dtype: str) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "layer": place.layer,
        "layer_index": place.layer_index,
        "role": place.role,
        "source_dtype": source_dtype,
        "output_blocks": place.output_blocks,
        "source_name": place.source_name,
    }
    if place.output_axes is not None:
        attrs["output_axes"] = list(place.output_axes)
    if place.input_axes is not None:
        attrs["input_axes"] = list(place.input_axes)
    return attrs


def _as_floats(source: str, value: Any) -> tuple[NDArray[Any], str]:
    """View a value as an array of native floats, and name the dtype it came in."""
    detach = getattr(value, "detach", None)
    try:
        array = np.asarray(detach() if callable(detach) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrajectoryError(
            f"tensor {source!r}: expected an array or a tensor on the CPU, got {type(value).__name__} "
            f"({error}). For torch, pass value.detach().cpu(), and .float() where it is bfloat16"
        ) from error
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32), "bfloat16"
    native = array.dtype.newbyteorder("=")
    if native not in (np.float16, np.float32, np.float64):
        raise TrajectoryError(
            f"tensor {source!r}: expected float16, float32 or float64, got {array.dtype}; leave it out if it "
            "is no weight, else convert it with .astype('float32')"
        )
    return array.astype(native, copy=False), native.name
