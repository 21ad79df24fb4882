"""What makes a dataset a trajectory, checked from its metadata alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import StepError, TrajectoryError
from koopscope.trajectory.names import is_layer_name

KIND = "trajectory"
_HELP = (
    "open files with koopscope.open_trajectory(path), or wrap arrays with koopscope.trajectory.from_arrays"
)


def tensor_names(dataset: xr.Dataset) -> list[str]:
    """List the tensors of a trajectory in the order of their layers.

    >>> from koopscope.trajectory import from_arrays
    >>> tensor_names(from_arrays([0, 1], {"a.bias": np.zeros((2, 3)), "a.weight": np.zeros((2, 3, 4))}))
    ['a.weight', 'a.bias']
    """
    return [name for name, role in _roles(dataset).items() if role != "metric"]


def metric_names(dataset: xr.Dataset) -> list[str]:
    """List the scalar series of a trajectory.

    >>> from koopscope.trajectory import from_arrays
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
            continue
        problems += _layout_problems(name, variable, len(leading))
    if not problems and not any(all(dataset.variables[name].shape[1 + runs :]) for name in names):
        problems.append(f"expected at least one weight, found none in {', '.join(map(repr, names[:3]))}")
    return problems


def _layout_problems(name: str, variable: xr.Variable, leading: int) -> list[str]:
    """What a partition would stumble over."""
    problems, shape = [], variable.shape[leading:]
    layer = str(variable.attrs["layer"])
    if not is_layer_name(layer):
        problems.append(f"{name!r}: expected a layer with a name, found {layer!r}")
    axes, blocks = variable.attrs.get("output_axes"), variable.attrs.get("output_blocks", 1)
    numbers = [] if axes is None else np.atleast_1d(axes).tolist()
    known = {axis for axis in numbers if isinstance(axis, int) and 0 <= axis < len(shape)}
    if len(known) < len(numbers):
        problems.append(f"{name!r}: expected different output_axes below {len(shape)}, found {numbers}")
    if not isinstance(blocks, (int, np.integer)) or blocks < 1:
        problems.append(f"{name!r}: expected output_blocks of 1 or more, found {blocks!r}")
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
