"""JAX, Flax, Haiku, Equinox: names for the arrays of a tree of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})


def pytree_weights(tree: Any) -> dict[str, Any]:
    """Flatten a tree of parameters into named NumPy arrays, for `koopscope.TrajectoryWriter`.

    Names are the keys on the way to an array, joined by dots. Mappings (Flax, Haiku, Optax), sequences, and
    dataclasses (Equinox) are gone through; leaves that are no floating-point arrays are left out.

    Parameters
    ----------
    tree
        Parameters such as ``variables["params"]``, ``nnx.state(model, nnx.Param)`` or an Equinox module.

    Returns
    -------
    dict
        Names to arrays.

    Examples
    --------
    >>> tree = {"Dense_0": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "steps": 7}
    >>> {name: array.shape for name, array in pytree_weights(tree).items()}
    {'Dense_0.kernel': (2, 3), 'Dense_0.bias': (3,)}
    """
    return {".".join(path): np.asarray(leaf) for path, leaf in _leaves(tree, ())}


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(tree, "dtype") and hasattr(tree, "shape"):
        if str(tree.dtype) in _FLOATS:
            # A Flax variable is a box around its array.
            yield path or ("value",), tree[...] if hasattr(tree, "get_value") else tree
        return
    for key, child in _children(tree):
        yield from _leaves(child, (*path, key))


def _children(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        yield from ((str(key), child) for key, child in tree.items())
    elif hasattr(tree, "_fields"):
        yield from ((name, getattr(tree, name)) for name in tree._fields)
    elif isinstance(tree, (list, tuple)):
        yield from ((str(place), child) for place, child in enumerate(tree))
    elif is_dataclass(tree) and not isinstance(tree, type):
        yield from ((entry.name, getattr(tree, entry.name, None)) for entry in fields(tree))
