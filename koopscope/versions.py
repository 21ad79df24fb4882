"""The version of koopscope, and of what a result was computed with."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.metadata import version

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Name the versions that can change a result, to be stored with it."""
    used = {name: _version(name) for name in ("numpy", "scipy", "numba", "xarray", "zarr")}
    return {"koopscope": __version__, "python": platform.python_version(), **used}


def _version(name: str) -> str:
    # Reading an installed package's metadata takes milliseconds, and most of these are imported by now.
    return str(getattr(sys.modules.get(name), "__version__", None) or _installed_version(name))


_installed_version = cache(version)
