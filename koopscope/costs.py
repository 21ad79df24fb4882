"""What a fit costs by partition, predicted from shapes and measured rates, and against training itself.

After the source's complexity analysis (supplement S1 of Dogra & Redman, NeurIPS 2020,
https://doi.org/10.48550/arXiv.2006.02361): a group of d weights over n snapshots costs ``d^2 n`` to build,
``d^2`` a step, and ``d^3 log T`` for a jump over T steps. Groups wider than half the snapshots are built from
their increment Gram: ``d n^2``, and steps and jumps of the few directions that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from koopscope.errors import UsageError
from koopscope.rates import READ_RATE, Rates, measured_rates, read_rate
from koopscope.threads import n_cores
from koopscope.trajectory import inspect as inspect_trajectory
from koopscope.trajectory import open_trajectory
from koopscope.weight_vector import TensorSlot, WeightVector

PARTITIONS = ("network", "layer", "node", "weight")
SNAPSHOTS = 101  # of a fit at the default lag
DIRECTIONS = 10  # that a wide group keeps: measured on smooth runs, 2 to 10 at the default tolerance
SAMPLES = 128  # of a batch, where nobody says how long a training step takes
STEP_SECONDS = 2e-4  # that a framework takes for the smallest step
# Seconds on one machine at one time; elsewhere they go by `Rates.pace`.
OVERHEAD_SECONDS = 6e-3  # of any fit and forecast: labels, windows, a tree
BLOCK_SECONDS = 2e-3  # of every block of groups in it
TENSOR_SECONDS = 5e-4  # of every tensor read
LABEL_SECONDS = 4e-5  # of every tensor of a forecast: a variable of the dataset
GROUP_SECONDS = 5e-7  # of every group of a forecast: .35e-6 to .58e-6 for thousands of one weight
# Shares of the rate of a matrix product:
KERNEL_SHARE = 0.2  # that compressing pairs reaches
GRAM_SHARE = 0.4  # that increment Grams reach
# Bytes of memory that could be filled meanwhile:
GATHER_BYTES = 58  # to pick and widen one number of a wide group's snapshots, for its Gram and its basis
WEIGHT_BYTES = 150  # of a forecast, for every weight
# As statistics.strips and statistics.grid have them, which are not imported: numba would load with them.
FEW_BYTES, PIECE_BYTES, THREADS_PER_CORE = 32 * 2**20, 4 * 2**20, 2
# The last fifth of the window, and its last rows, are read whatever the lag.
LINEAR_SHARE, OSCILLATION_ROWS = 5, 64
PIECES_PER_THREAD = 1.5  # what a thread holds: a piece, and the chunk that is decoded


def inspect(
    path_or_dataset: str | Path | xr.Dataset,
    *,
    layout: str | None = None,
    lints: bool = True,
    step_seconds: float | None = None,
) -> xr.Dataset:
    """Tabulate a recording: metadata, steps, a look at some rows of the weights, and what fits would cost.

    Costs are those of ``koopscope.fit`` and ``koopscope.predict`` with their defaults, by partition,
    predicted from shapes and from rates that are measured here and now, in less than a second (see
    `koopscope.costs`).

    Parameters
    ----------
    path_or_dataset
        A recording on disk, or one already open.
    layout
        As for `open_trajectory`; only with a path.
    lints
        Look at rows for what is odd, and at how fast they are read; ``False`` reads no weight.
    step_seconds
        Time of one training step; by default a guess: forward and backward on 128 samples, 6 operations a
        weight and sample, at the rate of a matrix product, and at least 0.2 ms.

    Returns
    -------
    xarray.Dataset
        Dim ``tensor``, with ``shape``, ``dtype``, ``size``, ``layer``, ``role`` and ``units``; attrs with
        steps, bytes, layout and its evidence, ``lints`` (what is odd), and ``costs``: one mapping a
        ``partition`` that the layout allows, with ``groups``, ``largest_group`` (weights), ``fit_flops``,
        ``fit_memory_bytes``, ``fit_seconds`` (with reading), ``step_flops`` (one lag of the operators),
        ``jump_flops`` (one forecast over ``lead`` steps), ``forecast_seconds``, and ``cheaper``: fit and
        forecast take less time than ``lead`` steps of training; ``lead`` (a quarter of the window);
        ``window_bytes``; ``read_seconds`` (one pass); ``step_seconds`` and whether it was guessed,
        ``step_seconds_guessed``; ``rates`` (of matrix products, reading, memory and decompositions).

    Raises
    ------
    TrajectoryError, StepError, LayoutError, UsageError
        As `open_trajectory` raises them; or if ``step_seconds`` is not positive.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> costs = inspect(linear_run()).attrs["costs"]
    >>> [(cost["partition"], cost["groups"], cost["largest_group"]) for cost in costs]
    [('network', 1, 26), ('layer', 2, 16), ('node', 6, 5), ('weight', 26, 1)]
    """
    if step_seconds is not None and not step_seconds > 0:
        raise UsageError(f"step_seconds must be a positive number of seconds, got {step_seconds}")
    if isinstance(path_or_dataset, xr.Dataset):
        opened = path_or_dataset
    else:
        opened, layout = open_trajectory(path_or_dataset, layout=layout), None
    table = inspect_trajectory(opened, layout=layout, lints=lints)
    one = opened.isel(run=0) if "run" in opened.dims else opened
    return table.assign_attrs(_costs(one, step_seconds, lints=lints))


def _costs(trajectory: xr.Dataset, step_seconds: float | None, *, lints: bool) -> dict[str, Any]:
    weights, rates = WeightVector.of(trajectory), measured_rates()
    reading = read_rate(trajectory) if lints and trajectory.sizes["step"] else READ_RATE
    work = Work.of(trajectory, weights)
    step = step_seconds or max(STEP_SECONDS, 6 * weights.size * SAMPLES / rates.product)
    found = []
    for partition in PARTITIONS:
        sizes = group_sizes(weights, partition)
        if sizes is None:
            continue
        cost = _cost(sizes, work, rates, reading)
        cheaper = cost["fit_seconds"] + cost["forecast_seconds"] < work.lead * step
        found.append({"partition": partition, **cost, "cheaper": cheaper})
    return {
        "costs": found,
        "lead": work.lead,
        "window_bytes": work.rows * work.row_bytes,
        "read_seconds": trajectory.sizes["step"] * work.row_bytes / reading,
        "step_seconds": step,
        "step_seconds_guessed": step_seconds is None,
        "rates": {**rates.to_attrs(), "reading": reading},
    }


@dataclass(frozen=True)
class Work:
    """What a fit reads: rows of the window, bytes and tensors of a row, snapshots kept, and the lead.

    ``read_bytes`` is what is decoded: chunks without a row that is used are left out. ``reading`` is what is
    held meanwhile: a few pieces a thread, or the window where that is less.
    """

    rows: int
    read_bytes: int
    reading: int
    row_bytes: int
    tensors: int
    weights: int
    snapshots: int
    lead: int

    @classmethod
    def of(cls, trajectory: xr.Dataset, weights: WeightVector) -> Work:
        """Take the default window: the first four fifths of the recording."""
        rows = max(1, 4 * trajectory.sizes["step"] // 5)
        steps = trajectory["step"].to_numpy()
        length = int(steps[rows - 1] - steps[0]) if steps.size else 0
        row_bytes = weights.size * weights.dtype.itemsize
        threads = THREADS_PER_CORE * n_cores() if rows * row_bytes > FEW_BYTES else 1
        largest = rows * max((slot.size for slot in weights.tensors), default=0) * weights.dtype.itemsize
        piece = min(PIECE_BYTES, largest)  # of one tensor
        reading = min(rows * row_bytes, int(threads * PIECES_PER_THREAD * piece))
        stride = max(1, round((rows - 1) / (SNAPSHOTS - 1)))
        n = (rows - 1) // stride + 1  # about a hundred
        read = read_bytes(trajectory, weights, rows, stride)
        return cls(rows, read, reading, row_bytes, len(weights.tensors), weights.size, n, length // 4)


def read_bytes(trajectory: xr.Dataset, weights: WeightVector, rows: int, stride: int) -> int:
    """Count the bytes of all chunks that hold a row on the grid or one of the last."""
    used = np.arange(rows - 1, -1, -stride)
    used = np.union1d(used, np.arange(max(0, rows - max(rows // LINEAR_SHARE, OSCILLATION_ROWS)), rows))
    total = 0
    for slot in weights.tensors:
        variable = trajectory[slot.name].variable
        known = variable.encoding.get("preferred_chunks", {})
        # Arrays in memory are read row by row; where nobody knows the chunks, all rows are.
        chunk = 1 if variable._in_memory else known.get(variable.dims[0], rows)
        total += min(rows, np.unique(used // chunk).size * chunk) * slot.size * variable.dtype.itemsize
    return total


def _cost(sizes: list[tuple[int, int]], work: Work, rates: Rates, reading: float) -> dict[str, Any]:
    """Cost of one partition; ``sizes`` lists how many groups there are of which size."""
    n = work.snapshots
    snapshots = n * work.row_bytes
    flops, step, jump = 0.0, 0.0, 0.0
    paced = OVERHEAD_SECONDS + work.tensors * TENSOR_SECONDS + len(sizes) * BLOCK_SECONDS
    seconds = work.read_bytes / reading
    seconds += work.rows * work.row_bytes / (LINEAR_SHARE * rates.memory)  # the line through the last rows
    memory = snapshots + work.reading + 5 * 8 * work.weights
    doublings = max(1, math.ceil(math.log2(max(2, n // 4))))
    for count, d in sizes:
        if n - 1 >= 2 * d + 1:
            build, size = 2 * n * (2 * d + 1) ** 2, d
            share, decomposition = KERNEL_SHARE, rates.decomposition(d)
            memory += count * 8 * (3 * (2 * d + 1) ** 2 // 2 + 6 * d * d)
        else:
            build, size = 2 * n * n * d + 2 * n * DIRECTIONS * d, DIRECTIONS
            share, decomposition = GRAM_SHARE, rates.symmetric(n)
            seconds += count * GATHER_BYTES * n * d / rates.memory
            memory += count * 8 * (4 * n * n + DIRECTIONS * d)
        flops += count * build
        seconds += count * (build / (share * rates.product) + decomposition)
        step += count * 2 * size**2
        jump += count * 2 * size**3 * doublings
    n_groups = sum(count for count, _ in sizes)
    labelling = OVERHEAD_SECONDS / 4 + len(sizes) * BLOCK_SECONDS / 6 + work.tensors * LABEL_SECONDS
    labelling += n_groups * GROUP_SECONDS
    forecast = labelling * rates.pace + work.weights * WEIGHT_BYTES / rates.memory
    return {
        "groups": n_groups,
        "largest_group": max(d for _, d in sizes),
        "fit_flops": flops,
        "fit_memory_bytes": memory,
        "fit_seconds": seconds + paced * rates.pace,
        "step_flops": step,
        "jump_flops": jump,
        "forecast_seconds": forecast + jump / (KERNEL_SHARE * rates.product),
    }


def group_sizes(weights: WeightVector, partition: str) -> list[tuple[int, int]] | None:
    """Count the groups of each size, block by block, without listing their weights.

    Returns
    -------
    Pairs of number and size; None where nobody knows the output units of a tensor.
    """
    if partition == "network":
        return [(1, weights.size)]
    sizes = []
    for tensors in weights.layers.values():
        slots = [weights.tensors[index] for index in tensors]
        total = sum(slot.size for slot in slots)
        if partition == "layer":
            sizes.append((1, total))
        elif partition == "weight":
            sizes.append((total, 1))
        elif any(slot.shape and slot.output_axes is None for slot in slots):
            return None
        else:
            sizes.extend(_nodes(slots))
    return sizes


def _nodes(slots: list[TensorSlot]) -> Iterator[tuple[int, int]]:
    """Rows of one layer: tensors with as many units share them; blocks are by size."""
    widths: dict[int, int] = {}
    for slot in slots:
        axes = slot.output_axes or ()
        units = math.prod(slot.shape[axis] for axis in axes) // slot.output_blocks if slot.shape else 1
        widths[units] = widths.get(units, 0) + slot.size // max(1, units)
    by_size: dict[int, int] = {}
    for units, width in widths.items():
        by_size[width] = by_size.get(width, 0) + units
    yield from ((count, size) for size, count in by_size.items())
