"""Reproduce the figures of Dogra & Redman (NeurIPS 2020, arXiv:2006.02361), from training to table.

    python data/reproduce.py table1 --runs RUNS
    python data/reproduce.py figure2 --runs RUNS
    python data/reproduce.py table2 --runs RUNS --digits mnist.npz
    python data/reproduce.py figure3 --runs RUNS --digits mnist.npz

RUNS is a folder of recordings: sets that are there are used again, the others are trained first, about four
minutes a set of 25 oscillator networks and ten a set of 5 digit classifiers on one core. Every table has the
source's method (``paper``) and ``auto`` side by side; figures go to ``--out``, a folder. ``--seeds`` takes
fewer or other networks.

The learning rates and their decay are not published; those here are ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr

import koopscope

HERE = Path(__file__).resolve().parent
TIMED_STEPS = 300
WORTH = ["success", "T_eq / T", "seconds", "speed-up"]
OTHERS = {
    "at_t2": "hold (w at t2)",
    "true": "true weights",
    "linear": "linear",
    "mean": "mean of the last rows",
}


@dataclass(frozen=True)
class Experiment:
    """A set of recordings, and how it is fitted.

    ``published`` is the source's success in percent, T_eq/T and speed-up, where it has them.
    """

    folder: str
    words: str
    net: str
    options: tuple[str, ...]
    first: int  # t1
    length: int
    lead: int
    metric: str
    smooth: int
    fits: dict[str, dict[str, Any]]
    published: tuple[str, str, str]

    @property
    def window(self) -> dict[str, int]:
        """``t1`` and ``t2``."""
        return {"t1": self.first, "t2": self.first + self.length}


OSCILLATOR: dict[str, dict[str, Any]] = {
    "paper, node": {"partition": "node", "method": "paper"},
    "auto": {"method": "auto"},
}
# Chosen on seeds 0 to 2; see docs/explanation/reproduction.md.
DIGITS: dict[str, dict[str, Any]] = {
    "paper, node, fc1 quasi-node:10": {"partition": "node,fc1=quasi-node:10", "method": "paper"},
    "paper, node, fc1 quasi-node:100": {"partition": "node,fc1=quasi-node:100", "method": "paper"},
    "affine, network, means of 100, rank 1": {"partition": "network", "average": 100, "rank": 1},
    "auto, means of 100": {"method": "auto", "average": 100},
}


def _oscillator(folder: str, words: str, options: str, published: tuple[str, str, str]) -> Experiment:
    flags = tuple(options.split())
    return Experiment(
        folder, words, "oscillator", flags, 35_000, 9_999, 2_500, "loss", 1, OSCILLATOR, published
    )


TABLE1 = (
    _oscillator(
        "adam_decayed",
        "Adam, 1e-3 / (1 + 1e-3 i)",
        "--optimizer adam --lr 1e-3 --decay 1e-3",
        ("84 %", ".85", "98"),
    ),
    _oscillator(
        "adagrad0.01",
        "Adagrad, 0.01 / (1 + 1e-5 i)",
        "--optimizer adagrad --lr 0.01 --decay 1e-5",
        ("92 %", "1.00", "132"),
    ),
    _oscillator(
        "adadelta0.1",
        "Adadelta, 0.1 / (1 + 1e-5 i)",
        "--optimizer adadelta --lr 0.1 --decay 1e-5",
        ("100 %", "1.00", "141"),
    ),
    _oscillator(
        "adadelta1_decayed",
        "Adadelta, 1 / (1 + 1e-3 i)",
        "--optimizer adadelta --lr 1 --decay 1e-3",
        ("100 %", "1.00", "141"),
    ),
)
TABLE2 = tuple(
    Experiment(
        f"mnist_lr{lr}",
        f"MNIST, Adadelta, {lr}",
        "mnist",
        ("--lr", lr),
        6_000,
        1_500,
        1_000,
        "validation_loss",
        61,
        DIGITS,
        ("100 %", ".97", "15"),
    )
    for lr in ("0.1", "1")
)


def script(net: str, name: str) -> ModuleType:
    """Load a script that lies in a folder beside this file."""
    spec = spec_from_file_location(f"{net}_{name}", HERE / net / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{HERE / net / name}.py cannot be loaded")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def recordings(experiment: Experiment, options: argparse.Namespace) -> list[Path]:
    """Find the recordings of the seeds asked for; train those sets that are not there."""
    seeds = options.seeds or ("100:125" if experiment.net == "oscillator" else "100:105")
    first, stop = (int(part) for part in seeds.split(":"))
    folder = options.runs / experiment.folder
    stem = experiment.options[1] if experiment.net == "oscillator" else "mnist"
    paths = [folder / f"{stem}_seed{seed:03}.zarr" for seed in range(first, stop)]
    missing = [path for path in paths if not path.exists()]
    if missing and len(missing) < len(paths):
        raise SystemExit(
            f"{folder} holds some of the seeds {seeds}, but not {missing[0].name}; finish or remove it"
        )
    if missing:
        sys.stderr.write(f"training {experiment.words}, seeds {seeds}\n")
        arguments = [*experiment.options, "--seeds", seeds, "--out", str(folder)]
        if experiment.net == "mnist":
            arguments += ["--digits", str(options.digits)]
        script(experiment.net, "train").main(arguments)
    return paths


def time_steps(experiment: Experiment, options: argparse.Namespace) -> tuple[float, float]:
    """Time one optimiser step of one network alone, and with recording; in seconds."""
    train = script(experiment.net, "train")
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


def fitted(
    experiment: Experiment,
    settings: dict[str, Any],
    paths: list[Path],
    options: argparse.Namespace,
    seconds: float,
    metric: str | None = None,
) -> xr.Dataset:
    """Fit every recording of a set alike; the first fit is made twice, so that no compilation is timed."""
    warm = koopscope.ensemble(paths[:1], lead=experiment.lead, **experiment.window, **settings)
    if warm.attrs["failed"]:
        raise SystemExit(str(warm["problem"].values[0]))
    chosen = metric or experiment.metric
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


def losses(experiment: Experiment, options: argparse.Namespace, metric: str) -> Callable[..., float]:
    """Give the loss callable that computes a recorded series."""
    if experiment.net == "mnist":
        os.environ["MNIST_DIGITS"] = str(options.digits)
    found: Callable[..., float] = getattr(script(experiment.net, "loss"), metric)
    return found


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


def table1(options: argparse.Namespace) -> None:
    """Three optimisers: success, T_eq/T and speed-up, published and measured."""
    rows = []
    for experiment in TABLE1:
        paths = recordings(experiment, options)
        seconds = timed(experiment, options)
        success, saved, faster = experiment.published
        rows.append([experiment.words, "published", "about .01", "", success, saved, "", faster])
        for name, settings in experiment.fits.items():
            table = fitted(experiment, settings, paths, options, seconds)
            middle = koopscope.quantiles(table, [0.5]).sel(lead=experiment.lead, quantile=0.5, forecast="fit")
            errors = [f"{float(middle[figure]):.2g}" for figure in ("error_to_evolution", "relative_l2")]
            rows.append(["", name, *errors, *worth(table, experiment.lead)])
    headings = ["optimiser", "fit", "error / evolution", "relative error", *WORTH]
    print_table(f"Table 1: {len(paths)} networks an optimiser, T = {TABLE1[0].lead}, medians", headings, rows)


def table2(options: argparse.Namespace) -> None:
    """MNIST: training and validation loss of the forecasts, T_eq/T on the smoothed validation loss."""
    rows = []
    for experiment in TABLE2:
        paths = recordings(experiment, options)
        seconds = timed(experiment, options)
        success, saved, faster = experiment.published
        rows.append([experiment.words, "published (quasi-node)", "", "", "", success, saved, "", faster])
        known: set[str] = set()
        for name, settings in experiment.fits.items():
            tables = {
                metric: fitted(experiment, settings, paths, options, seconds, metric)
                for metric in ("loss", "validation_loss")
            }
            for forecast, words in OTHERS.items():
                if forecast in ("linear", "mean") and "average" not in settings:
                    continue  # on minibatches a line through single rows is no baseline
                series = [_median(table, f"loss_{forecast}", experiment.lead) for table in tables.values()]
                if forecast not in known and all(series):
                    known.add(forecast)
                    rows.append(["", words, *series, *[""] * 5])
            lower = tables["loss"].sel(lead=experiment.lead)["success"]
            found = [_median(table, "loss_forecast", experiment.lead) for table in tables.values()]
            lower_in_training = f"{int(lower.sum())} of {lower.size}"
            rows.append(
                ["", name, *found, lower_in_training, *worth(tables["validation_loss"], experiment.lead)]
            )
    headings = ["set", "fit", "training loss", "validation loss", "lower in training", *WORTH]
    print_table(
        f"Table 2: {len(paths)} networks a learning rate, T = {TABLE2[0].lead}, medians", headings, rows
    )


def _median(table: xr.Dataset, name: str, lead: int) -> str:
    if name not in table:
        return ""
    values = table[name].sel(lead=lead) if "lead" in table[name].dims else table[name]
    return f"{float(values.median()):.4f}"


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
    leads = [100, 250, 500, 750, 1_000]
    rows = []
    for panel, experiment in zip(figure.subplots(1, 2), TABLE2, strict=True):
        paths = recordings(experiment, options)
        loss = losses(experiment, options, "validation_loss")
        for name, settings in experiment.fits.items():
            table = koopscope.ensemble(
                paths,
                lead=leads,
                loss=loss,
                metric="validation_loss",
                progress=True,
                **experiment.window,
                **settings,
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
    parser.add_argument("--seeds", help="first:last+1 [default: 100:125, or 100:105 of the digits]")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for figures")
    options = parser.parse_args(arguments)
    options.digits = options.digits.resolve()
    COMMANDS[options.what](options)


if __name__ == "__main__":
    main()
