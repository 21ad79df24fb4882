"""Progress on long work: stages with a count of done and total units, told to whoever listens.

Every function that can take long has ``progress=``: ``None`` is silent, ``True`` prints one line per
tenth to stderr, and any callable ``listener(stage, done, total)`` is called as the work proceeds.
``total`` is 0 for a remark (such as "compiling kernels") that has no measure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

Listener = Callable[[str, int, int], None]


def _silent(stage: str, done: int, total: int) -> None:
    """Listen to nothing."""


class TenthPrinter:
    """Print one line per tenth of each stage to stderr, for logs and pipes."""

    def __init__(self) -> None:
        self._printed: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Print the stage where it has passed another tenth since the last line."""
        if total <= 0:
            sys.stderr.write(f"{stage}\n")
            return
        tenth = 10 * done // total
        if tenth > self._printed.get(stage, -1):
            self._printed[stage] = tenth
            sys.stderr.write(f"{stage}: {10 * tenth} %\n")


def listener(progress: bool | Listener | None) -> Listener:
    """Turn what ``progress=`` accepts into a callable.

    >>> heard = []
    >>> tell = listener(lambda stage, done, total: heard.append((stage, done, total)))
    >>> tell("reading weights", 3, 10)
    >>> heard
    [('reading weights', 3, 10)]
    """
    if progress is None or progress is False:
        return _silent
    if progress is True:
        return TenthPrinter()
    return progress
