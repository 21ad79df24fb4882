"""How kernels are compiled, in one place, and a way to be told when that happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(*, reorder_sums: bool = False) -> Callable[[Function], Function]:
    """Compile on first use, keep the machine code on disk, release the interpreter's lock.

    ``reorder_sums`` lets the compiler split a sum over vector lanes. It changes rounding, not NaN or
    infinity handling, and only reductions whose order has no meaning ask for it.
    """
    flags = {"reassoc", "contract"} if reorder_sums else False
    compiled = numba.njit(cache=True, nogil=True, fastmath=flags, error_model="numpy")

    def decorate(function: Function) -> Function:
        return cast(Function, compiled(function))

    return decorate


def whole_rows(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View rows that are cut from wider ones as wide as those, since kernels are fast where rows join.

    Columns past those of ``rows`` must not be read: those of the last row may lie outside the memory.
    """
    if rows.flags.c_contiguous or rows.shape[0] < 2 or not are_cut_from_wider(rows):
        return np.ascontiguousarray(rows)
    width = rows.strides[0] // rows.itemsize
    return np.lib.stride_tricks.as_strided(rows, (rows.shape[0], width), rows.strides)


def are_cut_from_wider(rows: npt.NDArray[Any]) -> bool:
    """Tell whether rows lie in memory one after another, whatever is between them."""
    step = rows.strides[0]
    joined = rows.strides[1] == rows.itemsize and step >= rows.shape[1] * rows.itemsize
    return bool(joined and step % rows.itemsize == 0)


class _CompileListener(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._told = False

    def on_start(self, event: Any) -> None:
        if not self._told:
            self._told = True
            self._tell()

    def on_end(self, event: Any) -> None:
        """Nothing to say when it ends."""


@contextmanager
def announce_compilation(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` once, before the first kernel that is not in the on-disk cache is compiled."""
    with event.install_listener("numba:compile", _CompileListener(tell)):
        yield
