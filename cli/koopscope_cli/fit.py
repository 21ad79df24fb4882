"""``koopscope fit``: from a recording to operators, their verification, pictures and one table."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import koopscope
from koopscope.errors import UsageError
from koopscope_cli import output_folder, summary, tables, verdicts
from koopscope_cli.loss_option import load_loss
from koopscope_cli.options import FitSettings, Json, Loss, Output, Overwrite, RecordingOptions, TrajectoryPath
from koopscope_cli.place import absolute, stem
from koopscope_cli.progress import at_work
from koopscope_cli.whole_number import Whole

if TYPE_CHECKING:
    import xarray as xr

_DPI = 150
_COMPRESSION = {"compress_level": 3}  # files 6 % larger than at the default of 6, in two thirds of the time


def fit(
    trajectory: TrajectoryPath,
    /,
    *others: Annotated[str, Parameter(show=False)],
    settings: FitSettings | None = None,
    lead: Annotated[
        Whole | None,
        Parameter(
            help="Verify this many steps after t2 [default: up to the last recorded step]; auto also chooses "
            "for it [default: a quarter of the window]."
        ),
    ] = None,
    loss: Loss = None,
    recording: RecordingOptions | None = None,
    output: Annotated[Output, Parameter(help="Folder to write [default: ./<stem>.koop].")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit one operator a group of weights, and verify it on the rest of the recording."""
    started = time.perf_counter()
    if others:
        words = shlex.join([trajectory, *others])
        raise UsageError(
            f"fit takes one recording and keeps its operators, got {1 + len(others)}; to fit and verify many "
            f"under the same settings, in one table: koopscope ensemble {words}"
        )
    chosen, opening = settings or FitSettings(), asdict(recording or RecordingOptions())
    source = absolute(trajectory)
    wanted = output or Path(f"{stem(trajectory)}.koop")
    place = output_folder.claim_folder(wanted, source, overwrite=overwrite)
    with at_work() as tell:
        loss_function = load_loss(loss) if loss else None
        run = koopscope.open_trajectory(trajectory, **opening)
        fit_started = time.perf_counter()
        reach = lead if chosen.method == "auto" else None
        fitted = koopscope.fit(run, progress=tell, lead=reach, **asdict(chosen))
        seconds = _seconds(fitted, time.perf_counter() - fit_started)
        verification = None
        if lead is not None or int(run["step"].values[-1]) > fitted.attrs["t2"]:
            tell("verifying", 0, 1)
            verification = koopscope.verify(fitted, run, lead, loss=loss_function)
            tell("verifying", 1, 1)
        described = _describe(fitted, verification)
        described |= {"input": source, **opening, "output": str(place)}
        with output_folder.staged(place) as folder:
            _write_results(folder, fitted, verification)
            described["seconds"] = {**seconds, "total": time.perf_counter() - started}
            text = summary.to_json(described, indent=2)
            (folder / output_folder.SUMMARY).write_text(f"{text}\n", encoding="utf-8")
            output_folder.claim_folder(wanted, source, overwrite=overwrite)  # the work may have taken hours
    if json:
        tables.show_json(described)
    else:
        tables.show(tables.fit_table(described, described["verification"]), *_lines(described, wanted))


def _seconds(fitted: xr.DataTree, seconds: float) -> dict[str, float]:
    read = float(fitted.attrs["seconds_read"])
    return {"read": read, "fit": seconds - read}


def _describe(fitted: xr.DataTree, verification: xr.DataTree | None) -> dict[str, Any]:
    described = {output_folder.MARK: 1, **summary.describe_fit(fitted), "verification": None, "loss": None}
    described["backtest"] = summary.describe_backtest(fitted)
    if verification is not None:
        reached = int(verification["lead"].to_numpy()[0])
        described["verification"] = summary.describe_verification(verification, reached)
        described["loss"] = summary.describe_loss(verification, reached)
    return described


def _write_results(folder: Path, fitted: xr.DataTree, verification: xr.DataTree | None) -> None:
    folder.mkdir()
    koopscope.save(fitted, folder / output_folder.FIT)
    _draw(koopscope.plot_eigs(fitted), folder / output_folder.EIGENVALUES)
    if verification is not None:
        _draw(koopscope.plot_error_vs_evolution(verification), folder / output_folder.ERRORS)


def _draw(axes: Any, path: Path) -> None:
    axes.figure.savefig(path, dpi=_DPI, pil_kwargs=_COMPRESSION)


def _lines(described: dict[str, Any], wanted: Path) -> list[str]:
    lines = [
        f"window   steps {described['t1']} to {described['t2']}, recorded every {described['spacing']}",
        f"method   {_method(described)}",
    ]
    if described["method"] == "paper":
        lines.append(f"operator {verdicts.conditioning_verdict(described['ill_conditioned_share'])}")
    if described["backtest"] is not None:
        lines.append(f"backtest {verdicts.backtest_verdict(described['backtest'])}")
    if described["verification"] is None:
        lines.append("verified no: the recording ends at t2; a smaller --t2 leaves steps to verify against")
    if described["loss"] is not None:
        lines.append(f"loss     {verdicts.loss_verdict(described['loss'])}")
    seconds = described["seconds"]
    lines.append(
        f"seconds  {seconds['total']:.2f} (read {seconds['read']:.2f}, fit {seconds['fit']:.2f}; imports, "
        "verification and pictures the rest)"
    )
    return [*lines, f"written  {wanted}"]


def _method(described: dict[str, Any]) -> str:
    """Say how operators were fitted; the fits of a mean have delays and tolerances of their own."""
    text = f"partition {described['partition']}, lag {described['lag']} steps"
    race = described["backtest"]
    if race is not None and race["fits"] > 1:
        return f"auto, the mean of {race['fits']} fits, {text}"
    return (
        f"{described['method']}, {text}"
        + (f", {described['delays']} delays" if described["delays"] > 1 else "")
        + (f", means of {described['average']} rows" if described["average"] > 1 else "")
        + (f", rtol {described['rtol']:g}" if described["rtol"] else "")
    )
