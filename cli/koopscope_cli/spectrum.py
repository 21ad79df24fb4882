"""``koopscope spectrum``: the eigenvalues of a stored fit, and what they mean in training steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

import koopscope
from koopscope_cli import tables
from koopscope_cli.options import FitPath, Json
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit

if TYPE_CHECKING:
    import xarray as xr

_TOP = 20
_COLUMNS = {
    "layer": "name",
    "group": "number",
    "lambda\nper lag": "pair",
    "lambda\nper step": "pair",
    "growth\n1/step": "number",
    "cycles\n/step": "number",
    "e-fold\nsteps": "number",
    "residual": "number",
    "amplitude": "number",
}


def spectrum(
    folder: FitPath,
    /,
    *,
    top: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Eigenvalues a layer, largest modulus first [default: 20 in the table, all in JSON].",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the eigenvalues of a stored fit and what they mean in training steps."""
    with at_work():
        stored = load_fit(folder)
        listed = koopscope.spectrum(stored.fit)
        shown, hidden = _largest(listed, top if json else top or _TOP)
    settings = {name: listed.attrs[name] for name in ("partition", "method", "t1", "t2", "lag")}
    if json:
        tables.show_json({**settings, "eigenvalues": shown, "not_shown": hidden})
        return
    lines = [f"lag      {settings['lag']} steps; one step's phase is known up to whole turns a lag"]
    if any(hidden.values()):
        missing = ", ".join(f"{count} of {layer}" for layer, count in hidden.items() if count)
        lines.append(f"hidden   {missing}; --top N shows more")
    tables.show(tables.table(_COLUMNS, [_row(entry) for entry in shown], gap=1), *lines)


def _largest(listed: xr.Dataset, top: int | None) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """List the largest eigenvalues of each layer, and count those of each layer that are left out."""
    shown: list[dict[str, Any]] = []
    hidden: dict[str, int] = {}
    ordered = listed.sortby("modulus", ascending=False)
    for layer in dict.fromkeys(listed["layer"].values.tolist()):
        own = ordered.isel(eigenvalue=(ordered["layer"] == layer).values)
        first = own.isel(eigenvalue=slice(top))
        hidden[layer] = own.sizes["eigenvalue"] - first.sizes["eigenvalue"]
        columns = {str(name): column.values.tolist() for name, column in first.variables.items()}
        shown += [dict(zip(columns, entry, strict=True)) for entry in zip(*columns.values(), strict=True)]
    return shown, hidden


def _row(entry: dict[str, Any]) -> list[str]:
    return [
        entry["path"],
        str(entry["group"]),
        _complex(entry["eigenvalue"], 4),
        _complex(entry["eigenvalue_per_step"], 6),
        tables.number(entry["growth_rate"], ".2g"),
        tables.number(entry["frequency"], ".2g"),
        tables.number(entry["e_folding_time"]),
        tables.number(entry["residual"], ".1e"),
        tables.number(entry["amplitude"], ".1e"),
    ]


def _complex(value: complex, digits: int) -> str:
    form = f".{digits}f" if abs(value) < 1000 else ".2g"
    real = format(value.real, form)
    return real if value.imag == 0 else f"{real} {value.imag:+{form}}j"  # the blank lets the cell break
