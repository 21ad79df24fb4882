"""The flat order of all weights of a recording: tensors one after another, each in C order.

Groups of weights are rows of indices into this order, so that every partition, however the weights are
spread over tensors, is one integer array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.trajectory import tensor_names


@dataclass(frozen=True)
class TensorSlot:
    """One tensor's place in the flat order, and what a partition needs to know about it."""

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    layer: str
    output_axes: tuple[int, ...] | None
    output_blocks: int
    source_name: str  # in the framework, with the dtype it has there
    source_dtype: str
    tied: tuple[str, ...]  # further names of the tensor in the framework

    @property
    def size(self) -> int:
        """Number of weights in the tensor."""
        return prod(self.shape)


@dataclass(frozen=True)
class WeightVector:
    """The tensors of a recording in flat order; knows how to go from flat indices to tensors and back."""

    tensors: tuple[TensorSlot, ...]

    @classmethod
    def of(cls, trajectory: xr.Dataset) -> WeightVector:
        """Read the flat order off a trajectory (see `koopscope.open_trajectory`); no weight is read.

        Tensors without a weight, such as the kernel of a layer of width zero, have no place in it.
        """
        tied = dict(trajectory.attrs.get("tied", {}))
        slots = (_slot(name, trajectory.variables[name], tied) for name in tensor_names(trajectory))
        return cls(tuple(slot for slot in slots if slot.size))

    @classmethod
    def from_attrs(cls, described: Sequence[Mapping[str, Any]]) -> WeightVector:
        """Rebuild the flat order from what `to_attrs` wrote into a result."""
        slots = []
        for item in described:
            axes = item["output_axes"]
            slots.append(
                TensorSlot(
                    name=str(item["name"]),
                    shape=tuple(int(n) for n in item["shape"]),
                    dims=tuple(item["dims"]),
                    dtype=str(item["dtype"]),
                    layer=str(item["layer"]),
                    output_axes=None if axes is None else tuple(int(axis) for axis in axes),
                    output_blocks=int(item["output_blocks"]),
                    source_name=str(item["source_name"]),
                    source_dtype=str(item["source_dtype"]),
                    tied=tuple(str(name) for name in item["tied"]),
                )
            )
        return cls(tuple(slots))

    def to_attrs(self) -> list[dict[str, Any]]:
        """Describe the flat order in plain JSON types, to be stored with a result."""
        return [
            {
                "name": slot.name,
                "shape": list(slot.shape),
                "dims": list(slot.dims),
                "dtype": slot.dtype,
                "layer": slot.layer,
                "output_axes": None if slot.output_axes is None else list(slot.output_axes),
                "output_blocks": slot.output_blocks,
                "source_name": slot.source_name,
                "source_dtype": slot.source_dtype,
                "tied": list(slot.tied),
            }
            for slot in self.tensors
        ]

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Flat index of each tensor's first weight, and the total size as the last entry."""
        sizes = [slot.size for slot in self.tensors]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    @property
    def size(self) -> int:
        """Number of weights in all tensors."""
        return int(self.offsets[-1])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest floating type that holds every tensor exactly."""
        return np.result_type(*(np.dtype(slot.dtype) for slot in self.tensors))

    @cached_property
    def layers(self) -> dict[str, list[int]]:
        """Indices of the tensors of each layer, layers in the order of the recording."""
        found: dict[str, list[int]] = {}
        for index, slot in enumerate(self.tensors):
            found.setdefault(slot.layer, []).append(index)
        return found

    def flat_indices(self, tensor: int) -> npt.NDArray[np.int64]:
        """Flat index of every weight of one tensor, in the tensor's own shape."""
        start, stop = self.offsets[tensor], self.offsets[tensor + 1]
        return np.arange(start, stop, dtype=np.int64).reshape(self.tensors[tensor].shape)

    def split(self, flat: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Cut arrays whose last axis is the flat order into one array a tensor, in the tensors' shapes.

        Parameters
        ----------
        flat
            Array of shape ``(..., weights)``.
        """
        pieces = {}
        for index, slot in enumerate(self.tensors):
            piece = flat[..., self.offsets[index] : self.offsets[index + 1]]
            pieces[slot.name] = piece.reshape((*flat.shape[:-1], *slot.shape))
        return pieces

    def locate(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Name the tensor, and the position in it, of one flat index."""
        tensor = int(np.searchsorted(self.offsets, index, side="right")) - 1
        slot = self.tensors[tensor]
        position = np.unravel_index(index - int(self.offsets[tensor]), slot.shape) if slot.shape else ()
        return slot.name, tuple(int(i) for i in position)


def _slot(name: str, variable: xr.Variable, tied: Mapping[str, str]) -> TensorSlot:
    axes = variable.attrs.get("output_axes")
    source_name = str(variable.attrs.get("source_name", name))
    # Ties are noted under names without wrappers; what wraps the first name wraps the others too.
    wrapper = source_name.removesuffix(name) if source_name.endswith(name) else ""
    return TensorSlot(
        name=name,
        shape=tuple(variable.shape[1:]),
        dims=tuple(str(dim) for dim in variable.dims[1:]),
        dtype=str(variable.dtype),
        layer=str(variable.attrs["layer"]),
        output_axes=None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes)),
        output_blocks=int(variable.attrs.get("output_blocks", 1)),
        source_name=source_name,
        source_dtype=str(variable.attrs.get("source_dtype", variable.dtype)),
        tied=tuple(wrapper + second for second, first in tied.items() if first == name),
    )
