"""Whole numbers as people write them; what is between two of them is refused, and never rounded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter, Token


def whole_number(kind: object, tokens: Sequence[Token]) -> int:
    """Turn words such as ``100``, ``100.0`` or ``1e4`` into a number.

    Raises
    ------
    ValueError
        If they are none, or not whole.
    """
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        with suppress(ValueError):
            if (number := float(text)).is_integer():
                return int(number)
    raise ValueError(f"expected a whole number, got {text!r}")


Whole = Annotated[int, Parameter(converter=whole_number)]
