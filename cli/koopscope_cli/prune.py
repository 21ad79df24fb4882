"""``koopscope prune``: masks of the weights that stay, by predicted end point and by magnitude."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import koopscope
from koopscope_cli import output_folder, tables
from koopscope_cli.loss_option import load_loss
from koopscope_cli.options import FitPath, Json, Output, OverwriteFile
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit

if TYPE_CHECKING:
    import xarray as xr


def prune(
    folder: FitPath,
    /,
    *,
    fraction: Annotated[float, Parameter(help="Share of the weights to remove, in [0, 1).")],
    scope: Annotated[
        Literal["network", "layer"], Parameter(help="Rank all weights together, or each layer's alone.")
    ] = "network",
    biases: Annotated[bool, Parameter(help="Let biases and norms lose weights too.")] = False,
    loss: Annotated[
        str | None,
        Parameter(
            help="Loss of a mapping of tensor names to arrays, as module:function or "
            "path/to/file.py:function. Runs that code. Adds the loss at t2 and with the weights removed."
        ),
    ] = None,
    trajectory: Annotated[
        str | None, Parameter(help="The recording, for --loss [default: where it was when it was fitted].")
    ] = None,
    output: Annotated[Output, Parameter(help="File to write, usually masks.npz [default: none].")] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
) -> None:
    """Mask the weights whose predicted end points are smallest."""
    place = None
    if output is not None:
        place = output_folder.claim_file(output, suffixes=(".npz",), overwrite=overwrite)
    with at_work():
        loss_function = load_loss(loss) if loss else None
        stored = load_fit(folder)
        run = stored.open_recording(trajectory) if loss else None
        masks = koopscope.prune(
            stored.fit, fraction, scope=scope, biases=biases, loss=loss_function, trajectory=run
        )
        if place is not None:
            _write(masks, place)
    described = {
        **{str(name): value for name, value in masks.attrs.items() if name != "koopscope_result"},
        "fit": str(stored.store.resolve()),
        "tensors": _counts(masks),
        "output": None if place is None else str(place),
    }
    if json:
        tables.show_json(described)
    else:
        columns = {
            "tensor": "name",
            "weights": "number",
            "end point\nremoves": "number",
            "magnitude\nremoves": "number",
        }
        rows = [[str(value) for value in row.values()] for row in described["tensors"]]
        tables.show(tables.table(columns, rows), *_lines(described, output))


def _write(masks: xr.Dataset, place: Path) -> None:
    import numpy as np  # heavy, and needed by no other part of the shell

    arrays: dict[str, Any] = {
        f"{criterion}/{name}": masks[name].sel(criterion=criterion).values
        for criterion in masks["criterion"].values.tolist()
        for name in masks.data_vars
    }
    with output_folder.staged(place) as file, file.open("wb") as opened:
        np.savez_compressed(opened, **arrays)


def _counts(masks: xr.Dataset) -> list[dict[str, Any]]:
    rows = []
    for name, mask in masks.data_vars.items():
        removed = {
            criterion: int((~mask.sel(criterion=criterion)).sum())
            for criterion in masks["criterion"].values.tolist()
        }
        rows.append({"tensor": str(name), "weights": mask[0].size, **removed})
    return rows


def _lines(described: dict[str, Any], output: Path | None) -> list[str]:
    lines = [
        f"removed  {described['removed']} of {described['weights']} weights, "
        f"{described['common']} of them by both" + ("" if described["biases"] else "; biases and norms stay")
    ]
    if "loss_at_t2" in described:
        pruned = described["loss_pruned"]
        lines.append(
            f"loss     at t2 {described['loss_at_t2']:.4g}, by end point {pruned['end_point']:.4g}, "
            f"by magnitude {pruned['magnitude']:.4g}"
        )
    return [*lines, *([] if output is None else [f"written  {output}"])]
