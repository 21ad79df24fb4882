"""Numbers of steps, rows and directions, which must be whole, however they are written."""

from __future__ import annotations

import operator
from typing import Any, overload

from koopscope.errors import UsageError


@overload
def whole_number(name: str, value: None) -> None: ...
@overload
def whole_number(name: str, value: Any) -> int: ...
def whole_number(name: str, value: Any) -> int | None:
    """Take a number as an integer; None, where a default is to be found, stays None.

    >>> whole_number("t1", 5.0), whole_number("t1", None)
    (5, None)

    Raises
    ------
    UsageError
        If it has a fraction, or is no number.
    """
    if value is None:
        return None
    if getattr(value, "ndim", None) == 0:
        value = value.item()  # of an array, as `run["step"][-1]` is one
    try:
        return operator.index(value)
    except TypeError:
        if hasattr(value, "is_integer") and value.is_integer():
            return int(value)
    raise UsageError(f"{name} must be a whole number, got {value!r}")
