"""``koopscope backtest``: which settings would have forecast best, and how far the best can be trusted."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

import koopscope
from koopscope_cli import summary, tables, verdicts
from koopscope_cli.options import Json, RecordingOptions, TrajectoryPath
from koopscope_cli.place import absolute
from koopscope_cli.progress import at_work
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

_TOP = 5
_SETTINGS = ("kind", "partition", "lag", "delays", "rtol", "window_share")


def backtest(
    trajectory: TrajectoryPath,
    /,
    *,
    partition: Annotated[
        str, Parameter(help="Race within this partition, or auto: network and layer.")
    ] = "auto",
    t1: Annotated[Whole | None, Parameter(help="First training step of the window.")] = None,
    t2: Annotated[Whole | None, Parameter(help="Last training step of the window.")] = None,
    lead: Annotated[
        Whole | None, Parameter(help="Training steps to reach [default: a quarter of the window].")
    ] = None,
    average: Annotated[Whole, Parameter(help="Recorded rows averaged into one snapshot.")] = 1,
    tolerance: Annotated[float, Parameter(help="Relative error a forecast may have at the horizon.")] = 0.1,
    top: Annotated[Whole, Parameter(validator=validators.Number(gte=1), help="Candidates to list.")] = _TOP,
    recording: RecordingOptions | None = None,
    json: Json = False,
) -> None:
    """Race settings on the window itself, and predict the error of the best."""
    with at_work() as tell:
        run = koopscope.open_trajectory(trajectory, **asdict(recording or RecordingOptions()))
        race = koopscope.backtest(
            run, partition, t1=t1, t2=t2, lead=lead, average=average, tolerance=tolerance, progress=tell
        )
    figures = {
        "input": absolute(trajectory),
        **{name: race.attrs[name] for name in ("t1", "t2", "average")},
        **summary.backtest_figures(race),
        "candidates": _listed(race, top),
    }
    if json:
        tables.show_json(figures)
        return
    tables.show(_candidates(figures), _leads(figures), verdicts.backtest_verdict(figures))


def _listed(race: xr.Dataset, top: int) -> list[dict[str, Any]]:
    """List the winner, the best others by score, and the best of each baseline that is not among them."""
    order = race["score"].values.argsort(kind="stable").tolist()
    kinds = race["kind"].values.tolist()
    settings = race.attrs["chosen"].items()
    winner = next(at for at in order if all(race[name].values[at] == value for name, value in settings))
    shown = [winner, *(at for at in order if at != winner)][:top]
    for baseline in ("linear", "hold"):
        best = next(index for index in order if kinds[index] == baseline)
        shown += [best] if best not in shown else []
    return [
        {
            **{
                name: race[name].values[index].item()
                if name not in ("kind", "partition")
                else str(race[name].values[index])
                for name in _SETTINGS
            },
            "score": float(race["score"].values[index]),
            "worst": float(race["backtest_error"].values[index, :, -1].max()),
        }
        for index in shown
    ]


def _candidates(figures: dict[str, Any]) -> Table:
    columns = {
        "kind": "name",
        "partition": "name",
        "lag": "number",
        "delays": "number",
        "rtol": "number",
        "window\nshare": "number",
        "mean\nerror": "number",
        "worst\nerror": "number",
    }
    rows = []
    for item in figures["candidates"]:
        fitted, single = item["kind"] in ("affine", "mixture"), item["kind"] == "affine"
        settings = [str(item[name]) if fitted else "-" for name in ("partition", "lag")]
        settings.append(str(item["delays"]) if single else "-")
        rtol = format(item["rtol"], "g") if single else "-"
        share = format(item["window_share"], "g") if item["kind"] in ("affine", "linear") else "-"
        errors = [tables.number(item[name]) for name in ("score", "worst")]
        rows.append([item["kind"], *settings, rtol, share, *errors])
    return tables.table(
        columns, rows, title=f"{figures['leads'][-1]} steps ahead, from 9 origins in the window"
    )


def _leads(figures: dict[str, Any]) -> Table:
    columns = {"lead": "number", "predicted\nerror": "number", "error\nbound": "number"}
    rows = [
        [str(lead), tables.number(error), tables.number(bound)]
        for lead, error, bound in zip(
            figures["leads"], figures["predicted_error"], figures["error_bound"], strict=True
        )
    ]
    return tables.table(columns, rows, title="the best of them")
