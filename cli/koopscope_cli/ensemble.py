"""``koopscope ensemble``: many recordings under the same settings, in one table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import koopscope
from koopscope.errors import KoopscopeError
from koopscope_cli import output_folder, tables
from koopscope_cli.loss_option import load_loss
from koopscope_cli.options import Drop, FitSettings, Json, Loss, Metric, Output, RecordingOptions, Smooth
from koopscope_cli.progress import at_work
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from rich.table import Table

_FIGURES = {
    "error_to_evolution": "error / evolution",
    "relative_l2": "relative error (L2)",
    "skill_hold": "skill vs hold",
    "skill_linear": "skill vs linear",
    "loss_at_t2": "loss at t2",
    "loss_true": "loss, true weights",
    "loss_forecast": "loss, forecast",
    "loss_filtered": "loss, filtered",
    "t_eq_ratio": "T_eq / T",
    "speed_up": "speed-up",
    "seconds_read": "seconds to read",
    "seconds_fit": "seconds to fit",
    "seconds_forecast": "seconds to forecast",
}


def ensemble(
    *trajectories: Annotated[str, Parameter(help="Recordings, one a run.")],
    settings: FitSettings | None = None,
    lead: Annotated[
        Whole | None,
        Parameter(help="Verify this many steps after t2 [default: the last step of the first run]."),
    ] = None,
    loss: Loss = None,
    metric: Metric = "loss",
    smooth: Smooth = 1,
    drop: Drop = None,
    seconds_per_step: Annotated[
        float | None,
        Parameter(
            name=["--seconds-per-step", "--step-seconds"],
            help="Time of one optimiser step; gives the speed-up.",
        ),
    ] = None,
    recording: RecordingOptions | None = None,
    output: Annotated[
        Output, Parameter(help="Store the table there, as Zarr [default: print it only].")
    ] = None,
    overwrite: Annotated[bool, Parameter(help="Replace a table that is there; never anything else.")] = False,
    json: Json = False,
) -> None:
    """Fit and verify many recordings under the same settings; medians and quantiles over them."""
    chosen = asdict(settings or FitSettings())
    place = None
    if output is not None:
        place = output_folder.claim_result(output, "ensemble", replace=overwrite)
    with at_work() as tell:
        loss_function = load_loss(loss) if loss else None
        table = koopscope.ensemble(
            trajectories,
            lead=lead,
            loss=loss_function,
            metric=metric,
            smooth=smooth,
            drop=drop,
            seconds_per_step=seconds_per_step,
            opening=asdict(recording or RecordingOptions()),
            progress=tell,
            **chosen,
        )
        spread = koopscope.quantiles(table)
        if place is not None:
            with output_folder.staged(place) as store:
                koopscope.save(table, store)
    described = _describe(table, spread)
    if json:
        tables.show_json(described)
    else:
        tables.show(_runs(described), _spread(described), *_lines(described, output))
    if described["failed"]:
        failed = described["failed"]
        raise KoopscopeError(f"{len(failed)} of {len(described['runs'])} runs failed: {', '.join(failed)}")


def _describe(table: xr.Dataset, spread: xr.Dataset) -> dict[str, Any]:
    lead = int(table["lead"].values[-1])
    last, last_spread = table.sel(lead=lead), spread.sel(lead=lead)
    runs = [
        {
            "run": str(name),
            "problem": str(last["problem"].sel(run=name).item()) or None,
            **_row(last.sel(run=name)),
        }
        for name in last["run"].values
    ]
    shares = [float(share) for share in spread["quantile"].values]
    figures = {
        name: {f"{share:g}": _of_fit(last_spread[name]).sel(quantile=share).item() for share in shares}
        for name in _FIGURES
        if name in last_spread
    }
    if "t_eq_ratio" in last_spread:
        # A censored value is a lower bound, and so is every quantile above the last run below them all.
        fitted = last.isel(run=[not problem for problem in last["problem"].values.tolist()])
        ratios = fitted["t_eq_ratio"].fillna(0.0).values  # a diverged forecast is worth no steps
        lowest = min(ratios[fitted["t_eq_censored"].values.astype(bool)].tolist(), default=float("inf"))
        exact = max(ratios[ratios < lowest].tolist(), default=-float("inf"))
        figures["t_eq_ratio"]["censored"] = [value > exact for value in figures["t_eq_ratio"].values()]
    return {
        **{name: table.attrs.get(name) for name in ("partition", "method", "t1", "t2", "lag", "failed")},
        "lead": lead,
        "success": int(last["success"].sum()) if "success" in last else None,
        "fitted": spread.attrs["runs"],
        "quantiles": figures,
        "runs": runs,
    }


def _of_fit(values: xr.DataArray) -> xr.DataArray:
    return values.sel(forecast="fit") if "forecast" in values.dims else values


def _row(figures: xr.Dataset) -> dict[str, Any]:
    names = [name for name in (*_FIGURES, "success", "t_eq_censored") if name in figures]
    return {name: _of_fit(figures[name]).item() for name in names}


def _runs(described: dict[str, Any]) -> Table:
    columns = {
        "run": "name",
        "error /\nevolution": "number",
        "relative\nerror": "number",
        "skill\nvs linear": "number",
        "loss\nforecast": "number",
        "lower\nthan at t2": "words",
        "T_eq / T": "number",
        "problem": "words",
    }
    rows = []
    for run in described["runs"]:
        if run["problem"]:
            rows.append([run["run"], *["-"] * 6, run["problem"]])
            continue
        bound = ">= " if run.get("t_eq_censored") else ""
        success = {True: "yes", False: "no", None: "-"}[run.get("success")]
        rows.append(
            [
                run["run"],
                tables.number(run["error_to_evolution"]),
                tables.number(run["relative_l2"]),
                tables.number(run["skill_linear"], ".3f" if abs(run["skill_linear"]) < 10 else ".3g"),
                tables.number(run.get("loss_forecast"), ".4g"),
                success,
                bound + tables.number(run.get("t_eq_ratio")),
                "",
            ]
        )
    return tables.table(columns, rows, title=f"{described['lead']} steps after t2={described['t2']}")


def _spread(described: dict[str, Any]) -> Table:
    shares = list(next(iter(described["quantiles"].values())))
    shares = [share for share in shares if share != "censored"]
    headings = {"median" if share == "0.5" else f"{float(share):.0%}": "number" for share in shares}
    rows = []
    for name, figures in described["quantiles"].items():
        bounds = figures.get("censored", [False] * len(shares))
        cells = [
            (">= " if bound else "") + tables.number(figures[share], ".4g")
            for share, bound in zip(shares, bounds, strict=True)
        ]
        rows.append([_FIGURES[name], *cells])
    title = f"quantiles over {described['fitted']} runs"
    return tables.table({"figure": "words", **headings}, rows, title=title)


def _lines(described: dict[str, Any], output: Path | None) -> list[str]:
    lines = [
        f"method   {described['method']}, partition {described['partition']}, lag {described['lag']} steps"
    ]
    if described["success"] is not None:
        share = described["success"] / described["fitted"]
        lines.append(f"success  {described['success']} of {described['fitted']} runs ({share:.0%})")
    return lines if output is None else [*lines, f"written  {output}"]
