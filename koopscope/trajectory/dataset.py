"""A trajectory in memory: the one `xarray.Dataset` shape that every other part of koopscope works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from koopscope.errors import StepError, TrajectoryError, UsageError
from koopscope.trajectory.layout import resolve
from koopscope.trajectory.lazy import encoding_of
from koopscope.trajectory.names import dimension_names
from koopscope.trajectory.tensor_layout import TensorLayout

KIND = "trajectory"
_HELP = (
    "open files with koopscope.open_trajectory(path), or wrap arrays with koopscope.trajectory.from_arrays"
)


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


def tensor_names(dataset: xr.Dataset) -> list[str]:
    """List the tensors of a trajectory in the order of their layers.

    >>> tensor_names(from_arrays([0, 1], {"a.bias": np.zeros((2, 3)), "a.weight": np.zeros((2, 3, 4))}))
    ['a.weight', 'a.bias']
    """
    return [name for name, role in _roles(dataset).items() if role != "metric"]


def metric_names(dataset: xr.Dataset) -> list[str]:
    """List the scalar series of a trajectory.

    >>> metric_names(from_arrays([0, 1], {"a.bias": np.zeros((2, 3))}, {"loss": [0.5, 0.4]}))
    ['loss']
    """
    return [name for name, role in _roles(dataset).items() if role == "metric"]


def _roles(dataset: xr.Dataset) -> dict[str, Any]:
    # Bare variables: making a DataArray of each takes as long as the rest of a small fit's bookkeeping.
    bare, coords = dataset.variables, set(dataset.coords)
    return {str(name): variable.attrs.get("role") for name, variable in bare.items() if name not in coords}


def _step_problems(dataset: xr.Dataset) -> list[str]:
    if "step" not in dataset.coords:
        return [f"expected a coord 'step', found the coords {sorted(map(str, dataset.coords))}"]
    steps: NDArray[Any] = dataset.coords["step"].values
    if steps.ndim != 1 or steps.dtype.kind not in "iu":
        return [f"expected integer steps of shape (n,), found {steps.dtype} {steps.shape}"]
    falls = np.flatnonzero(steps[1:] <= steps[:-1])
    if falls.size:
        row = int(falls[0])
        return [
            f"expected strictly increasing steps, found {steps[row]} followed by {steps[row + 1]} "
            f"at rows {row} and {row + 1} ({falls.size} such places)"
        ]
    return []


def _tensor_problems(dataset: xr.Dataset, *, runs: bool) -> list[str]:
    names = tensor_names(dataset)
    if not names:
        return ["expected at least one tensor, found none"]
    problems = []
    for name in names:
        # `.variable` and its dtype and dims are metadata: nothing here may decode a chunk.
        variable = dataset.variables[name]
        if variable.dtype not in (np.float16, np.float32, np.float64):
            problems.append(f"{name!r}: expected float16, float32 or float64, found {variable.dtype}")
        leading, words = (("run", "step"), "dims 'run', 'step'") if runs else (("step",), "dim 'step'")
        if variable.dims[: len(leading)] != leading:
            problems.append(f"{name!r}: expected the leading {words}, found dims {variable.dims}")
        if "role" not in variable.attrs or "layer" not in variable.attrs:
            problems.append(f"{name!r}: expected the attrs 'role' and 'layer', found {list(variable.attrs)}")
    if not problems and not any(all(dataset.variables[name].shape[1:]) for name in names):
        problems.append(f"expected at least one weight, found none in {', '.join(map(repr, names[:3]))}")
    return problems


def validate(dataset: xr.Dataset, *, runs: bool = False) -> None:
    """Check that a dataset is a trajectory, from its metadata alone; all problems go into one message.

    Parameters
    ----------
    dataset
        What `open_trajectory` or `from_arrays` returned, possibly sliced along ``step``.
    runs
        Whether it may have the dim ``run``; otherwise one run is to be selected before.

    Raises
    ------
    TrajectoryError
        Where it is not a trajectory, or one of many runs.
    StepError
        Where nothing but its steps is at fault.
    """
    if not isinstance(dataset, xr.Dataset):
        raise TrajectoryError(
            f"expected a trajectory (xarray.Dataset), got {type(dataset).__name__}; {_HELP}"
        )
    source = dataset.attrs.get("source", "this dataset")
    many = "run" in dataset.dims
    if many and not runs:
        raise TrajectoryError(
            f"{source} holds {dataset.sizes['run']} runs; select one of them: trajectory.isel(run=0), or "
            "--run 0 in the shell"
        )
    others = _tensor_problems(dataset, runs=many)
    if dataset.attrs.get("koopscope_kind") != KIND:
        others.insert(0, f"expected the attr koopscope_kind={KIND!r}")
    steps = _step_problems(dataset)
    if not others and not steps:
        return
    message = f"{source} is not a usable trajectory:\n- " + "\n- ".join([*others, *steps])
    if others:
        raise TrajectoryError(f"{message}\nTo get one, {_HELP}.")
    raise StepError(f"{message}\nRows must be in the order of training, each step once.")


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
