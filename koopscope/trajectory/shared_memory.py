"""Arrays on the memory of tensors that stay in place, as parameters do while an optimiser works on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Shown(NamedTuple):
    """The array that shows a tensor of torch.

    Parameters
    ----------
    place
        Address, shape, strides and dtype of the tensor.
    array
        Its values, in its own memory.
    data
        The same as bytes.
    """

    place: tuple[Any, ...]
    array: NDArray[Any]
    data: NDArray[np.uint8]


class SharedMemory:
    """Remembers the arrays that show tensors of torch: these take longer to make than to use.

    An array keeps the memory it shows from being used for anything else: a tensor at the same address, of
    the same shape, strides and dtype, has the values that the array shows. So that no copies that were made
    for one row only are kept alive, a tensor is remembered when it is at the same address twice running.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._shown: dict[str, Shown] = {}
        self._addresses: dict[str, int] = {}

    def find(self, source: str, value: Any) -> Shown | None:
        """Give what shows a tensor; ``None`` where nothing is remembered that does.

        Parameters
        ----------
        source
            Name of the tensor.
        value
            What the framework gave for it.
        """
        shown = self._shown.get(source)
        if shown is None or shown.place == _place(value):
            return shown
        del self._shown[source]
        return None

    def remember(self, source: str, value: Any, array: NDArray[Any]) -> None:
        """Remember an array, if it shows the memory of a tensor that is where it was a row ago."""
        place = _place(value)
        if place is None or not array.flags.c_contiguous or place[0] != array.ctypes.data:
            return
        if self._addresses.get(source) == place[0]:
            self._shown[source] = Shown(place, array, array.reshape(-1).view(np.uint8))
        self._addresses[source] = place[0]


def _place(value: Any) -> tuple[Any, ...] | None:
    """Tell where a tensor of torch is and how it lies there; ``None`` of anything else."""
    try:
        return (value.data_ptr(), value.shape, value.stride(), value.dtype)
    except (AttributeError, RuntimeError):
        return None
