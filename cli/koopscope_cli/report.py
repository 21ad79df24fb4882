"""``koopscope report``: a stored fit as one page of HTML that needs no network and no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import koopscope
from koopscope_cli import output_folder, tables
from koopscope_cli.options import FitPath, Json, Output, OverwriteFile
from koopscope_cli.progress import at_work
from koopscope_cli.stored_fit import StoredFit, load_fit

if TYPE_CHECKING:
    import xarray as xr

_LEADS = 12


def report(
    folder: FitPath,
    /,
    *,
    trajectory: Annotated[
        str | None, Parameter(help="The recording [default: where it was when it was fitted].")
    ] = None,
    output: Annotated[
        Output, Parameter(help="Page to write [default: report.html beside the fit, replaced freely].")
    ] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
) -> None:
    """Write one page of HTML about a stored fit."""
    with at_work():
        stored = load_fit(folder)
        wanted = output or stored.folder / output_folder.REPORT
        replace = overwrite or output is None
        place = output_folder.claim_file(wanted, suffixes=(".html", ".htm"), overwrite=replace)
        run = stored.open_recording(trajectory)
        verification = _verify(stored, run)
        basin, unjudged = _basin(run)
        title = (
            f"{stored.folder.resolve().stem}: {stored.fit.attrs['method']}, {stored.fit.attrs['partition']}"
        )
        koopscope.report(
            stored.fit, place, verification=verification, basin=basin, title=title, overwrite=replace
        )
    described = {
        "fit": str(stored.store.resolve()),
        "output": str(place),
        "bytes": place.stat().st_size,
        "basin": None if basin is None else {"windows": basin.sizes["window"], **basin.attrs["suggested"]},
        "leads": [] if verification is None else verification["lead"].to_numpy().tolist(),
    }
    if json:
        tables.show_json(described)
    else:
        lines = [f"basin    no timeline: {unjudged}"] if unjudged else []
        tables.show(*lines, f"written  {wanted} ({described['bytes'] / 1e6:.1f} MB)")


def _verify(stored: StoredFit, run: xr.Dataset) -> xr.DataTree | None:
    """Verify at leads spread over what follows t2; None where nothing does."""
    t2 = stored.fit.attrs["t2"]
    leads = [step - t2 for step in run["step"].values.tolist() if step > t2]
    if not leads:
        return None
    count = min(_LEADS, len(leads))
    chosen = sorted({leads[round((i + 1) * len(leads) / count) - 1] for i in range(count)})
    return koopscope.verify(stored.fit, run, chosen)


def _basin(run: xr.Dataset) -> tuple[xr.Dataset | None, str]:
    """Judge the run by sliding windows; where it cannot serve them, say why, and the page goes without."""
    try:
        return koopscope.find_basin(run), ""
    except koopscope.KoopscopeError as error:
        return None, str(error)
