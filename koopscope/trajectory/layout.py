"""Where each tensor stands in the network, and which of its axes count output units.

An axis is never guessed. Where nothing speaks, axes stay unknown: partitions by layer, by network and by
weight do without them, and the partition by node asks for a layout. `evidence` decides on the layout of the
whole recording, `axes` holds the table of layouts, `roles` says what each tensor is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from koopscope.errors import TrajectoryError, UsageError
from koopscope.trajectory.axes import LAYOUTS, UNKNOWN, Axes, Network, axes_of
from koopscope.trajectory.evidence import Verdict, decide
from koopscope.trajectory.names import clean, is_buffer, layer_indices, layer_of
from koopscope.trajectory.roles import Shape, layers, roles
from koopscope.trajectory.tensor_layout import TensorLayout

__all__ = ["LAYOUTS", "UNKNOWN", "Placement", "Resolution", "resolve"]


@dataclass(frozen=True)
class Placement:
    """Where one tensor stands in the network, and what its axes count (`None`: unknown)."""

    name: str
    source_name: str
    layer: str
    layer_index: int
    role: str
    output_axes: tuple[int, ...] | None
    input_axes: tuple[int, ...] | None
    output_blocks: int = 1


@dataclass(frozen=True)
class Resolution:
    """The placements of a recording's tensors, the layout they rest on, and how it is known."""

    layout: str
    evidence: str
    placements: tuple[Placement, ...]
    tied: Mapping[str, str] = field(default_factory=dict)


def resolve(
    shapes: Mapping[str, Shape],
    *,
    declared: str | None,
    natural: bool = False,
    told: Mapping[str, TensorLayout] | None = None,
) -> Resolution:
    """Place every tensor of a recording; running statistics and second names of tied weights are left out.

    Parameters
    ----------
    shapes
        Framework names to shapes without the step axis, in order of appearance.
    declared
        Layout that the user or the file states, or ``None``.
    natural
        Number layers in natural sort order instead of order of appearance.
    told
        Framework names to what is known for sure of single tensors.

    Raises
    ------
    UsageError
        Where the declared layout is none that koopscope knows, or `told` does not fit the tensors.
    LayoutError
        Where the evidence contradicts itself.

    Examples
    --------
    >>> resolve({"fc.weight": (2, 3), "fc.bias": (2,)}, declared=None).evidence
    'bias lengths: the kernel of fc is (out, in)'
    """
    if declared is not None and declared not in LAYOUTS:
        raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)}, got {declared!r}")
    known = dict(told or {})
    _check_told(known, shapes)
    tied = {clean(name): clean(facts.tied_to) for name, facts in known.items() if facts.tied_to is not None}
    sources = _source_names(name for name in shapes if name not in known or known[name].tied_to is None)
    named = {name: shapes[source] for name, source in sources.items()}
    facts = {name: known[source] for name, source in sources.items() if source in known}
    # What is told needs no evidence and gives none: a recipe's module types outrank names and shapes.
    guessed = {name: shape for name, shape in named.items() if name not in facts}
    found_roles = roles(guessed)
    if facts and not guessed:
        verdict = Verdict(declared or UNKNOWN, True, "recorded tensor by tensor")
    else:
        verdict = decide(guessed, found_roles, declared, " ".join(shapes))
    network = Network(guessed, found_roles, verdict.layout, stated=verdict.stated)
    own_layers = {**layers(guessed), **{name: fact.layer or layer_of(name) for name, fact in facts.items()}}
    indices = layer_indices((own_layers[name] for name in named), natural=natural)
    placements = []
    for name in named:
        layer, fact = own_layers[name], facts.get(name)
        role = fact.role if fact else found_roles[name]
        axes = Axes(fact.output_axes, fact.input_axes, fact.output_blocks) if fact else axes_of(name, network)
        placements.append(
            Placement(name, sources[name], layer, indices[layer], role, axes.output, axes.input, axes.blocks)
        )
    words = verdict.words + (f"; {len(facts)} tensors by module type" if facts and guessed else "")
    return Resolution(verdict.layout, words, tuple(placements), tied)


def _check_told(told: Mapping[str, TensorLayout], shapes: Mapping[str, Shape]) -> None:
    for name, facts in told.items():
        if name not in shapes:
            raise UsageError(
                f"tensors[{name!r}]: there is no tensor of that name, only {list(shapes)!r:.200}"
            )
        facts.check(name, shapes[name])
        first = facts.tied_to
        if first is None:
            continue
        if first not in shapes or first == name or (first in told and told[first].tied_to is not None):
            raise UsageError(
                f"tensors[{name!r}]: tied_to: expected the name of another recorded tensor, got {first!r}"
            )
        if shapes[first] != shapes[name]:
            raise UsageError(
                f"tensors[{name!r}]: tied_to {first!r}, which has shape {shapes[first]}, not {shapes[name]}"
            )


def _source_names(shapes: Iterable[str]) -> dict[str, str]:
    """Map our names to the framework's, running statistics dropped."""
    sources: dict[str, str] = {}
    for source in shapes:
        if is_buffer(source):
            continue
        name = clean(source)
        if name in sources:
            raise TrajectoryError(
                f"tensors {sources[name]!r} and {source!r} would both be called {name!r}; rename one of them"
            )
        sources[name] = source
    return sources
