"""``koopscope predict``: weights some steps after t2, stored, and how far they have moved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import koopscope
from koopscope.errors import UsageError
from koopscope_cli import output_folder, tables
from koopscope_cli.options import Drop, FitPath, Json, Leads, Output
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table


def predict(
    folder: FitPath,
    /,
    *,
    lead: Annotated[Leads, Parameter(help="Training steps after t2, one or several.")],
    output: Annotated[
        Output, Parameter(help="Store to write [default: forecast.zarr beside the fit, replaced freely].")
    ] = None,
    drop: Drop = None,
    export: Annotated[
        Path | None,
        Parameter(
            help="Also write the weights, under the names and dtypes of training, to .npz or .safetensors."
        ),
    ] = None,
    overwrite: Annotated[
        bool, Parameter(help="Replace a forecast that is there, and any file that --export names.")
    ] = False,
    json: Json = False,
) -> None:
    """Forecast the weights some steps after t2 and store them."""
    if export is not None and len(lead) > 1:
        raise UsageError(f"--export writes the weights of one lead, got {len(lead)}; give one --lead")
    with at_work():
        stored = load_fit(folder)
        wanted = output or stored.folder / output_folder.FORECAST
        place = output_folder.claim_result(wanted, "forecast", replace=overwrite or output is None)
        forecast = koopscope.predict(stored.fit, lead, drop=drop)
        start = koopscope.predict(stored.fit, 0)
        described = {
            **{
                name: forecast.attrs[name]
                for name in ("partition", "method", "t2", "lag", "dropped", "diverged")
            },
            "average": stored.fit.attrs["average"],
            "fit": str(stored.store.resolve()),
            "leads": lead,
            "tensors": _changes(forecast, start),
            "output": str(place),
            "export": None if export is None else str(export.resolve()),
        }
        with output_folder.staged(place) as store:
            koopscope.save(forecast, store)
            if export is not None:
                koopscope.export(forecast, export, overwrite=overwrite)
    if json:
        tables.show_json(described)
    else:
        tables.show(_table(described), *_lines(described, wanted))


def _changes(forecast: xr.Dataset, start: xr.Dataset) -> list[dict[str, Any]]:
    rows = []
    for name, weights in start.data_vars.items():
        size = _norm(weights)
        for position, lead in enumerate(forecast["lead"].values.tolist()):
            change = _norm(forecast[name].isel(lead=position) - weights.isel(lead=0))
            relative = change / size if size else float("nan")
            rows.append({"tensor": name, "lead": lead, "change": change, "relative_change": relative})
    return rows


def _norm(values: xr.DataArray) -> float:
    largest = float(abs(values).max(skipna=False))
    if not 0 < largest < float("inf"):
        return largest
    # Scaled, because squares of a diverging forecast overflow before the forecast does.
    squares = float(((values / largest) ** 2).sum())
    return largest * math.sqrt(squares)


def _table(described: dict[str, Any]) -> Table:
    columns = {
        "tensor": "name",
        "lead": "number",
        "change\n|w - start|": "number",
        "relative\nto |start|": "number",
    }
    rows = [
        [
            str(row["tensor"]),
            str(row["lead"]),
            tables.number(row["change"], ".4g"),
            tables.number(row["relative_change"], ".2%"),
        ]
        for row in described["tensors"]
    ]
    return tables.table(columns, rows)


def _lines(described: dict[str, Any], wanted: Path) -> list[str]:
    averaged = described["average"] > 1
    start = (
        f"the mean of the last {described['average']} rows" if averaged else f"w(t2), t2={described['t2']}"
    )
    lines = [f"start    {start}; {described['method']}, partition {described['partition']}"]
    if described["diverged"]:
        lines.append(f"diverged at lead {', '.join(map(str, described['diverged']))}: not finite there")
    if described["export"] is not None:
        lines.append(f"exported {described['export']}")
    return [*lines, f"written  {wanted}"]
