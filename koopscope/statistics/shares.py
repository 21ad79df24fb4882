"""Which weights go to which worker: a layer each, or some output units of a large one."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.partition import Partition
from koopscope.statistics.windows import Window
from koopscope.trajectory import open_trajectory
from koopscope.weight_vector import TensorSlot, WeightVector

SHARE_BYTES = 128 * 2**20  # of the window: less is read in the time that handing it over takes
FEWEST_CHUNKS = 2  # in a share for it to end between two of them
SHARES_PER_WORKER = 2  # so that one that is killed loses half, and the last is not waited for long


@dataclass(frozen=True)
class Share:
    """The work of one task: where the recording is, which weights of it, and how they are grouped.

    Attributes
    ----------
    tensors
        Names, with the axis that is cut and the stretch of it that is taken; None: the tensor is whole.
    adds
        Its weights are one group, whose increment Gram is to be added to that of other shares.
    """

    source: str
    layout: str | None
    layer: str
    tensors: tuple[tuple[str, tuple[int, int, int] | None], ...]
    partition: Partition
    settings: dict[str, Any]
    adds: bool

    def open(self) -> xr.Dataset:
        """Open the weights of the share."""
        names = [glob.escape(name) for name, _ in self.tensors]
        run = open_trajectory(self.source, layout=self.layout, include=names)
        return run.isel(
            {
                run[name].dims[1 + cut[0]]: slice(cut[1], cut[2])
                for name, cut in self.tensors
                if cut is not None
            }
        )

    def columns(self, weights: WeightVector) -> npt.NDArray[np.int64]:
        """Flat index of every weight of the share, in its own flat order."""
        names = [slot.name for slot in weights.tensors]
        found = []
        for name, cut in self.tensors:
            indices = weights.flat_indices(names.index(name))
            if cut is not None:
                indices = np.moveaxis(np.moveaxis(indices, cut[0], 0)[cut[1] : cut[2]], 0, cut[0])
            found.append(indices.ravel())
        return np.concatenate(found)


def shares_of(
    trajectory: xr.Dataset,
    weights: WeightVector,
    partition: Partition,
    window: Window,
    settings: dict[str, Any],
    n_workers: int,
) -> list[Share]:
    """Share out the weights: by layers, and large layers by their output units.

    A layer that is one group is cut where its increment Gram serves, which adds up; one of nodes or smaller
    groups where all its tensors have the same units.
    """
    layout = str(trajectory.attrs.get("layout") or "") or None
    source = str(trajectory.attrs["source"])
    bounds = {"t1": window.t1, "t2": window.t2, "lag": window.lag}
    network = partition.default.name == "network"
    schemes = dict(partition.per_layer)
    n_rows = window.last_row + 1 - window.first_row
    shares = []
    for layer, tensors in weights.layers.items():
        slots = [weights.tensors[index] for index in tensors]
        grouping = Partition.layer() if network else Partition(schemes.get(layer, partition.default))
        size = sum(slot.size for slot in slots)
        one_group = grouping.default.name == "layer"
        wide = 2 * size + 1 > window.n_snapshots - 1 or settings["delays"] > 1
        adds = network or (one_group and wide and settings["method"] != "paper")
        wanted = min(SHARES_PER_WORKER * n_workers, n_rows * size * weights.dtype.itemsize // SHARE_BYTES)
        whole = max(slots, key=lambda slot: slot.size)
        chunks = trajectory[whole.name].variable.encoding.get("preferred_chunks", {})
        parts = _parts(slots, int(wanted), chunks) if adds or not one_group else []
        for part in parts or [tuple((slot.name, None) for slot in slots)]:
            how = {**settings, **bounds, "grams": adds}
            shares.append(Share(source, layout, layer, part, grouping, how, adds))
    return shares


def _parts(
    slots: Sequence[TensorSlot], wanted: int, chunks: Mapping[Any, int]
) -> list[tuple[tuple[str, tuple[int, int, int] | None], ...]]:
    """Cut the tensors of a layer alike, between chunks where there are many; none where that cannot be."""
    axes = [axis for slot in slots if (axis := _axis(slot)) is not None]
    if len(axes) < len(slots) or wanted < 2:
        return []
    units = {slot.shape[axis] for slot, axis in zip(slots, axes, strict=True)}
    n_units = min(units)
    if len(units) > 1 or n_units < wanted:
        return []
    chunk = next((chunks[dim] for slot in slots for dim in slot.dims if dim in chunks), 1)
    grain = chunk if n_units >= FEWEST_CHUNKS * wanted * chunk else 1
    borders = [round(n_units * part / wanted / grain) * grain for part in range(wanted)] + [n_units]
    return [
        tuple((slot.name, (axis, start, stop)) for slot, axis in zip(slots, axes, strict=True))
        for start, stop in pairwise(borders)
    ]


def _axis(slot: TensorSlot) -> int | None:
    """Axis that counts output units, where there is one and nothing is stacked along it."""
    alone = slot.output_axes is not None and len(slot.output_axes) == 1 and slot.output_blocks == 1
    return slot.output_axes[0] if alone and slot.output_axes else None
