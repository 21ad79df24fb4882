"""Where results may be written: never inside another store, and in place of nothing but a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from koopscope.errors import OutputExistsError, UsageError

_MARKS = ("koopscope_format", "koopscope_result")


def require_outside_stores(path: Path) -> None:
    """Check that a place does not lie in a recording or a stored result, which would be damaged by it.

    Raises
    ------
    UsageError
        If it does.
    """
    for parent in (path.parent.resolve() / path.name).parents:
        if _is_store(parent):
            raise UsageError(
                f"{path} lies in the store {parent}, which it would damage; choose a place outside"
            )


def require_free_file(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written: nothing is there, or, with ``overwrite``, a file and no device.

    Raises
    ------
    OutputExistsError
        If something is there that must stay.
    UsageError
        If the place lies in a store.
    """
    require_outside_stores(path)
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise OutputExistsError(
            f"{path} exists already; overwrite=True (--overwrite) replaces a file, or choose another name"
        )
    if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
        raise OutputExistsError(f"{path} is no ordinary file and stays as it is; choose another name")


def _is_store(folder: Path) -> bool:
    try:
        attributes = json.loads((folder / "zarr.json").read_bytes()).get("attributes")
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(attributes, dict) and any(mark in attributes for mark in _MARKS)
