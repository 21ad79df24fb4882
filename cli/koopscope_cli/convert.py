"""``koopscope convert``: any recording that koopscope opens, as a Zarr store that reads fast."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

import koopscope
from koopscope_cli import tables
from koopscope_cli.options import Json, Overwrite, RecordingOptions, TrajectoryPath
from koopscope_cli.place import absolute
from koopscope_cli.progress import at_work


def convert(
    source: TrajectoryPath,
    target: Annotated[str, Parameter(help="Store to write, here or at a URL, usually something.zarr.")],
    /,
    *,
    recording: RecordingOptions | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Copy a recording of any kind into a Zarr store, rows packed into blocks."""
    opening = asdict(recording or RecordingOptions())
    with at_work():
        written = koopscope.convert(source, target, **opening, overwrite=overwrite)
        found = koopscope.inspect(written, lints=False)
    described = {
        "input": absolute(source),
        "output": absolute(str(written)),
        **{name: found.attrs[name] for name in ("steps", "weights", "bytes", "layout")},
    }
    if json:
        tables.show_json(described)
    else:
        tables.show(f"written  {written}: {described['steps']} rows of {described['weights']} weights")
