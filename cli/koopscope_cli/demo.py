"""``koopscope demo``: a real recording, fitted, drawn and reported, without any input."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import koopscope
from koopscope_cli import tables
from koopscope_cli.fit import fit
from koopscope_cli.options import Json, Output, Overwrite
from koopscope_cli.report import report

_FOLDER = Path("koopscope-demo.koop")


def demo(
    *,
    output: Annotated[Output, Parameter(help="Folder to write [default: ./koopscope-demo.koop].")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit the recording that comes with koopscope, and draw all there is to see."""
    folder = output or _FOLDER
    fit(str(koopscope.example_recording()), output=folder, overwrite=overwrite, json=json)
    if json:
        return
    if find_spec("bokeh") is None:
        tables.show("no page  pip install 'koopscope[report]' adds report.html (bokeh is missing)")
        return
    report(folder)
    tables.show(f"look at  {folder / 'report.html'}, {folder / 'eigenvalues.png'}")
