"""What the source ran, as far as it says: sets of recordings, how each is trained, and how it is fitted.

The learning rates and their decay are not published; those here are ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent


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
    seeds = options.seeds or ("200:225" if experiment.net == "oscillator" else "100:105")
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


def losses(experiment: Experiment, options: argparse.Namespace, metric: str) -> Callable[..., float]:
    """Give the loss callable that computes a recorded series."""
    if experiment.net == "mnist":
        os.environ["MNIST_DIGITS"] = str(options.digits)
    found: Callable[..., float] = getattr(script(experiment.net, "loss"), metric)
    return found
