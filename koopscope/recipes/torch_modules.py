"""PyTorch: what the axes of each parameter count, read off the type of the module that owns it."""

from __future__ import annotations

import re
from typing import Any

from koopscope.trajectory import TensorLayout
from koopscope.trajectory.names import clean, layer_of

_GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3, "RNN": 1, "RNNCell": 1}
_NORMS = frozenset({"_NormBase", "GroupNorm", "LayerNorm", "RMSNorm"})
_LEVEL = re.compile(r"_(l\d+(_reverse)?)$")


def torch_layout(module: Any) -> dict[str, TensorLayout]:
    """Say of every parameter of a module what its axes count, by module types and not by names.

    So a square ``ConvTranspose2d`` is told from a ``Conv2d``, and a tied weight is known as one. A parameter
    of a module type that is not known here, and of two axes or more, gets no output axes; add what you know
    of it: ``torch_layout(model) | {"mix.weight": TensorLayout((1,), (0,))}``.

    Parameters
    ----------
    module
        A ``torch.nn.Module``.

    Returns
    -------
    dict
        Names as `torch_weights` gives them, to `koopscope.TensorLayout`.
    """
    told: dict[str, TensorLayout] = {}
    first: dict[int, str] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for word, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{prefix}.{word}" if prefix else word
            facts = _facts(owner, word, tuple(parameter.shape), layer_of(clean(name)))
            earlier = first.setdefault(id(parameter), name)
            told[name] = facts if earlier == name else TensorLayout(tied_to=earlier)
    return told


def _facts(owner: Any, word: str, shape: tuple[int, ...], layer: str) -> TensorLayout:
    kinds = {kind.__name__ for kind in type(owner).__mro__}
    rank = len(shape)
    everything = tuple(range(rank))
    gates = next((count for kind, count in _GATES.items() if kind in kinds), None)
    if gates is not None:
        return _recurrent(word, rank, gates, layer)
    if "MultiheadAttention" in kinds:
        return _attention(word, rank)
    if kinds & _NORMS:
        return TensorLayout(everything, (), role="bias" if word == "bias" else "norm")
    if word == "bias" and rank == 1:
        packed = "Conv1D" in kinds and _is_packed(layer, owner.weight.shape)
        return TensorLayout((0,), (), 3 if packed else 1, role="bias")
    if word == "weight":
        found = _kernel(owner, kinds, shape, layer)
        if found is not None:
            return found
    return TensorLayout((0,), ()) if rank == 1 else TensorLayout()


def _kernel(owner: Any, kinds: set[str], shape: tuple[int, ...], layer: str) -> TensorLayout | None:
    if kinds & {"Embedding", "EmbeddingBag"}:
        return TensorLayout((0,), (1,), role="embedding")
    if "_ConvTransposeNd" in kinds:
        # With groups, output unit and input axis are interleaved in a way that axes cannot say.
        return TensorLayout((1,), (0,), role="kernel") if owner.groups == 1 else TensorLayout(role="kernel")
    if kinds & {"Linear", "_ConvNd"}:
        return TensorLayout((0,), (1,), role="kernel")
    if "Bilinear" in kinds:
        return TensorLayout((0,), (1, 2), role="kernel")
    if "Conv1D" in kinds:  # of Transformers: a dense layer, (in, out)
        return TensorLayout((1,), (0,), 3 if _is_packed(layer, shape) else 1, role="kernel")
    return None


def _is_packed(layer: str, shape: Any) -> bool:
    return layer.endswith("c_attn") and shape[1] == 3 * shape[0]


def _recurrent(word: str, rank: int, gates: int, layer: str) -> TensorLayout:
    level = _LEVEL.search(word)
    own = ".".join(filter(None, [layer, level[1]])) if level else layer
    if word.startswith("weight_hr"):
        return TensorLayout((0,), (1,), role="recurrent", layer=own)
    return TensorLayout((0,), (1,) if rank == 2 else (), gates, role="recurrent", layer=own)


def _attention(word: str, rank: int) -> TensorLayout:
    if rank == 3:  # bias_k and bias_v, (1, 1, E)
        return TensorLayout((2,), (), role="bias")
    blocks = 3 if word.startswith("in_proj") else 1
    return TensorLayout((0,), (1,) if rank == 2 else (), blocks, role="kernel" if rank == 2 else "bias")
