"""``koopscope inspect``: what a recording holds, and what is odd about it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

import koopscope
from koopscope_cli import tables
from koopscope_cli.options import Json, Layout, Run, TrajectoryPath
from koopscope_cli.place import absolute
from koopscope_cli.progress import at_work

_COLUMNS = {
    "tensor": "name",
    "layer": "name",
    "role": "name",
    "shape": "number",
    "dtype": "name",
    "weights": "number",
    "units": "number",
}

_COSTS = {
    "partition": "name",
    "groups": "number",
    "largest": "number",
    "fit\nflop": "number",
    "a step\nflop": "number",
    "jump\nflop": "number",
    "memory": "number",
    "fit\ns": "number",
    "forecast\ns": "number",
    "cheaper than\ntraining": "name",
}


def inspect(
    trajectory: TrajectoryPath,
    /,
    *,
    layout: Layout = None,
    run: Run = None,
    step_seconds: Annotated[
        float | None,
        Parameter(help="Time of one training step, for the comparison with training [default: a guess]."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what a recording holds, what is odd about it, and what fits would cost."""
    with at_work():
        opened = koopscope.open_trajectory(trajectory, layout=layout, run=run)
        found = koopscope.inspect(opened, step_seconds=step_seconds)
        columns = {str(name): column.values.tolist() for name, column in found.variables.items()}
        tensors = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        described = {"input": absolute(trajectory), **found.attrs, "tensors": tensors}
    if json:
        tables.show_json(described)
    else:
        tables.show(tables.table(_COLUMNS, [_row(tensor) for tensor in tensors]), *_lines(described))
        tables.show(
            tables.table(_COSTS, [_cost(cost) for cost in described["costs"]]), _comparison(described)
        )


def _row(tensor: dict[str, Any]) -> list[str]:
    units = str(tensor["units"]) if tensor["units"] else "unknown"
    return [
        *(str(tensor[name]) for name in ("tensor", "layer", "role", "shape", "dtype", "size")),
        units,
    ]


def _cost(cost: dict[str, Any]) -> list[str]:
    return [
        cost["partition"],
        str(cost["groups"]),
        str(cost["largest_group"]),
        *(f"{cost[name]:.2g}" for name in ("fit_flops", "step_flops", "jump_flops")),
        _size(cost["fit_memory_bytes"]),
        *(f"{cost[name]:.2g}" for name in ("fit_seconds", "forecast_seconds")),
        "yes" if cost["cheaper"] else "no",
    ]


def _comparison(described: dict[str, Any]) -> str:
    step = f"{described['step_seconds'] * 1e3:.2g} ms"
    source = "a guess; say it with --step-seconds" if described["step_seconds_guessed"] else "as you say"
    return f"training {described['lead']} steps (a quarter of the window) at {step} a step ({source})"


def _lines(described: dict[str, Any]) -> list[str]:
    spacing = f"every {described['spacing']}"
    if not described["spacing"]:
        spacing = f"uneven; longest even stretch: {described.get('longest_even_stretch', 'none')}"
    metrics = ", ".join(described["metrics"]) or "none"
    layout = f"{described['layout'] or 'unknown'} ({described['layout_evidence']})"
    first, last, tensors = described["first_step"], described["last_step"], len(described["tensors"])
    runs = [f"runs     {described['runs']}; what follows is the first, --run N selects another"]
    return [
        *(runs if described["runs"] > 1 else []),
        f"steps    {described['steps']} recorded, {first} to {last}, {spacing}",
        f"weights  {described['weights']} in {tensors} tensors, {_size(described['bytes'])}",
        f"metrics  {metrics}",
        f"layout   {layout}",
        f"format   {described['format']}",
        f"cost     about {described['read_seconds']:.2g} s to read",
        *(f"odd      {text}" for text in described["lints"]),
    ]


def _size(n_bytes: int) -> str:
    """Say a number of bytes in words.

    >>> _size(1536), _size(12)
    ('1.5 KiB', '12 B')
    """
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
