"""``koopscope compare``: how far apart the spectra of stored fits are, and whether that could be chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

import koopscope
from koopscope.errors import UsageError
from koopscope_cli import output_folder, tables
from koopscope_cli.options import Json, Output, OverwriteFile
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

_TOP = 12  # rows and columns of a matrix that a page of text holds


def compare(
    first: Annotated[Path, Parameter(help="A folder that `koopscope fit` wrote, or a fit.zarr.")],
    second: Annotated[Path, Parameter(help="Another one.")],
    /,
    *others: Annotated[Path, Parameter(help="And any more.")],
    labels: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            help="One a fit, such as its optimiser: tests whether fits with the same label are closer.",
        ),
    ] = None,
    by: Annotated[
        Literal["run", "layer"], Parameter(help="Compare whole runs, or every layer of every run.")
    ] = "run",
    permutations: Annotated[
        Whole, Parameter(validator=validators.Number(gte=1), help="Relabellings of the test.")
    ] = 9999,
    output: Annotated[Output, Parameter(help="Draw the distances into this picture (png, pdf, svg).")] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
) -> None:
    """Measure how far apart the spectra of stored fits are."""
    paths = [first, second, *others]
    if labels is not None and by == "layer":
        raise UsageError("--labels test runs against runs; layers of one run are no independent seeds")
    if labels is not None and len(labels) != len(paths):
        raise UsageError(f"--labels expects one label for each of the {len(paths)} fits, got {len(labels)}")
    pictures = output_folder.PICTURES
    place = output_folder.claim_file(output, suffixes=pictures, overwrite=overwrite) if output else None
    with at_work():
        fits = dict(zip(_names(paths), [load_fit(path).fit for path in paths], strict=True))
        distances = koopscope.compare(fits, by=by)
        test = koopscope.permutation_test(distances, labels, permutations=permutations) if labels else None
        if place is not None:
            with output_folder.staged(place) as file:
                axes: Any = koopscope.plot_distance(distances, labels=labels)
                axes.figure.savefig(file, dpi=150, format=place.suffix[1:].lower())
    described = {
        "fits": [str(path.resolve()) for path in paths],
        "by": by,
        "lag": distances.attrs["lag"],
        "items": distances["item"].values.tolist(),
        "distances": distances.values.tolist(),
        "labels": labels,
        "test": None if test is None else _describe(test),
        "output": None if place is None else str(place),
    }
    if json:
        tables.show_json(described)
    else:
        tables.show(_table(described), *_lines(described, output))


def _names(paths: list[Path]) -> list[str]:
    """Name fits by their folders; by their whole paths where two folders bear one name."""
    folders = [path.resolve() for path in paths]
    stems = [(folder.parent if folder.name == output_folder.FIT else folder).stem for folder in folders]
    if len(set(folders)) < len(folders):
        raise UsageError("compare was given one fit twice; give each fit once")
    return stems if len(set(stems)) == len(stems) else [str(folder) for folder in folders]


def _describe(test: xr.Dataset) -> dict[str, Any]:
    return {
        "p_value": float(test["p_value"]),
        "pseudo_f": float(test["statistic"]),
        "permutations": test.attrs["permutations"],
        "seed": test.attrs["seed"],
        "labels": test["label"].values.tolist(),
        "mean_distances": test["mean_distance"].values.tolist(),
    }


def _table(described: dict[str, Any]) -> Table:
    names, matrix = described["items"], described["distances"]
    if described["test"] is not None:
        names, matrix = described["test"]["labels"], described["test"]["mean_distances"]
    shown = names[:_TOP]
    columns = {"": "name", **{f"({number})": "number" for number in range(1, len(shown) + 1)}}
    rows = [
        [f"({number + 1}) {name}", *(tables.number(value) for value in matrix[number][:_TOP])]
        for number, name in enumerate(shown)
    ]
    title = "mean distance" if described["test"] is not None else "distance"
    return tables.table(
        columns, rows, title=f"{title} between spectra, eigenvalues per {described['lag']} steps"
    )


def _lines(described: dict[str, Any], output: Path | None) -> list[str]:
    lines, test = [], described["test"]
    hidden = len(described["items"]) - _TOP
    if test is None and hidden > 0:
        lines.append(f"hidden   {hidden} of {len(described['items'])}; --json lists all, -o draws them")
    if test is not None:
        judged = "apart" if test["p_value"] <= 0.05 else "not told apart"
        lines.append(
            f"test     {judged}: p = {test['p_value']:.2g} over {test['permutations']} relabellings of "
            f"{len(described['items'])} runs (pseudo-F {test['pseudo_f']:.3g})"
        )
    return [*lines, *([] if output is None else [f"written  {output}"])]
