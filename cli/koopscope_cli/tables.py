"""Tables and lines on stdout: as wide as the terminal, or 100 columns without colour in files and pipes."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from koopscope_cli.summary import to_json

WIDTH = 100
_UNLIMITED = 10_000
_FOLDED_AT = 12
_NONE = "-"
_SKILLS = ("skill_hold", "skill_linear")


def show(*parts: Table | str) -> None:
    """Print tables and lines; a table is rather wider than the terminal than cropped."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    unlimited = console.options.update(width=_UNLIMITED)
    needed = [Measurement.get(console, unlimited, part).minimum for part in parts if isinstance(part, Table)]
    console.width = max([console.width, *needed])
    # Captured, because rich ends the process on a closed pipe; the shell meets that in one place.
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False, soft_wrap=isinstance(part, str))
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def show_json(value: Any) -> None:
    """Print one JSON object."""
    sys.stdout.write(f"{to_json(value, indent=2)}\n")


def show_json_line(value: Any) -> None:
    """Print one JSON object on a line of its own, at once, for results that keep coming."""
    sys.stdout.write(f"{to_json(value)}\n")
    sys.stdout.flush()


def table(
    columns: Mapping[str, str], rows: Sequence[Sequence[str]], *, title: str = "", gap: int = 2
) -> Table:
    """Lay out rows of text.

    Parameters
    ----------
    columns
        Heading to how its cells may be broken: ``"name"`` anywhere, ``"number"`` never, ``"words"`` and
        ``"pair"`` at blanks; numbers and pairs are right-justified.
    rows
        One text a column.
    title
        Above the table.
    gap
        Blanks between columns.
    """
    made = Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
    )
    for position, (heading, kind) in enumerate(columns.items()):
        cells = [heading, *(row[position] for row in rows)]
        widest = max(len(word) for cell in cells for word in cell.split())
        made.add_column(
            heading,
            justify="right" if kind in ("number", "pair") else "left",
            overflow="fold",
            no_wrap=kind == "number",
            min_width=min(widest, _FOLDED_AT) if kind == "name" else widest,
        )
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def fit_table(summary: Mapping[str, Any], verification: Mapping[str, Any] | None) -> Table:
    """Tabulate a fit, a row a layer and one for the network, with its verification where there is one.

    Parameters
    ----------
    summary, verification
        As `koopscope_cli.summary` describes them.
    """
    columns = {
        "layer": "name",
        "groups": "number",
        "weights": "number",
        "spectral\nradius": "number",
        "error /\nevolution": "number",
        "skill\nvs hold": "number",
        "skill\nvs linear": "number",
        "verdict": "words",
    }
    judged = [None] * len(summary["layers"]) if verification is None else verification["layers"]
    rows = [_fit_row(*pair) for pair in zip(summary["layers"], judged, strict=True)]
    rows.append(_fit_row({**summary, "layer": "network"}, verification))
    title = "" if verification is None else f"{verification['lead']} steps after t2={summary['t2']}"
    made = table(columns, rows, title=title)
    made.rows[-2].end_section = True
    return made


def number(value: float | None, form: str = ".3g") -> str:
    """Format a figure; what does not exist is a dash.

    >>> number(0.12345), number(None), number(float("nan"))
    ('0.123', '-', '-')
    """
    return _NONE if value is None or math.isnan(value) else format(value, form)


def radius(value: float | None) -> str:
    """Format a spectral radius: what matters is its distance from one.

    >>> radius(0.999871), radius(31234.5)
    ('0.99987', '3.12e+04')
    """
    return number(value, ".5f" if value is not None and value < 10 else ".3g")


def _fit_row(fitted: Mapping[str, Any], judged: Mapping[str, Any] | None) -> list[str]:
    start = [
        str(fitted["layer"]),
        number(fitted["groups"], "d"),
        number(fitted["weights"], "d"),
        radius(fitted["spectral_radius"]),
    ]
    if judged is None:
        return [*start, _NONE, _NONE, _NONE, "not verified"]
    skills = [number(judged[name], ".3f" if abs(judged[name]) < 10 else ".3g") for name in _SKILLS]
    return [*start, number(judged["error_to_evolution"]), *skills, judged["verdict"]]
