"""``--loss module:function``: the user's own code, imported only because the user asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from koopscope.errors import UsageError


def load_loss(spelling: str) -> Callable[[Any], float]:
    """Import a loss callable.

    Parameters
    ----------
    spelling
        ``module:function``, looked up in the current folder first, or ``path/to/file.py:function``.

    Raises
    ------
    UsageError
        If there is no such module, file or function, or the import fails.
    """
    where, colon, name = spelling.rpartition(":")
    if not (colon and where and name):
        raise UsageError(f"--loss expects module:function or path/to/file.py:function, got {spelling!r}")
    is_path = where.endswith(".py") or os.sep in where
    try:
        module = _load_file(Path(where)) if is_path else _load_module(where)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's module raises is reported as theirs
        raise UsageError(
            f"--loss {spelling}: importing {where} raised {type(error).__name__}: {error}"
        ) from error
    loss: Callable[[Any], float] | None = getattr(module, name, None)
    if loss is None:
        raise UsageError(f"--loss {spelling}: {getattr(module, '__file__', where)} has no {name!r}")
    if not callable(loss):
        raise UsageError(f"--loss {spelling}: {name!r} is a {type(loss).__name__}, not a function")
    return loss


def _load_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"--loss: no module {error.name!r} in {Path.cwd()} nor among the installed packages; "
            "path/to/file.py:function names a file"
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"--loss: there is no file {path} (looked in {Path.cwd()})")
    _search_first(path.resolve().parent)  # as `python file.py` would, so that its own imports work
    name = f"koopscope_loss_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--loss: {path} is no Python file; its name must end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
