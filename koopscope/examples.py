"""The recording of real training that comes with koopscope."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from koopscope.errors import ResultError

_INSTALLED = "example_run"
_NAME = "oscillator_adadelta.zarr"


def example_recording() -> Path:
    """Find the recording of a real training that every installation holds.

    A small network with 152 weights, trained with Adadelta on the oscillator problem of Dogra & Redman
    (https://doi.org/10.48550/arXiv.2006.02361): 3000 rows, steps 35 000 to 49 995.

    Raises
    ------
    ResultError
        If it is missing, as in an installation that was cut down.

    Examples
    --------
    >>> import koopscope
    >>> koopscope.open_trajectory(koopscope.example_recording()).sizes["step"]
    3000
    """
    package = Path(str(files("koopscope")))
    # Installed beside the modules; in a checkout it lies in data/, from where the wheel takes it.
    for place in (package / _INSTALLED, package.parent / "data" / _NAME):
        if (place / "zarr.json").is_file():
            return place
    raise ResultError(f"this installation lacks {_NAME}; install koopscope anew, or use a checkout's data/")
