"""``koopscope basin``: has the run settled, since when, and where to put t1 and t2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

import koopscope
from koopscope.errors import UsageError
from koopscope_cli import tables
from koopscope_cli.options import Json, Output, RecordingOptions, TrajectoryPath
from koopscope_cli.output_folder import PICTURES, claim_file, staged
from koopscope_cli.progress import at_work
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    import xarray as xr

_PICTURE = Path("basin.png")
_MADE_BY = b"koopscope basin"
_TOP = 20
_SHARES = ("predictable", "contracting", "fixed_point_agrees", "in_basin", "on_unit_circle")
_ENTRY = ("entry_step", "entry_low", "entry_high")
_COLUMNS = {
    "layer": "name",
    "group": "number",
    "predict-\nable": "number",
    "contract-\ning": "number",
    "fixed pt\nagrees": "number",
    "in a\nbasin": "number",
    "(unit\ncircle)": "number",
    "radius\nat end": "number",
    "verdict": "words",
}


def basin(
    trajectory: TrajectoryPath,
    /,
    *,
    partition: Annotated[str, Parameter(help="Weights that are judged together.")] = "network",
    stochastic: Annotated[
        bool | None,
        Parameter(
            name="--stochastic",
            negative="--deterministic",
            help="Has the run gradient noise? [default: found out].",
        ),
    ] = None,
    window: Annotated[
        Whole | None, Parameter(help="Training steps of a window [default: a fifth of the recording].")
    ] = None,
    lag: Annotated[
        Whole | None, Parameter(help="Training steps between snapshots [default: a thirtieth of the window].")
    ] = None,
    top: Annotated[Whole, Parameter(validator=validators.Number(gte=1), help="Groups to list.")] = _TOP,
    follow: Annotated[
        bool,
        Parameter(
            help="Judge a recording while it is written: a line, or JSON line, whenever a window completes."
        ),
    ] = False,
    patience: Annotated[
        float, Parameter(help="With --follow: seconds without a new row after which to stop.")
    ] = 60.0,
    output: Annotated[Output, Parameter(help="The picture [default: ./basin.png].")] = None,
    overwrite: Annotated[bool, Parameter(help="Replace a picture that is not of this command.")] = False,
    recording: RecordingOptions | None = None,
    json: Json = False,
) -> None:
    """Say whether the run has settled, since when, and where to put t1 and t2."""
    if follow:
        if output is not None:
            raise UsageError("--follow prints lines and draws no picture: leave -o out, or --follow")
        news = koopscope.follow_basin(
            trajectory, partition, stochastic=stochastic, window=window, lag=lag, patience=patience
        )
        _follow(news, json)
        return
    picture = _claimed(output or _PICTURE, overwrite)
    with at_work() as tell:
        run = koopscope.open_trajectory(trajectory, **asdict(recording or RecordingOptions()))
        found = koopscope.find_basin(
            run, partition, stochastic=stochastic, window=window, lag=lag, progress=tell
        )
        figure = koopscope.plot_basin(found).figure
        kind = picture.suffix[1:].lower()
        mark = {"Software": _MADE_BY.decode()} if kind == "png" else None
        with staged(picture) as place:
            figure.savefig(place, format=kind, dpi=150, metadata=mark)  # type: ignore[union-attr]
    groups = [_described(found.isel(group=index)) for index in range(found.sizes["group"])]
    settings = {
        name: found.attrs[name] for name in ("partition", "stochastic", "stochastic_rule", "window", "lag")
    }
    figures = {
        "input": str(trajectory),
        **settings,
        "tolerance": found.attrs["tolerance"],
        "windows": found.sizes["window"],
        "suggested": found.attrs["suggested"],
        "first_predictable": found.attrs["first_predictable"],
        "groups": groups,
        "picture": str(picture.resolve()),
    }
    if json:
        tables.show_json(figures)
        return
    tables.show(tables.table(_COLUMNS, [_row(group) for group in groups[:top]], gap=1), *_lines(figures, top))


def _claimed(picture: Path, overwrite: bool) -> Path:
    """Check, before any work, that a picture may be written; one that this command made is replaced."""
    own = picture.is_file() and _MADE_BY in picture.read_bytes()[:4096]
    return claim_file(picture, suffixes=PICTURES, overwrite=overwrite or own)


def _follow(news: Iterator[xr.Dataset], json: bool) -> None:
    for windows in news:
        last = windows.isel(window=-1)
        inside = int(last["in_basin"].sum())
        line = {
            "step": int(last["window_end"]),
            "windows": windows.sizes["window"],
            "groups": windows.sizes["group"],
            "stochastic": windows.attrs["stochastic"],
            **{name: int(last[name].sum()) for name in _SHARES},
            "spectral_radius": float(last["spectral_radius"].max()),
        }
        if json:
            tables.show_json_line(line)
            continue
        tables.show(
            f"step {line['step']}: radius {tables.radius(line['spectral_radius'])}, predictable "
            f"{line['predictable']}, contracting {line['contracting']}, in a basin {inside} "
            f"of {line['groups']}"
        )


def _described(group: xr.Dataset) -> dict[str, Any]:
    shares = {name: float(group[name].mean()) for name in _SHARES}
    entry = {name: float(group[name]) for name in _ENTRY}
    tests = {name: group[name].item() for name in ("contracting_modes", "contraction_p") if name in group}
    return {
        "path": str(group["path"].item()),
        "unit": int(group["unit"]),
        **shares,
        "spectral_radius": float(group["spectral_radius"][-1]),
        "in_basin_at_end": bool(group["in_basin"][-1]),
        **entry,
        **tests,
    }


def _row(group: dict[str, Any]) -> list[str]:
    return [
        group["path"],
        str(group["unit"]),
        *(f"{100 * group[name]:.0f} %" for name in _SHARES),
        tables.radius(group["spectral_radius"]),
        _verdict(group),
    ]


def _verdict(group: dict[str, Any]) -> str:
    """Say what a group's windows mean, with the step or the share that says so."""
    proof = f" (p {group['contraction_p']:.2g})" if "contraction_p" in group else ""
    if group["entry_step"] == group["entry_step"]:  # not NaN
        low, high = f"{group['entry_low']:.0f}", f"{group['entry_high']:.0f}"
        left = "" if group["in_basin_at_end"] else ", left it again"
        return f"in a basin since {low} to {high}{proof}{left}"
    if proof:
        return f"no pull back{proof}"
    if group["predictable"] > 0.5:
        return f"predictable, not settled ({100 * group['predictable']:.0f} % of windows)"
    return f"not predictable ({100 * group['predictable']:.0f} % of windows)"


def _lines(figures: dict[str, Any], top: int) -> list[str]:
    found, kind = figures["suggested"], "stochastic" if figures["stochastic"] else "deterministic"
    reach = f"--lead up to {found['T']}" if found["T"] else "no lead stays within a tenth of what moves"
    lines = [
        f"run      {kind}: {figures['stochastic_rule']}",
        f"windows  {figures['windows']} of {figures['window']} steps, lag {figures['lag']}; shares above",
        f"suggest  --t1 {found['t1']} --t2 {found['t2']} --lag {found['lag']}; {reach}",
        f"picture  {figures['picture']}",
    ]
    hidden = len(figures["groups"]) - top
    return [*lines, f"hidden   {hidden} groups; --top N shows more"] if hidden > 0 else lines
