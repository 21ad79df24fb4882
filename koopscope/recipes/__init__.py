"""Recipes: record the weights of a network while its framework trains it, in a line or two.

What lives here: for PyTorch what the type of each module says about axes (`torch_modules`) and recorders that
hang on an optimizer, on Lightning or on Transformers (`torch_recording`); the same for Keras 3
(`keras_layers`, `keras_recording`); names for JAX pytrees (`pytrees`). Everything goes through
`koopscope.TrajectoryWriter`, and no framework is imported: recipes look at the objects they are given.

May import: `koopscope.errors`, `koopscope.trajectory`, and its own files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koopscope.recipes.keras_layers import keras_layout as keras_layout
    from koopscope.recipes.keras_recording import KerasCallback as KerasCallback
    from koopscope.recipes.keras_recording import keras_weights as keras_weights
    from koopscope.recipes.pytrees import pytree_weights as pytree_weights
    from koopscope.recipes.torch_modules import torch_layout as torch_layout
    from koopscope.recipes.torch_recording import LightningCallback as LightningCallback
    from koopscope.recipes.torch_recording import TransformersCallback as TransformersCallback
    from koopscope.recipes.torch_recording import torch_recorder as torch_recorder
    from koopscope.recipes.torch_recording import torch_weights as torch_weights

_HOMES = {
    "KerasCallback": "keras_recording",
    "LightningCallback": "torch_recording",
    "TransformersCallback": "torch_recording",
    "keras_layout": "keras_layers",
    "keras_weights": "keras_recording",
    "pytree_weights": "pytrees",
    "torch_layout": "torch_modules",
    "torch_recorder": "torch_recording",
    "torch_weights": "torch_recording",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'koopscope.recipes' has no attribute {name!r}")
    value = getattr(import_module(f"koopscope.recipes.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
