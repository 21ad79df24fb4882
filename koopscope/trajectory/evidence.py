"""Which layout a recording has: declared, or told by names, bias lengths, or one layer feeding the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from koopscope.errors import LayoutError
from koopscope.trajectory.axes import CONV1D, LAYOUTS, ORDERS, UNKNOWN, Network, dense_order, packed
from koopscope.trajectory.names import layer_of
from koopscope.trajectory.roles import Shape, last

Order = Literal["oi", "io"]
_WORDS = {"oi": "(out, in)", "io": "(in, out)"}
_FLAX_NAME = re.compile(r"(^params\.)|(^|\.)[A-Z]\w*_\d+\.")
_TORCH_ONLY = re.compile(r"in_proj_weight|[qkv]_proj_weight")


@dataclass(frozen=True)
class Verdict:
    """The layout, whether somebody or something states it, and how it is known, in words."""

    layout: str
    stated: bool
    words: str


def decide(
    shapes: Mapping[str, Shape], roles: Mapping[str, str], declared: str | None, sources: str
) -> Verdict:
    """Weigh the evidence, in the order declared, names, bias lengths, chaining.

    Parameters
    ----------
    shapes, roles
        Our names to shapes and roles.
    declared
        Layout that the user or the file states, or ``None``.
    sources
        All framework names in one text, running statistics included.

    Raises
    ------
    LayoutError
        Where the evidence contradicts itself.
    """
    votes = Votes.of(shapes, roles)
    layout = declared or _by_names(shapes, roles, votes, sources)
    if layout is None:
        return _by_shapes(votes, shapes, roles)
    reason = f"declared: {layout}" if declared else f"names are those of {layout}"
    against = [layer for layer, order in votes.dense.items() if order != ORDERS[layout].dense]
    against += [layer for layer, order in votes.conv1d.items() if order != _conv1d_order(layout)]
    if against:
        raise LayoutError(
            f"{reason}, where dense kernels are {_WORDS[ORDERS[layout].dense]}; but the shapes of kernel and "
            f"bias of {_some(against)} fit only the other order. {_remedy()}"
        )
    agreeing = [*votes.dense, *votes.conv1d]
    return Verdict(layout, True, reason + (f"; bias lengths of {_some(agreeing)} agree" if agreeing else ""))


@dataclass(frozen=True)
class Votes:
    """What kernels and biases of unequal lengths say, layer by layer."""

    dense: Mapping[str, Order]
    conv1d: Mapping[str, Order]
    convolution: Mapping[str, Order]

    @classmethod
    def of(cls, shapes: Mapping[str, Shape], roles: Mapping[str, str]) -> Votes:
        """Collect the votes; a square kernel has none, and neither has one whose bias fits no axis."""
        network = Network(shapes, roles, UNKNOWN, stated=False)
        found: dict[str, dict[str, Order]] = {"dense": {}, "conv1d": {}, "convolution": {}}
        for name, shape in shapes.items():
            if roles[name] != "kernel" or not 2 <= len(shape) <= 5:
                continue
            layer, bias = layer_of(name), network.bias(name)
            kind = "dense" if len(shape) == 2 else "convolution"
            if kind == "dense" and CONV1D.fullmatch(last(layer)):
                kind = "conv1d"
            order = _order(shape, bias) or packed(name, shape)
            if order:
                found[kind][layer] = "oi" if order == "oi" else "io"
        return cls(**found)


def _order(shape: Shape, bias: Shape | None) -> str | None:
    if bias is None or len(bias) != 1 or shape[0] == shape[-1]:
        return None
    if bias[0] == shape[0]:
        return "oi"
    return "io" if bias[0] == shape[-1] else None


def _conv1d_order(layout: str) -> str:
    return dense_order("c_fc.weight", layout)


def _by_names(
    shapes: Mapping[str, Shape], roles: Mapping[str, str], votes: Votes, sources: str
) -> str | None:
    """Read the layout from names; the word 'weight' alone proves nothing, as Paddle's is (in, out)."""
    kernels = [name for name in shapes if roles[name] in ("kernel", "recurrent")]
    words = {last(name) for name in kernels}
    if words & {"Wx", "Wh", "Wxh", "Whh"}:
        return "mlx"
    if any(last(layer_of(name)) == "query_key_value" for name in kernels):
        return "gpt-neox"
    if "io" in votes.conv1d.values() and "io" not in votes.dense.values():
        return "hf-gpt2"
    if "num_batches_tracked" in sources or any(_TORCH_ONLY.fullmatch(word) for word in words):
        return "torch"
    if words & {"kernel", "recurrent_kernel", "depthwise_kernel"} and not words & {"weight", "w"}:
        named = [name for name in kernels if last(name) == "kernel"]
        return "flax" if named and all(_FLAX_NAME.search(name) for name in named) else "keras"
    if "w" in words and words <= {"w", "b", "w_i", "w_h"} and all("." in name for name in kernels):
        return "haiku"
    return None


def _by_shapes(votes: Votes, shapes: Mapping[str, Shape], roles: Mapping[str, str]) -> Verdict:
    """Read the order from bias lengths, else from layers that feed each other."""
    dense = {**votes.dense, **votes.conv1d}
    orders = set(dense.values())
    if len(orders) == 2:
        raise LayoutError(
            f"bias lengths contradict each other: {_some([key for key in dense if dense[key] == 'oi'])} look "
            f"(out, in), {_some([key for key in dense if dense[key] == 'io'])} look (in, out). {_remedy()}, "
            "and leave the others out with exclude=..."
        )
    if orders:
        order, told = orders.pop(), "bias lengths"
    elif len(set(votes.convolution.values())) == 1:
        order, told = next(iter(votes.convolution.values())), "bias lengths of convolutions"
        dense = dict(votes.convolution)
    elif len(set(votes.convolution.values())) == 2:
        raise LayoutError(f"bias lengths of convolutions contradict each other. {_remedy()}")
    else:
        return _by_chain(shapes, roles)
    layout = _layout_for(order, votes, shapes, roles)
    return Verdict(layout, False, f"{told}: the kernel of {_some(list(dense))} is {_WORDS[order]}")


def _layout_for(order: Order, votes: Votes, shapes: Mapping[str, Shape], roles: Mapping[str, str]) -> str:
    """Name the layout of an order of dense axes: the one whose convolutions are as the shapes say."""
    if order == "oi":
        columns = any(
            roles[name] == "bias" and len(shape) > 1 and shape[1:] == (1,) * (len(shape) - 1)
            for name, shape in shapes.items()
        )
        return "equinox" if columns else "torch"
    convolutions_first = "oi" in votes.convolution.values() and "io" not in votes.convolution.values()
    return "paddle" if convolutions_first else "keras"


def _by_chain(shapes: Mapping[str, Shape], roles: Mapping[str, str]) -> Verdict:
    """Read the order from every dense layer feeding the next one; one that does not fit spoils it."""
    dense = [name for name in shapes if roles[name] == "kernel" and len(shapes[name]) == 2]
    pairs = [(shapes[a], shapes[b]) for a, b in pairwise(dense)]
    fits: dict[Order, bool] = {
        "oi": bool(pairs) and all(a[0] == b[1] for a, b in pairs),
        "io": bool(pairs) and all(a[1] == b[0] for a, b in pairs),
    }
    order: Order = "oi" if fits["oi"] else "io"
    if fits["oi"] == fits["io"]:
        return Verdict(
            UNKNOWN,
            False,
            "none: no layout declared, and neither names, bias lengths nor chaining tell the axes",
        )
    layers = _some([layer_of(name) for name in dense])
    layout = "torch" if order == "oi" else "keras"
    return Verdict(layout, False, f"chaining: {layers} feed each other only if kernels are {_WORDS[order]}")


def _remedy() -> str:
    return f"Say which holds with layout=... (shell: --layout NAME), one of {', '.join(LAYOUTS)}"


def _some(layers: list[str]) -> str:
    """Name up to three layers."""
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    return ", ".join(layers[:3]) + more
