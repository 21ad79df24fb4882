"""Write the tables of docs/reference that are made from the code: python docs/tables.py."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from koopscope import errors
from koopscope.variables import DIMS, VARIABLES

REFERENCE = Path(__file__).parent / "reference"


def error_rows() -> Iterator[str]:
    """Give one row an error class, in the order of the module."""
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.KoopscopeError):
            meaning = (kind.__doc__ or "").strip().rstrip(".")
            yield f"| `{name}` | `{kind.code}` | {kind.exit_code} | {meaning} |"


def dim_rows() -> Iterator[str]:
    """Give one row a dimension."""
    for name, meaning in DIMS.items():
        yield f"| `{name}` | {meaning} |"


def variable_rows() -> Iterator[str]:
    """Give one row a variable."""
    for name, entry in VARIABLES.items():
        dims = ", ".join(entry.dims) or "none"
        meaning = entry.meaning.replace("|", "\\|")
        yield f"| `{name}` | {dims} | {entry.units} | {meaning} |"


TABLES = {
    "errors.md": {"| class | code | exit | when |": error_rows},
    "results.md": {"| dim | meaning |": dim_rows, "| variable | dims | units | meaning |": variable_rows},
}


def rewritten(file: str) -> str:
    """Give a page with its tables made anew."""
    lines = (REFERENCE / file).read_text().splitlines()
    for heading, rows in TABLES[file].items():
        start = lines.index(heading) + 2
        end = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
        lines[start:end] = rows()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in TABLES:
        (REFERENCE / page).write_text(rewritten(page))
