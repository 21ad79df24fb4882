"""A trajectory in memory: the one `xarray.Dataset` shape that every other part of koopscope works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from koopscope.errors import StepError, TrajectoryError, UsageError
from koopscope.trajectory.layout import resolve
from koopscope.trajectory.lazy import encoding_of
from koopscope.trajectory.names import dimension_names
from koopscope.trajectory.tensor_layout import TensorLayout
from koopscope.trajectory.validation import KIND, validate


@dataclass(frozen=True)
class Tensor:
    """One recorded tensor with everything that is known about it.

    Parameters
    ----------
    name
        Name of the variable, components joined by dots (``fc1.weight``).
    array
        Recorded values, leading axis step: a numpy array or a lazily indexed array.
    layer, layer_index
        The layer it belongs to and the layer's place in the network.
    role
        ``kernel``, ``bias``, ``norm``, ``embedding``, ``recurrent`` or ``other``.
    output_axes, input_axes
        Axes of the tensor, the step axis not counted, that count output and input units; ``None``: unknown.
    source_dtype
        The dtype the framework held the values in.
    output_blocks
        Number of gate or projection blocks stacked along the output axis.
    source_name
        The framework's own name.
    """

    name: str
    array: Any
    layer: str
    layer_index: int
    role: str
    output_axes: tuple[int, ...] | None
    input_axes: tuple[int, ...] | None
    source_dtype: str
    output_blocks: int = 1
    source_name: str = ""


def _tensor_attrs(tensor: Tensor) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "role": tensor.role,
        "layer": tensor.layer,
        "layer_index": tensor.layer_index,
        "source_dtype": tensor.source_dtype,
        "output_blocks": tensor.output_blocks,
        "source_name": tensor.source_name or tensor.name,
    }
    if tensor.output_axes is not None:
        attrs["output_axes"] = list(tensor.output_axes)
    if tensor.input_axes is not None:
        attrs["input_axes"] = list(tensor.input_axes)
    return attrs


def _is_bias(tensor: Tensor) -> bool:
    """Tell biases from kernels, also where a recurrent cell has both."""
    word = tensor.name.rpartition(".")[2]
    return tensor.role == "bias" or (tensor.role == "recurrent" and word.startswith("b"))


def assemble(
    steps: ArrayLike,
    tensors: Iterable[Tensor],
    metrics: Mapping[str, ArrayLike],
    *,
    layout: str,
    evidence: str,
    source: str,
    format: str,
    runs: int | None = None,
) -> xr.Dataset:
    """Put tensors and metrics together into one dataset, without reading a weight.

    Variables are ordered by layer, kernels before biases, so that the node of an output unit is
    ``[incoming weights | bias]`` in the order of the variables.

    Parameters
    ----------
    steps
        Training iterations of the recorded rows, integers, shape (n,).
    tensors
        The tensors, each with leading axis n.
    metrics
        Scalar series, each of shape (n,).
    layout, evidence
        Name of the layout and the words that say how it is known.
    source, format
        Where the recording came from and in which format it is kept.
    runs
        Length of the axis ``run`` before that of the steps, in tensors and metrics; ``None``: there is none.

    Raises
    ------
    TrajectoryError
        Where names collide or lengths differ.
    StepError
        Where the steps are not integers.
    """
    ordered = sorted(tensors, key=lambda tensor: (tensor.layer_index, _is_bias(tensor), tensor.name))
    rows = np.asarray(steps)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise StepError(f"{source}: expected integer steps of shape (n,), got {rows.dtype} {rows.shape}")
    if rows.size and rows.max() >= 2**63:  # unsigned, and negative in the 64 bits that all steps have
        raise StepError(f"{source}: expected steps below 2^63, got {rows.max()}")
    _check_names([tensor.name for tensor in ordered], list(metrics), source)
    run = () if runs is None else ("run",)
    lengths = [(tensor.name, tensor.array.shape[len(run) : len(run) + 1]) for tensor in ordered]
    lengths += [(name, np.shape(values)[len(run) :]) for name, values in metrics.items()]
    for name, length in lengths:
        if length != rows.shape:
            raise TrajectoryError(
                f"{source}: expected {rows.size} rows of {name!r}, as many as there are steps, "
                f"got {length[0] if length else 'a single value'}"
            )
    taken = {"step", *run, *(tensor.name for tensor in ordered), *metrics}
    variables: dict[str, xr.Variable] = {}
    for tensor in ordered:
        rank = len(tensor.array.shape) - len(run) - 1
        dims = dimension_names(tensor.name, rank, tensor.output_axes, tensor.input_axes, taken)
        taken.update(dims)
        every = (*run, *dims)
        encoding = encoding_of(every, tensor.array)
        variables[tensor.name] = xr.Variable(every, tensor.array, _tensor_attrs(tensor), encoding)
    for name, values in metrics.items():
        variables[name] = xr.Variable((*run, "step"), np.asarray(values, np.float64), {"role": "metric"})
    attrs = {
        "koopscope_kind": KIND,
        "layout": layout,
        "layout_evidence": evidence,
        "source": source,
        "format": format,
    }
    return xr.Dataset(variables, coords={"step": rows.astype(np.int64)}, attrs=attrs)


def _check_names(tensors: Sequence[str], metrics: Sequence[str], source: str) -> None:
    counts = Counter([*tensors, *metrics, "step"])
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise TrajectoryError(
            f"{source}: names must differ from each other and from 'step'; more than one is called "
            f"{', '.join(map(repr, doubled))}. Rename one of them"
        )


def from_arrays(
    steps: ArrayLike,
    tensors: Mapping[str, ArrayLike],
    metrics: Mapping[str, ArrayLike] | None = None,
    *,
    layout: str | None = "torch",
    told: Mapping[str, TensorLayout] | None = None,
) -> xr.Dataset:
    """Make a trajectory of arrays that are already in memory.

    Parameters
    ----------
    steps
        Training iterations, strictly increasing integers, shape (n,).
    tensors
        Framework names to recorded values of shape (n, ...), in the order of the layers.
    metrics
        Names to scalar series of shape (n,).
    layout
        One of `koopscope.trajectory.LAYOUTS`; ``None`` infers it from names and shapes.
    told
        Framework names to what is known for sure of single tensors, which outranks `layout`.

    Returns
    -------
    xarray.Dataset
        One variable a tensor, dims ``(step, <name>.out, <name>.in, ...)``.

    Raises
    ------
    TrajectoryError, StepError, LayoutError, UsageError
        Where the arrays do not make a trajectory.

    Examples
    --------
    >>> trajectory = from_arrays([10, 20], {"fc1.weight": np.zeros((2, 3, 4)), "fc1.bias": np.zeros((2, 3))})
    >>> trajectory["fc1.weight"].dims
    ('step', 'fc1.weight.out', 'fc1.weight.in')
    """
    arrays = {name: np.asarray(values) for name, values in tensors.items()}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise UsageError(f"tensors[{name!r}]: expected a leading axis of steps, got a single value")
    resolved = resolve({name: array.shape[1:] for name, array in arrays.items()}, declared=layout, told=told)
    placed = [
        Tensor(
            name=place.name,
            array=arrays[place.source_name],
            layer=place.layer,
            layer_index=place.layer_index,
            role=place.role,
            output_axes=place.output_axes,
            input_axes=place.input_axes,
            output_blocks=place.output_blocks,
            source_dtype=str(arrays[place.source_name].dtype),
            source_name=place.source_name,
        )
        for place in resolved.placements
    ]
    dataset = assemble(
        steps,
        placed,
        metrics or {},
        layout=resolved.layout,
        evidence=resolved.evidence,
        source="arrays in memory",
        format="memory",
    )
    validate(dataset)
    return dataset
