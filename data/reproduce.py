"""Reproduce the figures of Dogra & Redman (NeurIPS 2020, arXiv:2006.02361), from training to table.

    python data/reproduce.py table1 --runs RUNS
    python data/reproduce.py figure2 --runs RUNS
    python data/reproduce.py table2 --runs RUNS --digits mnist.npz
    python data/reproduce.py figure3 --runs RUNS --digits mnist.npz

RUNS is a folder of recordings: sets that are there are used again, the others are trained first, about four
minutes a set of 25 oscillator networks and ten a set of 5 digit classifiers on one core. Every table has the
source's method (``paper``) and ``auto`` side by side; figures go to ``--out``, a folder. ``--seeds`` takes
fewer or other networks, ``--sets`` some of the sets; ``--keep`` a folder from which a call that was
interrupted goes on.

The learning rates and their decay are not published; those here are ours.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
from experiments import TABLE1, TABLE2, Experiment, losses, recordings
from measuring import WORTH, fitted, kept, median, print_table, timed, worth

import koopscope

OTHERS = {
    "at_t2": "hold (w at t2)",
    "true": "true weights",
    "linear": "linear",
    "mean": "mean of the last rows",
}


def chosen(experiments: tuple[Experiment, ...], options: argparse.Namespace) -> list[Experiment]:
    """Give those of the sets that were asked for."""
    return [one for one in experiments if options.sets is None or one.folder in options.sets]


def table1(options: argparse.Namespace) -> None:
    """Three optimisers: success, T_eq/T and speed-up, published and measured."""
    rows = []
    for experiment in chosen(TABLE1, options):
        paths = recordings(experiment, options)
        seconds = timed(experiment, options)
        success, saved, faster = experiment.published
        rows.append([experiment.words, "published", "about .01", "", success, saved, "", faster])
        for name, settings in experiment.fits.items():
            table = fitted(experiment, name, settings, paths, options, seconds)
            middle = koopscope.quantiles(table, [0.5]).sel(lead=experiment.lead, quantile=0.5, forecast="fit")
            errors = [f"{float(middle[figure]):.2g}" for figure in ("error_to_evolution", "relative_l2")]
            rows.append(["", name, *errors, *worth(table, experiment.lead)])
    headings = ["optimiser", "fit", "error / evolution", "relative error", *WORTH]
    print_table(f"Table 1: {len(paths)} networks an optimiser, T = {TABLE1[0].lead}, medians", headings, rows)


def table2(options: argparse.Namespace) -> None:
    """MNIST: training and validation loss of the forecasts, T_eq/T on the smoothed validation loss."""
    rows = []
    for experiment in chosen(TABLE2, options):
        paths = recordings(experiment, options)
        seconds = timed(experiment, options)
        success, saved, faster = experiment.published
        rows.append([experiment.words, "published (quasi-node)", "", "", "", success, saved, "", faster])
        known: set[str] = set()
        for name, settings in experiment.fits.items():
            tables = {
                metric: fitted(experiment, name, settings, paths, options, seconds, metric)
                for metric in ("loss", "validation_loss")
            }
            for forecast, words in OTHERS.items():
                if forecast in ("linear", "mean") and "average" not in settings:
                    continue  # on minibatches a line through single rows is no baseline
                series = [median(table, f"loss_{forecast}", experiment.lead) for table in tables.values()]
                if forecast not in known and all(series):
                    known.add(forecast)
                    rows.append(["", words, *series, *[""] * 5])
            lower = tables["loss"].sel(lead=experiment.lead)["success"]
            found = [median(table, "loss_forecast", experiment.lead) for table in tables.values()]
            lower_in_training = f"{int(lower.sum())} of {lower.size}"
            rows.append(
                ["", name, *found, lower_in_training, *worth(tables["validation_loss"], experiment.lead)]
            )
    headings = ["set", "fit", "training loss", "validation loss", "lower in training", *WORTH]
    print_table(
        f"Table 2: {len(paths)} networks a learning rate, T = {TABLE2[0].lead}, medians", headings, rows
    )


def figure2(options: argparse.Namespace) -> None:
    """Weights, errors and losses of one network, and the error over T for all: paper mode and auto."""
    from matplotlib.figure import Figure

    experiment = next(one for one in TABLE1 if one.folder == "adadelta0.1")
    paths = recordings(experiment, options)
    loss = losses(experiment, options, "loss")
    leads = list(range(250, experiment.lead + 1, 250))
    figure = Figure(figsize=(20, 9), layout="constrained")
    rows = []
    for panels, (name, settings) in zip(figure.subplots(2, 4), experiment.fits.items(), strict=True):
        run = koopscope.open_trajectory(paths[0])
        reach = {"lead": experiment.lead} if settings["method"] == "auto" else {}
        fit = koopscope.fit(run, **experiment.window, **settings, **reach)
        verification = koopscope.verify(fit, run, leads, loss=loss)
        koopscope.plot_weights(verification, trajectory=run, ax=panels[0])
        koopscope.plot_error_vs_evolution(verification, ax=panels[1])
        koopscope.plot_loss(verification, ax=panels[2])
        table = koopscope.ensemble(paths, lead=leads, progress=True, **experiment.window, **settings)
        spread = koopscope.quantiles(table, [0.25, 0.5, 0.75])["error_to_evolution"].sel(forecast="fit")
        low, middle, high = spread.transpose("quantile", "lead").values
        panels[3].fill_between(leads, low, high, alpha=0.3, label="quartiles")
        panels[3].plot(leads, middle, label="median")
        panels[3].set(yscale="log", xlabel="T (training steps)", ylabel="median |error| / median |evolution|")
        panels[3].set_title(f"{name}: {len(paths)} networks")
        panels[3].legend()
        rows.append([name, *(f"{value:.2g}" for value in middle)])
    print_table(
        f"Figure 2: median |error| / median |evolution| at T, {len(paths)} networks, {experiment.words}",
        ["fit", *map(str, leads)],
        rows,
    )
    _save(figure, options.out / "figure2.png")


def figure3(options: argparse.Namespace) -> None:
    """MNIST: the validation loss of the forecasts over T, beside the smoothed loss of the optimiser."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    leads = [round(share * TABLE2[0].lead) for share in (0.1, 0.25, 0.5, 0.75, 1.0)]
    rows = []
    drawn = chosen(TABLE2, options)
    for panel, experiment in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        paths = recordings(experiment, options)
        loss = losses(experiment, options, "validation_loss")
        for name, settings in experiment.fits.items():
            judged = {"lead": leads, "loss": loss, "metric": "validation_loss", "progress": True}
            table = kept(
                options,
                f"{experiment.folder} {options.seeds or ''} {name} figure 3",
                partial(koopscope.ensemble, paths, **judged, **experiment.window, **settings),
            )
            forecast = table["loss_forecast"].median("run").values
            panel.plot(leads, forecast, "o-", label=name)
            rows.append([experiment.words, name, *(f"{value:.4f}" for value in forecast)])
        series = [koopscope.open_trajectory(path)["validation_loss"] for path in paths]
        recorded = xr.concat(series, "run").rolling(step=experiment.smooth, center=True).mean().median("run")
        after = recorded.sel(step=slice(experiment.window["t2"], None)).dropna("step")
        since = after["step"].values - experiment.window["t2"]
        panel.plot(
            since, after.values, color="0.4", label=f"optimiser, means of {experiment.smooth} iterations"
        )
        panel.set_ylim(0.9 * float(after.min()), 1.3 * float(after.max()))
        panel.set(title=experiment.words, xlabel="T (training steps after t2)", ylabel="validation loss")
        panel.legend(fontsize="small")
    print_table(
        f"Figure 3: validation loss of the forecast at T, medians of {len(paths)} networks",
        ["set", "fit", *map(str, leads)],
        rows,
    )
    _save(figure, options.out / "figure3.png")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    sys.stderr.write(f"written {path}\n")


COMMANDS = {"table1": table1, "table2": table2, "figure2": figure2, "figure3": figure3}


def main(arguments: list[str] | None = None) -> None:
    """Make the table or figure that is asked for."""
    parser = argparse.ArgumentParser(description="Reproduce the tables and figures of Dogra & Redman (2020).")
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--runs", type=Path, required=True, help="folder of sets of recordings")
    parser.add_argument(
        "--digits", type=Path, default=Path("mnist.npz"), help="the digits; see mnist/train.py"
    )
    parser.add_argument("--seeds", help="first:last+1 [default: 200:225, or 100:105 of the digits]")
    parser.add_argument("--sets", nargs="+", help="only these of the sets [default: all of the table]")
    parser.add_argument("--keep", type=Path, help="folder of fitted tables; those that are there serve again")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for figures")
    options = parser.parse_args(arguments)
    options.digits = options.digits.resolve()
    COMMANDS[options.what](options)


if __name__ == "__main__":
    main()
