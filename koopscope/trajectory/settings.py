"""How rows are kept, wherever they go."""

from __future__ import annotations

from dataclasses import dataclass

from koopscope.trajectory.selection import Selection


@dataclass(frozen=True)
class Settings:
    """How rows are kept.

    Parameters
    ----------
    selection
        Tells which tensors are recorded.
    block
        Rows in a block.
    durable
        Force every row to the disk.
    overwrite
        Replace a recording that is there.
    """

    selection: Selection
    block: int
    durable: bool = False
    overwrite: bool = False
