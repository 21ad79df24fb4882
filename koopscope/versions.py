"""The version of koopscope, and of what a result was computed with."""

from __future__ import annotations

import platform
from importlib.metadata import version

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Name the versions that can change a result, to be stored with it."""
    used = {name: version(name) for name in ("numpy", "scipy", "numba", "xarray", "zarr")}
    return {"koopscope": __version__, "python": platform.python_version(), **used}
