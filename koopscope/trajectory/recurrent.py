"""The axes of recurrent cells: gates stacked along the output axis, so that a unit owns several rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from koopscope.trajectory.roles import Shape, last

# The kernel on the state, gates x units along one axis and units along the other, counts the gates.
_STATE_KERNELS = {"weight_hh": 0, "Wh": 0, "Whh": 0, "recurrent_kernel": -1, "w_h": -1}
_SUFFIXED = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(.*)")
_GATE_COUNTS = (1, 3, 4)


class Cell(NamedTuple):
    """Gates and units of one cell, and the axis (0 or -1) along which its kernels stack the gates."""

    gates: int
    units: int
    axis: int


Place = tuple[tuple[int, ...] | None, tuple[int, ...] | None, int]


def recurrent_axes(name: str, shapes: Mapping[str, Shape]) -> Place:
    """Say what the axes of a cell's tensor count: (output axes, input axes, blocks).

    Parameters
    ----------
    name
        Name of the tensor.
    shapes
        Names to shapes of all tensors.

    Examples
    --------
    >>> recurrent_axes("a.weight_ih_l0", {"a.weight_ih_l0": (8, 3), "a.weight_hh_l0": (8, 2)})
    ((0,), (1,), 4)
    """
    shape, word = shapes[name], last(name)
    rank = len(shape)
    cell = _cell(name, shapes)
    if cell is None:
        # Flax: a gate is a dense layer of its own, (in, out), and the layer joins the gates.
        return ((rank - 1,), tuple(range(rank - 1)), 1) if word in ("kernel", "bias") else (None, None, 1)
    if cell.gates not in _GATE_COUNTS:
        return None, None, 1
    if word.startswith("weight_hr"):
        return (0,), (1,), 1
    stacked = cell.gates * cell.units
    if rank == 1:
        # A bias as long as one gate (MLX's bhn, Equinox's bias_n) belongs to that gate alone.
        return (0,), (), cell.gates if shape[0] == stacked else 1
    output = cell.axis % rank
    if shape[output] != stacked:
        return None, None, 1
    inputs = () if word in ("bias", "b") else (1 if output == 0 else rank - 2,)
    return (output,), inputs, cell.gates


def _cell(name: str, shapes: Mapping[str, Shape]) -> Cell | None:
    """Find the cell a tensor belongs to by its kernel on the state; ``None``: there is no such kernel."""
    prefix = name[: len(name) - len(last(name))]
    suffixed = _SUFFIXED.fullmatch(last(name))
    suffix = suffixed[1] if suffixed else ""
    for word, axis in _STATE_KERNELS.items():
        shape = shapes.get(f"{prefix}{word}{suffix}")
        if shape is None or len(shape) < 2:
            continue
        other = 1 if axis == 0 else -2
        stacked, units = shape[axis], shape[other]
        # The state of a projected LSTM is narrower than its cell, which always has four gates.
        projected = f"{prefix}weight_hr{suffix}" in shapes
        gates = 4 if projected else stacked // max(units, 1)
        if gates == 0 or stacked % gates:
            return Cell(0, 0, axis)
        return Cell(gates, stacked // gates, axis)
    return None
