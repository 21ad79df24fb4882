"""The table of layouts: which axes of a tensor count output and input units, once its layout is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from koopscope.trajectory.names import layer_of
from koopscope.trajectory.recurrent import recurrent_axes
from koopscope.trajectory.roles import Shape, last

UNKNOWN = "unknown"


class Order(NamedTuple):
    """Order of the axes of one layout's kernels: o output, i input, k all kernel positions."""

    dense: str
    convolution: str
    transposed: str


_TORCH = Order("oi", "oik", "iok")
ORDERS: Mapping[str, Order] = {
    "torch": _TORCH,
    "hf-gpt2": _TORCH,
    "gpt-neox": _TORCH,
    "keras": Order("io", "kio", "koi"),
    "flax": Order("io", "kio", "kio"),
    "haiku": Order("io", "kio", "koi"),
    "equinox": Order("oi", "oik", "oik"),
    "mlx": Order("oi", "oki", "oki"),
    "paddle": Order("io", "oik", "iok"),
}
LAYOUTS = tuple(ORDERS)

# GPT-2 as Hugging Face keeps it: dense layers of the class Conv1D, (in, out) among torch's (out, in).
CONV1D = re.compile(r"c_attn|c_proj|c_fc|q_attn")
_PACKED = re.compile(r"c_attn|qkv|to_qkv|Wqkv")
_TRANSPOSED = re.compile(r".*(transpose|deconv|upconv).*", re.IGNORECASE)
_CONVOLUTION = re.compile(r".*conv.*", re.IGNORECASE)
_DEPTHWISE = re.compile(r".*depthwise.*", re.IGNORECASE)


@dataclass(frozen=True)
class Axes:
    """What the axes of one tensor count; ``output`` is None where nothing tells."""

    output: tuple[int, ...] | None = None
    input: tuple[int, ...] | None = None
    blocks: int = 1


NOTHING = Axes()


@dataclass(frozen=True)
class Network:
    """All tensors of a recording, and what is known of them so far."""

    shapes: Mapping[str, Shape]
    roles: Mapping[str, str]
    layout: str
    stated: bool

    def bias(self, name: str) -> Shape | None:
        """Give the shape of the bias that stands beside a tensor, trailing axes of length one taken off."""
        for word in ("bias", "b"):
            shape = self.shapes.get(f"{layer_of(name)}.{word}")
            if shape is not None:
                return shape[:1] if shape[1:] == (1,) * (len(shape) - 1) else shape
        return None

    @cached_property
    def shows_transposed(self) -> bool:
        """Tell whether some bias length shows transposed convolutions under plain names."""
        order = ORDERS[self.layout]
        for name, shape in self.shapes.items():
            bias = self.bias(name)
            if self.roles[name] == "kernel" and len(shape) > 2 and bias is not None:
                plain, turned = (shape[_place(pattern, len(shape))[0]] for pattern in order[1:])
                if bias != (plain,) and bias == (turned,):
                    return True
        return False


def axes_of(name: str, network: Network) -> Axes:
    """Say what the axes of one tensor count; never a guess.

    >>> shapes = {"up.weight": (8, 3, 2, 2), "up.bias": (3,)}
    >>> network = Network(shapes, {"up.weight": "kernel", "up.bias": "bias"}, "torch", stated=True)
    >>> axes_of("up.weight", network)
    Axes(output=(1,), input=(0,), blocks=1)
    """
    shape, role, rank = network.shapes[name], network.roles[name], len(network.shapes[name])
    if role == "recurrent":
        return Axes(*recurrent_axes(name, network.shapes))
    if role in ("bias", "norm"):
        return Axes(tuple(range(rank)), (), _packed_bias(name, network))
    if role == "embedding":
        return Axes((0,), (1,))
    if role != "kernel":
        return Axes((0,), ()) if rank == 1 else NOTHING
    if last(name).endswith("_proj_weight"):
        return Axes((0,), (1,), 3 if last(name) == "in_proj_weight" and shape[0] % 3 == 0 else 1)
    if network.layout == UNKNOWN:
        return NOTHING
    if rank == 2:
        return _dense(name, network)
    return _attention(name, network) or _depthwise(name, network) or _convolution(name, network)


def dense_order(name: str, layout: str) -> str:
    """Give the order of a dense kernel's axes, ``oi`` or ``io``."""
    if layout == "hf-gpt2" and CONV1D.fullmatch(last(layer_of(name))):
        return "io"
    return ORDERS[layout].dense


def packed(name: str, shape: Shape) -> str | None:
    """Tell the order of a packed query-key-value kernel by its output being three times its input."""
    if len(shape) != 2 or not _PACKED.fullmatch(last(layer_of(name))):
        return None
    if shape[0] == 3 * shape[1]:
        return "oi"
    return "io" if shape[1] == 3 * shape[0] else None


def _dense(name: str, network: Network) -> Axes:
    shape, bias = network.shapes[name], network.bias(name)
    order = dense_order(name, network.layout)
    output = order.index("o")
    if bias is not None and bias != (shape[output],):
        return NOTHING
    if _is_haiku_lstm(name, network) and shape[1] % 4 == 0:
        return Axes((1,), (0,), 4)
    return Axes((output,), (1 - output,), 3 if packed(name, shape) == order else 1)


def _packed_bias(name: str, network: Network) -> int:
    """Give the blocks of a bias, which are those of the kernel that stands beside it."""
    shape = network.shapes[name]
    if last(name) == "in_proj_bias":
        return 3 if shape[0] % 3 == 0 else 1
    kernel = next(
        (key for key in (f"{layer_of(name)}.{word}" for word in ("weight", "w")) if key in network.roles), ""
    )
    if len(shape) != 1 or network.roles.get(kernel) != "kernel" or network.layout == UNKNOWN:
        return 1
    return axes_of(kernel, network).blocks


def _is_haiku_lstm(name: str, network: Network) -> bool:
    layer = layer_of(name)
    cell = re.fullmatch(r"(.*_)?lstm(_\d+)?", last(layer_of(layer)))
    return network.layout == "haiku" and last(layer) == "linear" and cell is not None


def _convolution(name: str, network: Network) -> Axes:
    """Place the kernel of a convolution, ordinary or transposed: by bias length, then by name."""
    shape, layer, bias = network.shapes[name], last(layer_of(name)), network.bias(name)
    # Dense kernels that look (in, out) may be Keras's or Paddle's, whose convolutions differ.
    unsure = network.layout == "keras" and not network.stated and (bias is None or shape[0] == shape[-1])
    if len(shape) > 5 or unsure:
        return NOTHING
    order = ORDERS[network.layout]
    named_transposed = _TRANSPOSED.fullmatch(layer) is not None
    fitting = [
        pattern
        for pattern in dict.fromkeys(order[1:])
        if bias is None or bias == (shape[_place(pattern, len(shape))[0]],)
    ]
    chosen: str | None = None
    if named_transposed:
        # One whose bias says otherwise is of a kind not known here, such as a grouped one.
        chosen = order.transposed if order.transposed in fitting else None
    elif len(fitting) == 1 and bias is not None:
        chosen = fitting[0]
    elif order.convolution in fitting:
        plain = network.stated and len(shape) == 4 and not network.shows_transposed
        chosen = order.convolution if plain or _CONVOLUTION.fullmatch(layer) else None
    if chosen is None:
        return NOTHING
    output, inputs = _place(chosen, len(shape))
    return Axes((output,), (inputs,))


def _place(pattern: str, rank: int) -> tuple[int, int]:
    """Find the output and input axis of a pattern such as ``oik``, where k stands for rank - 2 axes."""
    spread = pattern.replace("k", "k" * (rank - 2))
    return spread.index("o"), spread.index("i")


def _depthwise(name: str, network: Network) -> Axes | None:
    """Place Keras's depthwise kernels (k.., in, multiplier), each of whose channels has its own filters."""
    shape, bias = network.shapes[name], network.bias(name)
    if network.layout != "keras":
        return None
    outputs = (len(shape) - 2, len(shape) - 1)
    told = _DEPTHWISE.fullmatch(last(name)) or _DEPTHWISE.fullmatch(last(layer_of(name)))
    if not told or (bias is not None and last(name) == "kernel" and bias != (shape[-2] * shape[-1],)):
        return None
    return Axes(outputs, ())


def _attention(name: str, network: Network) -> Axes | None:
    """Place kernels with several output or input axes, as attention in Keras and Flax has, and scanned ones.

    The bias has the output's own axes. ``nn.scan`` puts an axis of layers in front of kernel and bias.
    """
    shape, bias, rank = network.shapes[name], network.bias(name), len(network.shapes[name])
    if network.layout not in ("keras", "flax"):
        return None
    if bias is not None and len(bias) > 1:
        width = len(bias)
        trailing = bias == shape[-width:]
        scanned = network.layout == "flax" and bias == (shape[0], *shape[rank - width + 1 :])
        if trailing and scanned and last(layer_of(name)) not in ("query", "key", "value"):
            return NOTHING
        if trailing:
            return Axes(tuple(range(rank - width, rank)), tuple(range(rank - width)))
        return (
            Axes((0, *range(rank - width + 1, rank)), tuple(range(1, rank - width + 1)))
            if scanned
            else NOTHING
        )
    if rank != 3:
        return None
    if last(layer_of(name)) in ("query", "key", "value") and bias is None:
        return Axes((1, 2), (0,))
    if last(layer_of(name)) in ("out", "attention_output") and bias in (None, shape[-1:]):
        return Axes((2,), (0, 1))
    return None
