"""Which weights evolve together: network, layer, node, quasi-node, weight, correlated, or the user's labels.

A partition is an ordered set of disjoint groups that together hold every weight. Groups of one layer and
one size make a *block*, an integer array ``(group, member)`` of indices into the flat order of the
weights, so that nothing is ragged and kernels see plain arrays.

Reference: Dogra & Redman, "Optimizing Neural Networks via Koopman Operator Theory", NeurIPS 2020,
https://doi.org/10.48550/arXiv.2006.02361, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.errors import LayoutError, PartitionError
from koopscope.trajectory import LAYOUTS
from koopscope.weight_vector import TensorSlot, WeightVector

_SCHEMES = ("network", "layer", "node", "quasi-node", "weight", "correlated", "labels")
_NUMBERED = ("quasi-node", "correlated")
_SPELLING = (
    "network, layer, node, quasi-node:Q, weight, correlated:K, or a mixture such as node,fc1=quasi-node:10"
)


@dataclass(frozen=True)
class Scheme:
    """One way of grouping weights; ``chunk`` is the q of quasi-nodes or the number of correlated groups."""

    name: str
    chunk: int = 0

    def __str__(self) -> str:
        """Spell the scheme as the shell does."""
        return f"{self.name}:{self.chunk}" if self.name in _NUMBERED else self.name


@dataclass(frozen=True)
class GroupBlock:
    """Groups of equal size that are stored, fitted and drawn together.

    Attributes
    ----------
    path
        Place in a result: the layer, with ``/size-d`` where a layer's groups differ in size.
    layer
        Layer of all groups in the block; "network" or "labels" where groups cross layers.
    members
        Flat weight indices, shape ``(group, member)``.
    units
        Output unit of each group, shape ``(group,)``; its position in the block where groups are no units.
    """

    path: str
    layer: str
    members: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """An ordered set of groups of weights; build one with the class methods or `Partition.parse`.

    >>> str(Partition.parse("node,fc1=quasi-node:10"))
    'node,fc1=quasi-node:10'
    >>> Partition.quasi_node(10) == Partition.parse("quasi-node:10")
    True
    """

    default: Scheme
    per_layer: tuple[tuple[str, Scheme], ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def network(cls) -> Partition:
        """All weights in one group."""
        return cls(Scheme("network"))

    @classmethod
    def layer(cls) -> Partition:
        """One group a layer: all of its tensors."""
        return cls(Scheme("layer"))

    @classmethod
    def node(cls) -> Partition:
        """One group an output unit: its row ``[incoming weights | bias]``."""
        return cls(Scheme("node"))

    @classmethod
    def quasi_node(cls, q: int) -> Partition:
        """Contiguous chunks of ``q`` weights inside a node, the remainder a smaller last chunk."""
        if q < 1:
            raise PartitionError(f"quasi-node needs a chunk of at least 1 weight, not {q}")
        return cls(Scheme("quasi-node", int(q)))

    @classmethod
    def weight(cls) -> Partition:
        """Every scalar alone."""
        return cls(Scheme("weight"))

    @classmethod
    def correlated(cls, k: int) -> Partition:
        """``k`` groups of weights whose increments are correlated over the window, in whatever layer.

        They are read off the recording when statistics are collected, and stored with a fit as labels.
        """
        if k < 1:
            raise PartitionError(f"correlated needs at least 1 group, not {k}")
        return cls(Scheme("correlated", int(k)))

    @property
    def n_correlated(self) -> int:
        """Number of groups to be read off the recording; 0 where the partition needs none."""
        return self.default.chunk if self.default.name == "correlated" else 0

    @classmethod
    def from_labels(cls, mapping: Mapping[str, Any]) -> Partition:
        """Groups by label: weights that share a label share a group, in whatever tensors they lie.

        Parameters
        ----------
        mapping
            For every tensor name either one label for the whole tensor, or an integer or string array of
            labels in the tensor's shape.

        Examples
        --------
        >>> Partition.from_labels({"fc1.weight": "first", "fc1.bias": "first", "fc2.weight": "rest"})
        Partition(default=Scheme(name='labels', chunk=0), per_layer=(), labels={...})
        """
        return cls(Scheme("labels"), labels=dict(mapping))

    @classmethod
    def parse(cls, text: str | Partition) -> Partition:
        """Read the shell's spelling: a scheme, then any number of ``layer=scheme`` exceptions.

        Raises
        ------
        PartitionError
            If the text is not understood; the message shows what can be written.
        """
        if isinstance(text, Partition):
            return text
        if not isinstance(text, str):
            raise PartitionError(f"expected a partition or its spelling, got {text!r}; write {_SPELLING}")
        first, *rest = [part.strip() for part in text.split(",")]
        exceptions = []
        for part in rest:
            name, equals, scheme = part.partition("=")
            if not equals or not name.strip():
                raise PartitionError(
                    f"partition {text!r}: expected layer=scheme, got {part!r}; write {_SPELLING}"
                )
            exceptions.append((name.strip(), _parse_scheme(scheme.strip(), text)))
        whole = cls(_parse_scheme(first, text), tuple(exceptions))
        crossing = [
            scheme.name
            for scheme in (whole.default, *dict(exceptions).values())
            if scheme.name in ("network", "correlated")
        ]
        if exceptions and crossing:
            raise PartitionError(f"partition {text!r}: {crossing[0]} crosses layers and cannot be mixed")
        return whole

    def __str__(self) -> str:
        """Spell the partition as the shell does."""
        return ",".join([str(self.default), *(f"{name}={scheme}" for name, scheme in self.per_layer)])

    def blocks(self, weights: WeightVector) -> list[GroupBlock]:
        """Resolve the partition on the tensors of a recording.

        Raises
        ------
        LayoutError
            If nodes are asked for and nobody declared which axis counts a tensor's output units.
        PartitionError
            If a layer or a label is missing.
        """
        if self.default.name == "network":
            everything = np.arange(weights.size, dtype=np.int64)[None, :]
            return [GroupBlock("network", "network", everything, np.zeros(1, np.int64))]
        if self.n_correlated:
            raise PartitionError(f"{self} is read off a recording: give it to collect or fit")
        if self.default.name == "labels":
            return _label_blocks(self.labels, weights)
        chosen = dict(self.per_layer)
        unknown = sorted(set(chosen) - set(weights.layers))
        if unknown:
            raise PartitionError(
                f"partition {str(self)!r} names {', '.join(unknown)}; "
                f"the recording's layers are {', '.join(weights.layers)}"
            )
        return [
            block
            for layer, tensors in weights.layers.items()
            for block in _layer_blocks(weights, layer, tensors, chosen.get(layer, self.default))
        ]


def _parse_scheme(text: str, whole: str) -> Scheme:
    name, colon, chunk = text.partition(":")
    if name in _NUMBERED and chunk.isdecimal() and int(chunk) >= 1:
        return Scheme(name, int(chunk))
    if name in _SCHEMES[:-1] and name not in _NUMBERED and not colon:
        return Scheme(name)
    hint = " (labels come from Python: Partition.from_labels)" if name == "labels" else ""
    raise PartitionError(f"partition {whole!r}: {text!r} is not a scheme{hint}; write {_SPELLING}")


def _layer_blocks(weights: WeightVector, layer: str, tensors: list[int], scheme: Scheme) -> list[GroupBlock]:
    """Group the weights of one layer, one block a group size."""
    if scheme.name == "layer":
        whole = np.concatenate([weights.flat_indices(index).ravel() for index in tensors])
        return [GroupBlock(layer, layer, whole[None, :], np.zeros(1, np.int64))]
    if scheme.name == "weight":
        each = np.concatenate([weights.flat_indices(index).ravel() for index in tensors])
        return [GroupBlock(layer, layer, each[:, None], np.arange(each.size, dtype=np.int64))]
    pieces: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for rows in _node_rows(weights, tensors, scheme):
        pieces.extend(_chunks(rows, scheme.chunk or rows.shape[1]))
    return _by_size(layer, layer, pieces)


def _node_rows(weights: WeightVector, tensors: list[int], scheme: Scheme) -> list[npt.NDArray[np.int64]]:
    """Rows ``[incoming weights | bias]`` of a layer; tensors with other unit counts make their own."""
    rows_by_units: dict[int, list[npt.NDArray[np.int64]]] = {}
    for index in tensors:
        slot = weights.tensors[index]
        rows = _unit_rows(slot, weights.flat_indices(index), scheme)
        rows_by_units.setdefault(rows.shape[0], []).append(rows)
    return [np.concatenate(rows, axis=1) for rows in rows_by_units.values()]


def _unit_rows(slot: TensorSlot, indices: npt.NDArray[np.int64], scheme: Scheme) -> npt.NDArray[np.int64]:
    """Indices of one tensor as ``(unit, weights of that unit)``."""
    if not slot.shape:
        return indices.reshape(1, 1)
    if slot.output_axes is None:
        raise LayoutError(
            f"partition {scheme} needs to know which axis of {slot.name} (shape {slot.shape}) counts its "
            "output units, and neither the recording nor the shapes say so; declare it with --layout "
            f"{'|'.join(LAYOUTS)}, or take the layer whole: --partition {scheme},{slot.layer}=layer"
        )
    front = np.moveaxis(indices, slot.output_axes, range(len(slot.output_axes)))
    n_outputs = int(np.prod([slot.shape[axis] for axis in slot.output_axes]))
    rows = front.reshape(n_outputs, -1)
    if slot.output_blocks == 1:
        return rows
    if slot.output_blocks < 1 or n_outputs % slot.output_blocks:
        raise LayoutError(
            f"{slot.name} (shape {slot.shape}) is recorded with {slot.output_blocks} blocks along its output "
            f"axes, which do not divide its {n_outputs} outputs; declare a layout, or use --partition layer"
        )
    # Gates stacked along the output axis: unit j owns rows j, j + H, j + 2H, ...
    n_units = n_outputs // slot.output_blocks
    return rows.reshape(slot.output_blocks, n_units, -1).swapaxes(0, 1).reshape(n_units, -1)


def _chunks(
    rows: npt.NDArray[np.int64], chunk: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Cut rows into full chunks and a remainder; each as (members, units)."""
    n_units, width = rows.shape
    n_full = width // chunk
    units = np.arange(n_units, dtype=np.int64)
    pieces = []
    if n_full:
        full = rows[:, : n_full * chunk].reshape(n_units * n_full, chunk)
        pieces.append((full, np.repeat(units, n_full)))
    if width % chunk:
        pieces.append((rows[:, n_full * chunk :], units))
    return pieces


def _by_size(
    path: str, layer: str, pieces: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
) -> list[GroupBlock]:
    """One block a group size; a path of its own only where sizes differ."""
    by_size: dict[int, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]] = {}
    for members, units in pieces:
        by_size.setdefault(members.shape[1], []).append((members, units))
    blocks = []
    for size, same in by_size.items():
        members = np.concatenate([piece for piece, _ in same])
        units = np.concatenate([unit for _, unit in same])
        blocks.append(GroupBlock(path if len(by_size) == 1 else f"{path}/size-{size}", layer, members, units))
    return blocks


def _label_blocks(labels: Mapping[str, Any], weights: WeightVector) -> list[GroupBlock]:
    names = [slot.name for slot in weights.tensors]
    problems = [f"{name} has no label" for name in names if name not in labels]
    problems += [f"{name} is no tensor of the recording" for name in labels if name not in names]
    flat = []
    for slot in weights.tensors:
        given = np.asarray(labels.get(slot.name, ""))
        if given.dtype.kind not in "iuSUb":
            problems.append(f"labels of {slot.name} are {given.dtype}, expected integers or strings")
        elif given.shape not in ((), slot.shape):
            problems.append(
                f"labels of {slot.name} have shape {given.shape}, expected {slot.shape} or one label"
            )
        else:
            flat.append(np.broadcast_to(given, slot.shape).ravel().astype(str))
    if problems:
        raise PartitionError("labels do not fit the recording: " + "; ".join(problems))
    every = np.concatenate(flat)
    _, first, label_of = np.unique(every, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))[label_of]  # number labels by first appearance
    by_label = np.argsort(order, kind="stable").astype(np.int64)
    sizes = np.bincount(order)
    starts = np.cumsum(sizes) - sizes
    pieces = []
    for size in dict.fromkeys(sizes.tolist()):
        numbers = np.flatnonzero(sizes == size)
        pieces.append((by_label[starts[numbers, None] + np.arange(size)], numbers.astype(np.int64)))
    return _by_size("labels", "labels", pieces)
