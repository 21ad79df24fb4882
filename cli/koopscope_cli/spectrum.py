"""``koopscope spectrum``: the eigenvalues of a stored fit, and what they mean in training steps."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

import koopscope
from koopscope.errors import UsageError
from koopscope_cli import tables
from koopscope_cli.options import FitPath, Json
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import xarray as xr

_TOP = 20
_CLASSES = Literal["offset", "slow", "decaying", "oscillating", "growing", "noise"]
# What each name sorts by, and whether the largest comes first; conjugate pairs are equal in all of them.
_SORTS = {
    "modulus": ("modulus", True),
    "amplitude": ("amplitude", True),
    "residual": ("residual", False),
    "growth": ("growth_rate", True),
    "frequency": ("frequency", True),
}
_COLUMNS = {
    "layer": "name",
    "group": "number",
    "class": "name",
    "lambda\nper lag": "pair",
    "lambda\nper step": "pair",
    "growth\n1/step": "number",
    "cycles\n/step": "number",
    "e-fold\nsteps": "number",
    "residual": "number",
    "amplitude": "number",
}
_BOUNDS = {"growth\nlow, high": "pair", "cycles\nlow, high": "pair", "to be\ntrusted": "name"}


def spectrum(
    folder: FitPath,
    /,
    *,
    of_class: Annotated[
        list[_CLASSES] | None,
        Parameter(name="--class", consume_multiple=True, help="Only eigenvalues of these classes."),
    ] = None,
    layer: Annotated[list[str] | None, Parameter(consume_multiple=True, help="Only these layers.")] = None,
    sort: Annotated[
        Literal["modulus", "amplitude", "residual", "growth", "frequency", "layer"],
        Parameter(
            help="Order within a layer (largest first, residual smallest first); layer keeps the fit's."
        ),
    ] = "modulus",
    top: Annotated[
        Whole | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Eigenvalues a layer, first in the order [default: 20 in the table, all in JSON].",
        ),
    ] = None,
    intervals: Annotated[
        bool,
        Parameter(help="Bootstrap 95 % intervals of growth rate and frequency; reads the recording once."),
    ] = False,
    trajectory: Annotated[
        str | None, Parameter(help="The recording, where it has moved (--intervals).")
    ] = None,
    json: Json = False,
) -> None:
    """List the eigenvalues of a stored fit and what they mean in training steps."""
    with at_work() as tell:
        stored = load_fit(folder)
        recording = stored.open_recording(trajectory) if intervals else None
        listed = _filtered(koopscope.spectrum(stored.fit, recording, progress=tell), of_class, layer)
        shown, hidden = _first(listed, sort, top if json else top or _TOP)
    settings = {name: listed.attrs[name] for name in ("partition", "method", "t1", "t2", "lag", "class_rule")}
    if json:
        extra = {"interval_rule": listed.attrs["interval_rule"]} if intervals else {}
        tables.show_json({**settings, **extra, "eigenvalues": shown, "not_shown": hidden})
        return
    lines = [
        f"lag      {settings['lag']} steps; one step's phase is known up to whole turns a lag",
        _wrapped("class", settings["class_rule"]),
    ]
    if intervals:
        lines.append(_wrapped("bounds", f"95 %; {listed.attrs['interval_rule']}"))
    if any(hidden.values()):
        missing = ", ".join(f"{count} of layer {layer}" for layer, count in hidden.items() if count)
        lines.append(f"hidden   {missing}; --top N shows more")
    columns = {**_COLUMNS, **_BOUNDS} if intervals else _COLUMNS
    tables.show(tables.table(columns, [_row(entry) for entry in shown], gap=1), *lines)


def _wrapped(name: str, text: str) -> str:
    return fill(f"{name:8} {text}", tables.WIDTH, subsequent_indent=" " * 9, break_on_hyphens=False)


def _filtered(listed: xr.Dataset, classes: Sequence[str] | None, layers: Sequence[str] | None) -> xr.Dataset:
    known = dict.fromkeys(listed["layer"].values.tolist())
    unknown = [name for name in layers or () if name not in known]
    if unknown:
        raise UsageError(f"no layer {', '.join(unknown)} in this fit, which holds {', '.join(known)}")
    for column, wanted in (("eigenvalue_class", classes), ("layer", layers)):
        if wanted:
            listed = listed.isel(eigenvalue=listed[column].isin(wanted).values)
    return listed


def _first(listed: xr.Dataset, sort: str, top: int | None) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """List the first eigenvalues of each layer in an order, and count those that are left out."""
    shown: list[dict[str, Any]] = []
    hidden: dict[str, int] = {}
    for layer in dict.fromkeys(listed["layer"].values.tolist()):
        own = listed.isel(eigenvalue=(listed["layer"] == layer).values)
        if sort in _SORTS:
            own = own.isel(eigenvalue=_order(own, *_SORTS[sort]))
        first = own.isel(eigenvalue=slice(_whole_pairs(own, top)))
        hidden[layer] = own.sizes["eigenvalue"] - first.sizes["eigenvalue"]
        columns = {str(name): column.values.tolist() for name, column in first.variables.items()}
        shown += [dict(zip(columns, entry, strict=True)) for entry in zip(*columns.values(), strict=True)]
    return shown, hidden


def _order(own: xr.Dataset, column: str, largest_first: bool) -> npt.NDArray[np.int64]:
    """Sort so that pairs stay together: both rank as the first of them, which stands before."""
    import numpy as np  # here, so that --help goes without it

    key = np.abs(own[column].values) if column == "frequency" else own[column].values.copy()
    second = np.flatnonzero(own["eigenvalue"].values.imag < 0)
    second = second[second > 0]
    key[second] = key[second - 1]
    return np.argsort(-key if largest_first else key, kind="stable")


def _whole_pairs(own: xr.Dataset, top: int | None) -> int | None:
    """Extend a cut that would part a conjugate pair."""
    values = own["eigenvalue"].values
    return top + 1 if top is not None and top < values.size and values[top].imag < 0 else top


def _row(entry: dict[str, Any]) -> list[str]:
    return [
        entry["path"],
        str(entry["group"]),
        entry["eigenvalue_class"],
        _complex(entry["eigenvalue"], 4),
        _complex(entry["eigenvalue_per_step"], 6),
        tables.number(entry["growth_rate"], ".2g"),
        tables.number(entry["frequency"], ".2g"),
        tables.number(entry["e_folding_time"]),
        tables.number(entry["residual"], ".1e"),
        tables.number(entry["amplitude"], ".1e"),
        *_bounds(entry),
    ]


def _bounds(entry: dict[str, Any]) -> list[str]:
    if "growth_low" not in entry:
        return []
    return [
        *(
            f"{tables.number(entry[f'{name}_low'], '.2g')} {tables.number(entry[f'{name}_high'], '.2g')}"
            for name in ("growth", "frequency")
        ),
        "yes" if entry["interval_trusted"] else "no",
    ]


def _complex(value: complex, digits: int) -> str:
    form = f".{digits}f" if abs(value) < 1000 else ".2g"
    real = format(value.real, form)
    return real if value.imag == 0 else f"{real} {value.imag:+{form}}j"  # the blank lets the cell break
