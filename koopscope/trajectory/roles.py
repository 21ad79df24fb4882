"""What each tensor is in its layer, and which layer that is: told by names, ranks and neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from koopscope.trajectory.names import layer_of

Shape = tuple[int, ...]

KERNEL_WORDS = frozenset({"weight", "kernel", "w", "depthwise_kernel", "pointwise_kernel"})
BIAS_WORDS = frozenset({"bias", "b", "beta", "offset"})
_NORM_WORDS = frozenset({"gamma", "scale", "weight"})
_ATTENTION_KERNEL = re.compile(r"in_proj_weight|[qkv]_proj_weight")
_ATTENTION_BIAS = re.compile(r"in_proj_bias|bias_[kv]")
_EMBEDDING = re.compile(r"wte|wpe|.*embed(ding|dings|s|_tokens|_positions)?(_\d+)?|.*_emb|emb", re.IGNORECASE)
_GATED = re.compile(r"(weight|bias)_(ih|hh|hr)((_l\d+)?(_reverse)?)")
_RECURRENT = frozenset({"recurrent_kernel", "Wx", "Wh", "Wxh", "Whh", "w_i", "w_h"})
# Flax writes each gate of a cell as a dense layer of its own: i* read the input, h* the state.
_FLAX_GATES = (
    frozenset({"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"}),
    frozenset({"ir", "iz", "in", "hr", "hz", "hn"}),
)


def last(name: str) -> str:
    """Give the last component of a name.

    >>> last("block.fc.weight")
    'weight'
    """
    return name.rpartition(".")[2]


def layers(named: Mapping[str, Shape]) -> dict[str, str]:
    """Name the layer of each tensor: its name without the last component, but for recurrent cells.

    A stacked torch cell keeps its levels and directions under one module, each of which is a layer of its
    own; a Flax cell keeps its gates under modules, which together are one layer.

    >>> layers({"rnn.weight_ih_l0": (8, 3), "rnn.weight_ih_l1_reverse": (8, 2)})
    {'rnn.weight_ih_l0': 'rnn.l0', 'rnn.weight_ih_l1_reverse': 'rnn.l1_reverse'}
    """
    cells = flax_cells(named)
    return {name: _layer(name, cells) for name in named}


def _layer(name: str, cells: set[str]) -> str:
    layer = layer_of(name)
    gated = _GATED.fullmatch(last(name))
    if gated and gated[3]:
        level = gated[3].removeprefix("_")
        return f"{layer}.{level}" if layer != name else level
    if last(name) == "depthwise_kernel":
        return f"{layer}.depthwise"
    return layer_of(layer) if layer_of(layer) in cells else layer


def flax_cells(named: Mapping[str, Shape]) -> set[str]:
    """Name the modules whose children are exactly the gates of an LSTM or GRU cell."""
    children: dict[str, set[str]] = {}
    for name in named:
        layer = layer_of(name)
        if "." in layer:
            children.setdefault(layer_of(layer), set()).add(last(layer))
    return {module for module, found in children.items() if found in _FLAX_GATES}


def roles(named: Mapping[str, Shape]) -> dict[str, str]:
    """Tell each tensor's role by its last component, its rank and what stands beside it in the layer.

    >>> roles({"fc.weight": (3, 5), "fc.bias": (3,), "ln.weight": (4,)})
    {'fc.weight': 'kernel', 'fc.bias': 'bias', 'ln.weight': 'norm'}
    """
    recurrent = {layer_of(name) for name in named if is_recurrent(last(name))}
    cells = flax_cells(named)
    biases = {layer_of(name): shape for name, shape in named.items() if last(name) in BIAS_WORDS}
    found = {}
    for name, shape in named.items():
        layer = layer_of(name)
        in_cell = layer in recurrent or layer_of(layer) in cells
        found[name] = "recurrent" if in_cell else _role(name, shape, biases.get(layer))
    return found


def is_recurrent(word: str) -> bool:
    """Tell whether the last component of a name is one that only recurrent cells use."""
    return word in _RECURRENT or _GATED.fullmatch(word) is not None


def _role(name: str, shape: Shape, bias: Shape | None) -> str:
    word, layer, rank = last(name), layer_of(name), len(shape)
    if word in BIAS_WORDS or _ATTENTION_BIAS.fullmatch(word):
        return "bias"
    # A norm over several axes has a bias of its own shape, which no kernel has.
    if word in _NORM_WORDS and (rank == 1 or (rank > 1 and bias == shape)):
        return "norm"
    if rank == 2 and word in ("embedding", "embeddings"):
        return "embedding"
    if rank == 2 and word in KERNEL_WORDS and bias is None and _EMBEDDING.fullmatch(last(layer)):
        return "embedding"
    if rank >= 2 and (word in KERNEL_WORDS or _ATTENTION_KERNEL.fullmatch(word)):
        return "kernel"
    return "other"
