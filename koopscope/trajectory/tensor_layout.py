"""What one tensor's axes count, as told by who knows: a recipe that reads module types, or the user."""

from __future__ import annotations

import math
from dataclasses import dataclass

from koopscope.errors import UsageError
from koopscope.trajectory.names import is_layer_name

ROLES = ("kernel", "bias", "norm", "embedding", "recurrent", "other")


@dataclass(frozen=True)
class TensorLayout:
    """What is known for sure about one tensor; it outranks everything names and shapes suggest.

    Parameters
    ----------
    output_axes
        Axes that count output units, the step axis not counted; ``None``: the tensor has no nodes.
    input_axes
        Axes that count input units.
    output_blocks
        Gates or projections stacked along the output axis: unit j owns the rows j, j + H, j + 2H, ...
    role
        ``kernel``, ``bias``, ``norm``, ``embedding``, ``recurrent`` or ``other``.
    layer
        Layer the tensor belongs to; ``None``: its name without the last component.
    tied_to
        Framework name of the tensor that this one is another name of; it is then not recorded twice.

    Examples
    --------
    >>> TensorLayout(output_axes=(1,), input_axes=(0,), role="kernel").output_blocks
    1
    """

    output_axes: tuple[int, ...] | None = None
    input_axes: tuple[int, ...] | None = None
    output_blocks: int = 1
    role: str = "other"
    layer: str | None = None
    tied_to: str | None = None

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Check that this can be said of a tensor of that shape.

        Raises
        ------
        UsageError
            Where it cannot.
        """
        if self.role not in ROLES:
            raise UsageError(
                f"tensors[{name!r}]: role: expected one of {', '.join(ROLES)}, got {self.role!r}"
            )
        if self.layer is not None and not is_layer_name(self.layer):
            raise UsageError(f"tensors[{name!r}]: layer: expected a name, got {self.layer!r}")
        axes = [*(self.output_axes or ()), *(self.input_axes or ())]
        if len(set(axes)) < len(axes) or not all(0 <= axis < len(shape) for axis in axes):
            raise UsageError(
                f"tensors[{name!r}]: expected different axes from 0 to {len(shape) - 1} for shape {shape}, "
                f"got output_axes={self.output_axes}, input_axes={self.input_axes}"
            )
        units = math.prod(shape[axis] for axis in self.output_axes or ())
        if self.output_blocks < 1 or units % self.output_blocks:
            raise UsageError(
                f"tensors[{name!r}]: output_blocks: expected a divisor of the {units} outputs, got "
                f"{self.output_blocks}"
            )
