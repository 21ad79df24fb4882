"""A page about one fit: verdicts first, then what they rest on."""

from __future__ import annotations

import base64
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from koopscope.errors import ResultError, UsageError
from koopscope.fit_tree import require_kind
from koopscope.plots.reading import lead_position
from koopscope.reporting.points import (
    Points,
    basin_entry,
    eigenvalue_points,
    horizon_words,
    layer_names,
    weight_points,
)
from koopscope.summary import describe_fit, describe_verification, to_json
from koopscope.targets import require_free_file
from koopscope.versions import __version__

_TEMPLATE = "page.html.j2"
_SETTINGS = ("partition", "method", "t1", "t2", "lag", "spacing", "delays", "average", "rtol", "rank")


def report(
    fit: xr.DataTree,
    path: str | os.PathLike[str],
    *,
    verification: xr.DataTree | None = None,
    basin: xr.Dataset | None = None,
    title: str = "koopscope report",
    overwrite: bool = False,
) -> Path:
    """Write one page of HTML about a fit that needs no network and no other file.

    On it: a row a layer with its verdict, the eigenvalues, the error of every weight (selecting eigenvalues
    selects the weights of their groups), the error by lead beside the baselines with the horizon that the
    fit states, the basin by window with the entry, all settings and versions, and the summary as JSON to
    download. Above 20 000 points of a kind the strongest
    eigenvalues, or the weights that moved most, are drawn, and the page says so.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    path
        File to write.
    verification
        Result of `koopscope.verify`; with several leads the page has the error by lead.
    basin
        Result of ``find_basin``, with dims ``(group, window)``.
    title
        Heading of the page.
    overwrite
        Whether a file at ``path`` may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OutputExistsError
        If something is at ``path`` already.
    ResultError
        If ``fit`` or ``verification`` is something else, or they do not belong together.
    UsageError
        If the libraries of the extra ``report`` are not installed.

    Examples
    --------
    >>> import koopscope, tempfile
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> tree = koopscope.fit(run, "node", t2=800)
    >>> place = koopscope.report(  # doctest: +SKIP
    ...     tree, tempfile.mkdtemp() + "/page.html", verification=koopscope.verify(tree, run, [100, 200])
    ... )
    """
    target = Path(path)
    require_kind(fit, "fit")
    if verification is not None:
        require_kind(verification, "verification")
        if (
            verification.attrs["tensors"] != fit.attrs["tensors"]
            or verification.attrs["t2"] != fit.attrs["t2"]
        ):
            raise ResultError(
                "the verification is of another fit; koopscope.verify(fit, trajectory) makes one"
            )
    require_free_file(target, overwrite=overwrite)
    page = _render(fit, verification, basin, title)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.partial")
    try:
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def _render(fit: xr.DataTree, verification: xr.DataTree | None, basin: xr.Dataset | None, title: str) -> str:
    try:
        from bokeh.embed import components
        from bokeh.resources import Resources
        from jinja2 import Environment, StrictUndefined

        from koopscope.reporting import figures
    except ImportError as error:
        raise UsageError(
            f"a report needs bokeh and jinja2 ({error}); install them with pip install 'koopscope[report]'"
        ) from error
    layers = layer_names(fit)
    eigenvalues = eigenvalue_points(fit)
    models = {"eigenvalues": figures.eigenvalue_figure(eigenvalues, int(fit.attrs["lag"]), len(layers))}
    weights = None
    backtest = fit["backtest"].to_dataset() if "backtest" in fit else None
    if verification is not None:
        weights = weight_points(fit, verification)
        lead = int(verification["lead"].to_numpy()[lead_position(verification, None)])
        models["errors"] = figures.error_figure(weights, lead, len(layers))
        if verification.sizes["lead"] > 1:
            models["skill"] = figures.skill_figure(verification, backtest)
    entry = None if basin is None else basin_entry(basin)
    if basin is not None and entry is not None:
        models["basin"] = figures.basin_figure(basin, entry)
    script, divisions = components(models)
    described = _describe(fit, verification)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        bokeh=Resources(mode="inline", components=["bokeh"]).render_js(),
        script=script,
        divisions={name: divisions.get(name) for name in ("eigenvalues", "errors", "skill", "basin")},
        summary=described,
        rows=_rows(described),
        legend=list(zip(figures.layer_colours(len(layers)), layers, strict=True)),
        left_out=[
            _left_out("eigenvalues", eigenvalues),
            _left_out("weights", weights),
            _outside(int(np.count_nonzero(figures.eigenvalue_reach(eigenvalues) > figures.REACH))),
        ],
        horizon=horizon_words(backtest),
        entry="" if entry is None else entry.words,
        settings=[(name, described[name]) for name in _SETTINGS],
        versions=described["versions"],
        version=__version__,
        download=base64.b64encode(to_json(described, indent=2).encode()).decode(),
    )
    return str(page)


def _describe(fit: xr.DataTree, verification: xr.DataTree | None) -> dict[str, Any]:
    described = {**describe_fit(fit), "source": str(fit.attrs["source"]), "verification": None, "leads": []}
    if verification is not None:
        leads = sorted(verification["lead"].to_numpy().tolist())
        judged = [describe_verification(verification, lead) for lead in leads]
        described |= {"verification": judged[-1], "leads": judged}
    return described


def _rows(described: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a layer and one for the network, each with its figures where there are any."""
    judged = described["verification"]
    fitted = [*described["layers"], {**described, "layer": "network"}]
    figures = [None] * len(fitted) if judged is None else [*judged["layers"], judged]
    rows = []
    for own, figure in zip(fitted, figures, strict=True):
        row = {name: own[name] for name in ("layer", "groups", "weights", "spectral_radius")}
        for name in ("error_to_evolution", "skill_hold", "skill_linear"):
            row[name] = None if figure is None else figure[name]
        rows.append({**row, "verdict": "not verified" if figure is None else figure["verdict"]})
    return rows


def _outside(count: int) -> str:
    return f"{count} eigenvalues lie outside the first view; zoom out to see them" if count else ""


def _left_out(what: str, points: Points | None) -> str:
    if points is None or points.shown == points.total:
        return ""
    return f"{points.shown} of {points.total} {what} are drawn"
