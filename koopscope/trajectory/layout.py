"""Which axis of each tensor counts output units: declared, read from names, or told by bias lengths.

An axis is never guessed. Where nothing speaks, axes stay unknown: partitions by layer, by network and by
weight do without them, and the partition by node asks for a layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from koopscope.errors import LayoutError, TrajectoryError, UsageError
from koopscope.trajectory.names import clean, is_buffer, layer_indices, layer_of

LAYOUTS = ("torch", "keras", "flax")
UNKNOWN = "unknown"

Side = Literal["first", "last"]
Shape = tuple[int, ...]

_OUTPUT_SIDE: dict[str, Side] = {"torch": "first", "keras": "last", "flax": "last"}
_ORDER = {"first": "(out, in)", "last": "(in, out)"}
_KERNEL_WORDS = frozenset({"weight", "kernel", "w"})
_BIAS_WORDS = frozenset({"bias", "b", "beta", "offset"})
_NORM_WORDS = frozenset({"gamma", "scale", "weight"})
_RECURRENT = re.compile(r"recurrent_kernel|(weight|bias)_(ih|hh|hr)(_.*)?")
_EMBEDDING = re.compile(r"wte|wpe|.*embed(ding|dings|s)?|.*_emb|emb", re.IGNORECASE)
# Layers whose kernels bear ordinary names but not the ordinary order of axes.
_UNUSUAL = re.compile(r".*(transpose|deconv|upconv).*|c_attn|c_proj|c_fc", re.IGNORECASE)


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


@dataclass(frozen=True)
class Resolution:
    """The placements of a recording's tensors, the layout they rest on, and how it is known."""

    layout: str
    evidence: str
    placements: tuple[Placement, ...]


def resolve(shapes: Mapping[str, Shape], *, declared: str | None, natural: bool = False) -> Resolution:
    """Place every tensor of a recording; running statistics are left out.

    Parameters
    ----------
    shapes
        Framework names to shapes without the step axis, in order of appearance.
    declared
        Layout that the user or the file states, or ``None``.
    natural
        Number layers in natural sort order instead of order of appearance.

    Raises
    ------
    UsageError
        Where the declared layout is none that koopscope knows.
    LayoutError
        Where the evidence contradicts itself.

    Examples
    --------
    >>> resolve({"fc.weight": (2, 3), "fc.bias": (2,)}, declared=None).evidence
    'bias lengths: the kernel of fc is (out, in)'
    """
    if declared is not None and declared not in LAYOUTS:
        raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)}, got {declared!r}")
    sources = _source_names(shapes)
    named = {name: shapes[source] for name, source in sources.items()}
    roles = _roles(named)
    layout, side, evidence, certain = _decide(named, roles, declared)
    indices = layer_indices(named, natural=natural)
    placements = []
    for name in named:
        layer = layer_of(name)
        output_axes, input_axes = _axes(name, named, roles, side, certain=certain)
        placements.append(
            Placement(name, sources[name], layer, indices[layer], roles[name], output_axes, input_axes)
        )
    return Resolution(layout, evidence, tuple(placements))


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


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _roles(named: Mapping[str, Shape]) -> dict[str, str]:
    """Tell each tensor's role by its last component, its rank and what stands beside it in the layer."""
    recurrent = {layer_of(name) for name in named if _RECURRENT.fullmatch(_last(name))}
    biased = {layer_of(name) for name in named if _last(name) in _BIAS_WORDS}
    return {name: _role(name, len(shape), recurrent, biased) for name, shape in named.items()}


def _role(name: str, rank: int, recurrent: set[str], biased: set[str]) -> str:
    word, layer = _last(name), layer_of(name)
    if layer in recurrent:
        return "recurrent"
    if word in _BIAS_WORDS:
        return "bias"
    if word in _NORM_WORDS and rank == 1:
        return "norm"
    if rank == 2 and (word in ("embedding", "embeddings") or (word in _KERNEL_WORDS and layer not in biased)):
        if word not in _KERNEL_WORDS or _EMBEDDING.fullmatch(_last(layer)):
            return "embedding"
        return "kernel"
    return "kernel" if word in _KERNEL_WORDS and rank >= 2 else "other"


def _biases(named: Mapping[str, Shape], roles: Mapping[str, str]) -> dict[str, Shape]:
    """Map layers to the shape of their bias."""
    return {layer_of(name): shape for name, shape in named.items() if roles[name] == "bias"}


def _votes(named: Mapping[str, Shape], roles: Mapping[str, str], ranks: set[int]) -> dict[Side, list[str]]:
    """Collect the layers whose bias length fits only the first, or only the last axis of the kernel."""
    biases = _biases(named, roles)
    votes: dict[Side, list[str]] = {"first": [], "last": []}
    for name, shape in named.items():
        layer = layer_of(name)
        bias = biases.get(layer, ())
        usable = roles[name] == "kernel" and len(shape) in ranks and len(bias) == 1
        if not usable or shape[0] == shape[-1] or _UNUSUAL.fullmatch(_last(layer)):
            continue
        if bias[0] == shape[0]:
            votes["first"].append(layer)
        elif bias[0] == shape[-1]:
            votes["last"].append(layer)
    return votes


def _decide(
    named: Mapping[str, Shape], roles: Mapping[str, str], declared: str | None
) -> tuple[str, Side | None, str, bool]:
    """Weigh the evidence: (layout, side of the output axis, words, whether convolutions follow from it)."""
    votes = _votes(named, roles, {2})
    told = "bias lengths"
    if not (votes["first"] or votes["last"]):
        votes = _votes(named, roles, {3, 4, 5})
        told = "bias lengths of convolutions"
    if votes["first"] and votes["last"]:
        raise LayoutError(
            f"bias lengths contradict each other: {_some(votes['first'])} look (out, in), "
            f"{_some(votes['last'])} look (in, out). Say which holds with layout=... (shell: --layout NAME), "
            f"one of {', '.join(LAYOUTS)}, and leave the others out with exclude=..."
        )
    layout = declared or _by_keys(named, roles)
    side = _OUTPUT_SIDE[layout] if layout else None
    if layout is None or side is None:
        return _by_votes(votes, told)
    reason = f"declared: {layout}" if declared else f"names end in 'kernel', as in {layout}"
    against = votes["last" if side == "first" else "first"]
    # A convolution that disagrees may be of a kind we do not know yet: it is left unplaced, see `_axes`.
    if against and told == "bias lengths":
        raise LayoutError(
            f"{reason}, where dense kernels are {_ORDER[side]}; but the bias length of {_some(against)} "
            f"fits only the other axis. Give the layout that holds with layout=... (shell: --layout NAME), "
            f"one of {', '.join(LAYOUTS)}"
        )
    agreeing = f"; {told} of {_some(votes[side])} agree" if votes[side] else ""
    return layout, side, reason + agreeing, True


def _by_votes(votes: Mapping[Side, list[str]], told: str) -> tuple[str, Side | None, str, bool]:
    side: Side = "first" if votes["first"] else "last"
    if not votes[side]:
        return UNKNOWN, None, "none: no layout declared, and no bias length tells the axes apart", False
    layout = "torch" if side == "first" else "keras"
    return layout, side, f"{told}: the kernel of {_some(votes[side])} is {_ORDER[side]}", False


def _by_keys(named: Mapping[str, Shape], roles: Mapping[str, str]) -> str | None:
    """Read the layout from names: 'kernel' is a word of Keras and Flax; 'weight' proves nothing."""
    kernels = [name for name in named if roles[name] == "kernel"]
    if not kernels or any(_last(name) != "kernel" for name in kernels):
        return None
    return "flax" if all(re.search(r"(^|\.)[A-Z]\w*_\d+\.", name) for name in kernels) else "keras"


def _axes(
    name: str, named: Mapping[str, Shape], roles: Mapping[str, str], side: Side | None, *, certain: bool
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Give the output and input axes of one tensor, or None for each that nothing tells."""
    shape, role, layer = named[name], roles[name], layer_of(name)
    unusual = _UNUSUAL.fullmatch(_last(layer)) is not None
    if role in ("bias", "norm"):
        return ((0,), ()) if len(shape) == 1 else (None, None)
    if role != "kernel" or side is None or unusual or not 2 <= len(shape) <= 5:
        return None, None
    output = 0 if side == "first" else len(shape) - 1
    bias = _biases(named, roles).get(layer)
    if bias is not None and bias != (shape[output],):
        return None, None
    # Without a bias to confirm it, only a dense or a plain 2-D convolution of a stated layout is sure.
    if bias is None and not (len(shape) == 2 or (len(shape) == 4 and certain)):
        return None, None
    inputs = 1 if side == "first" else len(shape) - 2
    return (output,), (inputs,)


def _some(layers: list[str]) -> str:
    """Name up to three layers."""
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    return ", ".join(layers[:3]) + more
