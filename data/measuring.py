"""Fits and times of a set of recordings, and the cells of a table that they make."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr
from experiments import Experiment, losses, script

import koopscope

TIMED_STEPS = 300
WORTH = ["success", "T_eq / T", "seconds", "speed-up"]


def time_steps(experiment: Experiment, options: argparse.Namespace) -> tuple[float, float]:
    """Time one optimiser step of one network alone, and with recording; in seconds."""
    train = script(experiment.net, "train")
    train.torch.set_num_threads(1)  # as it trains
    found = []
    for recording in (False, True):
        rows = _training(train, experiment, options)
        with tempfile.TemporaryDirectory() as folder:
            writer = koopscope.TrajectoryWriter(Path(folder) / "timed.zarr", layout="torch", block_steps=500)
            started = 0.0
            for iteration, params, losses in rows:
                if iteration == TIMED_STEPS // 3:  # by then everything is loaded and warm
                    started = time.perf_counter()
                if recording:
                    values = {name: stack.detach().numpy()[0] for name, stack in params.items()}
                    writer.append(iteration, values, loss=float(losses[0]))
            found.append((time.perf_counter() - started) / (TIMED_STEPS - TIMED_STEPS // 3))
            writer.close()
    return found[0], found[1]


def _training(train: ModuleType, experiment: Experiment, options: argparse.Namespace) -> Any:
    words = [*experiment.options, "--out", "unused"]
    if experiment.net == "mnist":
        parsed = train.parse_arguments([*words, "--digits", str(options.digits)])
        digits, _ = train.read_digits(options.digits)
        return train.train(
            [0], digits, lr=parsed.lr, decay=parsed.decay, steps=TIMED_STEPS, batch=parsed.batch
        )
    parsed = train.parse_arguments(words)
    return train.train([0], optimizer=parsed.optimizer, lr=parsed.lr, decay=parsed.decay, steps=TIMED_STEPS)


def kept(options: argparse.Namespace, label: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Make a table, or take it from the folder of ``--keep`` if it is there from an earlier call."""
    if options.keep is None:
        return make()
    path = options.keep / f"{re.sub('[^a-z0-9.]+', '-', label.lower())}.zarr"
    if not path.exists():
        koopscope.save(make(), path)
    found: xr.Dataset = koopscope.load(path)
    return found


def fitted(
    experiment: Experiment,
    name: str,
    settings: dict[str, Any],
    paths: list[Path],
    options: argparse.Namespace,
    seconds: float,
    metric: str | None = None,
) -> xr.Dataset:
    """Fit every recording of a set alike, or take the table from ``--keep``."""
    chosen = metric or experiment.metric
    label = f"{experiment.folder} {options.seeds or ''} {name} {chosen}"
    return kept(options, label, lambda: _fit_all(experiment, settings, paths, options, seconds, chosen))


def _fit_all(
    experiment: Experiment,
    settings: dict[str, Any],
    paths: list[Path],
    options: argparse.Namespace,
    seconds: float,
    chosen: str,
) -> xr.Dataset:
    """Fit every recording; the first is fitted once more before, so that no compilation is timed."""
    warm = koopscope.ensemble(paths[:1], lead=experiment.lead, **experiment.window, **settings)
    if warm.attrs["failed"]:
        raise SystemExit(str(warm["problem"].values[0]))
    table = koopscope.ensemble(
        paths,
        lead=experiment.lead,
        loss=losses(experiment, options, chosen),
        metric=chosen,
        smooth=experiment.smooth,
        seconds_per_step=seconds,
        progress=True,
        **experiment.window,
        **settings,
    )
    for name, problem in zip(table["run"].values, table["problem"].values, strict=True):
        if problem:
            sys.stderr.write(f"{name} failed: {problem}\n")
    return table


def timed(experiment: Experiment, options: argparse.Namespace) -> float:
    """Time the optimiser alone, and say what recording adds."""
    seconds, recorded = time_steps(experiment, options)
    sys.stderr.write(
        f"{experiment.words}: {1e3 * seconds:.3f} ms a step of one network alone, "
        f"{1e3 * recorded:.3f} ms with recording\n"
    )
    return seconds


def worth(table: xr.Dataset, lead: int) -> list[str]:
    """Give success, T_eq/T, seconds and speed-up; medians over the runs."""
    middle = koopscope.quantiles(table, [0.5]).sel(lead=lead, quantile=0.5)
    at_lead = table.sel(lead=lead)
    censored = at_lead["t_eq_ratio"].values[at_lead["t_eq_censored"].values]
    bound = ">= " if censored.size and censored.min() <= float(middle["t_eq_ratio"]) else ""
    seconds = sum(float(middle[f"seconds_{part}"]) for part in ("read", "fit", "forecast"))
    return [
        f"{int(at_lead['success'].sum())} of {at_lead.sizes['run']}",
        f"{bound}{float(middle['t_eq_ratio']):.2f}",
        f"{seconds:.2f}",
        f"{bound}{float(middle['speed_up']):.2g}",
    ]


def print_table(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    sys.stdout.write(f"{title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n")


def median(table: xr.Dataset, name: str, lead: int) -> str:
    """Give the median over the runs at a lead as a cell; empty where the table has no such figure."""
    if name not in table:
        return ""
    values = table[name].sel(lead=lead) if "lead" in table[name].dims else table[name]
    return f"{float(values.median()):.4f}"
