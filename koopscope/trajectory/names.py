"""Names of tensors: from what frameworks call them to what koopscope calls them, and to layers."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What torch.compile, FSDP and checkpointing put into names, and Haiku's mark of a method.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "~"})
_BUFFER = re.compile(r"(running|moving)_\w+|num_batches_tracked|_mean|_variance")
_DIGITS = re.compile(r"(\d+)")


def is_buffer(source_name: str) -> bool:
    """Tell whether a framework name is that of a running statistic, which training does not descend on.

    >>> is_buffer("bn1.running_mean"), is_buffer("bn1.weight")
    (True, False)
    """
    return _BUFFER.fullmatch(clean(source_name).rpartition(".")[2]) is not None


def clean(source_name: str) -> str:
    """Turn a framework's name into ours: dots for slashes, no wrappers, no TensorFlow output number.

    >>> clean("module._orig_mod.fc1.weight"), clean("dense/kernel:0")
    ('fc1.weight', 'dense.kernel')
    """
    dotted = re.sub(r":\d+$", "", source_name.strip("/")).replace("/", ".")
    parts = [part for part in dotted.split(".") if part not in _WRAPPERS]
    # DataParallel wraps once, at the front; further in, "module" is a name somebody chose.
    if len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def layer_of(name: str) -> str:
    """Name the layer of a tensor: its name without the last component.

    >>> layer_of("block.0.fc1.weight"), layer_of("W1")
    ('block.0.fc1', 'W1')
    """
    return name.rpartition(".")[0] or name


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which ``fc2`` comes before ``fc10``.

    >>> sorted(["fc10", "fc2"], key=natural_key)
    ['fc2', 'fc10']
    """
    pieces = _DIGITS.split(name)
    return [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in pieces]


def is_layer_name(layer: str) -> bool:
    """Tell whether results, which are trees, can have a branch of that name.

    >>> is_layer_name("encoder/0"), is_layer_name(".."), is_layer_name("")
    (True, False, False)
    """
    return {"", ".", ".."}.isdisjoint(layer.split("/"))


def layer_indices(names: Iterable[str], *, natural: bool) -> dict[str, int]:
    """Number layers, named once or more, in order of appearance or in natural sort order.

    Files sort their members by name, which loses the network's order: there natural order is the best guess.

    >>> layer_indices(["fc10", "fc10", "fc2"], natural=True)
    {'fc2': 0, 'fc10': 1}
    """
    layers = list(dict.fromkeys(names))
    if natural:
        layers.sort(key=natural_key)
    return {layer: index for index, layer in enumerate(layers)}


def dimension_names(
    name: str,
    rank: int,
    output_axes: tuple[int, ...] | None,
    input_axes: tuple[int, ...] | None,
    taken: set[str],
) -> tuple[str, ...]:
    """Name the dims of one tensor, the step axis included, avoiding every name in `taken`.

    A dim that bears the name of another variable would become that variable's index in xarray, so such
    dims get an underscore.

    Parameters
    ----------
    name
        Name of the tensor.
    rank
        Number of its axes without the step axis.
    output_axes, input_axes
        What its axes count; ``None``: unknown.
    taken
        Names of all tensors, metrics and dims so far.

    Examples
    --------
    >>> dimension_names("conv.kernel", 4, (3,), (2,), taken={"conv.kernel"})
    ('step', 'conv.kernel.k0', 'conv.kernel.k1', 'conv.kernel.in', 'conv.kernel.out')
    """
    dims = ["step"]
    for word in _axis_words(rank, output_axes, input_axes):
        dim = f"{name}.{word}"
        while dim in taken:
            dim += "_"
        dims.append(dim)
    return tuple(dims)


def _axis_words(
    rank: int, output_axes: tuple[int, ...] | None, input_axes: tuple[int, ...] | None
) -> list[str]:
    if output_axes is None:
        return [f"axis{axis}" for axis in range(rank)]
    words = [""] * rank
    for place, axis in enumerate(output_axes):
        words[axis] = f"out{place or ''}"
    for place, axis in enumerate(input_axes or ()):
        words[axis] = f"in{place or ''}"
    for place, axis in enumerate([axis for axis in range(rank) if not words[axis]]):
        words[axis] = f"k{place}"
    return words
