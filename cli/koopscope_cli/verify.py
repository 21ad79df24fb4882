"""``koopscope verify``: a stored fit against the recording, at any recorded lead."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

import koopscope
from koopscope_cli import summary, tables, verdicts
from koopscope_cli.loss_option import load_loss
from koopscope_cli.options import Drop, FitPath, Json, Leads, Loss, Metric, Smooth
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import load_fit


def verify(
    folder: FitPath,
    /,
    *,
    trajectory: Annotated[
        str | None, Parameter(help="The recording [default: where it was when it was fitted].")
    ] = None,
    lead: Annotated[
        Leads | None, Parameter(help="Recorded steps after t2, one or several [default: the last].")
    ] = None,
    loss: Loss = None,
    metric: Metric = "loss",
    smooth: Smooth = 1,
    drop: Drop = None,
    json: Json = False,
) -> None:
    """Measure a stored fit against the recording at other leads. Writes nothing."""
    with at_work():
        loss_function = load_loss(loss) if loss else None
        stored = load_fit(folder)
        run = stored.open_recording(trajectory)
        verification = koopscope.verify(
            stored.fit, run, lead, loss=loss_function, metric=metric, smooth=smooth, drop=drop
        )
        described = summary.describe_fit(stored.fit)
        leads = verification["lead"].to_numpy().tolist()
        judged = [summary.describe_verification(verification, one) for one in leads]
        losses = [summary.describe_loss(verification, one) for one in leads]
    if json:
        every = [{**figures, "loss": of_loss} for figures, of_loss in zip(judged, losses, strict=True)]
        tables.show_json({**described, "verification": judged[-1], "loss": losses[-1], "leads": every})
        return
    for figures, of_loss in zip(judged, losses, strict=True):
        tables.show(tables.fit_table(described, figures), *_lines(figures, of_loss))


def _lines(figures: dict[str, Any], of_loss: dict[str, Any] | None) -> list[str]:
    lines = []
    if figures["filtered"] is not None:
        error = tables.number(figures["filtered"]["relative_l2"])
        lines.append(
            f"filtered error {error} times the change, {tables.number(figures['relative_l2'])} unfiltered"
        )
    if of_loss is not None:
        lines.append(f"loss     {verdicts.loss_verdict(of_loss)}")
        lines.append(f"         {verdicts.baselines_verdict(of_loss)}")
        if of_loss["filtered"] is not None:
            lines.append(f"filtered {verdicts.loss_verdict({**of_loss, **of_loss['filtered']})}")
    return lines
