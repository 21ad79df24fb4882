"""Keras 3: what the axes of each weight count, read off the type of the layer that owns it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from koopscope.trajectory import TensorLayout
from koopscope.trajectory.names import clean, layer_of

_GATES = {"LSTMCell": 4, "ConvLSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}


def keras_names(model: Any) -> dict[int, str]:
    """Name the trainable weights of a model by their paths, the model's own name taken off.

    Parameters
    ----------
    model
        A built ``keras.Model``.

    Returns
    -------
    dict
        Identity of each variable to its name.
    """
    prefix = f"{model.name}/"
    return {id(weight): weight.path.removeprefix(prefix) for weight in model.trainable_variables}


def keras_layout(model: Any) -> dict[str, TensorLayout]:
    """Say of every trainable weight what its axes count, by layer types; those of other layers are left out.

    Parameters
    ----------
    model
        A built ``keras.Model``.

    Returns
    -------
    dict
        Names as `keras_weights` gives them, to `koopscope.TensorLayout`.
    """
    names = keras_names(model)
    told: dict[str, TensorLayout] = {}
    for layer in model._flatten_layers():
        for word, facts in _facts(layer):
            weight = getattr(layer, word, None)
            name = names.get(id(weight))
            if name is not None:
                # Its units are not those of the pointwise kernel beside it: a layer of their own.
                own = f"{layer_of(clean(name))}.depthwise" if word == "depthwise_kernel" else None
                told[name] = replace(facts, layer=own)
    return told


def _facts(layer: Any) -> Iterator[tuple[str, TensorLayout]]:
    """Yield the attributes of a layer that hold weights, each with what its axes count."""
    kinds = {kind.__name__ for kind in type(layer).__mro__}
    kernel = getattr(layer, "kernel", None)
    rank = 0 if kernel is None else len(kernel.shape)
    gates = next((count for kind, count in _GATES.items() if kind in kinds), None)
    if gates is not None:
        yield from _cell(layer, rank, gates)
        return
    if "BaseConvTranspose" in kinds:
        yield "kernel", TensorLayout((rank - 2,), (rank - 1,), role="kernel")
    elif "BaseDepthwiseConv" in kinds:
        yield "kernel", TensorLayout((rank - 2, rank - 1), (), role="kernel")
    elif "BaseSeparableConv" in kinds:
        rank = len(layer.depthwise_kernel.shape)
        yield "depthwise_kernel", TensorLayout((rank - 2, rank - 1), (), role="kernel")
        yield "pointwise_kernel", TensorLayout((rank - 1,), (rank - 2,), role="kernel")
    elif "EinsumDense" in kinds:
        yield "kernel", _einsum(layer.equation)
    elif kinds & {"Dense", "BaseConv"}:
        yield "kernel", TensorLayout((rank - 1,), (rank - 2,), role="kernel")
    elif "Embedding" in kinds:
        # The attribute `embeddings` may be a computed array; the variable is `_embeddings`.
        yield "_embeddings", TensorLayout((0,), (1,), role="embedding")
    yield from _vectors(layer)


def _cell(layer: Any, rank: int, gates: int) -> Iterator[tuple[str, TensorLayout]]:
    for word in ("kernel", "recurrent_kernel"):
        yield word, TensorLayout((rank - 1,), (rank - 2,), gates, role="recurrent")
    bias = getattr(layer, "bias", None)
    if bias is not None:
        yield "bias", TensorLayout((len(bias.shape) - 1,), (), gates, role="recurrent")


def _einsum(equation: str) -> TensorLayout:
    """Read off an equation such as ``abc,cde->abde`` which letters of the kernel are outputs."""
    operands, output = equation.replace(" ", "").split("->")
    letters = operands.split(",")[1]
    outputs = tuple(axis for axis, letter in enumerate(letters) if letter in output)
    inputs = tuple(axis for axis in range(len(letters)) if axis not in outputs)
    return TensorLayout(outputs, inputs, role="kernel")


def _vectors(layer: Any) -> Iterator[tuple[str, TensorLayout]]:
    for word, role in (("bias", "bias"), ("beta", "bias"), ("gamma", "norm"), ("scale", "norm")):
        vector: Any = getattr(layer, word, None)
        if hasattr(vector, "shape"):
            yield word, TensorLayout(tuple(range(len(vector.shape))), (), role=role)
